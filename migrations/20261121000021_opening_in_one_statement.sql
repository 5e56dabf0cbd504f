-- Opening a connection in one statement: who it is, where it starts, and how much waits. It writes only what changes: a
-- connection without a device, to an inbox whose first row waits, leaves no lock, no transaction number and no WAL.

drop function restante_open(bigint, text);
create function restante_open(p_external_id text, p_name text, p_picture text, p_device text, p_since bigint, p_pending_max integer)
returns table (
  user_id bigint, display_name text, avatar_url text,
  class inbox_class, last_seq bigint, settled_seq bigint, acked_seq bigint, pending bigint, session_no bigint
)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
#variable_conflict use_column
declare
  v_classes constant inbox_class[] := '{chat,event}';
  v_user    bigint;
  v_name    text;
  v_picture text;
  v_last    bigint[];  -- per class, as all that follow
  v_settled bigint[];
  v_first   bigint[];
  v_pending bigint[];
  v_cursor  bigint[];
  v_acked   bigint[];
  v_session bigint;
begin
  select u.id, u.display_name, u.avatar_url into v_user, v_name, v_picture from users u where u.external_id = p_external_id;
  if not found then
    select u.id into v_user from restante_users(array[p_external_id]) u;
  end if;
  if coalesce(p_name, v_name) is distinct from v_name or coalesce(p_picture, v_picture) is distinct from v_picture then
    v_name := coalesce(p_name, v_name);
    v_picture := coalesce(p_picture, v_picture);
    update users u set display_name = v_name, avatar_url = v_picture where u.id = v_user;
  end if;

  select array_agg(q.last_seq), array_agg(q.settled_seq), array_agg(q.pending), array_agg(q.first) into v_last, v_settled, v_pending, v_first
    from (
      select i.last_seq, i.settled_seq, w.pending, w.first
        from inboxes i
        cross join lateral (
          select count(*) as pending, min(x.seq) as first
            from (select s.seq from message_status s
                   where s.user_id = i.user_id and s.class = i.class and s.seq > i.settled_seq and s.status = 'sent'
                   order by s.seq limit p_pending_max) x) w
       where i.user_id = v_user
       order by i.class
    ) q;
  for n in 1 .. 2 loop
    -- Seen without a lock, so only a hint that there is something to move: the function locks, and looks again.
    if coalesce(v_first[n] - 1, v_last[n]) > v_settled[n] then
      v_settled[n] := restante_advance_settled(v_user, v_classes[n]);
      v_last[n] := greatest(v_last[n], v_settled[n]);
    end if;
  end loop;

  v_acked := v_settled;
  if p_device is not null then
    -- A device that is new starts before the oldest waiting row.
    insert into devices as d (user_id, device_id, acked_chat_seq, acked_event_seq)
      values (v_user, p_device, v_settled[1], v_settled[2])
      on conflict (user_id, device_id) do update set session_no = d.session_no + 1, last_seen_at = clock_timestamp()
      returning d.session_no, array[d.acked_chat_seq, d.acked_event_seq] into v_session, v_acked;
  end if;
  if p_device is not null or p_since between 0 and v_last[1] then
    -- It gets every row behind its cursor, whether it waits or not.
    v_cursor := v_acked;
    if p_since between 0 and v_last[1] then
      v_cursor[1] := p_since;
    end if;
    select array_agg(q.pending) into v_pending
      from (
        select w.pending from unnest(v_classes, v_cursor) with ordinality u (class, cursor, n)
          cross join lateral (
            select count(*) as pending
              from (select from message_status s
                     where s.user_id = v_user and s.class = u.class and s.seq > u.cursor and s.status in ('sent', 'delivered', 'read')
                     order by s.seq limit p_pending_max) x) w
         order by u.n
      ) q;
  end if;

  return query
    select v_user, v_name, v_picture, u.class, u.last_seq, u.settled_seq, u.acked_seq, u.pending, v_session
      from unnest(v_classes, v_last, v_settled, v_acked, v_pending) u (class, last_seq, settled_seq, acked_seq, pending);
end $$;
comment on function restante_open(text, text, text, text, bigint, integer) is
  'What a connection begins with. The user is made on first sight; a name or picture that the token brings is kept where it is news. Per class: the inbox''s counters, where a device''s cursor stands, how many rows the connection is to get, counted up to p_pending_max (those that wait; with a device, or a p_since that was given once, every row behind it); for a device its new session_no.';
