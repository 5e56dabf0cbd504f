-- Retention: what is finished is removed after a time, so that tables stop growing. An inbox loses a prefix of its numbers, and
-- inboxes.purged_seq stands for all of them: no number of the prefix has a row anywhere. A chat loses a prefix of its messages, each
-- after its last row. Events to listed users are the exception: they go one by one, since nobody follows their streams. Nothing here waits for a lock: an inbox or a chat of which somebody holds something is left for the next time.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

alter table inboxes add column purged_seq bigint not null default 0;
comment on column inboxes.purged_seq is
  'Numbers at or below it have been removed, with their gaps: a device behind it is told one gap (purged) up to here. Only grows, never above settled_seq.';

create trigger what_is_purged_was_settled after update of purged_seq on inboxes
  for each row when (new.purged_seq < old.purged_seq or new.purged_seq > new.settled_seq)
  execute function refuse_to_go_back('purged_seq of an inbox only grows, and stays at or below settled_seq');
comment on trigger what_is_purged_was_settled on inboxes is 'A row that waits is never removed.';

alter table chats
  add column keep_days  integer,
  add column purged_seq bigint not null default 0,
  add column purged_at  timestamptz,
  add constraint a_chat_keeps_its_messages_for_days check (keep_days between 0 and 36500);
comment on column chats.keep_days is
  'Days for which messages of this chat are kept, where that is longer than RETENTION_DAYS. 0: for ever. Null: RETENTION_DAYS. It counts for messages and their history only: rows of recipients go after RETENTION_DAYS.';
comment on column chats.purged_seq is 'Messages with numbers at or below it have been removed. Only grows.';
comment on column chats.purged_at is
  'When the newest message that was removed had been accepted. A message id of that time or before may be that of a message that was removed. Null: none was.';
comment on constraint a_chat_keeps_its_messages_for_days on chats is 'A hundred years at most, so that no clock runs over.';

create trigger what_a_chat_has_lost_only_grows after update of purged_seq on chats
  for each row when (new.purged_seq < old.purged_seq)
  execute function refuse_to_go_back('purged_seq of a chat only grows');
comment on trigger what_a_chat_has_lost_only_grows on chats is 'A message that was removed does not come back.';

alter table marks add column purged_seq bigint not null default 0;
comment on column marks.purged_seq is
  'The rows of this member for messages of the chat at or below this number have been removed, save those that were put back since. Unread messages are counted above it, and no mark is computed from rows below it.';

create function restante_first_id(p_at timestamptz) returns uuid
language plpgsql immutable
set search_path from current
as $$
begin
  return (lpad(to_hex(greatest(floor(extract(epoch from p_at) * 1000), 0)::bigint), 12, '0') || '00000000000000000000')::uuid;
end $$;
comment on function restante_first_id(timestamptz) is 'The lowest UUIDv7 of a moment: UUIDv7s that are lower were made before it.';

create function restante_finished_at(p_row message_status, p_horizon timestamptz) returns timestamptz
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
declare
  v_finished timestamptz;
begin
  if p_row.status = 'sent' then
    return null;
  end if;
  v_finished := case when p_row.status in ('delivered', 'read') then p_row.delivered_at
                     else (select e.ended_at from endings e where e.message_id = p_row.message_id and e.user_id = p_row.user_id) end;
  if p_row.class = 'chat' or v_finished < p_horizon then
    return coalesce(v_finished, '-infinity');
  end if;
  -- Nobody gets an event that has expired, on no device. A dead letter stays.
  if p_row.status = 'failed' or exists (
       select from messages m where m.id = p_row.message_id and (m.expires_at is null or m.expires_at > clock_timestamp() - interval '1 day')) then
    return coalesce(v_finished, 'infinity');
  end if;
  return '-infinity';
end $$;
comment on function restante_finished_at(message_status, timestamptz) is
  'When this row was finished, which says whether it is old; null: it waits. A row of an event that has expired a day ago is older than anything, unless it has failed. One that ended otherwise and has no ending stays until then.';

create function restante_purge_inboxes(
  p_days        integer,
  p_after_user  bigint,
  p_after_class inbox_class,
  p_inboxes_max integer,
  p_rows_max    integer,
  out rows_gone  integer,
  out late_ms    bigint,      -- how long after its time the oldest row here went, or should have
  out next_user  bigint,      -- the next page begins behind this inbox; null: this was the last page
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
  v_horizon timestamptz := clock_timestamp() - p_days * interval '1 day';
  v_inbox   record;
  v_looked  integer := 0;
  v_left    integer := p_rows_max;
  v_at      tid;
  v_purged  bigint;
  v_last    bigint;
  v_seqs    bigint[]; -- the rows that go, in order,
  v_ids     uuid[];   -- … and their messages
  v_rows    tid[];    -- … and their places
  v_ended   uuid;
  v_to      bigint;   -- the last number that goes
  v_locked  bigint;
  v_marks   tid[];    -- the marks of the user in the chats of these messages,
  v_numbers bigint[]; -- … and the highest number that goes in each
  v_is_held boolean;
begin
  perform restante_needs_read_committed();
  rows_gone := 0;
  late_ms := 0;
  next_user := p_after_user;
  next_class := p_after_class;
  -- One row of each inbox is looked at, without a lock: as a rule it stays.
  for v_inbox in
    select q.user_id, q.class, case when g.are_many then '-infinity' else f.finished_at end as finished_at
      from (select i.user_id, i.class, i.purged_seq from inboxes i
             where (i.user_id, i.class) > (p_after_user, p_after_class) order by i.user_id, i.class limit p_inboxes_max) q
      left join lateral (
        select s.seq, restante_finished_at(s, v_horizon) as finished_at
          from message_status s where s.user_id = q.user_id and s.class = q.class and s.seq > q.purged_seq order by s.seq limit 1) f on true
      -- No row takes the gaps along of an inbox in which events only ever ended.
      cross join lateral (
        select q.class <> 'chat' and count(*) > 100 as are_many
          from (select from inbox_gaps x
                 where x.user_id = q.user_id and x.class = q.class and x.seq > q.purged_seq and x.seq < coalesce(f.seq, 9223372036854775807)
                 order by x.seq limit 101) x) g
     order by q.user_id, q.class
  loop
    v_looked := v_looked + 1;
    next_user := v_inbox.user_id;
    next_class := v_inbox.class;
    continue when v_inbox.finished_at is null or v_inbox.finished_at >= v_horizon;
    if isfinite(v_inbox.finished_at) then
      late_ms := greatest(late_ms, (extract(epoch from v_horizon - v_inbox.finished_at) * 1000)::bigint);
    end if;
    -- Under this lock nothing is put back, and no other purge is here.
    select i.ctid, i.purged_seq, i.last_seq into v_at, v_purged, v_last
      from inboxes i where i.user_id = v_inbox.user_id and i.class = v_inbox.class order by i.step desc limit 1 for no key update skip locked;
    continue when not found;
    -- A later statement, so a later snapshot. The prefix ends before the first row that stays, whatever stands behind it: one that was
    -- put back has a high number and an old message. A gap goes with the row behind it.
    with items as materialized (
      (select s.seq, s.message_id,
              restante_finished_at(s, v_horizon) as finished_at
         from message_status s
        where s.user_id = v_inbox.user_id and s.class = v_inbox.class and s.seq > v_purged and s.seq <= v_last order by s.seq limit v_left)
      union all
      (select g.seq, null, '-infinity' from inbox_gaps g
        where g.user_id = v_inbox.user_id and g.class = v_inbox.class and g.seq > v_purged and g.seq <= v_last order by g.seq limit v_left)
      order by seq limit v_left
    )
    select array_agg(i.seq order by i.seq) filter (where i.message_id is not null), array_agg(i.message_id order by i.seq) filter (where i.message_id is not null),
           case when count(*) >= v_left or v_inbox.class <> 'chat' and count(*) filter (where i.message_id is null) > 100 then max(i.seq)
                else max(i.seq) filter (where i.message_id is not null) end
      into v_seqs, v_ids, v_to
      from items i
     where i.seq < coalesce((select min(x.seq) from items x where x.finished_at is null or x.finished_at >= v_horizon), 9223372036854775807);
    continue when v_to is null;
    select count(*), array_agg(s.at) into v_locked, v_rows
      from unnest(v_seqs) u (seq)
      cross join lateral (
        select s.ctid as at from message_status s where s.user_id = v_inbox.user_id and s.class = v_inbox.class and s.seq = u.seq limit 1 for update skip locked) s;
    continue when v_locked <> coalesce(cardinality(v_seqs), 0);
    select array_agg(k.at), array_agg(q.seq), coalesce(bool_or(k.at is null), false) into v_marks, v_numbers, v_is_held
      from (select m.chat_id, max(m.seq) as seq
              from unnest(v_ids) u (id) cross join lateral (select x.chat_id, x.seq from messages x where x.id = u.id limit 1) m
             group by m.chat_id order by m.chat_id) q
      left join lateral (
        select x.ctid as at from marks x where x.chat_id = q.chat_id and x.user_id = v_inbox.user_id order by x.step desc limit 1
          for no key update skip locked) k on true
     where exists (select from marks x where x.chat_id = q.chat_id and x.user_id = v_inbox.user_id);
    continue when v_is_held;

    -- These rows are locked, so they stay where they are. Joined by key, a planner might walk the whole inbox for each of them.
    delete from message_status s where s.ctid = any (v_rows);
    -- There are few.
    for v_ended in
      select e.message_id from unnest(v_ids) u (id)
       cross join lateral (select y.message_id from endings y where y.message_id = u.id and y.user_id = v_inbox.user_id limit 1) e
    loop
      delete from endings e where e.message_id = v_ended and e.user_id = v_inbox.user_id;
    end loop;
    delete from inbox_gaps g where g.user_id = v_inbox.user_id and g.class = v_inbox.class and g.seq > v_purged and g.seq <= v_to;
    update inboxes i set purged_seq = v_to, settled_seq = greatest(i.settled_seq, v_to) where i.ctid = v_at;
    update marks k set purged_seq = greatest(k.purged_seq, u.seq), moves = k.moves + 1, step = (k.moves + 1) >> 4
      from unnest(v_marks, v_numbers) u (at, seq) where k.ctid = u.at;
    rows_gone := rows_gone + coalesce(cardinality(v_seqs), 0);
    v_left := v_left - greatest(coalesce(cardinality(v_seqs), 0), 1);
    if v_left <= 0 then
      -- It may have more: the next page begins with this inbox again, behind the place before it.
      next_class := (select max(c.class) from unnest(enum_range(null::inbox_class)) c (class) where c.class < v_inbox.class);
      if next_class is null then
        next_class := 'event';
        next_user := v_inbox.user_id - 1;
      end if;
      return;
    end if;
  end loop;
  if v_looked < p_inboxes_max then
    next_user := null;
    next_class := null;
  end if;
end $$;
comment on function restante_purge_inboxes(integer, bigint, inbox_class, integer, integer) is
  'Removes rows of recipients that were delivered, or ended, more than p_days days ago, and rows of events that have expired a day ago, with their endings and gaps: of at most p_inboxes_max inboxes, in order, and p_rows_max rows. Each inbox loses a prefix that ends before the first row that stays; a row that waits stays. Waits for no lock. To be called again from the place that it returns, until there is none.';

create function restante_purge_chats(
  p_days         integer,
  p_after        uuid,
  p_chats_max    integer,
  p_messages_max integer,
  out messages_gone integer,
  out late_ms       bigint, -- how long after its time the oldest message here went
  out next_chat     uuid    -- the next page begins behind this chat; null: this was the last page
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
  v_chat    record;
  v_looked  integer := 0;
  v_left    integer := p_messages_max;
  v_before  uuid := p_after;
  v_horizon timestamptz;
  v_purged  bigint;
  v_ids     uuid[]; -- the messages that go, in order,
  v_rows    tid[];  -- … and their places
  v_to      bigint;
  v_newest  timestamptz;
  v_locked  bigint;
begin
  perform restante_needs_read_committed();
  messages_gone := 0;
  late_ms := 0;
  next_chat := p_after;
  -- One message of each chat is looked at, without a lock: as a rule it stays.
  for v_chat in
    select q.id, q.keep_days, q.is_feed, f.at
      from (select c.id, c.purged_seq, c.kind = 'feed' as is_feed, case when c.keep_days = 0 then null else greatest(p_days, c.keep_days) end as keep_days
              from chats c where c.id > p_after order by c.id limit p_chats_max) q
      left join lateral (
        select case when q.is_feed then coalesce(m.expires_at, 'infinity') else m.created_at end as at, exists (select from message_status s where s.message_id = m.id) as has_rows
          from messages m where m.chat_id = q.id and m.seq > q.purged_seq order by m.seq limit 1) f on not f.has_rows
     order by q.id
  loop
    v_looked := v_looked + 1;
    v_before := next_chat;
    next_chat := v_chat.id;
    -- An event is kept for a day after it has expired.
    v_horizon := v_now - case when v_chat.is_feed then 1 else v_chat.keep_days end * interval '1 day';
    continue when v_chat.at is null or v_horizon is null or v_chat.at >= v_horizon;
    -- A send that repeats an old id waits for this lock, and then sees what has gone.
    select c.purged_seq into v_purged from chats c where c.id = v_chat.id for no key update skip locked;
    continue when not found;
    with items as materialized (
      select m.id, m.seq, m.created_at,
             case when v_chat.is_feed then coalesce(m.expires_at, 'infinity') else m.created_at end >= v_horizon or exists (select from message_status s where s.message_id = m.id)
               or v_chat.is_feed and exists (select from fan_outs f where f.message_id = m.id and f.waiting > 0)
               -- A message that was recalled stays as long as its notice, which has its number negated, has rows.
               or m.recalled_at is not null and (
                    (select true from recalls r where r.message_id = m.id limit 1)
                    or (select true from messages x
                         cross join lateral (select from message_status s where s.message_id = x.id limit 1) s
                         where x.chat_id = v_chat.id and x.seq = -m.seq limit 1)) as stays
        from messages m where m.chat_id = v_chat.id and m.seq > v_purged order by m.seq limit v_left
    )
    select array_agg(i.id order by i.seq), max(i.seq), max(i.created_at) into v_ids, v_to, v_newest
      from items i where i.seq < coalesce((select min(x.seq) from items x where x.stays), 9223372036854775807);
    continue when v_ids is null;
    select count(*), array_agg(m.at) into v_locked, v_rows
      from unnest(v_ids) u (id) cross join lateral (select m.ctid as at from messages m where m.id = u.id limit 1 for update skip locked) m;
    continue when v_locked <> cardinality(v_ids);
    late_ms := greatest(late_ms, (extract(epoch from v_horizon - v_chat.at) * 1000)::bigint);
    delete from messages m where m.ctid = any (v_rows);
    -- The notices of those that were recalled have no rows any more. There are few.
    delete from messages m where m.ctid = any (array(
      select x.ctid from messages x where x.chat_id = v_chat.id and x.seq < 0 and x.seq >= -v_to order by x.seq limit v_left));
    if v_chat.is_feed then
      delete from event_exceptions e using (select unnest(v_ids) as id) u where e.message_id = any (array[u.id]);
      delete from fan_outs f using (select unnest(v_ids) as id) u where f.message_id = any (array[u.id]);
    end if;
    update chats c set purged_seq = v_to, purged_at = greatest(c.purged_at, v_newest) where c.id = v_chat.id;
    messages_gone := messages_gone + cardinality(v_ids);
    v_left := v_left - cardinality(v_ids);
    if v_left <= 0 then
      -- It may have more: the next page begins with this chat again.
      next_chat := v_before;
      return;
    end if;
  end loop;
  if v_looked < p_chats_max then
    next_chat := null;
  end if;
end $$;
comment on function restante_purge_chats(integer, uuid, integer, integer) is
  'Removes messages that were accepted more than p_days days ago, or more than the days that their chat keeps them, and events that have expired a day ago, where no recipient has a row of them or waits for one, and the notices of those that were recalled with them: of at most p_chats_max chats, in order, and p_messages_max messages. Each chat loses a prefix. Waits for no lock. To be called again from the place that it returns, until there is none.';

create function restante_purge_listed_events(
  p_class      inbox_class,
  p_after      bigint,
  p_events_max integer,
  out events_gone integer,
  out late_ms     bigint, -- how long after its time the oldest event here went
  out next_seq    bigint  -- the next page begins behind this number; null: this was the last page
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
declare
  v_horizon timestamptz := clock_timestamp() - interval '1 day';
  v_chat    uuid := case p_class when 'event' then '00000000-0000-0000-0000-000000000002' when 'alert' then '00000000-0000-0000-0000-000000000012' end;
  v_looked  integer;
  v_ids     uuid[]; -- the events that go
  v_rows    tid[];  -- those of them that nobody holds: where they are
begin
  perform restante_needs_read_committed();
  -- A look at a row only where the event is old.
  select count(*), max(q.seq), array_agg(q.id order by q.seq) filter (where q.is_old and not q.stays), coalesce(max(q.late_ms) filter (where q.is_old and not q.stays), 0)
    into v_looked, next_seq, v_ids, late_ms
    from (select e.id, e.seq, e.is_old, (extract(epoch from v_horizon - e.expires_at) * 1000)::bigint as late_ms,
                 e.is_old and (exists (select from message_status s where s.message_id = e.id)
                               or exists (select from fan_outs f where f.message_id = e.id and f.waiting > 0)) as stays
            from (select m.id, m.seq, m.expires_at, coalesce(m.expires_at < v_horizon, false) as is_old
                    from messages m where m.chat_id = v_chat and m.seq > p_after order by m.seq limit p_events_max) e) q;
  select array_agg(m.at), array_agg(u.id) into v_rows, v_ids
    from (select unnest(v_ids) as id) u cross join lateral (select x.ctid as at from messages x where x.id = u.id limit 1 for update skip locked) m;
  delete from messages m where m.ctid = any (v_rows);
  delete from fan_outs f using (select unnest(v_ids) as id) u where f.message_id = any (array[u.id]);
  events_gone := coalesce(cardinality(v_ids), 0);
  if v_looked < p_events_max then
    next_seq := null;
  end if;
end $$;
comment on function restante_purge_listed_events(inbox_class, bigint, integer) is
  'Removes events to listed users that have expired a day ago, with their fan_outs, where no user has a row of them or waits for one: looks at p_events_max events behind the number p_after of their stream. They go whatever stands before them: nobody follows these streams, so no number of theirs is ever named as a gap. Waits for no lock. To be called again from the place that it returns, until there is none.';

create function restante_purge_last_seen(p_days integer, p_after bigint, p_rows_max integer, out rows_gone integer, out next_user bigint)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
declare
  v_horizon timestamptz := clock_timestamp() - p_days * interval '1 day';
  v_users   bigint[];
  v_looked  bigint;
begin
  perform restante_needs_read_committed();
  select array_agg(q.user_id) filter (where q.seen_at < v_horizon), max(q.user_id), count(*) into v_users, next_user, v_looked
    from (select s.user_id, s.seen_at from last_seen s where s.user_id > p_after order by s.user_id limit p_rows_max) q;
  with unlocked as materialized (
    select l.at
      from unnest(v_users) u (id)
      cross join lateral (select s.ctid as at from last_seen s where s.user_id = u.id and s.seen_at < v_horizon limit 1 for update skip locked) l
  ), gone as (
    delete from last_seen s using unlocked u where s.ctid = u.at returning 1
  )
  select count(*) into rows_gone from gone;
  if v_looked < p_rows_max then
    next_user := null;
  end if;
end $$;
comment on function restante_purge_last_seen(integer, bigint, integer) is
  'Forgets when users were last there whose last connection ended more than p_days days ago: looks at p_rows_max users behind p_after. Waits for no lock. Returns the place at which the next page begins; null: this was the last page.';
