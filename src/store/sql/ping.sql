-- ping: is the database there, does it take writes, and does it keep what it has confirmed? A standby is read-only, and so is what an operator has made so; no index
select current_setting('transaction_read_only')::boolean as "is_read_only!", current_setting('synchronous_commit') = 'off' as "is_lossy!"
