-- statement_timeout: the time that each later statement of this transaction may take; no index
select set_config('statement_timeout', $1, true) as "statement_timeout!"
