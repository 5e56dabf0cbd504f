-- put_back: a failed message waits again for its recipient, which is noted; primary keys (see restante_return_to_inbox)
select outcome as "outcome!", inbox_seq as "inbox_seq?" from restante_put_back($1, $2, $3, $4)
