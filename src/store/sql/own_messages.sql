-- own_messages: messages that a user has sent, by their ids, for its other connections; messages_are_known_by_their_id
-- One that was recalled meanwhile is left out. A time that no calendar of a client holds is none.
select m.id as "message_id?", m.chat_id as "chat_id?", m.seq as "chat_seq?", m.message_type::text as "message_type?", m.content as "content?",
       m.metadata::text as "metadata?", m.sealed as "sealed?", m.key_id as "key_id?",
       case when m.created_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59+00' then m.created_at end as "created_at?",
       case when m.expires_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59+00' then m.expires_at end as "expires_at?",
       m.sender_id as "sender_id?", u.external_id as "sender?", u.display_name as "sender_name?", u.avatar_url as "sender_picture?",
       null::timestamptz as "recalled_at?"
from unnest($2::uuid[]) with ordinality w (id, ord)
cross join lateral (select y.* from messages y where y.id = w.id and y.sender_id = $1 and y.recalled_at is null limit 1) m
cross join lateral (select x.external_id, x.display_name, x.avatar_url from users x where x.id = m.sender_id limit 1) u
order by w.ord
