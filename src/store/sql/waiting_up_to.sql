-- waiting_up_to: the first waiting rows at or below a number, for a client that resumes with ?since=; primary key of message_status
select s.message_id as "message_id!"
from message_status s
where s.user_id = $1 and s.class = $2 and s.seq > $3 and s.seq <= $4 and s.status = 'sent'
order by s.seq
limit $5
