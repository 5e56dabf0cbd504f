-- revocations: a page of what counts, newest first, below a place; revocations_by_time
select r.number as "number!", r.user_name, r.device_id, r.token_id, r.of_login, r.revoked_at as "revoked_at!", r.expires_at as "expires_at!", r.reason, r.revoked_by as "revoked_by!", r.revoked_xid::text as "xid!"
  from revocations r
 where (r.revoked_at, r.number) < ($1, $2) and r.expires_at > now()
 order by r.revoked_at desc, r.number desc limit $3
