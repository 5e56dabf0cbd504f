-- take_block_back: a user blocks another one no more; primary keys (see restante_take_block_back)
select outcome as "outcome!", chat_id as "chat_id?" from restante_take_block_back($1, $2)
