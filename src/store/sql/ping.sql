-- ping: is the database there, and does it take writes? A standby is read-only, and so is what an operator has made so; no index
select current_setting('transaction_read_only')::boolean as "is_read_only!"
