-- stream_heads: whose streams these are and where each ends; a_stream_belongs_to_one_feed, primary key of chat_heads
select s.chat_id as "stream!", s.feed_id as "feed_id!", s.class as "class!: enums::Class", h.last_seq as "last_seq!"
from unnest($1::uuid[]) u (id)
cross join lateral (select x.chat_id, x.feed_id, x.class from feeds x where x.chat_id = u.id limit 1) s
cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
