-- revoke: revokes the tokens of a user, of a device or of an id, ends the logins of the user or the one of the id, and tells every node; something_is_revoked_once, account_logins_by_name, each_login_has_an_id (see restante_revoke)
select r.number as "number!", r.revoked_at as "revoked_at!", r.expires_at as "expires_at!", b.name as "revoked_by!"
from (select coalesce($6, session_user::text) as name) b
cross join lateral restante_revoke($1, $2, $3, $4, $5, b.name, $7) r
