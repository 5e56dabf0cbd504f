-- audit_entries: a page of what operators have done, newest first; acts_are_known_by_their_number
select a.id as "id!", least(greatest(a.at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59+00') as "at!", a.actor as "actor!", a.action as "action!",
       a.target::text as "target!", a.outcome as "outcome!", a.node_id as "node_id?", a.role_name as "role_name!", host(a.address) as "address?"
from audit a
where a.id < $1
order by a.id desc
limit $2
