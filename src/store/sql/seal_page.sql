-- seal_page: messages behind an id, each with its key, and what it says where it is plain or under one of these keys; messages_are_known_by_their_id
-- A notice of a recall holds an id only, and stays as it is.
select m.id as "id!", m.key_id as "key_id?", w.is_wanted as "is_wanted!", case when w.is_wanted then m.content end as "content?",
       case when w.is_wanted then m.metadata::text end as "metadata?", case when w.is_wanted then m.sealed end as "sealed?"
from (select x.* from messages x where x.id > $1 order by x.id limit $2) m
cross join lateral (
  select m.recalled_at is null and m.seq > 0
         and (m.key_id is null and (m.content is not null or m.metadata is not null) or coalesce(m.key_id = any($3), false)) as is_wanted) w
