-- seqs_of_messages: the numbers of messages in the chats they are said to be of; primary key of messages
select u.ord as "ord!", m.seq as "seq!"
from unnest($1::uuid[], $2::uuid[]) with ordinality u (chat_id, message_id, ord)
join messages m on m.id = u.message_id and m.chat_id = u.chat_id
