-- epoch: names cluster, timeline, database and schema in 16 hex digits, so that numbers of another one are not taken for ours; none on a standby; no index
select case
         when pg_is_in_recovery() then null
         else left(md5(s.system_identifier || ':' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || ':' || d.oid || ':' || coalesce(n.oid, 0)), 16)
       end as "epoch?"
from pg_control_system() s cross join pg_database d left join pg_namespace n on n.nspname = current_schema()
where d.datname = current_database()
