-- put_contact: a user requests another one as a contact, or accepts its request; primary keys (see restante_put_contact)
select outcome as "outcome!", has_changed as "has_changed!", is_told as "is_told!" from restante_put_contact($1, $2, $3, $4)
