-- receipt_counts: how many members of large chats have a message, and have read it, for senders who are members; primary keys of chat_members and marks, a_row_ends_once
-- A chat that is small by now has no counts. A mark says that nothing waits; what failed or expired below it was not delivered. The members of a chat are read once, for all that is asked of it.
select q.ord as "ord!", q.delivered - q.ended_delivered as "delivered!", q.read - q.ended_read as "read!", q.members as "members!"
from (
  select u.chat_id, array_agg(u.sender_id order by u.ord) as senders, array_agg(u.message_id order by u.ord) as messages,
         array_agg(u.seq order by u.ord) as seqs, array_agg(u.ord order by u.ord) as ords
  from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::bigint[]) with ordinality u (chat_id, sender_id, message_id, seq, ord)
  group by u.chat_id
) c
cross join lateral (
  with them as materialized (
    select cm.user_id, cm.joined_seq, k.delivered_seq, k.read_seq
    from chat_members cm
    cross join lateral (
      select x.delivered_seq, x.read_seq from marks x where x.chat_id = cm.chat_id and x.user_id = cm.user_id order by x.step desc limit 1
    ) k
    where cm.chat_id = c.chat_id and cm.left_seq is null
  )
  select a.ord, n.delivered, n.read, n.members, e.delivered as ended_delivered, e.read as ended_read
  from unnest(c.ords, c.senders, c.messages, c.seqs) a (ord, sender_id, message_id, seq)
  cross join lateral (
    select count(*) filter (where t.delivered_seq >= a.seq) as delivered, count(*) filter (where t.read_seq >= a.seq) as read, count(*) as members
    from them t where t.user_id <> a.sender_id and t.joined_seq < a.seq
  ) n
  cross join lateral (
    select count(*) filter (where k.delivered_seq >= a.seq) as delivered, count(*) filter (where k.read_seq >= a.seq) as read
    from endings x
    cross join lateral (
      select y.user_id from chat_members y
      where y.chat_id = c.chat_id and y.user_id = x.user_id and y.left_seq is null and y.joined_seq < a.seq limit 1
    ) cm
    cross join lateral (
      select y.delivered_seq, y.read_seq from marks y where y.chat_id = c.chat_id and y.user_id = x.user_id order by y.step desc limit 1
    ) k
    where x.message_id = a.message_id and x.status in ('failed', 'expired')
  ) e
  where (select count(*) from them) >= $5
    and exists (select from chat_members me where me.chat_id = c.chat_id and me.user_id = a.sender_id and me.left_seq is null)
) q
