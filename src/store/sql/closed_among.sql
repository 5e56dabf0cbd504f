-- closed_among: those of these direct chats that are closed, since one of the two has blocked the other; primary key of closed_chats
select u.chat_id as "chat_id!"
from unnest($1::uuid[]) u (chat_id)
where (select true from closed_chats x where x.chat_id = u.chat_id limit 1) is not null
