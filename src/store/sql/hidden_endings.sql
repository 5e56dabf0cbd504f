-- hidden_endings: what ended of a sender's messages by blocks, or while their chats were closed, as far as these marks pass it; hidden_endings_by_chat, a_recipient_gets_a_message_once
-- The newest of each chat. What was put back may be delivered by now: then that is what the sender has to know.
select e.message_id as "message_id!", e.user_id as "user_id!", e.chat_id as "chat_id!", coalesce(s.status, e.status) as "status!: enums::Status", e.reason as "reason!",
       (select u.external_id from users u where u.id = e.user_id) as "member!"
from unnest($2::uuid[], $3::bigint[], $4::bigint[]) m (chat_id, user_id, up_to)
cross join lateral (
  select x.message_id, x.user_id, x.chat_id, x.status, x.reason from endings x
  where x.chat_id = m.chat_id and x.user_id = m.user_id and x.chat_seq between 1 and m.up_to and x.is_hidden and x.sender_id = $1 and x.class = 'chat'
  order by x.chat_seq desc
  limit $5
) e
left join lateral (
  select x.status from message_status x where x.message_id = e.message_id and x.user_id = e.user_id and e.status = 'sent' limit 1
) s on true
limit $5
