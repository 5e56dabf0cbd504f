-- seal_noted: messages that SQL has stored as plain text, and those of them that are gone; a_plain_message_is_noted_once, messages_are_known_by_their_id
select n.message_id as "id!", m.key_id as "key_id?", m.id is not null and m.key_id is null and m.recalled_at is null as "is_wanted!",
       m.content as "content?", m.metadata::text as "metadata?", m.sealed as "sealed?"
from (select x.message_id from plain_messages x where x.message_id > '00000000-0000-0000-0000-000000000000' order by x.message_id limit $1) n
left join lateral (select x.* from messages x where x.id = n.message_id limit 1) m on true
