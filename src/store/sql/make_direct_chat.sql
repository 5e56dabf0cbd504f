-- make_direct_chat: the direct chat of two users, made if it is missing; two_users_share_one_direct_chat
select restante_direct_chat($1, $2) as "chat_id!"
