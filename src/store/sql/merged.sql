-- merged: the events that rows of a user stand for beside themselves, newest first, each row with so many at most and so many bytes of data; primary keys, messages_by_collapse_key and rows_by_collapse_id
-- The rows come in the order of the ids, as many as need no more than so many bytes together (64 for each event beside its data), and the first in any case. Each comes with all of its events.
-- Events of a feed may never have been rows. Events to listed users were. None is from before the retention of what was delivered.
select p.ord as "ord!", p.data as "data!: Vec<Option<String>>", p.merges as "merges!", p.had_expired as "had_expired!",
       p.ids as "ids!", p.sealed as "sealed!: Vec<Option<Vec<u8>>>", p.key_ids as "key_ids!: Vec<Option<String>>"
from (
  select u.ord, o.data, o.merges, o.had_expired, o.ids, o.sealed, o.key_ids, coalesce(sum(o.bytes) over (rows between unbounded preceding and 1 preceding), 0) as bytes_before, o.bytes
  from unnest($1::uuid[]) with ordinality u (message_id, ord)
  cross join lateral (
    select coalesce(array_agg(q.data), '{}') as data, coalesce(array_agg(q.merges), '{}') as merges, coalesce(array_agg(q.had_expired), '{}') as had_expired,
           coalesce(array_agg(q.id), '{}') as ids, coalesce(array_agg(q.sealed), '{}') as sealed, coalesce(array_agg(q.key_id), '{}') as key_ids,
           coalesce(max(q.bytes), 0) + 64 * count(*) as bytes
    from (
      select e.id, e.data, e.sealed, e.key_id, e.merges, coalesce(e.expires_at <= lag(e.created_at, 1, r.created_at) over newest_first, false) as had_expired, e.seq,
             sum(coalesce(octet_length(e.data), octet_length(e.sealed), 0)) over newest_first as bytes
      from (
        select s.user_id, s.class, s.seq as row_seq, s.collapse_id, s.merged_after, n.chat_id, n.collapse_key, n.seq, n.created_at
        from (
          select x.user_id, x.class, x.seq, x.collapse_id, x.merged_after from message_status x where x.message_id = u.message_id and x.user_id = $2 limit 1
        ) s
        cross join lateral (select x.chat_id, x.collapse_key, x.seq, x.created_at from messages x where x.id = u.message_id limit 1) n
      ) r
      cross join lateral (
        (select m.id, m.data, m.sealed, m.key_id, m.merges, m.created_at, m.expires_at, m.seq
         from (
           select x.id, x.sender_id, x.metadata::text as data, x.sealed, x.key_id, x.merge is not null as merges, x.created_at, x.expires_at, x.seq from messages x
           where r.chat_id not in ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000012')
             and x.chat_id = r.chat_id and x.collapse_key = r.collapse_key and x.seq > r.merged_after and x.seq < r.seq
           order by x.seq desc limit $3
         ) m
         cross join lateral restante_event_becomes(r.user_id, m.id, m.sender_id) b
         where b.becomes <> 'passed')
        union all
        (select m.id, m.data, m.sealed, m.key_id, m.merges, m.created_at, m.expires_at, m.seq
         from (
           select x.message_id, x.ended from message_status x
           where r.chat_id in ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000012')
             and x.user_id = r.user_id and x.class = r.class and x.collapse_id = r.collapse_id and x.seq < r.row_seq
           order by x.seq desc limit $3
         ) o
         cross join lateral (
           select x.id, x.metadata::text as data, x.sealed, x.key_id, x.merge is not null as merges, x.created_at, x.expires_at, x.seq from messages x
           where o.ended = 'superseded' and x.id = o.message_id and x.seq > r.merged_after and x.seq < r.seq limit 1
         ) m)
      ) e
      where e.created_at > r.created_at - interval '30 days'
      window newest_first as (order by e.seq desc)
      order by e.seq desc
    ) q
    where q.bytes <= $4
  ) o
) p
where p.bytes_before + p.bytes <= $5::bigint or p.bytes_before = 0
