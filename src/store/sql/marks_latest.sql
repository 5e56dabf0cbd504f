-- marks_latest: the marks that moved last, for a client that does not say what it knows; members_by_user, then chat_members' primary key
select cm.chat_id as "chat_id!", cm.user_id as "user_id!", u.external_id as "member!", cm.delivered_seq as "delivered_seq!", cm.read_seq as "read_seq!",
       cm.joined_seq as "joined_seq!", pg_snapshot_xmin(pg_current_snapshot())::text as "xmin!"
from chat_members me
join chat_members cm on cm.chat_id = me.chat_id and cm.user_id <> me.user_id
join users u on u.id = cm.user_id
where me.user_id = $1 and me.left_seq is null and cm.left_seq is null
  and cm.delivered_seq > cm.joined_seq
  and (select count(*) from (select 1 from chat_members x where x.chat_id = me.chat_id and x.left_seq is null limit $2) y) < $2
order by cm.marked_xid desc
limit $3
