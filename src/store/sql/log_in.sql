-- log_in: a login begins, and the oldest ones end beyond a number; primary key of accounts, account_logins_by_name (see restante_log_in)
select is_done as "is_done!", display_name as "display_name?", ends_at as "ends_at?", ended as "ended!"
from restante_log_in($1, $2, $3, $4, $5, $6, make_interval(secs => $7), make_interval(secs => $8), $9, make_interval(secs => $10))
