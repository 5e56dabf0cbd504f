-- row_states: what became of rows that a session holds, by their numbers; primary keys of message_status and inbox_gaps
-- A row comes as ended that has, though no job has written it yet. Expiry is left out: a session knows it by the database's clock.
select u.seq as "seq!", s.status as "status?: enums::Status",
       coalesce(case when s.status = 'sent' then l.ended end, restante_ended_unwritten(s.status, l.has_left, m.recalled_at, p_shows_acked => true), s.ended, g.reason)::text as "ended?"
from unnest($3::bigint[]) u (seq)
left join lateral (
  select r.message_id, r.status, r.ended from message_status r where r.user_id = $1 and r.class = $2 and r.seq = u.seq limit 1
) s on true
left join lateral (select x.reason from inbox_gaps x where s.status is null and x.user_id = $1 and x.class = $2 and x.seq = u.seq limit 1) g on true
left join lateral (select x.chat_id, x.seq, x.recalled_at from messages x where x.id = s.message_id limit 1) m on true
left join lateral restante_departed($1, m.chat_id, m.seq) l on true
