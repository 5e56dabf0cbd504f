-- receipt_counts: how many members of large chats have a message, and have read it; primary keys of chat_members and marks
select u.ord as "ord!", count(*) filter (where k.delivered_seq >= u.seq) as "delivered!", count(*) filter (where k.read_seq >= u.seq) as "read!", count(*) as "members!"
from unnest($1::uuid[], $2::bigint[], $3::bigint[]) with ordinality u (chat_id, sender_id, seq, ord)
join chat_members cm on cm.chat_id = u.chat_id and cm.left_seq is null and cm.user_id <> u.sender_id and cm.joined_seq < u.seq
cross join lateral (
  select x.delivered_seq, x.read_seq from marks x where x.chat_id = cm.chat_id and x.user_id = cm.user_id order by x.step desc limit 1
) k
group by u.ord
