-- Taking: what is new in the followed feeds becomes rows of an inbox, when a page of it is read.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- It is part of the plan of a statement that calls it, so it has no settings of its own. Its names are bound here.
create function restante_event_becomes(
  p_user bigint, p_event uuid, p_sender bigint, p_expires_at timestamptz default null, p_now timestamptz default null,
  p_type text default null, p_muted text[] default null -- the types that the user has muted
) returns table (becomes text)
language sql stable rows 1
begin atomic
  select case when p_sender = p_user or exists (select from event_exceptions e where e.message_id = p_event and e.user_id = p_user) then 'passed'
              when p_expires_at <= p_now then 'expired'
              when p_type = any (p_muted) then 'muted'
              else 'coming' end;
end;
comment on function restante_event_becomes(bigint, uuid, bigint, timestamptz, timestamptz, text, text[]) is
  'The state that an event of a feed gets for a follower: passed (the user has published it, or is excepted), expired by p_now, muted, or coming: it becomes a row, unless it is superseded or capped. Each function that looks at events of a feed for a user asks this, and leaves out what does not concern it.';

create function restante_has_untaken(p_user bigint, p_class inbox_class) returns boolean
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
begin
  return exists (
    select from followers f
      cross join lateral (select x.chat_id from feeds x where x.feed_id = f.feed_id and x.class = f.class limit 1) s
      cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
     where f.user_id = p_user and f.class = p_class and h.last_seq > f.cursor_seq);
end $$;
comment on function restante_has_untaken(bigint, inbox_class) is
  'Returns whether there is an event in a followed feed that the user has not taken yet. It looks at one number of each stream.';

create function restante_is_superseded(p_user bigint, p_stream uuid, p_key text, p_after bigint, p_head bigint) returns boolean
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
declare
  v_now   timestamptz := clock_timestamp();
  v_muted text[] := (select p.muted_types from preferences p where p.user_id = p_user);
begin
  return exists (
    select from (select x.id, x.sender_id, x.expires_at, x.message_type from messages x
                  where x.chat_id = p_stream and x.collapse_key = p_key and x.seq > p_after and x.seq <= p_head order by x.seq desc limit 10) m
      cross join lateral restante_event_becomes(p_user, m.id, m.sender_id, m.expires_at, v_now, m.message_type, v_muted) b
     where b.becomes = 'coming');
end $$;
comment on function restante_is_superseded(bigint, uuid, text, bigint, bigint) is
  'Returns whether one of the ten newest events of this collapse key, in a part of a stream, is newer and still to come to this user.';

create function restante_count_untaken(p_user bigint, p_class inbox_class, p_count_max integer) returns bigint
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
declare
  v_now   timestamptz := clock_timestamp();
  v_muted text[] := (select p.muted_types from preferences p where p.user_id = p_user);
begin
  return (
    with streams as materialized (
      select s.chat_id, h.last_seq, greatest(f.cursor_seq, c.purged_seq, s.floor_seq) as after, greatest(2 * p_count_max / count(*) over (), 4)::bigint as each
        from followers f
        cross join lateral (select x.chat_id, x.floor_seq from feeds x where x.feed_id = f.feed_id and x.class = f.class limit 1) s
        cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
        cross join lateral (select x.purged_seq from chats x where x.id = s.chat_id limit 1) c
       where f.user_id = p_user and f.class = p_class and h.last_seq > f.cursor_seq
    )
    select least(p_count_max, coalesce(sum(i.coming + greatest(t.last_seq - t.after - t.each, 0)), 0))
      from streams t
      cross join lateral (
        select count(*) as coming
          from (select m.id, m.sender_id, m.expires_at, m.collapse_key, m.message_type, m.seq from messages m
                 where m.chat_id = t.chat_id and m.seq > t.after and m.seq <= t.last_seq order by m.seq desc limit t.each) m
          cross join lateral restante_event_becomes(p_user, m.id, m.sender_id, m.expires_at, v_now, m.message_type, v_muted) b
         where b.becomes = 'coming'
           and (m.collapse_key is null or not restante_is_superseded(p_user, t.chat_id, m.collapse_key, m.seq, t.last_seq))) i);
end $$;
comment on function restante_count_untaken(bigint, inbox_class, integer) is
  'The number of events of followed feeds that are still to become rows, counted up to p_count_max: those that have not expired, are for this user, and of no type that it has muted. It looks at twice as many at most; what lies before them in a feed counts without a look.';

create function restante_living_rows(p_user bigint, p_class inbox_class, p_settled bigint, p_last bigint, p_looked_max integer)
returns table (seq bigint, at timestamptz)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
begin
  return query
    select w.seq, m.created_at
      from (select s.seq, s.message_id from message_status s
             where s.user_id = p_user and s.class = p_class and s.seq > p_settled and s.seq <= least(p_last, p_settled + 50000) and s.status = 'sent'
             order by s.seq limit p_looked_max) w
      cross join lateral (select x.chat_id, x.seq, x.created_at, x.expires_at from messages x where x.id = w.message_id limit 1) m
     -- Events are not recalled.
     where restante_ended_unwritten('sent', exists (select from restante_departed(p_user, m.chat_id, m.seq)), null, m.expires_at, v_now) is null
     order by w.seq;
end $$;
comment on function restante_living_rows(bigint, inbox_class, bigint, bigint, integer) is
  'The rows that wait in an inbox and have not ended, in their order, with the times of their events. It looks at the first p_looked_max that wait by their status, in 50,000 numbers. One that has expired, or whose feed was left, takes no place of one that lives, also where no job has written it yet.';

create function restante_cap(
  p_user bigint, p_class inbox_class, p_settled bigint, p_last bigint, p_looked_max integer, p_rows_max bigint
) returns integer
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
declare
  v_seqs  bigint[];
  v_ended integer;
begin
  -- A row that somebody holds is being acked, or ends already.
  select array_agg(q.seq order by q.seq) into v_seqs
    from (select r.seq
            from (select l.seq from restante_living_rows(p_user, p_class, p_settled, p_last, p_looked_max) l order by l.seq limit p_rows_max) r
            cross join lateral (
              select from message_status x where x.user_id = p_user and x.class = p_class and x.seq = r.seq and x.status = 'sent' limit 1
                for no key update skip locked) k) q;
  update message_status s set status = 'expired', ended = 'capped', reason = 'too many events waited'
    from (select unnest(v_seqs) as seq) u
   where s.user_id = p_user and s.class = p_class and s.seq = u.seq and s.status = 'sent';
  get diagnostics v_ended = row_count;
  if v_ended > 0 then
    perform restante_check_marks(array[p_user]);
  end if;
  return v_ended;
end $$;
comment on function restante_cap(bigint, inbox_class, bigint, bigint, integer, bigint) is
  'Ends the first rows that live in an inbox (restante_living_rows, which looks at p_looked_max), p_rows_max at most: too many wait (capped). Called while the inbox is locked. Waits for no row. Returns how many it has ended.';

create function restante_excess(
  p_user bigint, p_class inbox_class, p_settled bigint, p_last bigint, p_waiting_max integer, out excess bigint, out rows_first bigint
)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now   timestamptz := clock_timestamp();
  v_muted text[] := coalesce((select p.muted_types from preferences p where p.user_id = p_user), '{}');
begin
  with streams as materialized (
    select s.chat_id, h.last_seq as head,
           greatest(f.cursor_seq, c.purged_seq, s.floor_seq,
                    h.last_seq - case when v_muted = '{}' then p_waiting_max else greatest(p_waiting_max, 10000 / count(*) over ()) end) as after
      from followers f
      cross join lateral (select x.chat_id, x.floor_seq from feeds x where x.feed_id = f.feed_id and x.class = f.class limit 1) s
      cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
      cross join lateral (select x.purged_seq from chats x where x.id = s.chat_id limit 1) c
     where f.user_id = p_user and f.class = p_class and h.last_seq > f.cursor_seq
  ), looked as materialized (
    select t.chat_id, t.head, t.after, greatest(10000 / count(*) over (), 1)::bigint as each from streams t
     -- As a rule it is plain that not too many wait.
     where p_last - p_settled + (select sum(x.head - x.after) from streams x) > p_waiting_max
  ), coming as materialized (
    select m.created_at as at
      from looked t
      cross join lateral (
        select x.id, x.sender_id, x.expires_at, x.created_at, x.collapse_key, x.message_type, x.seq from messages x
         where x.chat_id = t.chat_id and x.seq > t.after and x.seq <= t.head order by x.seq limit t.each) m
      cross join lateral restante_event_becomes(p_user, m.id, m.sender_id, m.expires_at, v_now, m.message_type, v_muted) b
     where b.becomes = 'coming'
       and (m.collapse_key is null or not restante_is_superseded(p_user, t.chat_id, m.collapse_key, m.seq, t.head))
  ), waiting as materialized (
    select l.at from restante_living_rows(p_user, p_class, p_settled, p_last, 2 * p_waiting_max) l where exists (select from looked)
  ), total as (
    select (select sum(greatest(t.head - t.after - t.each, 0)) from looked t) + (select count(*) from coming) + (select count(*) from waiting)
             - p_waiting_max as excess
  )
  select coalesce(t.excess, 0), coalesce(o.rows_first, 0) into excess, rows_first
    from total t
    cross join lateral (
      select count(*) filter (where q.is_row) as rows_first
        from (select x.is_row from (select w.at, true as is_row from waiting w union all select c.at, false from coming c) x
               order by x.at, x.is_row desc limit greatest(t.excess, 0)) q) o;
end $$;
comment on function restante_excess(bigint, inbox_class, bigint, bigint, integer) is
  'By how many events those that wait for a user in a class are more than allowed, rows (restante_living_rows, which looks at 2 * p_waiting_max) and those that are still to become rows together; and how many of so many oldest ones are rows. 0 or less: none are too many. Of one feed the newest p_waiting_max are looked at, more for a user that has muted types, since what it has muted takes no place; of all together 10,000. More count without a look.';

create function restante_take(p_user bigint, p_class inbox_class, p_rows_max integer, p_waiting_max integer, out numbers integer, out more boolean, out superseded boolean)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now     timestamptz;
  v_at      tid;
  v_last    bigint;
  v_settled bigint;
  v_muted   text[]; -- types that the user has muted
  v_excess  bigint;
  v_first   bigint;
  v_ids     uuid[];   -- per number that is given: the event; null: a gap,
  v_feeds   uuid[];   -- … its feed,
  v_from    bigint[]; -- … for a gap its range there,
  v_to      bigint[];
  v_counts  bigint[]; -- … how many events it stands for,
  v_reasons text[];   -- … and why
  v_keys    text[];   -- … of an event: its collapse key
  v_moved   uuid[];   -- feeds of which something was taken,
  v_cursors bigint[]; -- … and up to where
  v_written bigint[];
begin
  perform restante_needs_read_committed();
  numbers := 0;
  more := false;
  superseded := false;
  -- Nothing is locked where nothing is new, as a rule. What commits after this look is told to the user's node.
  if not restante_has_untaken(p_user, p_class) then
    return;
  end if;
  select i.ctid, i.last_seq, i.settled_seq into v_at, v_last, v_settled
    from inboxes i where i.user_id = p_user and i.class = p_class order by i.step desc limit 1 for no key update;
  v_now := clock_timestamp();

  -- Statements after the lock, so snapshots after the lock: cursors stand still from here on, and whatever was published while the
  -- lock was waited for is seen.
  v_muted := coalesce((select p.muted_types from preferences p where p.user_id = p_user), '{}');
  select e.excess, e.rows_first into v_excess, v_first from restante_excess(p_user, p_class, v_settled, v_last, p_waiting_max) e;
  if v_first > 0 then
    -- The oldest of all end, and these are rows by now.
    v_excess := v_excess - restante_cap(p_user, p_class, v_settled, v_last, 2 * p_waiting_max, v_first);
  end if;

  with streams as materialized (
    select f.feed_id, s.chat_id, f.cursor_seq, h.last_seq as head, least(c.purged_seq, h.last_seq) as purged_seq,
           least(s.floor_seq, h.last_seq) as floor_seq, greatest(f.cursor_seq, least(c.purged_seq, h.last_seq), least(s.floor_seq, h.last_seq),
                    h.last_seq - case when v_muted = '{}' then p_waiting_max else greatest(p_waiting_max, 10000 / count(*) over ()) end) as after,
           greatest(2000 / count(*) over (), 1)::bigint as each
      from followers f
      cross join lateral (select x.chat_id, x.floor_seq from feeds x where x.feed_id = f.feed_id and x.class = f.class limit 1) s
      cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
      cross join lateral (select x.purged_seq from chats x where x.id = s.chat_id limit 1) c
     where f.user_id = p_user and f.class = p_class and h.last_seq > f.cursor_seq
  ), looked as materialized (
    -- By the clock's highest value so far, in case that it was set back: then a later number never comes before an earlier one.
    select t.feed_id, t.head, m.id, m.seq, max(m.created_at) over (partition by t.feed_id order by m.seq) as at, m.seq = t.after + t.each and m.seq < t.head as is_cut,
           case when m.collapse_key is not null and b.becomes = 'coming'
                     and restante_is_superseded(p_user, t.chat_id, m.collapse_key, m.seq, t.head) then 'superseded'
                else b.becomes end as becomes, m.collapse_key
      from streams t
      cross join lateral (
        select x.id, x.seq, x.sender_id, x.created_at, x.expires_at, x.collapse_key, x.message_type from messages x
         where x.chat_id = t.chat_id and x.seq > t.after and x.seq <= t.head order by x.seq limit t.each) m
      cross join lateral restante_event_becomes(p_user, m.id, m.sender_id, m.expires_at, v_now, m.message_type, v_muted) b
  ), items as (
    -- Not beyond the last of a feed of which not all was looked at.
    select l.feed_id, l.id, l.seq as from_seq, l.seq, 1::bigint as count, l.becomes, l.at, l.collapse_key
      from looked l
      left join (select c.at, c.feed_id, c.seq from looked c where c.is_cut order by c.at, c.feed_id, c.seq limit 1) c on true
     where c.at is null or (l.at, l.feed_id, l.seq) <= (c.at, c.feed_id, c.seq)
    union all
    -- Events that have been removed had expired long before.
    select t.feed_id, null, t.cursor_seq + 1, t.purged_seq, t.purged_seq - t.cursor_seq, 'expired', '-infinity', null
      from streams t where t.purged_seq > t.cursor_seq
    union all
    -- Newer ones of the same feed are as many as may wait, or these are below its floor. Where the last of the older ones has expired, all have, as a rule.
    select t.feed_id, null, greatest(t.cursor_seq, t.purged_seq) + 1, t.after, t.after - greatest(t.cursor_seq, t.purged_seq),
           case when t.after <= t.floor_seq or m.expires_at > v_now then 'capped' else 'expired' end, '-infinity', null
      from streams t
      left join lateral (select x.expires_at from messages x where x.chat_id = t.chat_id and x.seq = t.after limit 1) m on true
     where t.after > greatest(t.cursor_seq, t.purged_seq)
  ), placed as (
    select i.*, row_number() over by_time as n, count(*) filter (where i.becomes = 'coming') over by_time - greatest(v_excess, 0) as nth
      from items i window by_time as (order by i.at, i.feed_id, i.seq)
  ), ordered as materialized (
    select p.feed_id, p.id, p.from_seq, p.seq, p.count, p.n, p.collapse_key, case when p.becomes = 'coming' and p.nth <= 0 then 'capped' else p.becomes end as becomes
      from placed p where p.nth <= p_rows_max
  ), runs as (
    select o.*, row_number() over (partition by o.feed_id order by o.seq) - row_number() over (partition by o.feed_id, o.becomes order by o.seq) as run
      from ordered o where o.becomes <> 'passed'
  ), entries as (
    select r.n, r.id, r.feed_id, r.seq as from_seq, r.seq as to_seq, 1::bigint as count, null as reason, r.collapse_key from runs r where r.becomes = 'coming'
    union all
    select min(r.n), null, r.feed_id, min(r.from_seq), max(r.seq), sum(r.count)::bigint, r.becomes, null
      from runs r where r.becomes <> 'coming' group by r.feed_id, r.becomes, r.run
  ), taken as (
    select o.feed_id, max(o.seq) as seq from ordered o group by o.feed_id
  )
  select e.ids, e.feeds, e.froms, e.tos, e.counts, e.reasons, e.keys, t.feeds, t.seqs, exists (
           select from streams s left join taken k on k.feed_id = s.feed_id where s.head > coalesce(k.seq, s.cursor_seq))
    into v_ids, v_feeds, v_from, v_to, v_counts, v_reasons, v_keys, v_moved, v_cursors, more
    from (select array_agg(x.id order by x.n) as ids, array_agg(x.feed_id order by x.n) as feeds, array_agg(x.from_seq order by x.n) as froms,
                 array_agg(x.to_seq order by x.n) as tos, array_agg(x.count order by x.n) as counts, array_agg(x.reason order by x.n) as reasons,
                 array_agg(x.collapse_key order by x.n) as keys
            from entries x) e,
         (select array_agg(x.feed_id) as feeds, array_agg(x.seq) as seqs from taken x) t;

  numbers := coalesce(cardinality(v_ids), 0);
  with queued as (
    insert into message_status (user_id, class, seq, message_id, collapse_id)
      select p_user, p_class, v_last + u.n, u.id, case when u.key is not null then restante_collapse_id(u.feed_id, u.key) end
        from unnest(v_ids, v_feeds, v_keys) with ordinality u (id, feed_id, key, n) where u.id is not null
      returning 1
  ), named as (
    insert into inbox_gaps (user_id, class, seq, reason, feed_id, from_feed_seq, to_feed_seq, count)
      select p_user, p_class, v_last + u.n, u.reason::ended_reason, u.feed_id, u.from_seq, u.to_seq, u.count
        from unnest(v_reasons, v_feeds, v_from, v_to, v_counts) with ordinality u (reason, feed_id, from_seq, to_seq, count, n) where u.reason is not null
      returning 1
  ), moved as (
    update followers f set cursor_seq = u.seq
      from (select unnest(v_moved) as feed_id, unnest(v_cursors) as seq) u
     where f.user_id = p_user and f.feed_id = u.feed_id and f.class = p_class returning 1
  ), counted as (
    update inboxes i set last_seq = v_last + numbers, step = (v_last + numbers) >> 4 where i.ctid = v_at and numbers > 0 returning 1
  ), noted as (
    insert into statistics_journal (at, kind, messages)
      select v_now, 'queued', array_agg(u.id) from (select unnest(v_ids) as id) u where u.id is not null having count(*) > 0
  )
  select array[(select count(*) from queued) + (select count(*) from named), (select count(*) from moved), (select count(*) from counted)] into v_written;
  -- A number without a row is a hole, and a cursor that stands still makes its rows twice.
  if v_written <> array[numbers::bigint, coalesce(cardinality(v_moved), 0), least(numbers, 1)] then
    raise exception 'taking should have written % numbers of % feeds and wrote %', numbers, coalesce(cardinality(v_moved), 0), v_written
      using errcode = 'data_corrupted';
  end if;
  if num_nonnulls(variadic v_keys) > 0 then
    superseded := restante_collapse(
      array_fill(p_user, array[numbers]), array_fill(p_class, array[numbers]),
      array(select restante_collapse_id(u.feed_id, u.key) from unnest(v_feeds, v_keys) with ordinality u (feed_id, key, n) order by u.n),
      array(select v_last + n from generate_series(1, numbers) n), array(select v_last + n from generate_series(1, numbers) n)) is not null;
  end if;
end $$;
comment on function restante_take(bigint, inbox_class, integer, integer) is
  'Makes rows of what is new in the feeds that a user follows, oldest first and p_rows_max at most, and moves its cursors, while its inbox is locked. What ended before takes one number for each run and feed, named in inbox_gaps: expired, muted (the user has muted its type), superseded (a newer one of its collapse key is to come, or has taken the place of its row), or capped where more than p_waiting_max wait, rows and what is still to become a row together, and below the floor of its stream. What the user published itself, and what is not for it, takes none. Returns how many numbers were given, whether more is to be taken, and whether rows that waited were superseded.';

create function restante_take_together(
  p_stream      uuid,
  p_users       bigint[],
  p_events_max  integer,
  p_waiting_max integer,
  -- Per row that was made:
  out users  bigint[],
  out seqs   bigint[],
  out events uuid[],
  -- Followers among p_users of whom nothing was taken here:
  out others bigint[]
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now       timestamptz := clock_timestamp();
  v_feed      uuid;
  v_class     inbox_class;
  v_head      bigint;   -- the last number of the stream, …
  v_after     bigint;   -- … and the number behind which none of its events has a key
  v_ids       uuid[];   -- these events, in their order,
  v_senders   bigint[];
  v_types     text[];
  v_expiries  timestamptz[];
  v_followers bigint[]; -- per follower: the user,
  v_at        tid[];    -- … where its inbox is, if it is locked here,
  v_last      bigint[];
  v_settled   bigint[];
  v_inboxes   tid[];    -- inboxes that are written to,
  v_ends      bigint[]; -- … their last numbers,
  v_takers    bigint[]; -- … and their users
  v_written   bigint[];
begin
  perform restante_needs_read_committed();
  select s.feed_id, s.class, h.last_seq, greatest(h.last_seq - p_events_max, s.floor_seq, c.purged_seq) into v_feed, v_class, v_head, v_after
    from (select x.feed_id, x.class, x.floor_seq from feeds x where x.chat_id = p_stream limit 1) s
    cross join lateral (select x.last_seq from chat_heads x where x.chat_id = p_stream order by x.step desc limit 1) h
    cross join lateral (select x.purged_seq from chats x where x.id = p_stream limit 1) c;
  -- An event with a key may supersede a row.
  select greatest(v_after, max(m.seq) filter (where m.collapse_key is not null)) into v_after
    from messages m where m.chat_id = p_stream and m.seq > v_after and m.seq <= v_head;
  select array_agg(m.id order by m.seq), array_agg(m.sender_id order by m.seq), array_agg(m.message_type order by m.seq), array_agg(m.expires_at order by m.seq)
    into v_ids, v_senders, v_types, v_expiries
    from messages m where m.chat_id = p_stream and m.seq > v_after and m.seq <= v_head;
  if v_head - v_after <> coalesce(cardinality(v_ids), 0) then
    v_after := v_head;
  end if;
  -- Their inboxes, in the order of the users. One that is held is left to a page, which waits for it.
  select array_agg(q.id order by q.id), array_agg(q.at order by q.id), array_agg(q.last_seq order by q.id), array_agg(q.settled_seq order by q.id)
    into v_followers, v_at, v_last, v_settled
    from (select u.id, i.at, i.last_seq, i.settled_seq
            from (select distinct x.id from unnest(p_users) x (id) order by x.id) u
            cross join lateral (
              select x.cursor_seq from followers x where x.user_id = u.id and x.feed_id = v_feed and x.class = v_class limit 1) f
            left join lateral (
              select x.ctid as at, x.last_seq, x.settled_seq from inboxes x
               where f.cursor_seq >= v_after and f.cursor_seq < v_head and x.user_id = u.id and x.class = v_class
               order by x.step desc limit 1 for no key update skip locked) i on true) q;

  -- A later statement, so a later snapshot: under the lock a cursor stands still. A user for whom too many would wait, or for whom
  -- one of the events does not become a row, is left to a page.
  with takers as materialized (
    select n.user_id, n.at, n.last_seq, f.cursor_seq
      from (select unnest(v_followers) as user_id, unnest(v_at) as at, unnest(v_last) as last_seq, unnest(v_settled) as settled_seq) n
      cross join lateral (
        select x.cursor_seq from followers x where n.at is not null and x.user_id = n.user_id and x.feed_id = v_feed and x.class = v_class limit 1) f
     where f.cursor_seq >= v_after and f.cursor_seq < v_head and n.last_seq - n.settled_seq + v_head - f.cursor_seq <= p_waiting_max
       and not exists (
         select from (select generate_series(f.cursor_seq - v_after + 1, v_head - v_after) as nth) e
           left join lateral (select p.muted_types from preferences p where p.user_id = n.user_id limit 1) k on true
           cross join lateral restante_event_becomes(
             n.user_id, v_ids[e.nth], v_senders[e.nth], v_expiries[e.nth], v_now, v_types[e.nth], k.muted_types) b
          where b.becomes <> 'coming')
  ), made as materialized (
    select t.user_id, t.last_seq + k.n as seq, v_ids[t.cursor_seq - v_after + k.n] as id
      from takers t cross join lateral generate_series(1, v_head - t.cursor_seq) k (n)
  )
  select t.users, t.inboxes, t.ends, m.users, m.seqs, m.ids into v_takers, v_inboxes, v_ends, users, seqs, events
    from (select array_agg(x.user_id) as users, array_agg(x.at) as inboxes, array_agg(x.last_seq + v_head - x.cursor_seq) as ends from takers x) t,
         (select array_agg(x.user_id order by x.user_id, x.seq) as users, array_agg(x.seq order by x.user_id, x.seq) as seqs,
                 array_agg(x.id order by x.user_id, x.seq) as ids from made x) m;
  select array_agg(f.user_id) into others from unnest(v_followers) f (user_id) where v_takers is null or f.user_id <> all (v_takers);
  if v_takers is null then
    return;
  end if;

  with queued as (
    insert into message_status (user_id, class, seq, message_id)
      select u.user_id, v_class, u.seq, u.id from (select unnest(users) as user_id, unnest(seqs) as seq, unnest(events) as id) u
      returning 1
  ), moved as (
    update followers f set cursor_seq = v_head from (select unnest(v_takers) as user_id) u
     where f.user_id = u.user_id and f.feed_id = v_feed and f.class = v_class returning 1
  ), counted as (
    update inboxes i set last_seq = u.seq, step = u.seq >> 4 from (select unnest(v_inboxes) as at, unnest(v_ends) as seq) u where i.ctid = u.at returning 1
  ), noted as (
    insert into statistics_journal (at, kind, messages) values (v_now, 'queued', events)
  )
  select array[(select count(*) from queued), (select count(*) from moved), (select count(*) from counted)] into v_written;
  -- A number without a row is a hole, and a cursor that stands still makes its rows twice.
  if v_written <> array[cardinality(users), cardinality(v_takers), cardinality(v_takers)]::bigint[] then
    raise exception 'taking should have written % rows of % users and wrote %', cardinality(users), cardinality(v_takers), v_written
      using errcode = 'data_corrupted';
  end if;
end $$;
comment on function restante_take_together(uuid, bigint[], integer, integer) is
  'Makes rows of the newest events of one stream for many users at once, as restante_take does for one, and moves their cursors. For those among p_users who follow it, lack no more than its last p_events_max events, and need nothing but rows of these: no event of them has a collapse key, each becomes a row for the user (restante_event_becomes), and no more than p_waiting_max numbers are not settled then. The others are returned, and are left to restante_take. It looks at no other feed: its events may get later numbers though they are older. Waits for no lock.';
