-- unfollow: takes followers away from a feed, and notes what of it waits for them; primary keys of inboxes and followers (see restante_remove_followers)
select restante_remove_followers($1, $2) as "outcome!"
