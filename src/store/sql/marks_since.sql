-- marks_since: marks that moved since a transaction, of the other members of these chats, as far as a snapshot of before saw them; chat_members' primary key
select cm.chat_id as "chat_id!", cm.user_id as "user_id!", u.external_id as "member!", cm.delivered_seq as "delivered_seq!", cm.read_seq as "read_seq!",
       cm.joined_seq as "joined_seq!"
from unnest($2::uuid[]) moved (chat_id)
cross join lateral (
  select x.chat_id, x.user_id, x.delivered_seq, x.read_seq, x.joined_seq
  from chat_members x
  where x.chat_id = moved.chat_id and x.user_id <> $1 and x.left_seq is null and x.marked_xid >= (select $3::text::xid8)
    and pg_visible_in_snapshot(x.marked_xid, (select coalesce($5::text::pg_snapshot, pg_current_snapshot())))
  limit $4
) cm
cross join lateral (select y.external_id from users y where y.id = cm.user_id limit 1) u
