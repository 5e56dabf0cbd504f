-- blocks: whom a user has blocked, behind one of them, in the order in which the service met them; primary key of blocks
select u.id as "user_id!", u.external_id as "external_id!", u.display_name as "name?", u.avatar_url as "picture?", f.blocked_at as "blocked_at!"
from (
  select x.other_id, x.blocked_at from blocks x
  where x.user_id = $1 and x.other_id > coalesce((select y.id from users y where y.is_current and y.external_id = $2), 0)
  order by x.other_id
  limit $3
) f
cross join lateral (select x.* from users x where x.id = f.other_id limit 1) u
order by f.other_id
