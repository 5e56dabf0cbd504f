-- accept: stores a batch of messages and a row per recipient, an outcome per item; primary keys throughout (see restante_accept)
-- Its lock time-out comes with it: an argument is computed before the function is called, and the connection keeps nothing of it.
select outcomes as "outcomes?", seqs as "seqs?: Vec<Option<i64>>", classes as "classes?: Vec<enums::Class>",
       first_chats as "first_chats?: Vec<Option<Uuid>>", first_times as "first_times?: Vec<Option<OffsetDateTime>>",
       places as "places?", recipients as "recipients?", inbox_seqs as "inbox_seqs?", accepted_at as "accepted_at!"
from restante_accept($1, $2, $3, $4, $5, $6, $7,
                     case when set_config('lock_timeout', $9, true) is not null then $8::boolean end,
                     $10, $11, $12)
