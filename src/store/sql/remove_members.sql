-- remove_members: members leave a group, under its row lock; a_chat_number_names_one_message, a_recipient_gets_a_message_once
select outcome as "outcome!", user_id, external_id, left_seq, class as "class: enums::Class", seq, message_id, chat_seq, sender_id, ended_at
from restante_remove_members($1, $2, $3)
