-- event_statistics: the figures of one event; figures_of_an_event_stand_once
select s.recipients as "recipients!", s.delivered as "delivered!", s.read as "read!", s.ended as "ended!", s.delays as "delays!",
       s.first_delivered_at as "first_delivered_at?", s.last_delivered_at as "last_delivered_at?", enum_range(null::ended_reason)::text[] as "reasons!"
from event_statistics s where s.message_id = $1
