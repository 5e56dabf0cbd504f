-- ping: is the database there, and is it the one that takes writes; no index
select pg_is_in_recovery() as "in_recovery!"
