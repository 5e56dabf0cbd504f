-- feed: a feed as one user sees it; primary keys of feeds, feed_publishers and followers
select c.title as "title?", c.created_at as "created_at!", coalesce(p.role = 'admin', false) as "is_maker!", p.user_id is not null as "is_publisher!",
       exists (select from followers f where f.user_id = $1 and f.feed_id = s.feed_id and f.class = 'event') as "is_follower!"
from feeds s
join chats c on c.id = s.chat_id
left join feed_publishers p on p.feed_id = s.feed_id and p.user_id = $1
where s.feed_id = $2 and s.class = 'event' and s.feed_id <> '00000000-0000-0000-0000-000000000002'
