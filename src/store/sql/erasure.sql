-- erasure: how far the last erasure of a user of this name is; each_external_id_names_one_user, users_that_were_erased, a_user_is_erased_once
-- One that is current was named anew after the others were erased.
select e.empties as "empties!", e.asked_at as "asked_at!", e.emptied as "emptied!", e.done_at as "done_at?"
from (
  (select u.id from users u where u.is_current and u.external_id = $1)
  union all
  (select u.id from users u where not u.is_current and u.external_id = $1 order by u.id desc limit 2)
) u
cross join lateral (select x.empties, x.asked_at, x.emptied, x.done_at from erasures x where x.user_id = u.id limit 1) e
order by e.asked_at desc
limit 1
