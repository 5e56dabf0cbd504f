-- epoch: names cluster, timeline and database in 16 hex digits, so that numbers of another one are not taken for ours; none on a standby; no index
select case
         when pg_is_in_recovery() then null
         else left(md5(s.system_identifier || ':' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || ':' || d.oid), 16)
       end as "epoch?"
from pg_control_system() s, pg_database d
where d.datname = current_database()
