-- message_content: what a message says, for an operator who looks at a dead letter; messages_are_known_by_their_id
select m.content as "content?", m.key_id as "key_id?", m.metadata::text as "metadata?", m.recalled_at as "recalled_at?"
from messages m
where m.id = $1
