-- erasure: how far the erasure of a user is; each_external_id_names_one_user, a_user_is_erased_once
select e.empties as "empties!", e.asked_at as "asked_at!", e.emptied as "emptied!", e.done_at as "done_at?"
from users u
cross join lateral (select x.empties, x.asked_at, x.emptied, x.done_at from erasures x where x.user_id = u.id limit 1) e
where u.external_id = $1
