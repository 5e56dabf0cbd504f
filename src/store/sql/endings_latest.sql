-- endings_latest: what failed, expired or was put back of a sender's messages last, for a client that does not say what it knows; endings_by_sender, a_recipient_gets_a_message_once
-- Of events nobody is told, nor of what stands in a closed chat or has ended while it was one. A row that was put back may be delivered by now: then the sender has to be told that.
select e.message_id as "message_id!", e.user_id as "user_id!", e.chat_id as "chat_id!", coalesce(s.status, e.status) as "status!: enums::Status", e.reason as "reason!",
       (select u.external_id from users u where u.id = e.user_id) as "member!"
from endings e
left join lateral (
  select x.status from message_status x where x.message_id = e.message_id and x.user_id = e.user_id and e.status = 'sent' limit 1
) s on true
where e.sender_id = $1 and e.class = 'chat' and not e.is_hidden and e.chat_seq > 0 and (select true from closed_chats c where c.chat_id = e.chat_id limit 1) is null
order by e.ended_xid desc, e.message_id desc, e.user_id desc
limit $2
