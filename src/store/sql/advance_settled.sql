-- advance_settled: moves settled_seq of inboxes up to the first row that waits; primary keys of inboxes and message_status
-- Nobody waits for the disk: after a crash settled_seq may be what it was before, which is true still.
select u.ord as "ord!", restante_advance_settled(u.user_id, u.class) as settled_seq
from (select * from unnest($1::bigint[], $2::inbox_class[]) with ordinality x (user_id, class, ord) order by x.user_id, x.class) u,
     set_config('synchronous_commit', 'off', true)
