-- page_waiting: the next rows that wait and the inbox's counter, from one snapshot; primary key of message_status from the cursor on
select i.last_seq as "last_seq!", s.seq as "seq?", s.status as "status?: Status", s.attempts as "attempts?", s.reason as "reason?",
       m.id as "message_id?", m.chat_id as "chat_id?", m.seq as "chat_seq?", m.message_type as "message_type?", m.content as "content?",
       m.metadata::text as "metadata?", m.created_at as "created_at?", m.expires_at as "expires_at?",
       u.id as "sender_id?", u.external_id as "sender?", u.display_name as "sender_name?", u.avatar_url as "sender_picture?"
from inboxes i
left join lateral (
  select r.seq, r.message_id, r.status, r.attempts, r.reason
  from message_status r
  where r.user_id = i.user_id and r.class = i.class and r.seq > $3 and r.status in ('sent', 'failed', 'expired')
  order by r.seq
  limit $4
) s on true
left join messages m on m.id = s.message_id
left join users u on u.id = m.sender_id
where i.user_id = $1 and i.class = $2
