-- reseal: messages under another key, unless they were recalled, emptied or sealed meanwhile, and an end to the notes of those looked at; primary keys of messages and plain_messages
-- An event that an erasure has emptied has no key, like one that is plain.
with noted as (
  delete from plain_messages p where p.message_id = any ($1::uuid[])
)
update messages m set content = null, metadata = null, sealed = u.sealed, key_id = $4
from unnest($2::uuid[], $3::bytea[], $5::text[]) u (id, sealed, old_key)
where m.id = any (array[u.id]) and m.key_id is not distinct from u.old_key and m.recalled_at is null
  and (m.content is not null or m.metadata is not null or m.sealed is not null)
