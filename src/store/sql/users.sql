-- users: the numbers of users, made on first sight; each_external_id_names_one_user
select external_id as "external_id!", id as "id!" from restante_users($1, $2)
