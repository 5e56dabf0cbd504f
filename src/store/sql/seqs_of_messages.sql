-- seqs_of_messages: the numbers of messages in the chats they are said to be of; primary key of messages
select u.ord as "ord!", m.seq as "seq!"
from unnest($1::uuid[], $2::uuid[]) with ordinality u (chat_id, message_id, ord)
cross join lateral (select x.chat_id, x.seq from messages x where x.id = u.message_id limit 1) m
where m.chat_id = u.chat_id
