-- row_states: what became of rows that a session holds, by their numbers; primary keys of message_status and inbox_gaps
-- A row of a chat that the user has left comes as ended: a job has not come to it yet (departures). So does one that was recalled, also where another connection has it.
select u.seq as "seq!", s.status as "status?: enums::Status",
       case when s.status is null then g.reason::text when s.status = 'sent' and l.has_left then 'left'
            when s.status in ('sent', 'delivered', 'read') and m.recalled_at is not null then 'recalled' else s.ended::text end as "ended?"
from unnest($3::bigint[]) u (seq)
left join lateral (
  select r.message_id, r.status, r.ended from message_status r where r.user_id = $1 and r.class = $2 and r.seq = u.seq limit 1
) s on true
left join lateral (select x.reason from inbox_gaps x where x.user_id = $1 and x.class = $2 and x.seq = u.seq limit 1) g on true
left join lateral (select x.chat_id, x.seq, x.recalled_at from messages x where x.id = s.message_id limit 1) m on true
left join lateral (
  select true as has_left from departures d
  where (select exists (select from departures e where e.user_id = $1))
    and d.user_id = $1 and d.chat_id = m.chat_id and m.seq > d.after_seq and m.seq <= d.up_to_seq
  limit 1
) l on true
