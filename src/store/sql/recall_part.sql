-- recall_part: goes on with a recall for its next recipients; a_recipient_gets_a_message_once, then primary keys (see restante_recall_part)
select message_id as "message_id!", chat_id as "chat_id!", chat_seq as "chat_seq!", sender_id as "sender_id!", recalled_at as "recalled_at!",
       is_first as "is_first!", goes_on as "goes_on!", user_id as "user_id?", member as "member?", class as "class!: enums::Class", seq as "seq?",
       has_ended as "has_ended?"
from restante_recall_part($1, $2, $3)
