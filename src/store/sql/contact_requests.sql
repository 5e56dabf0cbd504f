-- contact_requests: the requests that a user has got, behind one of them, in the order in which the service met those who made them; contacts_by_other
-- Those of users that it has blocked are not shown.
select u.id as "user_id!", u.external_id as "external_id!", u.display_name as "name?", u.avatar_url as "picture?", f.since as "since!"
from (
  select x.user_id as other_id, x.wanted_at as since
  from contacts x
  where x.other_id = $1 and x.user_id > coalesce((select y.id from users y where y.is_current and y.external_id = $2), 0)
    and (select true from contacts y where y.user_id = $1 and y.other_id = x.user_id limit 1) is null
    and (select true from blocks b where b.user_id = $1 and b.other_id = x.user_id limit 1) is null
  order by x.user_id
  limit $3
) f
cross join lateral (select x.* from users x where x.id = f.other_id limit 1) u
order by f.other_id
