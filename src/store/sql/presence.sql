-- presence: who is online at any node, and when users were last seen, for somebody who shares a chat with them, or is their contact, where neither has blocked the other; the asker's chats once, then members_by_user of each user, primary keys
with mine as materialized (select chat_id from chat_members where user_id = $1 and left_seq is null)
select u.external_id as "external_id!", u.id as "user_id!", case when l.seen_at is not null then least(l.seen_at, clock_timestamp()) end as "seen_at?",
       coalesce((
         select true from presence_leases p
         cross join lateral (select from nodes n where n.node_id = p.node_id and restante_is_alive(n, clock_timestamp()) limit 1) n
         where p.user_id = u.id
         limit 1), false) as "online!"
from (select distinct x.external_id from unnest($2::text[]) x (external_id)) asked
cross join lateral (select x.id, x.external_id from users x where x.is_current and x.external_id = asked.external_id limit 1) u
left join last_seen l on l.user_id = u.id
-- Neither can become a join, `limit` and `coalesce` see to that: the asker's chats are hashed once, and of each user as many chats are looked at
-- as it takes to find one of them.
where (u.id = $1 or case when $3::boolean then
    (select true from contacts c where c.user_id = $1 and c.other_id = u.id limit 1) is not null
    and (select true from contacts c where c.user_id = u.id and c.other_id = $1 limit 1) is not null
  else (
    select true from chat_members them
    where them.user_id = u.id and them.left_seq is null and coalesce(them.chat_id in (select chat_id from mine), false)
    limit 1) end)
  and (select true from blocks b where b.user_id = $1 and b.other_id = u.id limit 1) is null
  and (select true from blocks b where b.user_id = u.id and b.other_id = $1 limit 1) is null
