-- take_back: recalls a message for its sender within a time; primary keys (see restante_take_back)
select outcome as "outcome!", chat_id as "chat_id?", chat_seq as "chat_seq?", recalled_at as "recalled_at?" from restante_take_back($1, $2, $3)
