-- chats: a user's chats with ids between two (both included), its marks and what is unread; members_by_user, then each chat's newest messages
-- Only the first 1,000 messages above read_seq are looked at, so that a chat nobody ever reads costs no more than that.
select c.id as "chat_id!", c.kind as "kind!: ChatKind", c.title as "title?", c.last_seq as "last_seq!", c.created_at as "created_at!",
       me.role as "role!: Role", me.joined_seq as "joined_seq!", me.delivered_seq as "delivered_seq!", me.read_seq as "read_seq!",
       n.unread as "unread!", n.unread_more as "unread_more!",
       o.id as "other_id?", o.external_id as "other?", o.display_name as "other_name?", o.avatar_url as "other_picture?"
from chat_members me
join chats c on c.id = me.chat_id
cross join lateral (
  select count(s.message_id) as unread, coalesce(max(x.seq), c.last_seq) < c.last_seq as unread_more
  from (
    select m.id, m.seq from messages m
    where m.chat_id = c.id and m.seq > greatest(me.read_seq, me.joined_seq)
    order by m.seq
    limit 1000
  ) x
  left join message_status s on s.message_id = x.id and s.user_id = me.user_id and s.status in ('sent', 'delivered')
) n
left join lateral (
  select u.id, u.external_id, u.display_name, u.avatar_url
  from chat_members them join users u on u.id = them.user_id
  where c.kind = 'direct' and them.chat_id = c.id and them.user_id <> me.user_id
  limit 1
) o on true
where me.user_id = $1 and me.left_seq is null and me.chat_id between $2 and $3
order by me.chat_id
limit $4
