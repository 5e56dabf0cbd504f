-- receipt_counts_since: those of these large chats where a mark moved, or members came or went, since a cursor, and my newest message there; primary keys of chat_members and marks, (chat_id, seq) of messages
select c.chat_id as "chat_id!", n.id as "message_id!", n.seq as "seq!"
from unnest($2::uuid[]) c (chat_id)
cross join lateral (
  select r.id, r.seq from (
    select m.id, m.seq, m.sender_id from messages m where m.chat_id = c.chat_id and m.seq > 0 order by m.seq desc limit 1000
  ) r
  where r.sender_id = $1
  order by r.seq desc
  limit 1
) n
cross join lateral (
  select 1 from chat_members x
  cross join lateral (select y.marked_xid from marks y where y.chat_id = x.chat_id and y.user_id = x.user_id order by y.step desc limit 1) k
  where x.chat_id = c.chat_id and x.user_id <> $1 and (k.marked_xid >= (select $3::text::xid8) or k.marked_xid = any ((select $4::text[]::xid8[])::xid8[]))
  union all
  select 1 from chats x where x.id = c.chat_id and (x.recount_xid >= (select $3::text::xid8) or x.recount_xid = any ((select $4::text[]::xid8[])::xid8[]))
  limit 1
) moved
