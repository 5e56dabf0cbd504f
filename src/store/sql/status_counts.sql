-- status_counts: what became of a chat's messages, counted; (chat_id, seq) of messages, then unique (message_id, user_id) of message_status
select s.status as "status!: enums::Status", count(*) as "rows!"
from messages m
join message_status s on s.message_id = m.id
where m.chat_id = $1 and m.seq > 0
group by s.status
