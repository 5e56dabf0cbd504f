-- lock_timeout: the time for which this session waits for a lock from now on, and under which name others see it, unless it has one; no index
select pg_backend_pid() as "pid!", set_config('lock_timeout', $1, false) as "lock_timeout!",
       set_config('application_name', coalesce(nullif(current_setting('application_name'), ''), $2), false) as "application!"
