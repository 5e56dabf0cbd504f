-- locate: the rows of messages that a recipient names by id, or those of them that wait; unique (message_id, user_id) of message_status
select u.ord as "ord!", s.class as "class!: enums::Class", s.seq as "seq!", m.id as "message_id!", m.chat_id as "chat_id!", m.seq as "chat_seq!", m.sender_id as "sender_id!"
from unnest($1::bigint[], $2::uuid[]) with ordinality u (user_id, message_id, ord)
join message_status s on s.message_id = u.message_id and s.user_id = u.user_id and (s.status = 'sent' or not $3)
join messages m on m.id = s.message_id
