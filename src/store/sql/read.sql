-- read: marks what a member has read up to a number of the chat; (chat_id, seq) of messages, then (message_id, user_id) of message_status
select message_id as "message_id?", chat_seq as "chat_seq?", sender_id as "sender_id?", read_at as "read_at!", up_to as "up_to!", more as "more!"
from restante_read($1, $2, $3, $4)
