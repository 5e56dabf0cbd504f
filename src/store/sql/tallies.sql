-- tallies: how many members of large chats have a message, and have read it; primary key of chat_members
select u.ord as "ord!", count(*) filter (where cm.delivered_seq >= u.seq) as "delivered!", count(*) filter (where cm.read_seq >= u.seq) as "read!", count(*) as "members!"
from unnest($1::uuid[], $2::bigint[], $3::bigint[]) with ordinality u (chat_id, sender_id, seq, ord)
join chat_members cm on cm.chat_id = u.chat_id and cm.left_seq is null and cm.user_id <> u.sender_id and cm.joined_seq < u.seq
group by u.ord
