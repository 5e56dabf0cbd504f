-- chats: a user's chats with ids between two (both included), its marks and what is unread; members_by_user, then each chat's newest messages
-- The limit comes first, so that only these chats are looked into. 1,000 numbers above read_seq are at most 1,000 messages, each looked up
-- for itself, so that neither a chat nobody reads nor a long inbox costs more. Where rows above read_seq were purged, another 1,000 numbers
-- are looked at behind them: the first ones hold what was put back. What was recalled is not unread, nor what has expired unseen, though no job has written it yet; a chat that
-- the user has left is none of these.
select c.id as "chat_id!", c.kind as "kind!: enums::ChatKind", c.title as "title?", h.last_seq as "last_seq!", c.created_at as "created_at!",
       me.role as "role!: enums::Role", me.joined_seq as "joined_seq!", k.delivered_seq as "delivered_seq!", k.read_seq as "read_seq!",
       n.unread as "unread!", h.last_seq > greatest(k.read_seq, me.joined_seq, k.purged_seq) + 1000 as "unread_more!",
       o.id as "other_id?", o.external_id as "other?", o.display_name as "other_name?", o.avatar_url as "other_picture?"
from (
  select cm.chat_id, cm.user_id, cm.role, cm.joined_seq
  from chat_members cm
  where cm.user_id = $1 and cm.left_seq is null and cm.chat_id between $2 and $3
  order by cm.chat_id
  limit $4
) me
cross join lateral (
  select x.delivered_seq, x.read_seq, x.purged_seq from marks x where x.chat_id = me.chat_id and x.user_id = me.user_id order by x.step desc limit 1
) k
join chats c on c.id = me.chat_id
cross join lateral (select x.last_seq from chat_heads x where x.chat_id = me.chat_id order by x.step desc limit 1) h
cross join lateral (
  select count(*) as unread
  from (
    select x.id, x.expires_at from messages x
    where x.chat_id = me.chat_id and x.recalled_at is null and x.seq > greatest(k.read_seq, me.joined_seq) and x.seq <= greatest(k.read_seq, me.joined_seq) + 1000
    union all
    select x.id, x.expires_at from messages x
    where k.purged_seq > greatest(k.read_seq, me.joined_seq) and x.chat_id = me.chat_id and x.recalled_at is null
      and x.seq > greatest(k.purged_seq, greatest(k.read_seq, me.joined_seq) + 1000)
      and x.seq <= k.purged_seq + 1000
  ) m
  cross join lateral (
    select s.seq from message_status s
    where s.message_id = m.id and s.user_id = me.user_id and s.status in ('sent', 'delivered')
      and restante_ended_unwritten(s.status, null, null, m.expires_at, clock_timestamp()) is null
    limit 1
  ) mine
) n
left join lateral (
  select u.id, u.external_id, u.display_name, u.avatar_url
  from chat_members them
  cross join lateral (select x.id, x.external_id, x.display_name, x.avatar_url from users x where x.id = them.user_id limit 1) u
  where c.kind = 'direct' and them.chat_id = me.chat_id and them.user_id <> me.user_id
  limit 1
) o on true
order by me.chat_id
