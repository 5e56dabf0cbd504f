-- locate_acked: the rows of messages that a recipient acks by id, or those of them that wait; unique (message_id, user_id) of message_status
-- A row that waits and has ended is not there, though no job has written it yet: other connections of its user may have been told a gap. One that
-- was recalled is there: its reader has the message, and gets the notice. The first look at departures is one for all users.
select u.ord as "ord!", s.class as "class!: enums::Class", s.seq as "seq!", m.id as "message_id!", m.chat_id as "chat_id!", m.seq as "chat_seq!", m.sender_id as "sender_id!"
from unnest($1::bigint[], $2::uuid[]) with ordinality u (user_id, message_id, ord)
cross join lateral (
  select x.class, x.seq, x.status from message_status x
  where x.message_id = u.message_id and x.user_id = u.user_id and (x.status = 'sent' or not $3)
  limit 1
) s
cross join lateral (select x.id, x.chat_id, x.seq, x.sender_id, x.expires_at from messages x where x.id = u.message_id limit 1) m
where restante_ended_unwritten(
  s.status,
  (select exists (select from departures e where e.user_id = any ($1))) and exists (select from restante_departed(u.user_id, m.chat_id, m.seq)),
  null, m.expires_at, clock_timestamp()
) is null
