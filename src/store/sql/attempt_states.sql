-- attempt_states: where rows stand against which no attempt was counted, by recipient and message; unique (message_id, user_id) of message_status
select u.ord as "ord!", s.class as "class!: enums::Class", s.seq as "seq!", s.status as "status!: enums::Status", s.attempts as "attempts!"
from unnest($1::bigint[], $2::uuid[]) with ordinality u (user_id, message_id, ord)
cross join lateral (
  select x.class, x.seq, x.status, x.attempts from message_status x where x.message_id = u.message_id and x.user_id = u.user_id limit 1
) s
