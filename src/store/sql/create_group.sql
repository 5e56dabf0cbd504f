-- create_group: a new group with its members; inserts only
select restante_create_group($1, $2, $3, $4)
