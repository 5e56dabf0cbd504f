-- status_counts: what became of a chat's messages, counted; (chat_id, seq) of messages, then unique (message_id, user_id) of message_status
select s.status as "status!: enums::Status", count(*) as "rows!"
from (select x.id from messages x where x.chat_id = $1 and x.seq > 0 order by x.seq offset 0) m
cross join lateral (select x.status from message_status x where x.message_id = m.id order by x.message_id, x.user_id offset 0) s
group by s.status
