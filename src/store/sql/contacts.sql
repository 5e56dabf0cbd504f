-- contacts: a user's contacts, or the requests that it has made, behind one of them, in the order in which the service met them; primary key of contacts
select u.id as "user_id!", u.external_id as "external_id!", u.display_name as "name?", u.avatar_url as "picture?", f.since as "since!"
from (
  select x.other_id, greatest(x.wanted_at, w.wanted_at) as since
  from contacts x
  left join lateral (select y.wanted_at from contacts y where y.user_id = x.other_id and y.other_id = x.user_id limit 1) w on true
  where x.user_id = $1 and x.other_id > coalesce((select y.id from users y where y.is_current and y.external_id = $2), 0) and (w.wanted_at is not null) = $4::boolean
  order by x.other_id
  limit $3
) f
cross join lateral (select x.* from users x where x.id = f.other_id limit 1) u
order by f.other_id
