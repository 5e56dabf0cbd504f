-- followers_among: those of these users that follow a stream; primary key of followers
select u.id as "user_id!"
from (select x.feed_id, x.class from feeds x where x.chat_id = $1 limit 1) s
cross join unnest($2::bigint[]) u (id)
where exists (select from followers f where f.user_id = u.id and f.feed_id = s.feed_id and f.class = s.class)
