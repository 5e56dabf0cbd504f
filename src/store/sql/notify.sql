-- notify: tells each of these channels each of these payloads, in a transaction of its own; no index
select count(pg_notify(c.channel, p.payload)) as "told!" from unnest($1::text[]) c (channel) cross join unnest($2::text[]) p (payload)
