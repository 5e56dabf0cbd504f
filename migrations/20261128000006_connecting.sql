-- The start of a connection, and the history of a chat.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function restante_new_device(p_user bigint, p_device text, p_node uuid, p_devices_max integer) returns bigint
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_more    bigint; -- so many devices have to go
  v_gone    bigint;
  v_session bigint;
begin
  -- New devices of a user come one after the other, each counts those before it. A statement after the lock sees them.
  perform from users u where u.id = p_user for no key update;
  select count(*) - p_devices_max + 1 into v_more from devices d where d.user_id = p_user;
  if v_more > 0 and not exists (select from devices d where d.user_id = p_user and d.device_id = p_device) then
    with oldest as materialized (
      select d.ctid as at, d.session_no, d.last_seen_at from devices d
       where d.user_id = p_user
         and not exists (select from nodes n where n.node_id = d.node_id and restante_is_alive(n, clock_timestamp()))
       order by d.last_seen_at, d.device_id limit least(v_more, 100)
    ), gone as (
      -- A device that has connected meanwhile has another session_no, and stays.
      delete from devices d using oldest o
       where d.ctid = o.at and d.session_no = o.session_no and d.last_seen_at = o.last_seen_at
      returning 1
    ) select count(*) into v_gone from gone;
    if v_gone = 0 then
      return null;
    end if;
  end if;
  insert into devices as d (user_id, device_id, node_id) values (p_user, p_device, p_node)
    on conflict on constraint a_user_names_a_device_once do update
      set session_no = d.session_no + 1, last_seen_at = clock_timestamp(), node_id = p_node
    returning d.session_no into v_session;
  return v_session;
end $$;
comment on function restante_new_device(bigint, text, uuid, integer) is
  'Makes a device of a user, connected to this node, and returns the number of its connection. Where the user has as many as allowed, those go that were not seen for longest and are not connected. Null: all of them are connected, and nothing was made. Locks the user.';

create function restante_purge_devices(
  p_user bigint, p_device text, p_unseen_s double precision, p_devices_max integer,
  out seen bigint, out purged bigint, out last_user bigint, out last_device text
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  perform restante_needs_read_committed();
  with page as materialized (
    select d.user_id, d.device_id, d.last_seen_at from devices d
     where (d.user_id, d.device_id) > (p_user, p_device) order by d.user_id, d.device_id limit p_devices_max
  ), old as materialized (
    select d.at
      from page p
      cross join lateral (
        select x.ctid as at from devices x
         where x.user_id = p.user_id and x.device_id = p.device_id and x.last_seen_at < v_now - make_interval(secs => p_unseen_s)
           and not exists (select from nodes n where n.node_id = x.node_id and restante_is_alive(n, v_now))
         for update skip locked) d
     where p.last_seen_at < v_now - make_interval(secs => p_unseen_s)
  ), gone as (
    delete from devices d using old o where d.ctid = o.at returning 1
  )
  select (select count(*) from page), (select count(*) from gone), l.user_id, l.device_id into seen, purged, last_user, last_device
    from (select 1) one left join (select p.user_id, p.device_id from page p order by p.user_id desc, p.device_id desc limit 1) l on true;
end $$;
comment on function restante_purge_devices(bigint, text, double precision, integer) is
  'Looks at a page of devices behind (p_user, p_device), and removes those that were not seen for so many seconds and are not connected. Returns how many it looked at, how many went, and the last that it looked at. Waits for no lock.';

create function restante_open(
  p_external_id text, p_name text, p_picture text, p_device text, p_since bigint[], p_pending_max integer, p_classes inbox_class[],
  p_node uuid default null, p_devices_max integer default 50
)
returns table (
  user_id bigint, display_name text, avatar_url text,
  class inbox_class, last_seq bigint, settled_seq bigint, acked_seq bigint, pending bigint, session_no bigint, is_first boolean
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_user    bigint;
  v_name    text;
  v_picture text;
  v_last    bigint[];  -- per class, as all that follow
  v_settled bigint[];
  v_purged  bigint[];
  v_first   bigint[];
  v_pending bigint[];
  v_cursor  bigint[];
  v_acked   bigint[];
  v_behind  bigint  := 0; -- numbers that are not settled, of the inboxes that were advanced
  v_is_held boolean := false; -- one was
  v_session bigint;
  v_is_first boolean;     -- it was named before, and comes now
begin
  select u.id, u.display_name, u.avatar_url, u.came_at is null into v_user, v_name, v_picture, v_is_first
    from users u where u.is_current and u.external_id = p_external_id;
  if not found then
    select u.id into v_user from restante_users(array[p_external_id], true) u;
    v_is_first := false;
  end if;
  if v_is_first or coalesce(p_name, v_name) is distinct from v_name or coalesce(p_picture, v_picture) is distinct from v_picture then
    v_name := coalesce(p_name, v_name);
    v_picture := coalesce(p_picture, v_picture);
    update users u set display_name = v_name, avatar_url = v_picture, came_at = coalesce(u.came_at, clock_timestamp()) where u.id = v_user;
  end if;
  -- Before any inbox is held: a device that is new waits for others that are new.
  if p_device is not null then
    update devices d set session_no = d.session_no + 1, last_seen_at = clock_timestamp(), node_id = p_node
     where d.user_id = v_user and d.device_id = p_device returning d.session_no into v_session;
    if not found then
      v_session := restante_new_device(v_user, p_device, p_node, p_devices_max);
      if v_session is null then
        return;
      end if;
    end if;
  end if;

  -- 50,000 numbers at most are looked at: what lies beyond is not counted.
  select array_agg(q.last_seq), array_agg(q.settled_seq), array_agg(q.pending), array_agg(q.first), array_agg(q.purged_seq)
    into v_last, v_settled, v_pending, v_first, v_purged
    from (
      select i.last_seq, i.settled_seq, i.purged_seq, w.pending, w.first
        from unnest(p_classes) with ordinality u (class, n)
        cross join lateral (
          select x.last_seq, x.settled_seq, x.purged_seq from inboxes x where x.user_id = v_user and x.class = u.class order by x.step desc limit 1) i
        cross join lateral (
          select count(*) as pending, min(x.seq) as first
            from (select s.seq from message_status s
                   where s.user_id = v_user and s.class = u.class and s.seq > i.settled_seq and s.seq <= i.settled_seq + 50000 and s.status = 'sent'
                   order by s.seq limit p_pending_max) x) w
       order by u.n
    ) q;
  for n in 1 .. array_length(p_classes, 1) loop
    -- Seen without a lock, so only hints that there is something to move, or to bring to the end; the function locks, and looks again.
    if coalesce(v_first[n] - 1, v_last[n]) > v_settled[n] or (v_pending[n] <= 50 and v_last[n] - v_first[n] >= 1000) then
      -- It holds an inbox until all of this is committed: a second one is for the next that opens or drains it, where much lies behind.
      v_behind := v_behind + v_last[n] - v_settled[n];
      continue when v_is_held and v_behind > 50000;
      v_is_held := true;
      v_settled[n] := restante_advance_settled(v_user, p_classes[n]);
      v_last[n] := (select i.last_seq from inboxes i where i.user_id = v_user and i.class = p_classes[n] order by i.step desc limit 1);
    end if;
  end loop;

  v_acked := v_settled;
  if p_device is not null then
    -- A device that is new, or a class that is new to it, starts before the oldest waiting row, or where the client says that it has got to:
    -- it may have been removed meanwhile, and what others acked since then is still to come.
    select array_agg(q.acked_seq) into v_acked
      from (
        select c.acked_seq from unnest(p_classes) with ordinality u (class, n)
          left join lateral (
            select x.acked_seq from device_cursors x
             where x.user_id = v_user and x.device_id = p_device and x.class = u.class order by x.step desc limit 1) c on true
         order by u.n
      ) q;
    if array_position(v_acked, null) is not null then
      insert into device_cursors (user_id, device_id, class, step, acked_seq)
        select v_user, p_device, u.class, q.start >> 4, q.start
          from unnest(p_classes, v_settled, v_acked, v_last, p_since) u (class, settled, acked, last, since)
          cross join lateral (select case when u.since between 0 and u.last then least(u.since, u.settled) else u.settled end as start) q
         where u.acked is null;
      select array_agg(coalesce(u.acked, u.settled) order by u.n) into v_acked
        from unnest(v_acked, v_settled) with ordinality u (acked, settled, n);
    end if;
  end if;
  -- A number that was never given says nothing.
  if p_device is not null or p_since is not null and exists (select from unnest(p_since, v_last) u (since, last) where u.since between 0 and u.last) then
    -- It gets every row behind its cursor, whether it waits or not. Numbers that were removed are none of the 50,000.
    select array_agg(greatest(case when u.since between 0 and u.last then u.since else u.acked end, u.purged) order by u.n) into v_cursor
      from unnest(p_since, v_last, v_acked, v_purged) with ordinality u (since, last, acked, purged, n);
    select array_agg(q.pending) into v_pending
      from (
        select w.pending from unnest(p_classes, v_cursor) with ordinality u (class, cursor, n)
          cross join lateral (
            select count(*) as pending
              from (select from message_status s
                     where s.user_id = v_user and s.class = u.class and s.seq > u.cursor and s.seq <= u.cursor + 50000
                       and s.status in ('sent', 'delivered', 'read')
                     order by s.seq limit p_pending_max) x) w
         order by u.n
      ) q;
  end if;

  -- Rows of a chat that the user has left are shown to nobody, so they are not counted: row by row then, 10,000 at most.
  if exists (select from departures d where d.user_id = v_user) then
    select array_agg(q.pending) into v_pending
      from (
        select w.pending from unnest(p_classes, coalesce(v_cursor, v_settled)) with ordinality u (class, cursor, n)
          cross join lateral (
            select count(*) as pending
              from (select
                      from (select s.message_id, s.status from message_status s
                             where s.user_id = v_user and s.class = u.class and s.seq > u.cursor and s.seq <= u.cursor + 50000
                               and (s.status = 'sent' or v_cursor is not null and s.status in ('delivered', 'read'))
                             order by s.seq limit 10000) r
                      left join lateral (select m.chat_id, m.seq from messages m where m.id = r.message_id limit 1) m on true
                     -- A message that was recalled or has expired counts until a job has written it, as above.
                     where restante_ended_unwritten(r.status, exists (select from restante_departed(v_user, m.chat_id, m.seq)), null) is null
                     limit p_pending_max) x) w
         order by u.n
      ) q;
  end if;

  -- Events of feeds that are not rows yet. The first page makes rows of them.
  for n in 1 .. array_length(p_classes, 1) loop
    if p_classes[n] <> 'chat' and v_pending[n] < p_pending_max and restante_has_untaken(v_user, p_classes[n]) then
      v_pending[n] := least(v_pending[n] + restante_count_untaken(v_user, p_classes[n], p_pending_max), p_pending_max);
    end if;
  end loop;

  return query
    select v_user, v_name, v_picture, u.class, u.last_seq, u.settled_seq, u.acked_seq, u.pending, v_session, v_is_first
      from unnest(p_classes, v_last, v_settled, v_acked, v_pending) u (class, last_seq, settled_seq, acked_seq, pending);
end $$;
comment on function restante_open(text, text, text, text, bigint[], integer, inbox_class[], uuid, integer) is
  'The state that a connection begins with. Nothing at all: the user has p_devices_max devices, all connected, and this one is new. The user is made on first sight (is_first: it was named by others before, and comes for the first time); a name or picture that the token brings is kept where it is news. Per class that is asked for: the inbox''s counters, where a device''s cursor stands, how many rows the connection is to get, counted up to p_pending_max and over 50,000 numbers (those that wait; with a device, or a p_since of any class that was given once, every row behind the cursor; and in any case the events of followed feeds that are still to become rows; p_since is per class, in the order of p_classes, null where nothing is known); for a device its new session_no; it is noted as connected to p_node.';

create function restante_history(p_user bigint, p_chat uuid, p_after bigint, p_before bigint, p_limit integer)
returns table (
  message_id uuid, chat_seq bigint, message_type text, content text, metadata jsonb, created_at timestamptz, expires_at timestamptz,
  sender_id bigint, sender text, sender_name text, sender_picture text, recalled_at timestamptz, sealed bytea, key_id text
)
language plpgsql stable
-- Chats differ by orders of magnitude. A plan for the average one would sort all of a large one for a page of 50.
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set enable_sort = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
begin
  if p_after is not null then
    return query
      select m.id, m.seq, m.message_type::text, m.content, m.metadata, m.created_at, m.expires_at, u.id, u.external_id, u.display_name, u.avatar_url,
             m.recalled_at, m.sealed, m.key_id
        from chat_members me
        left join lateral (
          select x.* from messages x
           where x.chat_id = p_chat and x.seq > greatest(p_after, me.joined_seq)
           order by x.seq limit p_limit) m on true
        left join users u on u.id = m.sender_id
       where me.chat_id = p_chat and me.user_id = p_user and me.left_seq is null;
  else
    return query
      select m.id, m.seq, m.message_type::text, m.content, m.metadata, m.created_at, m.expires_at, u.id, u.external_id, u.display_name, u.avatar_url,
             m.recalled_at, m.sealed, m.key_id
        from chat_members me
        left join lateral (
          select x.* from messages x
           where x.chat_id = p_chat and x.seq > me.joined_seq and x.seq < p_before
           order by x.seq desc limit p_limit) m on true
        left join users u on u.id = m.sender_id
       where me.chat_id = p_chat and me.user_id = p_user and me.left_seq is null;
  end if;
end $$;
comment on function restante_history(bigint, uuid, bigint, bigint, integer) is
  'A page of a chat for one of its members, from its joining on: the oldest messages above p_after, else the newest below p_before. A member gets a row in any case, with nulls where there is no message; somebody else gets none. A message that was recalled has no content and no metadata.';
