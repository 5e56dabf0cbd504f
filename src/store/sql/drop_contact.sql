-- drop_contact: a user removes a contact, or takes back or declines a request; primary keys (see restante_drop_contact)
select outcome as "outcome!", has_changed as "has_changed!", is_told as "is_told!" from restante_drop_contact($1, $2, $3)
