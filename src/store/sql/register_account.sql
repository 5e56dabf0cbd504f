-- register_account: an account whose name nobody has, neither another account nor a user that has come with a token from elsewhere or was erased; primary key of accounts, each_external_id_names_one_user, users_that_were_erased
insert into accounts (name, display_name, password_hash)
select $1, $2, $3 where not exists (select from users u where u.is_current and u.external_id = $1 and (u.came_at is not null or (select e.user_id from erasures e where e.user_id = u.id) is not null))
  and not exists (select from users u where not u.is_current and u.external_id = $1)
on conflict on constraint each_account_has_a_name_of_its_own do nothing
