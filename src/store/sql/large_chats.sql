-- large_chats: those of these chats that report counts instead of members; primary key of chat_members
select u.chat_id as "chat_id!"
from unnest($1::uuid[]) u (chat_id)
where (select count(*) from (select 1 from chat_members x where x.chat_id = u.chat_id and x.left_seq is null limit $2) y) = $2
