-- statuses: what became of a message, for its sender and its recipients only; a_recipient_gets_a_message_once
-- The sender of a message without recipients gets a row with nulls; somebody else gets none. Events are none of it: their recipients do not know one another, and are many.
select u.external_id as "user?", s.status as "status?: enums::Status", s.delivered_at as "delivered_at?", s.read_at as "read_at?", s.reason as "reason?"
from messages m
left join message_status s on s.message_id = m.id
left join lateral (select x.external_id from users x where x.id = s.user_id limit 1) u on true
where m.id = $2 and m.seq > 0 and not exists (select from feeds f where f.chat_id = m.chat_id)
  and (m.sender_id = $1 or exists (select 1 from message_status mine where mine.message_id = m.id and mine.user_id = $1))
order by s.user_id
