-- dead_letters: a page of what failed and nobody has given up, newest first; dead_letters_by_time, _by_sender, _by_recipient or a_row_ends_once
select message_id as "message_id!", user_id as "user_id!", recipient as "recipient!", sender as "sender!", chat_id as "chat_id!", chat_seq as "chat_seq!",
       message_type as "message_type!", reason as "reason!", last_error as "last_error?", attempts as "attempts!", least(greatest(accepted_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59+00') as "accepted_at!", failed_at as "failed_at!"
from restante_dead_letters($1, $2, $3, $4, $5, $6, $7, $8, $9)
