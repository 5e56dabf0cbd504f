-- publish: stores events, an outcome per item, and rows of the first listed users; primary keys throughout (see restante_publish_batch)
select outcomes as "outcomes?", first_times as "first_times?: Vec<Option<time::OffsetDateTime>>", streams as "streams?: Vec<Option<Uuid>>",
       woken_places as "woken_places?", woken as "woken?", superseded as "superseded?", accepted_at as "accepted_at!"
from restante_publish_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
