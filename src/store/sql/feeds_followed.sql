-- feeds_followed: the feeds that a user follows, in the order of their ids, from one on; a_user_follows_a_stream_once
select f.feed_id as "feed_id!", c.title as "title?", c.created_at as "created_at!", coalesce(p.role = 'admin', false) as "is_maker!",
       p.user_id is not null as "is_publisher!", true as "is_follower!"
from (select x.feed_id from followers x where x.user_id = $1 and x.feed_id >= $2 and x.class = 'event' order by x.feed_id limit $3) f
join chats c on c.id = f.feed_id
left join feed_publishers p on p.feed_id = f.feed_id and p.user_id = $1
order by f.feed_id
