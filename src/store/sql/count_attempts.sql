-- count_attempts: counts attempts against rows that still wait, fails those that had their last; primary key of message_status
-- Its patience with others' locks comes with it: an argument is computed before the function is called, and the connection keeps nothing of it.
select ord as "ord!", attempts as "attempts!", failed as "failed!", counted_at as "counted_at!"
from restante_attempt($1, $2, $3, $4, $5,
                     case when set_config('lock_timeout', $7, true) is not null then $6::int end)
