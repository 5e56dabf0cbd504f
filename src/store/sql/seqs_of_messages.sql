-- seqs_of_messages: the numbers of messages in the chats they are said to be of, for those who are or were in these; primary keys of chat_members and messages
-- Null: there is no such message in the chat, or it came after the asker had left. Nothing at all for one who never was a member.
select u.ord as "ord!", case when m.chat_id = u.chat_id and m.seq > 0 and m.seq <= coalesce(cm.left_seq, m.seq) then m.seq end as "seq?"
from unnest($1::bigint[], $2::uuid[], $3::uuid[]) with ordinality u (user_id, chat_id, message_id, ord)
cross join lateral (select x.left_seq from chat_members x where x.chat_id = u.chat_id and x.user_id = u.user_id limit 1) cm
left join lateral (select x.chat_id, x.seq from messages x where x.id = u.message_id limit 1) m on true
