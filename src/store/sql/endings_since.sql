-- endings_since: what failed, expired or was put back of a sender's messages since a cursor and after a place, in turn, as far as a snapshot of before saw it; endings_by_sender, a_recipient_gets_a_message_once
-- Of events nobody is told, nor of what stands in a closed chat or has ended while it was one. First the transactions that were open at the cursor, each by itself, then everything that follows it. What was put back may be delivered by now:
-- then that is what the sender has to know.
select e.message_id as "message_id!", e.user_id as "user_id!", e.chat_id as "chat_id!", coalesce(s.status, e.status) as "status!: enums::Status", e.reason as "reason!",
       (select u.external_id from users u where u.id = e.user_id) as "member!", e.ended_xid::text as "ended_xid!"
from (
  select * from (
    select x.* from unnest((select $8::text[]::xid8[])) w (xid)
    cross join lateral (
      select y.message_id, y.user_id, y.chat_id, y.status, y.reason, y.ended_xid
      from endings y
      where y.sender_id = $1 and y.class = 'chat' and not y.is_hidden and y.chat_seq > 0 and y.ended_xid = w.xid and (y.ended_xid, y.message_id, y.user_id) > ($2::text::xid8, $3, $4)
        and pg_visible_in_snapshot(y.ended_xid, (select coalesce($6::text::pg_snapshot, pg_current_snapshot())))
        and (select true from closed_chats c where c.chat_id = y.chat_id limit 1) is null
      order by y.ended_xid, y.message_id, y.user_id
      limit $5
    ) x
    union all (
      select y.message_id, y.user_id, y.chat_id, y.status, y.reason, y.ended_xid
      from endings y
      where y.sender_id = $1 and y.class = 'chat' and not y.is_hidden and y.chat_seq > 0 and y.ended_xid >= (select $7::text::xid8) and (y.ended_xid, y.message_id, y.user_id) > ($2::text::xid8, $3, $4)
        and pg_visible_in_snapshot(y.ended_xid, (select coalesce($6::text::pg_snapshot, pg_current_snapshot())))
        and (select true from closed_chats c where c.chat_id = y.chat_id limit 1) is null
      order by y.ended_xid, y.message_id, y.user_id
      limit $5
    )
  ) z
  order by z.ended_xid, z.message_id, z.user_id
  limit $5
) e
left join lateral (
  select x.status from message_status x where x.message_id = e.message_id and x.user_id = e.user_id and e.status = 'sent' limit 1
) s on true
order by e.ended_xid, e.message_id, e.user_id
