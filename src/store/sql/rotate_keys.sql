-- rotate_keys: asks for a new data key and a sweep; primary key of encryption (see restante_rotate_keys)
select restante_rotate_keys($1, $2) as "sweep?"
