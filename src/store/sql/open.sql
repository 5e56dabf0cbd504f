-- open: who a connection is, where it starts in each inbox and how much waits, a device's session counted up; unique and primary keys (see restante_open)
select user_id as "user_id!", display_name as "display_name?", avatar_url as "avatar_url?", class as "class!: enums::Class",
       last_seq as "last_seq!", settled_seq as "settled_seq!", acked_seq as "acked_seq!", pending as "pending!", session_no as "session_no?", is_first as "is_first!",
       clock_timestamp() as "at!"
from restante_open($1, $2, $3, $4, $5, $6, $7, $8, $9)
