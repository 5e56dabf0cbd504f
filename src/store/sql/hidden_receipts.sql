-- hidden_receipts: which of these chats are closed, since one of the two members has blocked the other, and how far the marks of members had got in those that are open again; primary keys of closed_chats and reopened_chats
select u.chat_id as "chat_id!", c.is_closed is not null as "is_closed!", r.user_id as "member?", r.delivered_seq as "delivered_seq?", r.read_seq as "read_seq?"
from unnest($1::uuid[]) u (chat_id)
left join lateral (select true as is_closed from closed_chats x where x.chat_id = u.chat_id limit 1) c on true
left join lateral (select x.user_id, x.delivered_seq, x.read_seq from reopened_chats x where x.chat_id = u.chat_id limit 2) r on true
where c.is_closed or r.user_id is not null
