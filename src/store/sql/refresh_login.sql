-- refresh_login: a login goes on with another refresh token, or ends where the token was used before; each_login_has_a_family_of_refresh_tokens (see restante_refresh_login)
select outcome as "outcome!", name as "name?", display_name as "display_name?", login_id as "login_id?", ends_at as "ends_at?"
from restante_refresh_login($1, $2, $3, make_interval(secs => $4), make_interval(secs => $5), make_interval(secs => $6))
