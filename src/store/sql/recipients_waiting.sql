-- recipients_waiting: who still waits for these messages; unique (message_id, user_id) of message_status
select distinct s.user_id as "user_id!", s.class as "class!: enums::Class"
from message_status s
where s.message_id = any($1::uuid[]) and s.status = 'sent'
