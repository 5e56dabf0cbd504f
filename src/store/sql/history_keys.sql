-- history_keys: the numbers of a page of a chat without its messages, for when one of them cannot be read; a_chat_number_names_one_message
select m.id as "message_id?", m.seq as "chat_seq?"
from chat_members me
left join lateral (
  (select x.id, x.seq from messages x
   where $3::bigint is not null and x.chat_id = $2 and x.seq > greatest($3, me.joined_seq)
   order by x.seq limit $5)
  union all
  (select x.id, x.seq from messages x
   where $3::bigint is null and x.chat_id = $2 and x.seq > me.joined_seq and x.seq < $4
   order by x.seq desc limit $5)
) m on true
where me.chat_id = $2 and me.user_id = $1 and me.left_seq is null
