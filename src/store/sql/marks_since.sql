-- marks_since: marks of members I share a small chat with that moved since a transaction; members_by_user, then chat_members' primary key
select cm.chat_id as "chat_id!", cm.user_id as "user_id!", u.external_id as "member!", cm.delivered_seq as "delivered_seq!", cm.read_seq as "read_seq!",
       cm.joined_seq as "joined_seq!", pg_snapshot_xmin(pg_current_snapshot())::text as "xmin!"
from chat_members me
join chat_members cm on cm.chat_id = me.chat_id and cm.user_id <> me.user_id
join users u on u.id = cm.user_id
where me.user_id = $1 and me.left_seq is null and cm.left_seq is null
  and cm.marked_xid >= $2::text::xid8
  and (cm.chat_id, cm.user_id) > ($3, $4)
  and (select count(*) from (select 1 from chat_members x where x.chat_id = me.chat_id and x.left_seq is null limit $5) y) < $5
order by cm.chat_id, cm.user_id
limit $6
