-- erase_user: erases a user, and notes it; each_external_id_names_one_user, primary keys (see restante_erase_user)
select outcome as "outcome!", number as "number?", revoked_at as "revoked_at?", expires_at as "expires_at?"
from restante_erase_user($1, $2, $3, $4)
