-- set_limit: multiplies the rates of a user, and tells every node; each_external_id_names_one_user, a_user_has_one_factor (see restante_set_limit)
select restante_set_limit($1, $2, $3, $4) as "outcome!"
