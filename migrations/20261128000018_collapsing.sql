-- Collapsing: the newest event of a collapse key takes the place of those that wait. A key counts in the stream of a feed, and for events
-- to listed users in the stream of all of them, whoever publishes. A row of an event with a key carries that key with its feed as one
-- value, so that the rows of a key in an inbox are found by index.
--
-- An event may merge what it takes the place of. Its row then says from where on it stands for others (merged_after). The data of these is
-- read with the row, and merged by the node.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

alter table message_status add column collapse_id uuid;
comment on column message_status.collapse_id is
  'Stands for the feed and the collapse key of an event (restante_collapse_id). Never changes. Null: it has no key, or is no event.';

alter table message_status add column merged_after bigint;
comment on column message_status.merged_after is
  'The row stands for the events of its collapse key and stream above this number too, up to its own: the node merges their data into its own (messages.merge). Null: for itself alone.';

alter table messages add column merge jsonb;
comment on column messages.merge is
  'The rules for members of an event''s data where it takes the place of others: {"likes": "sum", "actors": "union", "n": "count"}. The node does it, whenever it reads the event for a recipient. Null: it is not merged, or is no event.';

create index rows_by_collapse_id on message_status (user_id, class, collapse_id, seq) where collapse_id is not null;
comment on index rows_by_collapse_id is 'The newest rows of a collapse key in an inbox. Costs nothing for rows without a key.';

create function restante_collapse_id(p_feed uuid, p_key text) returns uuid
language sql immutable strict
set search_path from current
as $$
  select encode(substr(sha256(uuid_send(p_feed) || convert_to(p_key, 'UTF8')), 1, 16), 'hex')::uuid;
$$;
comment on function restante_collapse_id(uuid, text) is
  'A value for a feed and a collapse key: two different pairs never have the same, but by a collision of 128 bits. The class is no part of it: it stands beside it in the key of an inbox.';

create function restante_collapse(p_users bigint[], p_classes inbox_class[], p_keys uuid[], p_seqs bigint[], p_newest bigint[]) returns bigint[]
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
declare
  v_now     timestamptz := clock_timestamp();
  v_at      tid[];     -- rows that end: where they are, as they are locked,
  v_users   bigint[];  -- … their users,
  v_of      integer[]; -- … for which of the ids each does,
  v_from    bigint[];  -- … and where that begins what it stands for
  v_afters  bigint[] := array_fill(null::bigint, array[cardinality(p_users)]); -- per id: the first of these
begin
  if p_users is null then
    return null;
  end if;
  -- All but the newest ones of a key have ended, save a row that somebody held then: it was being acked.
  select array_agg(q.at order by q.user_id, q.class, q.seq), array_agg(q.user_id order by q.user_id, q.class, q.seq),
         array_agg(q.ord order by q.user_id, q.class, q.seq), array_agg(q.after order by q.user_id, q.class, q.seq)
    into v_at, v_users, v_of, v_from
    from (select n.user_id, n.class, n.ord, o.seq, k.at, coalesce(o.merged_after, m.seq - 1) as after
            from (select unnest(p_users) as user_id, unnest(p_classes) as class, unnest(p_keys) as key, unnest(p_seqs) as seq,
                         generate_subscripts(p_users, 1) as ord) n
            cross join lateral (
              select x.seq, x.message_id, x.status, x.merged_after from message_status x
               where x.user_id = n.user_id and x.class = n.class and x.collapse_id = n.key and x.seq < n.seq order by x.seq desc limit 10) o
            cross join lateral (select x.expires_at, x.chat_id, x.seq from messages x where o.status = 'sent' and x.id = o.message_id limit 1) m
            cross join lateral (
              select x.ctid as at from message_status x
               -- Events are not recalled.
               where restante_ended_unwritten(o.status, exists (select from restante_departed(n.user_id, m.chat_id, m.seq)), null, m.expires_at, v_now) is null
                 and x.user_id = n.user_id and x.class = n.class and x.seq = o.seq and x.status = 'sent'
               limit 1 for no key update skip locked) k) q;
  for n in 1 .. coalesce(cardinality(v_at), 0) loop
    v_afters[v_of[n]] := least(v_afters[v_of[n]], v_from[n]);
  end loop;
  perform restante_note_merged(p_users, p_classes, p_keys, p_seqs, p_newest, v_afters);
  if v_at is null then
    return null;
  end if;
  update message_status s set status = 'expired', ended = 'superseded', reason = 'a newer event of its key came'
    from (select unnest(v_at) as at) u where s.ctid = u.at;
  return array(select distinct u.user_id from (select unnest(v_users) as user_id) u order by 1);
end $$;
comment on function restante_collapse(bigint[], inbox_class[], uuid[], bigint[], bigint[]) is
  'Ends what waits in these inboxes of the same collapse id below these numbers (superseded), and returns the users of whom something has ended, or null. Called while the inboxes are locked, in which events of these ids have just become rows: p_seqs are the numbers of the first of each id, and p_newest those of the last, which takes the place of them all and notes what it stands for where it merges. What somebody holds is being acked, and stays; what has expired, or was left, ends as that. It looks at the ten newest rows of a key.';

create function restante_note_merged(
  p_users bigint[], p_classes inbox_class[], p_keys uuid[], p_seqs bigint[], p_newest bigint[], p_afters bigint[]
) returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
declare
  v_at     tid[];    -- rows that stand for others: where they are,
  v_afters bigint[]; -- … and from where on
begin
  select array_agg(q.at order by q.ord), array_agg(q.after order by q.ord) into v_at, v_afters
    from (select n.ord, r.at, coalesce(least(n.after, f.before), w.before) as after
            from (select unnest(p_users) as user_id, unnest(p_classes) as class, unnest(p_keys) as key, unnest(p_seqs) as seq,
                         unnest(p_newest) as newest, unnest(p_afters) as after, generate_subscripts(p_users, 1) as ord) n
            cross join lateral (
              select r.ctid as at, r.message_id from message_status r where r.user_id = n.user_id and r.class = n.class and r.seq = n.newest limit 1) r
            cross join lateral (
              select x.chat_id, x.collapse_key, x.seq from messages x where x.id = r.message_id and x.merge is not null limit 1) m
            -- The first of those that have just become rows: the newest one has taken its place at once.
            left join lateral (
              select x.seq - 1 as before from message_status y cross join lateral (select z.seq from messages z where z.id = y.message_id limit 1) x
               where n.seq < n.newest and y.user_id = n.user_id and y.class = n.class and y.seq = n.seq limit 1) f on true
            -- Nothing waited: of a feed, what was superseded before it was a row, since the last one that was, or since it is followed.
            left join lateral (
              select l.before
                from (select greatest(
                        o.followed_seq,
                        (select max(x.seq)
                           from (select y.message_id from message_status y
                                  where y.user_id = n.user_id and y.class = n.class and y.collapse_id = n.key and y.seq < n.seq order by y.seq desc limit 10) y
                           cross join lateral (select z.seq from messages z where z.id = y.message_id limit 1) x)) as before
                        from (select s.feed_id from feeds s where n.after is null and f.before is null and s.chat_id = m.chat_id limit 1) s
                        cross join lateral (
                          select x.followed_seq from followers x where x.user_id = n.user_id and x.feed_id = s.feed_id and x.class = n.class limit 1) o) l
               where exists (select from messages x where x.chat_id = m.chat_id and x.collapse_key = m.collapse_key and x.seq > l.before and x.seq < m.seq)
            ) w on true) q
   where q.after is not null;
  update message_status s set merged_after = u.after
    -- Nobody else sees them yet: they are where they were written.
    from (select unnest(v_at) as at, unnest(v_afters) as after) u where s.ctid = u.at;
end $$;
comment on function restante_note_merged(bigint[], inbox_class[], uuid[], bigint[], bigint[], bigint[]) is
  'Notes in rows that have just been written, of events that merge, from where on they stand for others (message_status.merged_after). p_afters says it where rows that waited have ended for them. Called while the inboxes are locked.';
