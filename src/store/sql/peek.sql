-- peek: of many inboxes at once whether anything waits from settled_seq on, for sessions that look for themselves; primary keys of inboxes and message_status
-- Beyond 50,000 numbers it is not looked: there something may wait.
-- An event of a feed that is not a row yet waits too.
select u.ord as "ord!", i.last_seq as "last_seq!", i.last_seq > u.after + 50000 or exists (
    select from message_status r
    where r.user_id = u.user_id and r.class = u.class and r.seq > u.after and r.seq <= u.after + 50000 and r.status = 'sent'
  ) or u.class <> 'chat' and restante_has_untaken(u.user_id, u.class) as "waits!"
from unnest($1::bigint[], $2::inbox_class[], $3::bigint[]) with ordinality u (user_id, class, after, ord)
cross join lateral (
  select x.last_seq from inboxes x where x.user_id = u.user_id and x.class = u.class order by x.step desc limit 1
) i
