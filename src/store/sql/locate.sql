-- locate: the rows of messages that a recipient names by id, or those of them that wait; unique (message_id, user_id) of message_status
-- For an ack, one that waits although its time has come is not there, whether a job has written it or not: its other connections may have been told a gap.
select u.ord as "ord!", s.class as "class!: enums::Class", s.seq as "seq!", m.id as "message_id!", m.chat_id as "chat_id!", m.seq as "chat_seq!", m.sender_id as "sender_id!"
from unnest($1::bigint[], $2::uuid[]) with ordinality u (user_id, message_id, ord)
cross join lateral (
  select x.class, x.seq, x.status from message_status x
  where x.message_id = u.message_id and x.user_id = u.user_id and (x.status = 'sent' or not $3)
  limit 1
) s
cross join lateral (
  select x.id, x.chat_id, x.seq, x.sender_id from messages x
  where x.id = u.message_id and not ($4 and s.status = 'sent' and coalesce(x.expires_at <= clock_timestamp(), false))
  limit 1
) m
