-- event_rows: what became of the rows of an event, the first of them counted; a_recipient_gets_a_message_once
select q.status as "status!: enums::Status", q.ended::text as "ended?", count(*) as "rows!"
from (select s.status, s.ended from message_status s where s.message_id = $1 limit $2) q
group by q.status, q.ended
