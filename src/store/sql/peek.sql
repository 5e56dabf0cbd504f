-- peek: of many inboxes at once whether anything waits from settled_seq on, for sessions that look for themselves; primary keys of inboxes and message_status
-- Beyond 50,000 numbers it is not looked: there something may wait.
select u.ord as "ord!", i.last_seq as "last_seq!", i.last_seq > u.after + 50000 or exists (
    select from message_status r
    where r.user_id = u.user_id and r.class = u.class and r.seq > u.after and r.seq <= u.after + 50000 and r.status = 'sent'
  ) as "waits!"
from unnest($1::bigint[], $2::inbox_class[], $3::bigint[]) with ordinality u (user_id, class, after, ord)
cross join lateral (
  select x.last_seq from inboxes x where x.user_id = u.user_id and x.class = u.class order by x.step desc limit 1
) i
