-- log_out: the end of one login, or of all of an account; each_login_has_a_family_of_refresh_tokens, account_logins_by_name (see restante_log_out)
select restante_log_out($1, $2, make_interval(secs => $3)) as "ended!"
