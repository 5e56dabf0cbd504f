-- put_back: a failed message waits again for its recipient; primary keys (see restante_put_back)
select outcome as "outcome!", inbox_seq as "inbox_seq?" from restante_put_back($1, $2)
