-- known_users: the numbers of those of these users that there are; each_external_id_names_one_user
select u.external_id as "external_id!", u.id as "id!" from users u where u.is_current and u.external_id = any ($1::text[])
