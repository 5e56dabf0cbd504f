-- page_keys: what stands where in an inbox, without the messages, for when one of them cannot be read; primary keys from the cursor on
select i.last_seq as "last_seq!", i.purged_seq as "purged_seq!", s.seq as "seq?", s.message_id as "message_id?", s.status as "status?: enums::Status", s.ended as "ended?",
       s.feed_id as "feed_id?", s.from_feed_seq as "from_feed_seq?", s.to_feed_seq as "to_feed_seq?", s.count as "feed_count?"
from (select x.last_seq, x.purged_seq from inboxes x where x.user_id = $1 and x.class = $2 order by x.step desc limit 1) i
left join lateral (
  (select r.seq, r.message_id, r.status, r.ended::text, null::uuid as feed_id, null::bigint as from_feed_seq, null::bigint as to_feed_seq, null::bigint as count
   from message_status r
   where r.user_id = $1 and r.class = $2 and r.seq > greatest($3, i.purged_seq) and r.seq <= $5 and r.status::text = any ($6::text[])
   order by r.seq
   limit $4)
  union all
  (select g.seq, null, null, g.reason::text, g.feed_id, g.from_feed_seq, g.to_feed_seq, g.count
   from inbox_gaps g
   where ($7 or $8 and g.feed_id is not null) and g.user_id = $1 and g.class = $2 and g.seq > greatest($3, i.purged_seq) and g.seq <= $5
   order by g.seq
   limit $4)
  order by seq
  limit $4
) s on true
