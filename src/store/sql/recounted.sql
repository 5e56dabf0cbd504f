-- recounted: those of these chats that are large or once were: are they now, and who has sent one of the newest 1,000 messages; primary keys of chats and chat_members; (chat_id, seq) of messages
select u.chat_id as "chat_id!", n.members = $2 as "is_large!", s.senders as "senders!"
from unnest($1::uuid[]) u (chat_id)
cross join lateral (select from chats x where x.id = u.chat_id and x.recount_xid is not null limit 1) c
cross join lateral (
  select count(*) as members from (select 1 from chat_members x where x.chat_id = u.chat_id and x.left_seq is null limit $2) y
) n
cross join lateral (
  select coalesce(array_agg(distinct r.sender_id), '{}') as senders
  from (select m.sender_id from messages m where m.chat_id = u.chat_id and m.seq > 0 order by m.seq desc limit 1000) r
) s
