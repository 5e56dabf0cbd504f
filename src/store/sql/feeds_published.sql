-- feeds_published: the feeds whose publisher a user is, in the order of their ids, from one on; publishers_by_user
select p.feed_id as "feed_id!", c.title as "title?", c.created_at as "created_at!", p.role = 'admin' as "is_maker!", true as "is_publisher!",
       exists (select from followers f where f.user_id = $1 and f.feed_id = p.feed_id and f.class = 'event') as "is_follower!"
from (select x.feed_id, x.role from feed_publishers x where x.user_id = $1 and x.feed_id >= $2 order by x.feed_id limit $3) p
join chats c on c.id = p.feed_id
order by p.feed_id
