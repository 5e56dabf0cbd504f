-- merged: the events that a row stands for beside its own, newest first, so many at most and so many bytes of data; primary keys, messages_by_collapse_key and rows_by_collapse_id
-- Of a feed they may never have been rows. Events to listed users were. None is from before the retention of what was delivered.
select q.data as "data?", q.merges as "merges!", q.had_expired as "had_expired!"
from (
  select e.data, e.merges, coalesce(e.expires_at <= lag(e.created_at, 1, r.created_at) over newest_first, false) as had_expired, e.seq,
         sum(coalesce(octet_length(e.data), 0)) over newest_first as bytes
  from (
    select s.user_id, s.class, s.seq as row_seq, s.collapse_id, s.merged_after, n.chat_id, n.collapse_key, n.seq, n.created_at
    from (select x.user_id, x.class, x.seq, x.collapse_id, x.merged_after from message_status x where x.message_id = $1 and x.user_id = $2 limit 1) s
    cross join lateral (select x.chat_id, x.collapse_key, x.seq, x.created_at from messages x where x.id = $1 limit 1) n
  ) r
  cross join lateral (
    (select m.data, m.merges, m.created_at, m.expires_at, m.seq
     from (
       select x.id, x.sender_id, x.metadata::text as data, x.merge is not null as merges, x.created_at, x.expires_at, x.seq from messages x
       where r.chat_id not in ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000012')
         and x.chat_id = r.chat_id and x.collapse_key = r.collapse_key and x.seq > r.merged_after and x.seq < r.seq
       order by x.seq desc limit $3
     ) m
     where m.sender_id <> r.user_id and not exists (select from event_exceptions e where e.message_id = m.id and e.user_id = r.user_id))
    union all
    (select m.data, m.merges, m.created_at, m.expires_at, m.seq
     from (
       select x.message_id, x.ended from message_status x
       where r.chat_id in ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000012')
         and x.user_id = r.user_id and x.class = r.class and x.collapse_id = r.collapse_id and x.seq < r.row_seq
       order by x.seq desc limit $3
     ) o
     cross join lateral (
       select x.metadata::text as data, x.merge is not null as merges, x.created_at, x.expires_at, x.seq from messages x
       where o.ended = 'superseded' and x.id = o.message_id and x.seq > r.merged_after and x.seq < r.seq limit 1
     ) m)
  ) e
  where e.created_at > r.created_at - interval '30 days'
  window newest_first as (order by e.seq desc)
) q
where q.bytes <= $4
order by q.seq desc
