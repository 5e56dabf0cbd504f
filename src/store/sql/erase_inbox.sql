-- erase_inbox: ends what waits for a user that is erased, a page of the inbox that the job is at; primary keys (see restante_erase_inbox)
select class as "class!: enums::Class", seq as "seq?", message_id as "message_id?", chat_id as "chat_id?", chat_seq as "chat_seq?", sender_id as "sender_id?",
       ended_at as "ended_at!", is_held as "is_held!"
from restante_erase_inbox($1, $2)
