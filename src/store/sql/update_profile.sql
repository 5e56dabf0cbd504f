-- update_profile: name and picture of a token that differ from what is known; primary key of users
update users set display_name = coalesce($2, display_name), avatar_url = coalesce($3, avatar_url) where id = $1
