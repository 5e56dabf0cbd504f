-- note_last_seen: the last connection of a user has ended; primary key of last_seen
insert into last_seen as l (user_id, seen_at) values ($1, clock_timestamp())
on conflict (user_id) do update set seen_at = greatest(l.seen_at, excluded.seen_at)
returning seen_at
