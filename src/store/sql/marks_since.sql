-- marks_since: marks that moved since a cursor, of the other members of these chats, as far as a snapshot of before saw them; all of them where the chat told counts meanwhile; primary keys of chats, chat_members, marks and reopened_chats
-- Of a chat that was closed once no move is told that was made while it was.
select cm.chat_id as "chat_id!", cm.user_id as "user_id!", u.external_id as "member!", cm.delivered_seq as "delivered_seq!", cm.read_seq as "read_seq!",
       cm.joined_seq as "joined_seq!", cm.was_closed as "was_closed!"
from unnest($2::uuid[]) moved (chat_id)
cross join lateral (
  select coalesce((x.recount_xid >= (select $3::text::xid8) or x.recount_xid = any ((select $6::text[]::xid8[])::xid8[]))
           and pg_visible_in_snapshot(x.recount_xid, (select coalesce($5::text::pg_snapshot, pg_current_snapshot()))), false) as has_changed
  from chats x where x.id = moved.chat_id limit 1
) c
cross join lateral (
  select x.chat_id, x.user_id, x.joined_seq, k.delivered_seq, k.read_seq, k.was_closed
  from chat_members x
  cross join lateral (
    select y.delivered_seq, y.read_seq, y.marked_xid from marks y where y.chat_id = x.chat_id and y.user_id = x.user_id order by y.step desc limit 1
  ) n
  left join lateral (select y.* from reopened_chats y where y.chat_id = x.chat_id and y.user_id = x.user_id limit 1) r on true
  cross join lateral (
    select case when r.chat_id is null then n.delivered_seq else restante_told_mark(n.delivered_seq, r.delivered_seq, r.told_delivered_seq) end as delivered_seq,
           case when r.chat_id is null then n.read_seq else restante_told_mark(n.read_seq, r.read_seq, r.told_read_seq) end as read_seq,
           case when n.delivered_seq <= r.delivered_seq and n.read_seq <= r.read_seq then r.told_xid else n.marked_xid end as marked_xid,
           r.chat_id is not null as was_closed
  ) k
  where x.chat_id = moved.chat_id and x.user_id <> $1 and x.left_seq is null and (k.marked_xid >= (select $3::text::xid8) or k.marked_xid = any ((select $6::text[]::xid8[])::xid8[]) or c.has_changed)
    and pg_visible_in_snapshot(k.marked_xid, (select coalesce($5::text::pg_snapshot, pg_current_snapshot())))
  limit $4
) cm
cross join lateral (select y.external_id from users y where y.id = cm.user_id limit 1) u
