-- advance_settled: moves settled_seq of inboxes up to the first row that waits; primary keys of inboxes and message_status
-- Nobody waits for the disk: after a crash settled_seq may be what it was before, which is true still. The lock of each inbox is held
-- until the last one is done, so those with much behind are left as they are, unless one is alone.
select u.ord as "ord!", case when u.n = 1 or u.numbers <= 100000 then restante_advance_settled(u.user_id, u.class) else u.settled_seq end as settled_seq
from (select x.user_id, x.class, x.ord, i.settled_seq, row_number() over by_size as n, sum(i.last_seq - i.settled_seq) over by_size as numbers
      from unnest($1::bigint[], $2::inbox_class[]) with ordinality x (user_id, class, ord)
      cross join lateral (
        select y.last_seq, y.settled_seq from inboxes y where y.user_id = x.user_id and y.class = x.class order by y.step desc limit 1) i
      window by_size as (order by i.last_seq - i.settled_seq, x.user_id, x.class rows unbounded preceding)) u,
     set_config('synchronous_commit', 'off', true)
