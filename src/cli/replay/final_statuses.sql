-- final_statuses: what became of a chat's messages in the end; messages_pkey is not needed, the chat's index and message_status's unique (message_id, user_id) are
select s.status::text, count(*)
from messages m
join message_status s on s.message_id = m.id
where m.chat_id = $1
group by s.status
