-- glance: of many inboxes at once whether anything waits from settled_seq on, for sessions that look for themselves; primary keys of inboxes and message_status
select u.ord as "ord!", i.last_seq as "last_seq!", i.waits as "waits!"
from unnest($1::bigint[], $2::inbox_class[], $3::bigint[]) with ordinality u (user_id, class, after, ord)
cross join lateral (
  select x.last_seq, exists (
    select from message_status r
    where r.user_id = x.user_id and r.class = x.class and r.seq > u.after and r.status = 'sent'
  ) as waits
  from inboxes x
  where x.user_id = u.user_id and x.class = u.class
  limit 1
) i
