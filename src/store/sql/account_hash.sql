-- account_hash: the hash of an account's password; primary key of accounts
select a.password_hash as "password_hash!" from accounts a where a.name = $1
