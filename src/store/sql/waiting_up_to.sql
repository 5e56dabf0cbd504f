-- waiting_up_to: the first waiting rows at or below a number, for an ack of everything up to it, and which of them have ended though no job has written it yet; primary key of message_status
-- Those that have ended came to nobody: their reader was told a gap.
select s.message_id as "message_id!", s.seq as "seq!",
       restante_ended_unwritten('sent', l.has_left, m.recalled_at, m.expires_at, clock_timestamp()) is not null as "has_ended!"
from (
  select x.message_id, x.seq from message_status x
  where x.user_id = $1 and x.class = $2 and x.seq > $3 and x.seq <= $4 and x.status = 'sent'
  order by x.seq
  limit $5
) s
cross join lateral (select x.chat_id, x.seq, x.expires_at, x.recalled_at from messages x where x.id = s.message_id limit 1) m
left join lateral restante_departed($1, m.chat_id, m.seq) l on true
order by s.seq
