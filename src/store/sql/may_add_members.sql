-- may_add_members: may this user add members to a group, as far as that is seen without a lock, of whom so many are no users yet; primary keys of chats and chat_members
select case
         when me.role is null then 'not_a_member'
         when c.kind <> 'group' then 'not_a_group'
         when me.role <> 'admin' then 'forbidden'
         when (select count(*) from chat_members x where x.chat_id = $2 and x.left_seq is null)
            + (select count(*) from unnest($3::bigint[]) u (user_id)
                where not exists (select from chat_members x where x.chat_id = $2 and x.user_id = u.user_id and x.left_seq is null)) + $4 > $5
           then 'too_many_members'
         else 'done'
       end as "outcome!"
from (select 1) one
left join lateral (select x.kind from chats x where x.id = $2 limit 1) c on true
left join lateral (select x.role from chat_members x where x.chat_id = $2 and x.user_id = $1 and x.left_seq is null limit 1) me on true
