-- notify: tells each of these channels the payload beside it, in order, in a transaction of its own; no index
select count(pg_notify(n.channel, n.payload)) as "told!" from unnest($1::text[], $2::text[]) n (channel, payload)
