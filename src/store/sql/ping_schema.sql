-- ping_schema: is the database there, does it take writes, does it keep what it has confirmed, and can this backend load PL/pgSQL, which every function needs?; no index
select current_setting('transaction_read_only')::boolean as "is_read_only!", current_setting('synchronous_commit') = 'off' as "is_lossy!"
from restante_needs_read_committed()
