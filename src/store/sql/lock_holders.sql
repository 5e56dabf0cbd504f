-- lock_holders: the sessions that this one waits for, the oldest first; what the server does now, no index
select a.pid as "pid!", coalesce(nullif(a.application_name, ''), 'without a name') as "application!", a.usename::text as "role?",
       coalesce(a.xact_start, a.backend_start) as since
from unnest(pg_blocking_pids($1)) b (pid) join pg_stat_activity a on a.pid = b.pid
order by since limit 3
