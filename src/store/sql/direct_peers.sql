-- direct_peers: those a user has a direct chat with; members_by_user, then chat_members' primary key
select them.user_id as "user_id!"
from chat_members me
join chats c on c.id = me.chat_id and c.kind = 'direct'
join chat_members them on them.chat_id = me.chat_id and them.user_id <> me.user_id
where me.user_id = $1
limit 1000
