-- count_attempts: counts attempts against rows that still wait, fails those that had their last; primary key of message_status
-- Its lock time-out comes with it: an argument is computed before the function is called, and the connection keeps nothing of it.
-- took_ms is the time up to the first row of the result: all of it is there by then. The commit comes later and is not in it.
select ord as "ord!", attempts as "attempts!", failed as "failed!", counted_at as "counted_at!",
       (extract(epoch from clock_timestamp() - statement_timestamp()) * 1000)::float8 as "took_ms!"
from restante_attempt($1, $2, $3, $4, $5,
                     case when set_config('lock_timeout', $7, true) is not null then $6::int end)
