-- Publishing events: the function that stores them, and the one that goes on where many users are listed.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function restante_publish_batch(
  p_ids             uuid[],
  p_publishers      bigint[],
  p_types           text[],
  p_data            text[],
  p_ttls_ms         bigint[],
  p_keys            text[],
  p_classes         inbox_class[],
  p_feeds           uuid[],    -- null: listed users
  p_may_anywhere    boolean[],
  p_places          integer[], -- listed users, each with the place of its item, from 1
  p_users           bigint[],
  p_excepted_places integer[], -- users that an item is not for, likewise
  p_excepted        bigint[],
  p_rows_max        integer,   -- so many rows of listed users are written here, the others by a job
  p_waiting_max     integer,
  p_merges          text[],    -- per item, as p_keys
  p_sealed          bytea[] default null, -- in place of p_data: the same, sealed with this data key; null: plain
  p_key             text default null,
  -- Per item, in the order of p_ids:
  out outcomes     text[],
  out first_times  timestamptz[], -- for a duplicate: when the first was accepted
  out streams      uuid[],        -- its stream, where it is a feed's
  -- Per row that was written:
  out woken_places integer[],
  out woken        bigint[],
  -- Users of whom something that waited was superseded:
  out superseded   bigint[],
  -- The time for all of it:
  out accepted_at  timestamptz
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_direct  constant uuid := '00000000-0000-0000-0000-000000000002';
  v_streams uuid[];    -- per item: its stream, …
  v_heads   tid[];     -- … where the counter of that is, when it is accepted,
  v_seqs    bigint[];  -- … and its number
  v_of      integer[]; -- per recipient: its item,
  v_to      bigint[];  -- … the user,
  v_muted   integer[]; -- per listed user that has muted the type: the item
  v_numbers bigint[];  -- per recipient: its number in the inbox; null: a job writes it,
  v_is_over boolean[]; -- … and whether a later item takes its place; null: no item has a key
  v_keys    uuid[];    -- per item: the collapse id of its rows
  v_inboxes tid[];     -- inboxes that are written to here,
  v_ends    bigint[];  -- … and their last numbers
  v_written bigint[];
  v_wanted  bigint[];
begin
  perform restante_needs_read_committed();
  -- A publisher without the right locks nothing.
  select array_agg(q.outcome order by q.ord), array_agg(q.chat_id order by q.ord) into outcomes, v_streams
    from (
      select u.ord, s.chat_id,
             case when s.chat_id is null or u.feed = v_direct then 'not_found'
                  when not u.may_anywhere and (u.feed is null or not exists (
                         select from feed_publishers p where p.feed_id = u.feed and p.user_id = u.publisher)) then 'forbidden'
                  when u.ttl_ms <= 0 then 'too_late' end as outcome
        from (select generate_subscripts(p_ids, 1) as ord, unnest(p_feeds) as feed, unnest(p_classes) as class, unnest(p_publishers) as publisher,
                     unnest(p_may_anywhere) as may_anywhere, unnest(p_ttls_ms) as ttl_ms) u
        left join lateral (select x.chat_id from feeds x where x.feed_id = coalesce(u.feed, v_direct) and x.class = u.class limit 1) s on true
    ) q;

  -- Lock the streams, in the order of their ids.
  perform 1
    from (select distinct x.chat from (select unnest(v_streams) as chat, unnest(outcomes) as outcome) x where x.outcome is null order by 1) u
    cross join lateral (select from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1 for no key update) h;

  -- A later statement, so a later snapshot: what is there already, under the lock. What is left is numbered in the order received.
  select array_agg(q.outcome order by q.ord), array_agg(q.first_time order by q.ord), array_agg(q.at order by q.ord), array_agg(q.seq order by q.ord)
    into outcomes, first_times, v_heads, v_seqs
    from (
      select l.ord, l.outcome, l.first_time, case when l.outcome = 'accepted' then l.at end as at,
             case when l.outcome = 'accepted' then l.last_seq + row_number() over (partition by l.at, l.outcome order by l.ord) end as seq
        from (
          select u.ord, h.at, h.last_seq, case when u.outcome is null and m.sender_id = u.publisher then m.created_at end as first_time,
                 case when u.outcome is not null then u.outcome when m.sender_id = u.publisher then 'duplicate'
                      when m.sender_id is not null then 'conflict' else 'accepted' end as outcome
            from (select generate_subscripts(p_ids, 1) as ord, unnest(p_ids) as id, unnest(p_publishers) as publisher, unnest(v_streams) as chat,
                         unnest(outcomes) as outcome) u
            left join lateral (select x.sender_id, x.created_at from messages x where x.id = u.id limit 1) m on true
            left join lateral (select x.ctid as at, x.last_seq from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1) h on true
          offset 0
        ) l
    ) q;
  select array_agg(case when u.outcome = 'accepted' and u.feed is not null then u.chat end order by u.ord) into streams
    from (select generate_subscripts(p_ids, 1) as ord, unnest(outcomes) as outcome, unnest(p_feeds) as feed, unnest(v_streams) as chat) u;

  -- Listed users, each once, in the order in which inboxes are locked.
  select array_agg(q.ord order by q.user_id, q.class, q.ord) filter (where not q.is_muted),
         array_agg(q.user_id order by q.user_id, q.class, q.ord) filter (where not q.is_muted), array_agg(q.ord) filter (where q.is_muted)
    into v_of, v_to, v_muted
    from (select l.ord, l.user_id, l.class,
                 exists (select from preferences p where p.user_id = l.user_id and p_types[l.ord] = any (p.muted_types)) as is_muted
            from (
          select distinct x.ord, x.user_id, p_classes[x.ord] as class from (select unnest(p_places) as ord, unnest(p_users) as user_id) x
           where v_heads[x.ord] is not null and p_feeds[x.ord] is null and x.user_id <> p_publishers[x.ord]
          except all
          select distinct x.ord, x.user_id, p_classes[x.ord] from (select unnest(p_excepted_places) as ord, unnest(p_excepted) as user_id) x) l) q;
  -- Their inboxes, the first ones, as far as nobody holds them and they are not full, and no earlier event waits for its row: what is listed
  -- in fan_out_recipients is written under the lock of the stream, and comes from an earlier statement.
  with locked as materialized (
    select g.user_id, g.class, i.at, i.last_seq, g.items
      from (select p.user_id, p.class, count(*) as items
              from (select unnest(v_to) as user_id, p_classes[unnest(v_of)] as class limit p_rows_max) p
             group by p.user_id, p.class order by p.user_id, p.class) g
      cross join lateral (
        select x.ctid as at, x.last_seq, x.settled_seq from inboxes x where x.user_id = g.user_id and x.class = g.class
         order by x.step desc limit 1 for no key update skip locked) i
     where i.last_seq - i.settled_seq + g.items <= p_waiting_max
       and not exists (select from fan_out_recipients r where r.user_id = g.user_id and r.class = g.class)
  ), numbered as (
    select p.n, l.last_seq + row_number() over (partition by p.user_id, p.class order by p.n) as seq
      from (select x.n, x.user_id, p_classes[x.ord] as class
              from (select generate_subscripts(v_to, 1) as n, unnest(v_to) as user_id, unnest(v_of) as ord limit p_rows_max) x) p
      cross join lateral (select x.last_seq from locked x where x.user_id = p.user_id and x.class = p.class limit 1) l
  )
  select (select array_agg(l.at order by l.user_id, l.class) from locked l), (select array_agg(l.last_seq + l.items order by l.user_id, l.class) from locked l),
         (select array_agg(s.seq order by u.n) from (select generate_subscripts(v_to, 1) as n) u left join numbered s on s.n = u.n)
    into v_inboxes, v_ends, v_numbers;

  -- Of items with one key the last one stays.
  if num_nonnulls(variadic p_keys) > 0 then
    select array_agg(case when u.feed is null then restante_collapse_id(v_direct, u.key) end order by u.ord) into v_keys
      from (select generate_subscripts(p_keys, 1) as ord, unnest(p_keys) as key, unnest(p_feeds) as feed) u;
    select array_agg(r.key is not null and r.seq < r.last order by r.n) into v_is_over
      from (select u.n, u.seq, v_keys[u.ord] as key, max(u.seq) over (partition by u.user_id, p_classes[u.ord], v_keys[u.ord]) as last
              from (select generate_subscripts(v_to, 1) as n, unnest(v_to) as user_id, unnest(v_of) as ord, unnest(v_numbers) as seq) u) r;
  end if;

  -- Write, in one statement. Counters are found where they were locked.
  accepted_at := clock_timestamp();
  with items as materialized (
    select u.* from (
      select generate_subscripts(p_ids, 1) as ord, unnest(v_heads) as at, unnest(p_ids) as id, unnest(v_streams) as chat, unnest(v_seqs) as seq,
             unnest(p_publishers) as publisher, unnest(p_types) as message_type, unnest(p_data) as data, unnest(p_ttls_ms) as ttl_ms,
             unnest(p_keys) as key, unnest(p_merges) as merge, unnest(p_classes) as class, unnest(p_feeds) as feed, unnest(p_sealed) as sealed) u
     where u.at is not null
  ), recipients as materialized (
    select u.ord, u.user_id, u.seq, coalesce(v_is_over[u.n], false) as is_over
      from (select generate_subscripts(v_to, 1) as n, unnest(v_of) as ord, unnest(v_to) as user_id, unnest(v_numbers) as seq) u
  ), ends as materialized (
    select i.at, max(i.seq) as seq from items i group by i.at
  ), moved_streams as (
    update chat_heads h set last_seq = n.seq, step = n.seq >> 4 from ends n where h.ctid = n.at returning 1
  ), moved_inboxes as (
    update inboxes i set last_seq = n.seq, step = n.seq >> 4 from (select unnest(v_inboxes) as at, unnest(v_ends) as seq) n where i.ctid = n.at returning 1
  ), stored as (
    insert into messages (id, chat_id, seq, sender_id, message_type, metadata, sealed, key_id, created_at, expires_at, collapse_key, merge)
      select i.id, i.chat, i.seq, i.publisher, i.message_type, i.data::jsonb, i.sealed, p_key, accepted_at, accepted_at + i.ttl_ms * interval '1 millisecond', i.key, i.merge::jsonb
        from items i
      returning 1
  ), living as (
    insert into living_events (message_id, chat_id, seq, expires_at)
      select i.id, i.chat, i.seq, accepted_at + i.ttl_ms * interval '1 millisecond' from items i order by i.chat, i.seq
      returning 1
  ), excepted as (
    insert into event_exceptions (message_id, user_id)
      select distinct i.id, e.user_id
        from (select unnest(p_excepted_places) as ord, unnest(p_excepted) as user_id) e
        cross join lateral (select x.id from items x where x.ord = e.ord and x.feed is not null limit 1) i
      returning 1
  ), fanned_out as (
    insert into fan_outs (message_id, recipients, waiting, muted)
      select i.id, count(r.ord) + k.muted, count(r.ord) filter (where r.seq is null), k.muted
        from items i
        left join recipients r on r.ord = i.ord
        cross join lateral (select count(*) as muted from unnest(v_muted) u (ord) where u.ord = i.ord) k
       where i.feed is null group by i.id, k.muted
      returning 1
  ), left_over as (
    insert into fan_out_recipients (user_id, class, seq, message_id)
      select r.user_id, p_classes[r.ord], v_seqs[r.ord], p_ids[r.ord] from recipients r where r.seq is null
       order by r.user_id, 2, 3
      returning 1
  ), queued as (
    insert into message_status (user_id, class, seq, message_id, collapse_id, status, ended, reason)
      select r.user_id, p_classes[r.ord], r.seq, p_ids[r.ord], v_keys[r.ord], case when r.is_over then 'expired'::delivery_status else 'sent' end,
             case when r.is_over then 'superseded'::ended_reason end, case when r.is_over then 'a newer event of its key came' end
        from recipients r where r.seq is not null
      returning 1
  ), noted as (
    insert into statistics_journal (at, kind, messages, recipients)
      select accepted_at, 'accepted', array_agg(p_ids[n.ord]), array_agg(n.rows)
        from (select q.ord, sum(q.rows)::integer as rows
                from (select r.ord, 1 as rows from recipients r where r.seq is not null union all select i.ord, 0 from items i) q
               group by q.ord) n
      having count(*) > 0
  ), noted_ends as (
    insert into statistics_journal (at, kind, ended, messages)
      select accepted_at, 'ended', 'superseded', array_agg(p_ids[r.ord]) from recipients r where r.seq is not null and r.is_over having count(*) > 0
  )
  select array[(select count(*) from items), coalesce(cardinality(v_to), 0), (select count(*) from ends), coalesce(cardinality(v_inboxes), 0)],
         array[(select count(*) from stored), (select count(*) from queued) + (select count(*) from left_over),
               (select count(*) from moved_streams), (select count(*) from moved_inboxes)],
         (select array_agg(r.ord) from recipients r where r.seq is not null and not r.is_over),
         (select array_agg(r.user_id) from recipients r where r.seq is not null and not r.is_over)
    into v_wanted, v_written, woken_places, woken;
  if v_written <> v_wanted then
    raise exception 'publishing should have written % rows (events, recipients, streams, inboxes) and wrote %', v_wanted, v_written
      using errcode = 'data_corrupted';
  end if;
  if num_nonnulls(variadic v_keys) > 0 and cardinality(v_inboxes) > 0 then
    select restante_collapse(array_agg(r.user_id), array_agg(r.class), array_agg(r.key), array_agg(r.first), array_agg(r.newest)) into superseded
      from (select u.user_id, p_classes[u.ord] as class, v_keys[u.ord] as key, min(u.seq) as first, max(u.seq) as newest
              from (select unnest(v_to) as user_id, unnest(v_of) as ord, unnest(v_numbers) as seq) u
             where u.seq is not null and v_keys[u.ord] is not null group by 1, 2, 3) r;
  end if;
end $$;
comment on function restante_publish_batch(uuid[], bigint[], text[], text[], bigint[], text[], inbox_class[], uuid[], boolean[], integer[], bigint[], integer[], bigint[], integer, integer, text[], bytea[], text) is
  'Stores events, each once, numbered in their streams, and returns one row of arrays. Per item outcomes: accepted, duplicate (the same publisher has a message of this id: its time in first_times), conflict (another user''s id), not_found (no such feed), forbidden (no publisher of the feed, and not allowed to publish anywhere), too_late (no time to live). Listed users that have muted the type are counted as muted. Of the others the first p_rows_max get their rows, unless their inbox is held, or has p_waiting_max numbers that are not settled, or an earlier event is still to be written there; the others are left to a job, in fan_out_recipients. Of those that wait for a listed user the newest one of a collapse key stays (restante_collapse); superseded are the users to whom that happened. With p_key the data is stored as p_sealed, and p_data is empty. Waits for streams, and for no inbox. An id must not stand in one call twice.';

create function restante_fan_out(
  p_after_user  bigint,
  p_after_class inbox_class,
  p_rows_max    integer,
  p_waiting_max integer,
  out users      bigint[],      -- per inbox in which something waits now that did not before: its user,
  out classes    inbox_class[], -- … and its class
  out rows_done  integer,       -- recipients that wait no more for a row
  out superseded bigint[],      -- users of whom something that waited was superseded
  out next_user  bigint,        -- the next page begins behind this inbox; null: this was the last page
  out next_class inbox_class
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now     timestamptz := clock_timestamp();
  v_users   bigint[];      -- inboxes of the page,
  v_classes inbox_class[];
  v_looked  bigint;
  v_at      tid[];         -- … where they are, those that are locked here,
  v_last    bigint[];
  v_settled bigint[];
  v_of      integer[];     -- per row that is written: its inbox among these,
  v_seqs    bigint[];      -- … the number of its event in the stream,
  v_events  uuid[];        -- … the event; null: it was removed
  v_ids     uuid[];        -- … the same; null: it makes no row, since the recipient has muted its type, too
  v_numbers bigint[];      -- … the number in the inbox,
  v_ends    text[];        -- … the reason for which it has ended meanwhile; null: it waits,
  v_keys    uuid[];        -- … and its collapse id; null: it has none, or makes no row
  v_count   bigint;
begin
  perform restante_needs_read_committed();
  rows_done := 0;
  select array_agg(q.user_id order by q.user_id, q.class), array_agg(q.class order by q.user_id, q.class), sum(q.rows) into v_users, v_classes, v_looked
    from (select r.user_id, r.class, count(*) as rows
            from (select x.user_id, x.class from fan_out_recipients x where (x.user_id, x.class) > (p_after_user, p_after_class)
                   order by x.user_id, x.class, x.seq limit p_rows_max) r
           group by r.user_id, r.class) q;
  if v_looked >= p_rows_max then
    next_user := v_users[cardinality(v_users)];
    next_class := v_classes[cardinality(v_classes)];
  end if;
  -- An inbox that somebody holds is left for the next time.
  select array_agg(q.user_id order by q.n), array_agg(q.class order by q.n), array_agg(q.at order by q.n), array_agg(q.last_seq order by q.n),
         array_agg(q.settled_seq order by q.n)
    into v_users, v_classes, v_at, v_last, v_settled
    from (select u.user_id, u.class, u.n, i.at, i.last_seq, i.settled_seq
            from (select * from unnest(v_users, v_classes) with ordinality x (user_id, class, n) order by x.n) u
            cross join lateral (
              select x.ctid as at, x.last_seq, x.settled_seq from inboxes x where x.user_id = u.user_id and x.class = u.class
               order by x.step desc limit 1 for no key update skip locked) i) q;

  -- A later statement, so a later snapshot: who has written some of these meanwhile has let go of the inbox.
  with rows as materialized (
    select u.n, r.seq, m.id, m.collapse_key, coalesce(m.expires_at <= v_now or r.seq <= s.floor_seq, false) as is_over, r.seq <= s.floor_seq as is_capped,
           case when k.is_muted is null then m.id end as row_id,
           case when m.id is not null and k.is_muted is null
                then v_last[u.n] + count(m.id) filter (where k.is_muted is null) over (partition by u.n order by r.seq) end as number
      from (select generate_subscripts(v_users, 1) as n, unnest(v_users) as user_id, unnest(v_classes) as class) u
      cross join lateral (
        select x.floor_seq from feeds x where x.feed_id = '00000000-0000-0000-0000-000000000002' and x.class = u.class limit 1) s
      cross join lateral (
        select x.seq, x.message_id from fan_out_recipients x where x.user_id = u.user_id and x.class = u.class
         order by x.seq limit greatest(2 * p_rows_max / cardinality(v_users), 1)) r
      left join lateral (select x.id, x.expires_at, x.message_type, x.collapse_key from messages x where x.id = r.message_id limit 1) m on true
      left join lateral (
        select true as is_muted from preferences p where p.user_id = v_users[u.n] and m.message_type = any (p.muted_types) limit 1) k on true
  ), judged as (
    -- Of those with one key the last one stays. One that the user has muted takes no place.
    select q.*, case when q.is_capped then 'capped' when q.is_over then 'expired'
                     when q.collapse_key is not null
                      and q.seq < max(q.seq) filter (where q.row_id is not null and not q.is_over) over (partition by q.n, q.collapse_key) then 'superseded'
                end as ends
      from rows q
  )
  select array_agg(r.n order by r.n, r.seq), array_agg(v_users[r.n] order by r.n, r.seq), array_agg(v_classes[r.n] order by r.n, r.seq), array_agg(r.seq order by r.n, r.seq),
         array_agg(r.id order by r.n, r.seq), array_agg(r.row_id order by r.n, r.seq), array_agg(r.number order by r.n, r.seq), array_agg(r.ends order by r.n, r.seq),
         array_agg(case when r.row_id is not null and r.collapse_key is not null
                        then restante_collapse_id('00000000-0000-0000-0000-000000000002', r.collapse_key) end order by r.n, r.seq)
    into v_of, users, classes, v_seqs, v_events, v_ids, v_numbers, v_ends, v_keys
    from judged r;
  if users is null then
    return;
  end if;

  with written as (
    insert into message_status (user_id, class, seq, message_id, collapse_id, status, ended, reason)
      select u.user_id, u.class, u.number, u.id, u.key, case when u.ends is null then 'sent'::delivery_status else 'expired' end, u.ends::ended_reason,
             case u.ends when 'expired' then 'its time had come' when 'capped' then 'too many events lived' when 'superseded' then 'a newer event of its key came' end
        from unnest(users, classes, v_numbers, v_ids, v_ends, v_keys) u (user_id, class, number, id, ends, key) where u.id is not null
      returning 1
  ), noted as (
    insert into statistics_journal (at, kind, messages)
      select v_now, 'queued', array_agg(u.id) from (select unnest(v_ids) as id) u where u.id is not null having count(*) > 0
  ), noted_ends as (
    insert into statistics_journal (at, kind, ended, messages)
      select v_now, 'ended', u.ends::ended_reason, array_agg(u.id)
        from (select unnest(v_ids) as id, unnest(v_ends) as ends) u where u.id is not null and u.ends is not null group by u.ends
  ), moved as (
    update inboxes i set last_seq = n.seq, step = n.seq >> 4
      from (select v_at[u.n] as at, max(u.number) as seq from (select unnest(v_of) as n, unnest(v_numbers) as number) u
             where u.number is not null group by u.n) n
     where i.ctid = n.at
    returning 1
  ), gone as (
    delete from fan_out_recipients r using (select unnest(users) as user_id, unnest(classes) as class, unnest(v_seqs) as seq) u
     where r.user_id = u.user_id and r.class = u.class and r.seq = u.seq
    returning 1
  ) select count(*) into v_count from gone;
  if v_count <> cardinality(users) then
    raise exception 'a fan-out should have ended % waiting rows and ended %', cardinality(users), v_count using errcode = 'data_corrupted';
  end if;
  rows_done := v_count;
  perform from (select distinct unnest(v_events) as id order by 1) u
    cross join lateral (select from fan_outs x where x.message_id = u.id limit 1 for no key update) f;
  update fan_outs f set waiting = f.waiting - u.rows, muted = f.muted + u.muted
    from (select x.id, count(*) as rows, count(*) filter (where x.row_id is null) as muted
            from (select unnest(v_events) as id, unnest(v_ids) as row_id) x where x.id is not null group by x.id) u
   where f.message_id = any (array[u.id]);

  if num_nonnulls(variadic v_keys) > 0 then
    select restante_collapse(array_agg(r.user_id), array_agg(r.class), array_agg(r.key), array_agg(r.first), array_agg(r.newest)) into superseded
      from (select u.user_id, u.class, u.key, min(u.number) as first, max(u.number) as newest
              from unnest(users, classes, v_numbers, v_ends, v_keys) u (user_id, class, number, ends, key)
             where u.key is not null and coalesce(u.ends, 'superseded') = 'superseded' group by u.user_id, u.class, u.key) r;
  end if;
  -- The oldest ones end where more wait than may, and the inbox begins behind them.
  for n in 1 .. cardinality(v_users) loop
    perform restante_make_room(v_users[n], v_classes[n], p_waiting_max);
  end loop;
  select array_agg(u.user_id), array_agg(u.class) into users, classes
    from (select distinct x.user_id, x.class from unnest(users, classes, v_ids, v_ends) x (user_id, class, id, ends) where x.id is not null and x.ends is null) u;
end $$;
comment on function restante_fan_out(bigint, inbox_class, integer, integer) is
  'Writes rows of listed users that could not be written when their events were published, in their order for each user: those of a page of inboxes behind (p_after_user, p_after_class), about p_rows_max. An event that has expired meanwhile, or was capped, is written as ended, one whose type the user has muted is not written, and one of whose collapse key a newer one is written as superseded; what waited of that key ends (restante_collapse). Where more than p_waiting_max wait then, the oldest ones end (capped). Waits for no inbox: what is held is left. Returns the inboxes to be woken, the users of whom something was superseded, and the place from which to call it again.';

create function restante_make_room(p_user bigint, p_class inbox_class, p_waiting_max integer) returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_last    bigint;
  v_settled bigint;
  v_waiting bigint;
begin
  select i.last_seq, i.settled_seq into v_last, v_settled from inboxes i where i.user_id = p_user and i.class = p_class order by i.step desc limit 1;
  if v_last - v_settled < p_waiting_max then
    return;
  end if;
  v_waiting := (select count(*) from restante_living_rows(p_user, p_class, v_settled, v_last, p_waiting_max + 1000));
  if v_waiting > p_waiting_max then
    perform restante_cap(p_user, p_class, v_settled, v_last, p_waiting_max + 1000, v_waiting - p_waiting_max);
  end if;
  perform restante_advance_settled(p_user, p_class);
end $$;
comment on function restante_make_room(bigint, inbox_class, integer) is
  'Ends what lives in an inbox beyond p_waiting_max (restante_living_rows), the oldest first, a thousand rows at most, and moves its settled_seq. Called while the inbox is locked.';
