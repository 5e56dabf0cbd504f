-- audience: the other members of a chat, for one of them; chat_members' primary key
select them.user_id as "user_id!"
from chat_members me
join chat_members them on them.chat_id = me.chat_id and them.user_id <> me.user_id and them.left_seq is null
where me.chat_id = $2 and me.user_id = $1 and me.left_seq is null
limit 500
