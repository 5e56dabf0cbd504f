-- settle: acks, marks and device cursors of a batch in one transaction; primary keys throughout (see restante_settle)
-- Its lock time-out comes with it: an argument is computed before the function is called, and the connection keeps nothing of it.
-- took_ms is the time up to the result: the commit comes later and is not in it.
select moved as "moved?", settled_at as "settled_at!", (extract(epoch from clock_timestamp() - statement_timestamp()) * 1000)::float8 as "took_ms!"
from restante_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
                     case when set_config('lock_timeout', $13, true) is not null then $12::bigint[] end)
