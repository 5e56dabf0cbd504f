-- open: where a connection starts in each inbox, a device's session counted up; primary keys of inboxes and devices
select class as "class!: Class", last_seq as "last_seq!", settled_seq as "settled_seq!", acked_seq as "acked_seq!", session_no as "session_no?"
from restante_open($1, $2)
