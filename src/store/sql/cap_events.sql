-- cap_events: counts events that live and ends the oldest beyond a bound, a page at a time; primary key of living_events (see restante_cap_events)
select counted as "counted!", events_capped as "events_capped!", rows_capped as "rows_capped!", is_ending as "is_ending!", next_before as "next_before?"
from restante_cap_events($1, $2, $3, $4, $5)
