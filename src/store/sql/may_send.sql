-- may_send: what the application's function says of a sender and the other member of a direct chat, or a user by name; primary keys of users and chats (see restante_ask_may_send)
select restante_ask_may_send($1, $2, $3) as "may_send?"
