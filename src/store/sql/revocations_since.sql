-- revocations_since: a page of what counts and was written by transactions that were not over for a snapshot of before, behind a place, in the order of transactions; revocations_by_transaction
-- First the transactions that the snapshot saw open, each by itself, then everything that follows it.
select r.number as "number!", r.user_name, r.device_id, r.token_id, r.of_login as "of_login!", r.revoked_at as "revoked_at!", r.expires_at as "expires_at!", r.reason, r.revoked_by as "revoked_by!",
       r.revoked_xid::text as "xid!"
from (
  select x.* from unnest(array(select pg_snapshot_xip($1::text::pg_snapshot))) w (xid)
  cross join lateral (
    select y.* from revocations y
    where y.revoked_xid = w.xid and (y.revoked_xid, y.number) > ($2::text::xid8, $3) and y.expires_at > now()
    order by y.revoked_xid, y.number
    limit $4
  ) x
  union all (
    select y.* from revocations y
    where y.revoked_xid >= (select pg_snapshot_xmax($1::text::pg_snapshot)) and (y.revoked_xid, y.number) > ($2::text::xid8, $3) and y.expires_at > now()
    order by y.revoked_xid, y.number
    limit $4
  )
) r
order by r.revoked_xid, r.number
limit $4
