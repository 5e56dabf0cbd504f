-- create_group: a new group with its members, unless one of them has blocked its creator, or has to be a contact and is none; primary keys of blocks and contacts
select restante_create_group($1, $2, $3, $4, $5) as "was_made!"
