-- newest_messages: the newest message of each of these senders in a chat, among the newest 1,000 there; (chat_id, seq) of messages
select u.ord as "ord!", n.id as "message_id!", n.seq as "seq!"
from unnest($1::uuid[], $2::bigint[]) with ordinality u (chat_id, sender_id, ord)
cross join lateral (
  select r.id, r.seq from (
    select m.id, m.seq, m.sender_id from messages m where m.chat_id = u.chat_id and m.seq > 0 order by m.seq desc limit 1000
  ) r
  where r.sender_id = u.sender_id
  order by r.seq desc
  limit 1
) n
