-- followers_among: those of these users that follow a stream; primary key of followers
select u.id as "user_id!"
from (select x.feed_id, x.class from feeds x where x.chat_id = $1 limit 1) s
cross join unnest($2::bigint[]) u (id)
cross join lateral (select from followers x where x.user_id = u.id and x.feed_id = s.feed_id and x.class = s.class limit 1) f
