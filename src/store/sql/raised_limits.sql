-- raised_limits: a page of users whose rates are raised, in the order of their numbers, behind one; a_user_has_one_factor, then the primary key of users
select l.user_id as "user_id!", u.external_id as "external_id!", l.factor as "factor!", l.set_at as "set_at!"
  from user_limits l
 cross join lateral (select x.external_id from users x where x.id = l.user_id limit 1) u
 where l.user_id > $1
 order by l.user_id limit $2
