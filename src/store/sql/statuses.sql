-- statuses: what became of a message, for its sender and its recipients only; a_recipient_gets_a_message_once, a_row_ends_once
-- Of a closed chat the other member's status is that from before it was closed, also where the block itself has ended it: nobody can tell that there is a block. The sender of a message without recipients gets a row with nulls; somebody else gets none. Events are none of it: their recipients do not know one another, and are many.
select u.external_id as "user?", case when s.delivered_at > c.closed_at or h.is_hidden then 'sent' when s.read_at > c.closed_at then 'delivered' else s.status end as "status?: enums::Status",
       case when s.delivered_at > c.closed_at then null else s.delivered_at end as "delivered_at?",
       case when s.read_at > c.closed_at then null else s.read_at end as "read_at?", case when s.status in ('failed', 'expired') and h.is_hidden is null then s.reason end as "reason?"
from unnest(array[$2::uuid]) e (id)
cross join lateral (select x.id, x.chat_id, x.seq, x.sender_id from messages x where x.id = e.id limit 1) m
left join lateral (
  select x.user_id, x.status, x.delivered_at, x.read_at, x.reason from message_status x
  where x.message_id = m.id
  order by x.message_id, x.user_id
  offset 0
) s on true
left join lateral (select x.external_id from users x where x.id = s.user_id limit 1) u on true
left join lateral (
  select x.closed_at from closed_chats x where x.chat_id = m.chat_id and x.user_id = s.user_id and x.user_id <> $1 limit 1
) c on true
left join lateral (
  select true as is_hidden from endings x
  where x.message_id = m.id and x.user_id = s.user_id and x.is_hidden and x.ended_at > c.closed_at limit 1
) h on true
where m.seq > 0 and not exists (select from feeds f where f.chat_id = m.chat_id)
  and (m.sender_id = $1 or coalesce((select true from message_status mine where mine.message_id = m.id and mine.user_id = $1 limit 1), false))
order by s.user_id
