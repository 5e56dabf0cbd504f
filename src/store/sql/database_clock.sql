-- database_clock: the clock that created_at is taken from; no index
select clock_timestamp() as "now!"
