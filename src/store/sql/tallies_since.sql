-- tallies_since: large chats of mine where a mark moved since a transaction, and my newest message there; members_by_user, then primary keys
select me.chat_id as "chat_id!", n.id as "message_id!", n.seq as "seq!"
from chat_members me
join lateral (
  select r.id, r.seq from (
    select m.id, m.seq, m.sender_id from messages m where m.chat_id = me.chat_id order by m.seq desc limit 1000
  ) r
  where r.sender_id = me.user_id
  order by r.seq desc
  limit 1
) n on true
where me.user_id = $1 and me.left_seq is null
  and (select count(*) from (select 1 from chat_members x where x.chat_id = me.chat_id and x.left_seq is null limit $3) y) = $3
  and exists (select 1 from chat_members cm where cm.chat_id = me.chat_id and cm.user_id <> me.user_id and cm.marked_xid >= $2::text::xid8)
