-- ping_schema: does the database take writes, does it keep what it has confirmed, and can this backend load PL/pgSQL, which every function needs?; no index
-- A node that runs asks this one. After an upgrade of its programs a server answers ping, but its new backends cannot load PL/pgSQL.
select current_setting('transaction_read_only')::boolean as "is_read_only!", current_setting('synchronous_commit') = 'off' as "is_lossy!"
from restante_needs_read_committed()
