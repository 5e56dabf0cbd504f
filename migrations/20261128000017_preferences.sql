-- Preferences: the types of events and the chats that a user has muted. A muted type makes no rows (restante_take,
-- restante_publish_batch, restante_fan_out). A message of a muted chat is delivered as ever, and its client is told that it is muted.
-- Behind them the bound of events that live in all.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table preferences (
  user_id     bigint not null,
  muted_types text[] not null,
  muted_chats uuid[] not null,
  constraint a_user_has_preferences_once primary key (user_id),
  constraint preferences_are_of_a_user foreign key (user_id) references users (id) on delete cascade,
  constraint a_user_mutes_at_most_100_types check (cardinality(muted_types) <= 100),
  constraint a_user_mutes_at_most_1000_chats check (cardinality(muted_chats) <= 1000)
);
comment on table preferences is
  'The users that have muted something, a row each. Most have none, so that a look finds nothing on the first page of the index.';
comment on column preferences.user_id is 'The user.';
comment on column preferences.muted_types is 'Types of events (messages.message_type) that make no row for the user, each once.';
comment on column preferences.muted_chats is 'Chats (chats.id) in which the user is or was a member: what comes from there is delivered and marked as muted. Each once.';
comment on constraint preferences_are_of_a_user on preferences is 'They go with the user.';
comment on constraint a_user_mutes_at_most_100_types on preferences is 'They are compared with each event that comes.';
comment on constraint a_user_mutes_at_most_1000_chats on preferences is 'Each session of the user remembers them.';
comment on index a_user_has_preferences_once is 'Looks up those of a user.';

alter table fan_outs
  add column muted integer not null default 0,
  add constraint a_fan_out_has_muted_at_most_those_that_wait_no_more check (muted between 0 and recipients - waiting);
comment on column fan_outs.muted is 'How many of them get no row, since they have muted the type.';
comment on constraint a_fan_out_has_muted_at_most_those_that_wait_no_more on fan_outs is 'The preferences of a recipient are looked at when its row would be written.';

create function restante_put_preferences(p_user bigint, p_types text[], p_chats uuid[]) returns text
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_types text[] := case when p_types is not null then array(select distinct unnest(p_types) order by 1) end;
  v_chats uuid[] := case when p_chats is not null then array(select distinct unnest(p_chats) order by 1) end;
begin
  perform restante_needs_read_committed();
  if exists (select from unnest(v_types) t (name) where t.name is null or char_length(t.name) not between 1 and 64)
     or exists (select from unnest(v_chats) c (id) where c.id is null) then
    return 'invalid';
  elsif cardinality(v_types) > 100 or cardinality(v_chats) > 1000 then
    return 'too_many';
  -- One answer for a chat of others and for one that there is not. A member that has left is still listed.
  elsif exists (select from unnest(v_chats) c (id)
                 where not exists (select from chat_members m where m.chat_id = c.id and m.user_id = p_user)) then
    return 'not_found';
  end if;
  insert into preferences as p (user_id, muted_types, muted_chats)
    select p_user, coalesce(v_types, '{}'), coalesce(v_chats, '{}')
     where cardinality(v_types) > 0 or cardinality(v_chats) > 0 or exists (select from preferences x where x.user_id = p_user)
    on conflict on constraint a_user_has_preferences_once
    do update set muted_types = coalesce(v_types, p.muted_types), muted_chats = coalesce(v_chats, p.muted_chats);
  delete from preferences p where p.user_id = p_user and p.muted_types = '{}' and p.muted_chats = '{}';
  return 'done';
end $$;
comment on function restante_put_preferences(bigint, text[], uuid[]) is
  'Sets the types of events and the chats that a user has muted; a list that is null stays as it is. Else nothing is done: invalid (a type has 1 to 64 characters), too_many (100 types, 1,000 chats), not_found: the user never was a member of one of the chats, or there is no such chat.';

create function restante_set_preferences(p_user text, p_muted_types text[] default null, p_muted_chats uuid[] default null) returns void
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
declare
  v_user bigint;
begin
  perform restante_needs_read_committed();
  if p_user is null then
    raise exception 'preferences need a user' using errcode = 'null_value_not_allowed';
  end if;
  select u.id into v_user from restante_users(array[p_user]) u;
  case restante_put_preferences(v_user, p_muted_types, p_muted_chats)
    when 'done' then null;
    when 'invalid' then raise exception 'a type has 1 to 64 characters, and nothing that is muted is null' using errcode = 'invalid_parameter_value';
    when 'too_many' then raise exception 'a user may mute at most 100 types and 1000 chats' using errcode = 'program_limit_exceeded';
    else raise exception 'a user may mute chats in which it is or was a member' using errcode = 'no_data_found';
  end case;
  -- The user's sessions remember what is muted, and read it together with the marks.
  perform restante_check_marks(array[v_user]);
end $$;
comment on function restante_set_preferences(text, text[], uuid[]) is
  'Sets what a user has muted, inside your own transaction: types of events that make no rows for it any more, and chats whose messages its clients are not to ring for. A list that is null stays as it is, an empty one mutes nothing. What waits already stays. The sessions of the user learn of it when you commit.';

-- The number of events that live in all is bounded: beyond it the oldest end (capped).

alter table feeds add column floor_seq bigint not null default 0;
comment on column feeds.floor_seq is
  'Events of the stream at or below this number have ended, since too many lived in all (capped). Only grows. What of it is not a row yet becomes none, and a job ends the rows that wait (restante_cap_events).';

create trigger what_was_capped_stays_capped after update of floor_seq on feeds
  for each row when (new.floor_seq < old.floor_seq)
  execute function refuse_to_go_back('the floor of a stream only grows');
comment on trigger what_was_capped_stays_capped on feeds is 'Followers have passed what is below it.';

create table living_events (
  number      bigint generated always as identity,
  message_id  uuid not null,
  chat_id     uuid not null,
  seq         bigint not null,
  expires_at  timestamptz not null,
  passed_user bigint not null default 0,
  has_held    boolean not null default false,
  is_final    boolean not null default false,
  is_walked   boolean not null default false,
  ended_xid   xid8,
  constraint living_events_are_in_their_order primary key (number)
) with (fillfactor = 70);
comment on table living_events is
  'The events that may live: stored, neither expired nor capped, and of those to listed users one recipient at least has not got it. Written with the event; a job takes out what lives no more (restante_cap_events). Messages of chats are never here.';
comment on column living_events.number is 'The order in which events were published, within each stream that of its numbers.';
comment on column living_events.message_id is 'The event (messages.id).';
comment on column living_events.chat_id is 'Its stream.';
comment on column living_events.seq is 'Its number there.';
comment on column living_events.expires_at is 'From then on it does not live.';
comment on column living_events.passed_user is 'How far the job has looked through the recipients: rows of users up to here do not wait, or are held (has_held).';
comment on column living_events.has_held is 'It is capped, and the walk through its rows has met one that somebody holds: there is another walk.';
comment on column living_events.is_final is 'It is capped, and the walk began after every transaction had ended that may make a row of it: the event goes at its end.';
comment on column living_events.is_walked is 'It is capped, and all rows were looked at: what may still come is for the last walk.';
comment on column living_events.ended_xid is
  'The transaction in which the job first found that the event is capped. An older one that is still open may make a row of it. Null: it is not capped, or the job has not come here since.';
comment on index living_events_are_in_their_order is 'Counted from the newest on.';

create function restante_first_waiting(
  p_message uuid, p_after bigint, p_rows_max integer, out waiting_user bigint, out passed_user bigint, out looked integer, out is_last boolean
)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
begin
  select q.user_id into waiting_user
    from (select s.user_id, s.status from message_status s
           where s.message_id = p_message and s.user_id > p_after order by s.user_id limit p_rows_max) q
   where q.status = 'sent' limit 1;
  select count(*), coalesce(max(q.user_id), p_after) into looked, passed_user
    from (select s.user_id from message_status s
           where s.message_id = p_message and s.user_id > p_after and (waiting_user is null or s.user_id < waiting_user)
           order by s.user_id limit p_rows_max) q;
  is_last := waiting_user is null and looked < p_rows_max;
end $$;
comment on function restante_first_waiting(uuid, bigint, integer) is
  'The first recipient behind p_after, by its number, for whom an event waits, among p_rows_max rows; the last one before it, up to which nothing waits; how many rows that were, and whether there are no others.';

create function restante_cap_rows(
  p_message uuid, p_after bigint, p_rows_max integer,
  out users bigint[], out last_user bigint, out looked integer, out has_held boolean, out is_last boolean
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
declare
  v_waiting bigint[];
begin
  select array_agg(q.user_id order by q.user_id) filter (where q.status = 'sent'), coalesce(max(q.user_id), p_after), count(*)
    into v_waiting, last_user, looked
    from (select s.user_id, s.status from message_status s
           where s.message_id = p_message and s.user_id > p_after order by s.user_id limit p_rows_max) q;
  select array_agg(u.id order by u.id) into users
    from (select unnest(v_waiting) as id) u
    cross join lateral (
      select from message_status x where x.message_id = p_message and x.user_id = u.id and x.status = 'sent' limit 1
        for no key update skip locked) k;
  update message_status s set status = 'expired', ended = 'capped', reason = 'too many events lived'
    from (select unnest(users) as id) u
   where s.message_id = p_message and s.user_id = u.id and s.status = 'sent';
  has_held := coalesce(cardinality(v_waiting), 0) > coalesce(cardinality(users), 0);
  is_last := looked < p_rows_max;
end $$;
comment on function restante_cap_rows(uuid, bigint, integer) is
  'Ends what waits of an event for recipients behind p_after, by their numbers, among p_rows_max rows (capped). Returns those for whom it has ended, the last one that was looked at, whether something was left that somebody holds, and whether there are no other rows.';

create function restante_cap_events(
  p_before     bigint,
  p_counted    bigint,
  p_events_max bigint,
  p_page_max   integer,
  p_rows_max   integer,
  out counted       bigint,  -- living events from the newest down to the place of the next page
  out events_capped integer, -- events that are capped to the end: no row of them waits
  out rows_capped   integer,
  out is_ending     boolean, -- rows of a capped event may still wait
  out next_before   bigint   -- the next page begins below this number; null: this was the last page
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now    timestamptz := clock_timestamp();
  v_event  record;
  v_looked integer := 0;
  v_left   integer := p_rows_max; -- rows that may still be looked at
  v_walk   record;
  v_after  bigint;  -- the walk goes on behind this recipient
  v_is_settled boolean; -- will no row be made any more?
  v_is_final   boolean; -- is this walk the last?
  v_has_held   boolean;
  v_is_cut boolean := false; -- is the last event for the next page, too?
  v_gone   bigint[];  -- numbers that live no more
  v_chats  uuid[];    -- streams of which something is too much,
  v_seqs   bigint[];  -- … and its number
  v_users  bigint[];  -- users of whom something ended
begin
  perform restante_needs_read_committed();
  counted := p_counted;
  events_capped := 0;
  rows_capped := 0;
  is_ending := false;
  next_before := p_before;
  -- One page at a time: a second job leaves at once, and comes again. Nobody else locks this row.
  perform from feeds s where s.feed_id = '00000000-0000-0000-0000-000000000001' and s.class = 'event' for no key update skip locked;
  if not found then
    return;
  end if;
  -- A statement after the lock.
  for v_event in
    select e.number, e.message_id, e.chat_id, e.seq, e.passed_user, e.has_held, e.is_final, e.is_walked, e.ended_xid, e.expires_at <= v_now as has_expired,
           e.seq <= s.floor_seq as is_capped, s.feed_id = '00000000-0000-0000-0000-000000000002' as is_listed
      from (select x.* from living_events x where x.number < p_before order by x.number desc limit p_page_max) e
      cross join lateral (select x.feed_id, x.floor_seq from feeds x where x.chat_id = e.chat_id limit 1) s
     order by e.number desc
  loop
    v_looked := v_looked + 1;
    next_before := v_event.number;
    -- The job expire ends what waits of it.
    if v_event.has_expired then
      v_gone := v_gone || v_event.number;
      continue;
    end if;
    if v_event.is_capped then
      is_ending := true;
      -- A transaction that has read the lower floor has a lower number than the one that first saw the higher one here. A walk that begins
      -- after all of these have ended is the last.
      v_is_settled := coalesce(v_event.ended_xid < pg_snapshot_xmin(pg_current_snapshot()), false);
      if v_event.is_walked and not v_is_settled then
        continue;
      end if;
      v_after := case when v_event.ended_xid is null then 0 else v_event.passed_user end;
      v_is_final := case when v_after = 0 then v_is_settled else v_event.is_final end;
      select * into v_walk from restante_cap_rows(v_event.message_id, v_after, v_left);
      v_users := v_users || v_walk.users;
      rows_capped := rows_capped + coalesce(cardinality(v_walk.users), 0);
      v_left := v_left - v_walk.looked;
      v_is_cut := not v_walk.is_last;
      v_has_held := v_walk.has_held or v_after > 0 and v_event.has_held;
      if v_walk.is_last and v_is_final and not v_has_held then
        v_gone := v_gone || v_event.number;
        events_capped := events_capped + 1;
      else
        update living_events e
           set passed_user = case when v_is_cut then v_walk.last_user else 0 end, has_held = v_is_cut and v_has_held,
               is_final = v_is_cut and v_is_final, is_walked = not v_is_cut and not v_has_held,
               ended_xid = coalesce(v_event.ended_xid, pg_current_xact_id())
         where e.number = v_event.number;
      end if;
    elsif v_event.is_listed and not exists (select from fan_outs f where f.message_id = v_event.message_id and f.waiting > 0) then
      select * into v_walk from restante_first_waiting(v_event.message_id, v_event.passed_user, v_left);
      v_left := v_left - v_walk.looked;
      if v_walk.is_last and v_walk.waiting_user is null then
        v_gone := v_gone || v_event.number;
      else
        if v_walk.passed_user > v_event.passed_user then
          update living_events e set passed_user = v_walk.passed_user where e.number = v_event.number;
        end if;
        v_is_cut := v_walk.waiting_user is null;
        counted := counted + (not v_is_cut)::integer;
      end if;
    else
      counted := counted + 1;
    end if;
    if counted > p_events_max then
      is_ending := true;
      -- One too many. What is older in its stream is too much, too.
      counted := p_events_max;
      v_chats := v_chats || v_event.chat_id;
      v_seqs := v_seqs || v_event.seq;
    end if;
    if v_is_cut then
      next_before := v_event.number + 1;
    end if;
    exit when v_is_cut or v_left <= 0;
  end loop;
  if v_looked < p_page_max and v_left > 0 and not v_is_cut then
    next_before := null;
  end if;
  update feeds s set floor_seq = greatest(s.floor_seq, u.seq)
    from (select q.chat_id, max(q.seq) as seq from unnest(v_chats, v_seqs) q (chat_id, seq) group by q.chat_id) u
   where s.chat_id = u.chat_id;
  delete from living_events e using unnest(v_gone) u (number) where e.number = u.number;
  if v_users is not null then
    perform restante_check_marks(v_users);
  end if;
end $$;
comment on function restante_cap_events(bigint, bigint, bigint, integer, integer) is
  'Counts living events, from the newest down, a page of at most p_page_max events and p_rows_max rows at a time, and takes out what lives no more. Where more than p_events_max live, the floor of their streams is raised to the older ones, so that followers pass them, and their rows that wait end (capped). Waits for nobody: what is held is left for the next sweep. To be called again with what it returns, until there is no next page.';
