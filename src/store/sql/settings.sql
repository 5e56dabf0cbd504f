-- settings: what would have to be run so that connections of this role have these settings, if this one lacks any; no index
-- A setting that the server does not know has no value and lacks nothing. With a pattern every value will do that it does not match.
select format('alter role %I in database %I set %I = %L', session_user, current_database(), s.name, s.value) as "statement!"
from unnest($1::text[], $2::text[], $3::text[]) s (name, value, refused)
where case when s.refused = '' then current_setting(s.name, true) <> s.value else current_setting(s.name, true) ~ s.refused end
