-- follow: makes users followers of a feed; primary keys of users, feeds and followers (see restante_add_followers)
select restante_add_followers($1, $2, $3) as "outcome!"
