-- is_busy: does a statement of ours take long, or are they all answered as far as the server goes? What the server does now; no index
-- A backend that waits for its client counts as idle. A server that does not show what this very statement does shows nothing of others.
select exists (
    select from pg_stat_activity a
    where a.datname = current_database() and a.usename = session_user and a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
      and a.state is distinct from 'idle' and a.wait_event_type is distinct from 'Client'
      and coalesce(a.query_start, '-infinity') < clock_timestamp() - make_interval(secs => $1)
) or not exists (
    select from pg_stat_activity a
    where a.datname = current_database() and a.usename = session_user and a.backend_type = 'client backend' and a.pid = pg_backend_pid()
      and a.state = 'active'
) as "is_busy!"
