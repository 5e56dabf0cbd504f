-- page_poll: waiting rows from settled_seq on, for the session that looks for itself; primary key of message_status
-- A time that no calendar of a client holds is none. A row comes as ended that has, though no job has written it yet. Expiry is left out: a session knows it by the database's clock.
select i.last_seq as "last_seq!", i.purged_seq as "purged_seq!", s.seq as "seq?", s.status as "status?: enums::Status", s.attempts as "attempts?",
       coalesce(case when s.status = 'sent' then l.ended end, restante_ended_unwritten(s.status, l.has_left, m.recalled_at), s.ended)::text as "ended?",
       m.id as "message_id?", m.chat_id as "chat_id?", m.seq as "chat_seq?", m.message_type as "message_type?", case when $2 <> 'chat'::inbox_class and m.sealed is null then coalesce(m.content, '') else m.content end as "content?",
       m.metadata::text as "metadata?", m.sealed as "sealed?", m.key_id as "key_id?", case when m.created_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59+00' then m.created_at end as "created_at?",
       case when m.expires_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59+00' then m.expires_at end as "expires_at?",
       u.id as "sender_id?", u.external_id as "sender?", u.display_name as "sender_name?", u.avatar_url as "sender_picture?", false as "is_unreadable!",
       coalesce(s.feed_id, f.feed_id) as "feed_id?", s.from_feed_seq as "from_feed_seq?", s.to_feed_seq as "to_feed_seq?", s.count as "feed_count?",
       m.merge::text as "merge?", s.is_merged as "is_merged?"
from (select x.last_seq, x.purged_seq from inboxes x where x.user_id = $1 and x.class = $2 order by x.step desc limit 1) i
left join lateral (
  select r.seq, r.message_id, r.status, r.attempts, r.ended, null::uuid as feed_id, null::bigint as from_feed_seq, null::bigint as to_feed_seq, null::bigint as count, r.merged_after is not null as is_merged
  from message_status r
  where r.user_id = $1 and r.class = $2 and r.seq > $3 and r.seq <= $5 and r.status = 'sent'
  order by r.seq
  limit $4
) s on true
left join lateral (select x.* from messages x where x.id = s.message_id limit 1) m on true
left join lateral (select x.* from users x where x.id = m.sender_id limit 1) u on true
left join lateral (
  select x.feed_id from feeds x
  where $2 <> 'chat'::inbox_class and x.chat_id = m.chat_id and x.feed_id <> '00000000-0000-0000-0000-000000000002'
  limit 1
) f on true
left join lateral restante_departed($1, m.chat_id, m.seq) l on true
