-- oldest_transaction: the oldest transaction of the cluster that writes and has not ended, of whatever database; catalogues
select t.xid::text as "number!", coalesce(t.database, '') as "database!", coalesce(t.role, '') as "role!", t.process as "process?", t.age_ms as "age_ms?"
from (
  select a.backend_xid as xid, a.datname::text as database, a.usename::text as role, a.pid as process,
         (extract(epoch from clock_timestamp() - a.xact_start) * 1000)::bigint as age_ms
  from pg_stat_activity a
  where a.backend_xid is not null
  union all
  select p.transaction, p.database::text, p.owner::text, null, (extract(epoch from clock_timestamp() - p.prepared) * 1000)::bigint
  from pg_prepared_xacts p
) t
order by age(t.xid) desc
limit 1
