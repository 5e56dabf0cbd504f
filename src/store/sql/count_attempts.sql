-- count_attempts: counts attempts against rows that still wait, fails those that had their last; primary key of message_status
select ord as "ord!", attempts as "attempts!", failed as "failed!", counted_at as "counted_at!"
from restante_attempt($1, $2, $3, $4, $5, $6)
