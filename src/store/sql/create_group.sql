-- create_group: a new group with its members and those who are invited, unless one of them has blocked its creator or cannot be invited by it; primary keys of blocks, contacts, users and invitations
select outcome as "outcome!", invited as "invited!" from restante_create_group($1, $2, $3, $4, $5)
