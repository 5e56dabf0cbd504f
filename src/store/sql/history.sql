-- history: a page of a chat above one number or below another, for one of its members; a_chat_number_names_one_message
select message_id as "message_id?", $2 as "chat_id?", chat_seq as "chat_seq?", message_type as "message_type?", content as "content?", metadata::text as "metadata?",
       created_at as "created_at?", expires_at as "expires_at?",
       sender_id as "sender_id?", sender as "sender?", sender_name as "sender_name?", sender_picture as "sender_picture?"
from restante_history($1, $2, $3, $4, $5)
