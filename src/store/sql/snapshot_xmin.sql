-- snapshot_xmin: every transaction below this number has ended; no index
select pg_snapshot_xmin(pg_current_snapshot())::text as "xmin!"
