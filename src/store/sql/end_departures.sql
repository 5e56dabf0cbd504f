-- end_departures: ends a part of what waits for one member that has left its chat, or has blocked the other; primary keys (see restante_end_departures)
select user_id as "user_id!", member as "member!", chat_id as "chat_id!", class as "class?: enums::Class", seq as "seq?", message_id as "message_id?",
       chat_seq as "chat_seq?", sender_id as "sender_id?", ended_at as "ended_at!", ended = 'blocked' as "by_a_block!"
from restante_end_departures($1)
