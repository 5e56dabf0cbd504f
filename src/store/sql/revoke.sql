-- revoke: revokes the tokens of a user, of a device or of an id, and tells every node; something_is_revoked_once
select number as "number!", revoked_at as "revoked_at!", expires_at as "expires_at!" from restante_revoke($1, $2, $3, $4, $5, make_interval(secs => $6), $7)
