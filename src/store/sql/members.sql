-- members: a page of a chat's members, for one of them, behind the member that is named; a_user_is_in_a_chat_once
-- Of a closed chat the other member's marks are those from before it was closed. Each user is looked up for itself: a merge with all users would grow with their number.
select u.id as "user_id!", u.external_id as "external_id!", u.display_name as "name?", u.avatar_url as "picture?", them.role as "role!: enums::Role",
       them.joined_seq as "joined_seq!", coalesce(c.delivered_seq, k.delivered_seq) as "delivered_seq!", coalesce(c.read_seq, k.read_seq) as "read_seq!"
from chat_members me
join chat_members them on them.chat_id = me.chat_id and them.left_seq is null
cross join lateral (select x.id, x.external_id, x.display_name, x.avatar_url from users x where x.id = them.user_id limit 1) u
cross join lateral (
  select x.delivered_seq, x.read_seq from marks x where x.chat_id = them.chat_id and x.user_id = them.user_id order by x.step desc limit 1
) k
left join lateral (
  select x.delivered_seq, x.read_seq from closed_chats x
  where x.chat_id = them.chat_id and x.user_id = them.user_id and x.user_id <> me.user_id limit 1
) c on true
where me.chat_id = $2 and me.user_id = $1 and me.left_seq is null
  and them.user_id > coalesce((select a.id from users a where a.is_current and a.external_id = $3), 0)
order by them.user_id
limit $4
