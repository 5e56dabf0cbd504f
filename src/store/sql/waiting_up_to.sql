-- waiting_up_to: the first waiting rows at or below a number, for an ack of everything up to it, and which of them have ended though no job has written it yet; primary key of message_status
-- Those that have ended came to nobody: their reader was told a gap.
select s.message_id as "message_id!", s.seq as "seq!",
       (m.expires_at is not null and m.expires_at <= clock_timestamp()) or m.recalled_at is not null or coalesce(l.has_left, false) as "has_ended!"
from (
  select x.message_id, x.seq from message_status x
  where x.user_id = $1 and x.class = $2 and x.seq > $3 and x.seq <= $4 and x.status = 'sent'
  order by x.seq
  limit $5
) s
cross join lateral (select x.chat_id, x.seq, x.expires_at, x.recalled_at from messages x where x.id = s.message_id limit 1) m
left join lateral (
  select true as has_left from departures d
  where (select exists (select from departures e where e.user_id = $1))
    and d.user_id = $1 and d.chat_id = m.chat_id and m.seq > d.after_seq and m.seq <= d.up_to_seq
  limit 1
) l on true
order by s.seq
