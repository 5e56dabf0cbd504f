-- settings: what would have to be run so that connections of this role have these settings, if this one lacks any; no index
select format('alter role %I in database %I set %I = %L', session_user, current_database(), s.name, s.value) as "statement!"
from unnest($1::text[], $2::text[]) s (name, value)
where current_setting(s.name) is distinct from s.value
