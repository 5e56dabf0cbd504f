-- recipients_waiting: who still waits for these messages; unique (message_id, user_id) of message_status
select distinct s.user_id as "user_id!", s.class as "class!: enums::Class"
from unnest($1::uuid[]) u (id)
cross join lateral (
  select x.user_id, x.class from message_status x where x.message_id = u.id and x.status = 'sent' order by x.message_id, x.user_id offset 0
) s
