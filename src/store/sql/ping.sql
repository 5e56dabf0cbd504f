-- ping: does the database take writes, and does it keep what it has confirmed? A standby is read-only, and so is what an operator has made so; no index
-- It uses no function of the schema. A start asks this before the schema is there, and ping_schema fails then.
select current_setting('transaction_read_only')::boolean as "is_read_only!", current_setting('synchronous_commit') = 'off' as "is_lossy!"
