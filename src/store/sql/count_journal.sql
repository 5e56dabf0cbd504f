-- count_journal: adds the oldest lines of the journal to the figures and takes them out; journal_by_time (see restante_count_journal)
select lines as "lines!", moves as "moves!", lost as "lost!", last_at as "last_at?",
       greatest((extract(epoch from clock_timestamp() - oldest_at) * 1000)::bigint, 0) as "late_ms?"
from restante_count_journal(coalesce($1::timestamptz, '-infinity'), $2, $3, $4)
