-- next_erasure: the first erasure of a user behind a number, or else of all, that is due, and how full the list of recalls is; erasures_under_way, a_recall_is_noted_once
select q.user_id as "user_id!", u.external_id as "external_id!", q.empties as "empties!", q.asked_at as "asked_at!", q.round as "round!", q.stage as "stage!",
       q.chat_id as "chat_id!", q.seq as "seq!",
       (select count(*) from (select from recalls r where r.message_id >= '00000000-0000-0000-0000-000000000000' limit $3) x) = $3 as "is_crowded!"
from (
  (select x.* from erasures x
   where x.done_at is null and x.user_id > $1 and (x.round = 1 or case when x.passed_at is null then x.asked_at <= clock_timestamp() - make_interval(secs => $2)
     else x.passed_at <= clock_timestamp() - make_interval(secs => $4) end)
   order by x.user_id limit 1)
  union all
  (select x.* from erasures x
   where x.done_at is null and x.user_id between 0 and $1 and (x.round = 1 or case when x.passed_at is null then x.asked_at <= clock_timestamp() - make_interval(secs => $2)
     else x.passed_at <= clock_timestamp() - make_interval(secs => $4) end)
   order by x.user_id limit 1)
) q
cross join lateral (select x.external_id from users x where x.id = q.user_id limit 1) u
order by q.user_id <= $1
limit 1
