-- purge_logins: removes logins that have ended; account_logins_by_end, then the primary key of account_logins
delete from account_logins l
 where l.id = any (array(select d.id from account_logins d where d.ends_at <= now() order by d.ends_at limit $1 for update skip locked))
