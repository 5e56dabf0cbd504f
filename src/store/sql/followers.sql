-- followers: the followers of a feed behind one of them, in the order in which the service met them; followers_of_a_feed
select u.id as "user_id!", u.external_id as "external_id!", u.display_name as "name?", u.avatar_url as "picture?"
from (
  select x.user_id from followers x
  where x.feed_id = $1 and x.class = 'event' and x.user_id > coalesce((select y.id from users y where y.is_current and y.external_id = $2), 0)
  order by x.user_id
  limit $3
) f
cross join lateral (select x.* from users x where x.id = f.user_id limit 1) u
order by f.user_id
