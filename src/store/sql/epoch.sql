-- epoch: names cluster, timeline and database in 16 hex digits, so that numbers of another one are not taken for ours; no index
select left(md5(s.system_identifier || ':' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || ':' || d.oid), 16) as "epoch!"
from pg_control_system() s, pg_database d
where d.datname = current_database()
