-- locate: the rows of messages that a recipient names by id; unique (message_id, user_id) of message_status
select u.ord as "ord!", s.class as "class!: enums::Class", s.seq as "seq!", m.id as "message_id!", m.chat_id as "chat_id!", m.seq as "chat_seq!", m.sender_id as "sender_id!"
from unnest($1::bigint[], $2::uuid[]) with ordinality u (user_id, message_id, ord)
cross join lateral (select x.class, x.seq from message_status x where x.message_id = u.message_id and x.user_id = u.user_id limit 1) s
cross join lateral (select x.id, x.chat_id, x.seq, x.sender_id from messages x where x.id = u.message_id limit 1) m
