-- expire: ends what waits of messages whose time has come, a page at a time; messages_that_expire, then unique (message_id, user_id)
select message_id as "message_id!", expires_at as "expires_at!", user_id as "user_id?", member as "member?", class as "class?: enums::Class", seq as "seq?",
       chat_id as "chat_id!", chat_seq as "chat_seq!", sender_id as "sender_id!", expired_at as "expired_at?", after_user as "after_user?"
from restante_expire($1, $2, $3, $4, $5, $6)
