-- change_password: another hash for an account, and the end of its logins but one; primary key of accounts, account_logins_by_name (see restante_change_password)
select is_done as "is_done!", ended as "ended!" from restante_change_password($1, $2, $3, $4, make_interval(secs => $5))
