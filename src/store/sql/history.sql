-- history: a page of a chat above one number or below another, for one of its members; a_chat_number_names_one_message
-- A time that no calendar of a client holds is none.
select message_id as "message_id?", $2 as "chat_id?", chat_seq as "chat_seq?", message_type as "message_type?", content as "content?", metadata::text as "metadata?", sealed as "sealed?", key_id as "key_id?",
       case when created_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59+00' then created_at end as "created_at?",
       case when expires_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59+00' then expires_at end as "expires_at?",
       sender_id as "sender_id?", sender as "sender?", sender_name as "sender_name?", sender_picture as "sender_picture?", recalled_at as "recalled_at?"
from restante_history($1, $2, $3, $4, $5)
