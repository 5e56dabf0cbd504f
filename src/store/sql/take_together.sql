-- take_together: makes rows of the newest events of a stream for many users at once; primary keys of followers, inboxes and chat_heads, messages by stream (see restante_take_together)
select users as "users?", seqs as "seqs?", events as "events?", others as "others?" from restante_take_together($1, $2, $3, $4)
