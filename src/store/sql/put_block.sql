-- put_block: a user blocks another one, and what waits from it in their direct chat ends; primary keys (see restante_put_block)
select outcome as "outcome!", chat_id as "chat_id?", class as "class?: enums::Class", seq as "seq?", message_id as "message_id?",
       chat_seq as "chat_seq?", sender_id as "sender_id?", ended_at as "ended_at?", were_contacts as "were_contacts!", is_told as "is_told!"
from restante_put_block($1, $2, $3)
