-- make_data_key: stores a new data key, unless another one is newer than the newest that the node knows; data_keys_by_time (see restante_make_data_key)
select restante_make_data_key($1, $2, $3, $4) as "is_made!"
