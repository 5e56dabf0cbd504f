-- pass_on_name: the name of a user that is erased passes on to another user, or some blocks of it do; each_external_id_names_one_user, blocks_by_other, primary keys (see restante_pass_on_name)
select restante_pass_on_name($1, $2) as "has_passed!"
