-- purge_invitations: removes those that have expired; invitations_by_end, then their places
delete from invitations i
 where i.ctid = any (array(select d.ctid from invitations d where d.expires_at <= now() order by d.expires_at limit $1 for update skip locked))
