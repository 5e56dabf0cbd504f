-- event: an event, where it went and how many users it lists; primary keys of messages and fan_outs, a_stream_belongs_to_one_feed
select m.sender_id as "publisher!", m.message_type as "event_type!: String",
       case when m.created_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59+00' then m.created_at end as "created_at?",
       case when m.expires_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59+00' then m.expires_at end as "expires_at?",
       s.class as "class!: enums::Class", s.feed_id as "feed_id!", f.recipients as "recipients?", f.muted as "muted?"
from unnest(array[$1::uuid]) e (id)
cross join lateral (select x.* from messages x where x.id = e.id limit 1) m
join feeds s on s.chat_id = m.chat_id
left join lateral (select x.recipients, x.muted from fan_outs x where x.message_id = m.id limit 1) f on true
