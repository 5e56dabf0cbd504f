-- read_all: several reads in one transaction, each up to a number of a chat; (chat_id, seq) of messages, then (message_id, user_id) of message_status
-- Its lock time-out comes with it: an argument is computed before the function is called, and the connection keeps nothing of it.
-- took_ms is the time up to the row: all of the result is there before its first row. The commit comes later and is not in it.
select (extract(epoch from clock_timestamp() - statement_timestamp()) * 1000)::float8 as "took_ms!",
       r.ord as "ord!", r.message_id as "message_id?", r.chat_seq as "chat_seq?", r.sender_id as "sender_id?", r.read_at as "read_at!",
       r.ended as "ended?", r.up_to as "up_to?", r.more as "more?", r.advanced as "advanced?"
from restante_read($1, $2, $3, case when set_config('lock_timeout', $5, true) is not null then $4::int end) r
