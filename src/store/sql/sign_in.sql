-- sign_in: a user as it is shown, with what its token says of it; each_external_id_names_one_user
select u.id as "id!", u.display_name, u.avatar_url, u.came_at is null as "is_first!" from users u where u.is_current and u.external_id = $1
