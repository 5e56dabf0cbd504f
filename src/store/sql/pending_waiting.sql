-- pending_waiting: how many rows wait behind the cursor, counted up to a limit; primary key of message_status
select count(*) as "pending!"
from (select 1 from message_status s where s.user_id = $1 and s.class = $2 and s.seq > $3 and s.status = 'sent' order by s.seq limit $4) w
