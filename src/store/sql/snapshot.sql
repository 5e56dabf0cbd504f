-- snapshot: which transactions are over for this statement; reads nothing
select pg_current_snapshot()::text as "snapshot!"
