-- statistics: figures of a span of hours in groups, in the order of their keys; figures_of_an_hour_stand_once
select q.key as "key!", sum(q.accepted)::bigint as "accepted!", sum(q.recipients)::bigint as "recipients!", sum(q.delivered)::bigint as "delivered!",
       sum(q.read)::bigint as "read!", array_agg(q.ended order by q.n) filter (where q.ended is not null) as "ended!",
       array_agg(q.delay order by q.n) filter (where q.delay is not null) as "delays?", enum_range(null::ended_reason)::text[] as "reasons!"
from (
  select p.key, u.n, sum(u.ended)::bigint as ended, sum(u.delay)::bigint as delay, sum(case when u.n = 1 then p.accepted end) as accepted,
         sum(case when u.n = 1 then p.recipients end) as recipients, sum(case when u.n = 1 then p.delivered end) as delivered,
         sum(case when u.n = 1 then p.read end) as read
  from (
    select case $3::text when 'class' then s.class::text when 'type' then s.message_type
                         else to_char(s.hour at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS".000Z"') end collate "C" as key,
           s.accepted, s.recipients, s.delivered, s.read, s.ended, s.delays
    from statistics s where s.hour >= $1 and s.hour < $2
  ) p
  cross join lateral unnest(p.ended, p.delays) with ordinality u (ended, delay, n)
  where p.key > $4::text
  group by p.key, u.n
) q
group by q.key
order by q.key
limit $5
