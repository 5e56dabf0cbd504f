-- Delivery in figures: what was accepted and what became of it, by the hour, and of each event. A transaction that moves rows appends a
-- line to a journal and looks nothing up. A job takes the lines out, looks their messages up by key, and adds to the figures, all in one
-- transaction: so each line counts once, whenever its transaction commits and wherever a node is killed.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create type journal_kind as enum ('accepted', 'queued', 'delivered', 'read', 'read_at_once', 'ended');
comment on type journal_kind is
  'The move of the messages of a line of statistics_journal: accepted = stored; queued = got a row of one more recipient later; delivered = acked by one; read = read by one that had it; read_at_once = read by one that had not acked it; ended = its row ended otherwise, or was put back.';

create table statistics_journal (
  at         timestamptz not null,
  kind       journal_kind not null,
  ended      ended_reason,
  messages   uuid[],
  recipients integer[],
  class      inbox_class,
  message_type text collate "C",
  accepted   integer,
  constraint a_line_names_messages_or_sums_them_up check (
    messages is not null or (kind = 'accepted' and class is not null and message_type is not null and accepted is not null and cardinality(recipients) = 1))
) with (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_insert_scale_factor = 0,
  -- A vacuum that cuts the end of a table off locks out everybody who appends to it.
  vacuum_truncate = off, toast.vacuum_truncate = off, toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 10000
);
alter table statistics_journal alter column messages set storage external, alter column recipients set storage external;
comment on table statistics_journal is
  'The moves that are not in the figures yet. Rows are only added and removed, never changed: restante_count_journal() takes them out a moment later. If it grows, no node does the job "statistics".';
comment on column statistics_journal.at is 'When it happened, by the clock of the transaction that appended the line. It may commit after later ones.';
comment on column statistics_journal.kind is 'What happened.';
comment on column statistics_journal.ended is 'Why rows ended, of the closed list; requeued: an operator put them back. Null: they did not end.';
comment on column statistics_journal.messages is 'The messages, one for each row that moved; of kind accepted each once. Ids only: what else is known of them is looked up later. Null: messages of chats that were accepted, summed up.';
comment on column statistics_journal.recipients is 'Of kind accepted: for each message the rows that were made at once, or their sum where messages is null. Null: of another kind.';
comment on column statistics_journal.class is 'The inbox of all rows of the line. Null: it is looked up, or the line has rows of several inboxes.';
comment on column statistics_journal.message_type is 'Where messages is null: their type.';
comment on column statistics_journal.accepted is 'Where messages is null: their number.';
comment on constraint a_line_names_messages_or_sums_them_up on statistics_journal is 'A line without either is counted nowhere.';

create index journal_by_time on statistics_journal (at);
comment on index journal_by_time is 'The job takes the oldest lines.';

create table statistics (
  hour         timestamptz not null,
  class        inbox_class not null,
  message_type text collate "C" not null,
  accepted     bigint not null default 0,
  recipients   bigint not null default 0,
  delivered    bigint not null default 0,
  read         bigint not null default 0,
  ended        bigint[] not null,
  delays       bigint[] not null,
  constraint figures_of_an_hour_stand_once primary key (hour, class, message_type)
) with (fillfactor = 50);
comment on table statistics is
  'The moves of an hour, by class and type of the messages. Written by restante_count_journal() only. An hour has at most 50 types; what is of another one is counted as restante:other.';
comment on column statistics.hour is 'The beginning of the hour, in UTC, in which it happened. A message that was accepted in one hour may be delivered in a later one.';
comment on column statistics.class is 'The inbox of the rows.';
comment on column statistics.message_type is 'The type of the messages. restante:other: of types beyond the first 50 of the hour.';
comment on column statistics.accepted is 'Messages and events that were stored.';
comment on column statistics.recipients is 'Rows that were made. An event of a feed has one for each follower that has taken it.';
comment on column statistics.delivered is 'Rows that became delivered, those that were read at once too.';
comment on column statistics.read is 'Rows that became read.';
comment on column statistics.ended is 'Rows that ended otherwise, by reason, in the order of the type ended_reason. requeued: rows that had failed and were put back.';
comment on column statistics.delays is
  'Rows that were delivered, by the time from created_at of the message: number 1 less than a millisecond, number n + 1 from 1.1 ^ (n - 1) to 1.1 ^ n milliseconds, at most 251. It ends with the last one that is not 0.';
comment on index figures_of_an_hour_stand_once is 'Figures of a span of time; the types of an hour.';

create table event_statistics (
  message_id         uuid not null,
  expires_at         timestamptz not null,
  recipients         bigint not null default 0,
  delivered          bigint not null default 0,
  read               bigint not null default 0,
  ended              bigint[] not null,
  delays             bigint[] not null,
  first_delivered_at timestamptz,
  last_delivered_at  timestamptz,
  constraint figures_of_an_event_stand_once primary key (message_id)
) with (fillfactor = 70);
comment on table event_statistics is
  'The figures of each event, so that nobody has to count its rows. Written by restante_count_journal() only, until a day after the event has expired; then it goes. Messages of chats have no row here.';
comment on column event_statistics.message_id is 'The event (messages.id).';
comment on column event_statistics.expires_at is 'When it expires.';
comment on column event_statistics.recipients is 'Rows that were made of it.';
comment on column event_statistics.delivered is 'Rows that became delivered, those that were read at once too.';
comment on column event_statistics.read is 'Rows that became read.';
comment on column event_statistics.ended is 'Rows that ended otherwise, by reason, as in statistics.';
comment on column event_statistics.delays is 'Rows that were delivered, by the time from the publishing, as in statistics.';
comment on column event_statistics.first_delivered_at is 'When its first row was delivered. Null: none was.';
comment on column event_statistics.last_delivered_at is 'When the last one of those so far was delivered.';
comment on index figures_of_an_event_stand_once is 'The figures of one event.';

create index event_statistics_by_expiry on event_statistics (expires_at);
comment on index event_statistics_by_expiry is 'Those whose events have expired.';

create function restante_add_counts(p_counts bigint[], p_more bigint[]) returns bigint[]
language plpgsql immutable
set search_path from current
as $$
begin
  return array(select coalesce(u.a, 0) + coalesce(u.b, 0) from unnest(p_counts, p_more) with ordinality u (a, b, n) order by u.n);
end $$;
comment on function restante_add_counts(bigint[], bigint[]) is 'The sums of two rows of counts, place by place. What one lacks at its end counts as 0.';

create function restante_spread(p_places integer[], p_counts bigint[], p_length integer) returns bigint[]
language plpgsql immutable
set search_path from current
as $$
declare
  v_counts bigint[] := array_fill(0::bigint, array[greatest(p_length, coalesce((select max(u.place) from unnest(p_places) u (place)), 0))]);
begin
  for n in 1 .. coalesce(cardinality(p_places), 0) loop
    if p_places[n] is not null then
      v_counts[p_places[n]] := v_counts[p_places[n]] + p_counts[n];
    end if;
  end loop;
  return v_counts;
end $$;
comment on function restante_spread(integer[], bigint[], integer) is
  'A row of counts that has each of p_counts added at its place, from 1, and 0 elsewhere. It has p_length places, and more where a place is beyond. Places that are null are left out.';

create function restante_count_journal(
  p_after        timestamptz,
  p_lines_max    integer,
  p_messages_max integer,
  p_types_max    integer,
  out lines integer,          -- so many were taken out,
  out moves integer,          -- … with so many messages,
  out lost  integer,          -- … of which so many were not there any more
  out last_at timestamptz,    -- the time of the last line that was taken out; null: there was none
  out oldest_at timestamptz   -- the time of the oldest that is left; null: none
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_at tid[];  -- lines that are locked here
begin
  perform restante_needs_read_committed();
  -- Lines that another session works on are left to it.
  select array_agg(k.at) into v_at
    from (select q.place
            from (select x.place, x.size, sum(x.size) over (order by x.at, x.place) as so_far
                    from (select j.ctid as place, j.at, coalesce(cardinality(j.messages), 1) as size from statistics_journal j
                           where j.at > p_after order by j.at limit p_lines_max) x) q
           where q.so_far - q.size < p_messages_max) u
    cross join lateral (select j.ctid as at from statistics_journal j where j.ctid = u.place for update skip locked) k;
  lines := coalesce(cardinality(v_at), 0);
  moves := 0;
  lost := 0;
  if v_at is not null then
    with taken as (
      delete from statistics_journal j where j.ctid = any (v_at)
      returning j.at, date_trunc('hour', j.at, 'UTC') as hour, j.kind, array_position(enum_range(null::ended_reason), j.ended) as reason,
                j.messages, j.recipients, j.class, j.message_type, j.accepted
    ), located as materialized (
      select t.at, t.hour, t.kind, t.reason, t.id, coalesce(t.rows, 1) as rows, m.id is not null as is_there, coalesce(t.class, h.class) as class,
             m.message_type, m.created_at, m.expires_at
        from (select x.at, x.hour, x.kind, x.reason, x.class, unnest(x.messages) as id, unnest(x.recipients) as rows from taken x where x.messages is not null) t
        left join messages m on m.id = t.id
        left join lateral (select x.class from chat_heads x where t.class is null and x.chat_id = m.chat_id order by x.step desc limit 1) h on true
    ), moved as materialized (
      select l.at, l.hour, l.kind, l.reason, l.id, l.rows, l.class, l.message_type, l.expires_at,
             -- The place in statistics.delays.
             case when l.kind in ('delivered', 'read_at_once') then
               least(greatest(floor(ln(greatest(extract(epoch from l.at - l.created_at)::float8 * 1000, 0.5)) / ln(1.1::float8)), -1)::integer + 2, 251) end as delay
        from located l where l.is_there
    ), counted as materialized (
      select m.hour, m.class, m.message_type, m.reason, m.delay, count(*) filter (where m.kind = 'accepted') as accepted,
             coalesce(sum(m.rows) filter (where m.kind in ('accepted', 'queued')), 0) as recipients,
             count(*) filter (where m.kind in ('delivered', 'read_at_once')) as delivered,
             count(*) filter (where m.kind in ('read', 'read_at_once')) as read, count(*) as rows, min(m.at) as first_at
        from moved m group by m.hour, m.class, m.message_type, m.reason, m.delay
       union all
      select t.hour, t.class, t.message_type, null, null, sum(t.accepted), sum(t.recipients[1]), 0, 0, 0, min(t.at)
        from taken t where t.messages is null group by t.hour, t.class, t.message_type
    ), fresh as (
      -- Anybody may invent types: an hour has p_types_max, the first ones.
      select q.hour, q.message_type, k.types + row_number() over (partition by q.hour order by q.first_at, q.message_type) as nth
        from (select c.hour, c.message_type, min(c.first_at) as first_at from counted c group by c.hour, c.message_type) q
        cross join lateral (
          select count(distinct s.message_type) as types from statistics s where s.hour = q.hour and s.message_type <> 'restante:other') k
       where not exists (
         select from statistics s where s.hour = q.hour and s.class = any (enum_range(null::inbox_class)) and s.message_type = q.message_type)
    ), added as (
      insert into statistics as s (hour, class, message_type, accepted, recipients, delivered, read, ended, delays)
        select q.hour, q.class, q.shown, sum(q.accepted), sum(q.recipients), sum(q.delivered), sum(q.read),
               restante_spread(array_agg(q.reason), array_agg(q.rows), cardinality(enum_range(null::ended_reason))),
               restante_spread(array_agg(q.delay), array_agg(q.rows), 0)
          from (select c.*,
                       case when exists (select from fresh f where f.hour = c.hour and f.message_type = c.message_type and f.nth > p_types_max)
                            then 'restante:other' else c.message_type end as shown
                  from counted c) q
         group by q.hour, q.class, q.shown
         -- In one order: another node may still be at it.
         order by q.hour, q.class, q.shown
      on conflict on constraint figures_of_an_hour_stand_once do update
         set accepted = s.accepted + excluded.accepted, recipients = s.recipients + excluded.recipients, delivered = s.delivered + excluded.delivered,
             read = s.read + excluded.read, ended = restante_add_counts(s.ended, excluded.ended), delays = restante_add_counts(s.delays, excluded.delays)
    ), added_to_events as (
      insert into event_statistics as s (message_id, expires_at, recipients, delivered, read, ended, delays, first_delivered_at, last_delivered_at)
        select q.id, min(q.expires_at), sum(q.recipients), sum(q.delivered), sum(q.read),
               restante_spread(array_agg(q.reason), array_agg(q.rows), cardinality(enum_range(null::ended_reason))),
               restante_spread(array_agg(q.delay), array_agg(q.rows), 0), min(q.first_at), max(q.last_at)
          from (select m.id, m.reason, m.delay, min(m.expires_at) as expires_at,
                       coalesce(sum(m.rows) filter (where m.kind in ('accepted', 'queued')), 0) as recipients,
                       count(*) filter (where m.kind in ('delivered', 'read_at_once')) as delivered,
                       count(*) filter (where m.kind in ('read', 'read_at_once')) as read, count(*) as rows,
                       min(m.at) filter (where m.delay is not null) as first_at, max(m.at) filter (where m.delay is not null) as last_at
                  from moved m
                 -- Where its figures have gone they do not begin anew.
                 where m.class <> 'chat' and m.expires_at > clock_timestamp() - interval '1 day'
                 group by m.id, m.reason, m.delay) q
         group by q.id order by q.id
      on conflict on constraint figures_of_an_event_stand_once do update
         set recipients = s.recipients + excluded.recipients, delivered = s.delivered + excluded.delivered, read = s.read + excluded.read,
             ended = restante_add_counts(s.ended, excluded.ended), delays = restante_add_counts(s.delays, excluded.delays),
             first_delivered_at = least(s.first_delivered_at, excluded.first_delivered_at),
             last_delivered_at = greatest(s.last_delivered_at, excluded.last_delivered_at)
    )
    select (select max(t.at) from taken t), q.moves + (select coalesce(sum(t.accepted), 0) from taken t), q.lost into last_at, moves, lost
      from (select count(*) as moves, count(*) filter (where not l.is_there) as lost from located l) q;
  end if;
  select j.at into oldest_at from statistics_journal j where j.at > p_after order by j.at limit 1;
end $$;
comment on function restante_count_journal(timestamptz, integer, integer, integer) is
  'Takes lines out of the journal, the oldest behind p_after, at most p_lines_max, and no more than have p_messages_max messages together (one line in any case), and adds them to the figures, in one transaction. Messages that were removed meanwhile are in no figure: they are counted as lost. An hour gets p_types_max types, and restante:other beside them. A transaction that began before the last line and commits after this call appends a line with an older time: so p_after must go back now and then. Waits for no line; of two calls at once each has its own lines.';

create function restante_purge_statistics(p_days integer, p_rows_max integer) returns integer
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_hours  integer;
  v_events integer;
begin
  perform restante_needs_read_committed();
  delete from statistics s where s.ctid = any (array(
    select x.ctid from statistics x where x.hour < clock_timestamp() - p_days * interval '1 day' order by x.hour limit p_rows_max for update skip locked));
  get diagnostics v_hours = row_count;
  delete from event_statistics s where s.ctid = any (array(
    select x.ctid from event_statistics x where x.expires_at < clock_timestamp() - interval '1 day' order by x.expires_at limit p_rows_max for update skip locked));
  get diagnostics v_events = row_count;
  return greatest(v_hours, v_events);
end $$;
comment on function restante_purge_statistics(integer, integer) is
  'Removes figures of hours that began more than p_days days ago, and those of events that have expired a day ago, p_rows_max of each at most. Returns how many went of the one or the other, whichever is more: to be called again while that is p_rows_max. Waits for no lock.';
