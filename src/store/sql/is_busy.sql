-- is_busy: does a statement of ours take long, or are they all answered as far as the server goes? What the server does now; no index
select exists (
    select from pg_stat_activity a
    where a.datname = current_database() and a.usename = current_user and a.application_name = current_setting('application_name')
      and a.state = 'active' and a.query_start < clock_timestamp() - make_interval(secs => $1)
) as "is_busy!"
