-- purge_last_seen: forgets when users were last there long ago, a page of users; primary key of last_seen (see restante_purge_last_seen)
select rows_gone as "rows_gone!", next_user as "next_user?" from restante_purge_last_seen($1, $2, $3)
