-- history_after: a chat's messages above a number, for one of its members and from its joining on; a_chat_number_names_one_message
-- A member gets a row in any case, with nulls where there is no message; somebody else gets none.
select m.id as "message_id?", m.seq as "chat_seq?", m.message_type as "message_type?", m.content as "content?", m.metadata::text as "metadata?",
       m.created_at as "created_at?", m.expires_at as "expires_at?",
       u.id as "sender_id?", u.external_id as "sender?", u.display_name as "sender_name?", u.avatar_url as "sender_picture?"
from chat_members me
left join lateral (
  select x.id, x.seq, x.sender_id, x.message_type, x.content, x.metadata, x.created_at, x.expires_at
  from messages x
  where x.chat_id = me.chat_id and x.seq > greatest($3, me.joined_seq)
  order by x.seq
  limit $4
) m on true
left join users u on u.id = m.sender_id
where me.chat_id = $2 and me.user_id = $1 and me.left_seq is null
order by m.seq
