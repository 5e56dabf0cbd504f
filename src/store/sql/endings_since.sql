-- endings_since: what failed or expired of a sender's messages since a transaction; endings_by_sender
select e.message_id as "message_id!", e.user_id as "user_id!", e.chat_id as "chat_id!", e.status as "status!: Status", e.reason as "reason!"
from endings e
where e.sender_id = $1 and e.ended_xid >= $2::text::xid8
order by e.ended_xid desc
limit $3
