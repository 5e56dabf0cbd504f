-- accept: stores a batch of messages and a row per recipient, an outcome per item; primary keys throughout (see restante_accept)
select ord as "ord!", outcome as "outcome!", chat_id as "chat_id!", seq as "seq?", created_at as "created_at?",
       class as "class!: Class", recipients as "recipients?", inbox_seqs as "inbox_seqs?"
from restante_accept($1, $2, $3, $4, $5, $6, $7, $8)
