-- purge_revocations: removes those whose tokens have expired; revocations_by_end, then the primary key of revocations
delete from revocations r
 where r.number = any (array(select d.number from revocations d where d.expires_at <= now() order by d.expires_at limit $1 for update skip locked))
