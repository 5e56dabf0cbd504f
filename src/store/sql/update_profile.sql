-- update_profile: a user that comes for the first time, or with another name or picture than what is known; primary key of users
update users set display_name = coalesce($2, display_name), avatar_url = coalesce($3, avatar_url), came_at = coalesce(came_at, clock_timestamp()) where id = $1
