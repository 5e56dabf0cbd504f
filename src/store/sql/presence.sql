-- presence: who is online at any node, and when users were last seen, for somebody who shares a chat with them; primary keys, and members_by_user
select u.external_id as "external_id!", u.id as "user_id!", case when l.seen_at is not null then least(l.seen_at, clock_timestamp()) end as "seen_at?",
       exists (
         select from presence_leases p
         cross join lateral (select from nodes n where n.node_id = p.node_id and restante_is_alive(n, clock_timestamp()) limit 1) n
         where p.user_id = u.id) as "online!"
from users u
left join last_seen l on l.user_id = u.id
where u.external_id = any($2::text[])
  and (u.id = $1 or exists (
    select 1 from chat_members me
    join chat_members them on them.chat_id = me.chat_id and them.user_id = u.id and them.left_seq is null
    where me.user_id = $1 and me.left_seq is null))
