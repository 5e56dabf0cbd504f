-- Settling: acks, reads, counted attempts, and the marks that follow from them. Marks are looked at 5,000 messages at a time: what
-- has many of them before it is left to a job, so that no lock is held for as long as somebody's backlog is. Each message's row is looked
-- up for itself, by key (limit 1): joined, a planner that knows how the tables have grown would walk the member's whole inbox instead.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function restante_lock_marks(p_chats uuid[], p_users bigint[]) returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
begin
  perform 1
    from (select distinct u.chat, u.user_id from unnest(p_chats, p_users) u (chat, user_id) order by 1, 2) u
    cross join lateral (select from marks x where x.chat_id = u.chat and x.user_id = u.user_id order by x.step desc limit 1 for no key update) k;
end $$;
comment on function restante_lock_marks(uuid[], bigint[]) is 'Locks the marks of these members, in the one order.';

create function restante_exact_marks(p_chats uuid[], p_users bigint[], p_always boolean default false) returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  -- The messages of each that are read: 5,000 of all together, which take some 20 ms from memory. Others wait for the locks meanwhile.
  v_each  integer := greatest(5000 / greatest(cardinality(p_users), 1), 1);
  v_chats uuid[];
  v_users bigint[];
begin
  perform restante_lock_marks(p_chats, p_users);
  -- A later statement, so a later snapshot; one for the chat's counter and the rows: whatever is numbered up to it is visible here.
  with exact as materialized (
    select k.at, k.moves, u.chat, u.user_id,
           greatest(k.delivered_seq, coalesce(w.seq - 1, least(h.last_seq, k.delivered_seq + v_each))) as delivered,
           -- Rows that were removed do not tell whether they were read: then the mark moves by a read only.
           case when k.purged_seq > k.read_seq then k.read_seq else greatest(k.read_seq, coalesce(r.seq - 1, least(h.last_seq, k.read_seq + v_each))) end as read,
           w.seq is not null or h.last_seq > k.delivered_seq + v_each as has_hole,
           w.seq is null and h.last_seq > k.delivered_seq + v_each
             or r.seq is null and h.last_seq > k.read_seq + v_each and k.purged_seq <= k.read_seq as is_behind,
           k.delivered_seq as delivered_before, k.read_seq as read_before, k.has_hole as hole_before
      from (select distinct x.chat, x.user_id from unnest(p_chats, p_users) x (chat, user_id)) u
      cross join lateral (
        select x.ctid as at, x.moves, x.delivered_seq, x.read_seq, x.has_hole, x.purged_seq
          from marks x where x.chat_id = u.chat and x.user_id = u.user_id order by x.step desc limit 1) k
      cross join lateral (select x.last_seq from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1) h
      left join lateral (
        select x.seq
          from (select y.id, y.seq from messages y
                 where y.chat_id = u.chat and y.seq > k.delivered_seq and y.seq <= k.delivered_seq + v_each order by y.seq limit v_each) x
          cross join lateral (select from message_status s where s.message_id = x.id and s.user_id = u.user_id and s.status = 'sent' limit 1) s
         order by x.seq limit 1) w on true
      left join lateral (
        select x.seq
          from (select y.id, y.seq from messages y
                 where y.chat_id = u.chat and y.seq > k.read_seq and y.seq <= k.read_seq + v_each order by y.seq limit v_each) x
          cross join lateral (
            select from message_status s where s.message_id = x.id and s.user_id = u.user_id and s.status in ('sent', 'delivered') limit 1) s
         order by x.seq limit 1) r on true
  ), moved as (
    update marks m
       set delivered_seq = e.delivered, read_seq = e.read, has_hole = e.has_hole, moves = e.moves + 1, step = (e.moves + 1) >> 4,
           marked_xid = pg_current_xact_id()
      from exact e
     where m.ctid = e.at and (p_always or e.delivered > e.delivered_before or e.read > e.read_before or e.has_hole <> e.hole_before)
    returning 1
  )
  select array_agg(e.chat) filter (where e.is_behind), array_agg(e.user_id) filter (where e.is_behind) into v_chats, v_users from exact e;
  if v_users is not null then
    insert into marks_behind (chat_id, user_id) select u.chat, u.user_id from unnest(v_chats, v_users) u (chat, user_id) order by 1, 2
      on conflict do nothing;
  end if;
end $$;
comment on function restante_exact_marks(uuid[], bigint[], boolean) is
  'Moves the marks of these members to where their rows say, past 5,000 messages of all together at most; those who have further to go are noted in marks_behind. While something waits above them, has_hole keeps them exact. read_seq stays where rows above it were removed (purged_seq). With p_always they count as moved in any case: a sender that was away learns of a row that ended otherwise by its chat''s mark. Locks the marks, in an earlier statement than it reads.';

create function restante_catch_up_marks(p_members_max integer) returns boolean
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
declare
  v_chats uuid[];
  v_users bigint[];
begin
  perform restante_needs_read_committed();
  with taken as (
    -- Its rows are locked, so they stay where they are. Joined by key, a planner might walk the table for each of them.
    delete from marks_behind b
     using (select x.ctid as at from marks_behind x where x.chat_id >= '00000000-0000-0000-0000-000000000000'
             order by x.chat_id, x.user_id limit p_members_max for update skip locked) t
     where b.ctid = t.at
    returning b.chat_id, b.user_id
  ) select array_agg(t.chat_id), array_agg(t.user_id) into v_chats, v_users from taken t;
  if v_users is null then
    return false;
  end if;
  perform restante_exact_marks(v_chats, v_users);
  return true;
end $$;
comment on function restante_catch_up_marks(integer) is
  'Moves on the marks of some members that have further to go (marks_behind), a part each. False: there are none.';

create function restante_settle(
  p_users bigint[], p_classes inbox_class[], p_seqs bigint[],
  p_mark_users bigint[], p_mark_chats uuid[], p_mark_seqs bigint[],
  p_exact_users bigint[], p_exact_chats uuid[],
  p_device_users bigint[], p_devices text[], p_device_classes inbox_class[], p_device_seqs bigint[],
  out moved integer[], out settled_at timestamptz
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_exact_users bigint[] := p_exact_users;
  v_exact_chats uuid[]   := p_exact_chats;
  v_hole_users  bigint[];
  v_hole_chats  uuid[];
  v_has_hole    boolean;
  v_messages    uuid[]; -- those of the rows that moved
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform restante_needs_read_committed();
  end if;
  settled_at := clock_timestamp();

  -- An ack alone, of a client without a device: the same with single rows. One row and at most one mark have no order among themselves.
  if array_length(p_users, 1) = 1 and coalesce(array_length(p_mark_users, 1), 0) <= 1 and coalesce(array_length(p_exact_users, 1), 0) = 0
     and coalesce(array_length(p_device_users, 1), 0) <= 1 then
    update message_status s set status = 'delivered', delivered_at = settled_at
     where s.user_id = p_users[1] and s.class = p_classes[1] and s.seq = p_seqs[1] and s.status = 'sent'
    returning array[s.message_id] into v_messages;
    if found then
      moved := '{1}';
      insert into statistics_journal (at, kind, class, messages) values (settled_at, 'delivered', p_classes[1], v_messages);
    end if;
    if array_length(p_mark_users, 1) = 1 then
      update marks m
         set delivered_seq = case when m.has_hole then m.delivered_seq else p_mark_seqs[1] end, moves = m.moves + 1, step = (m.moves + 1) >> 4,
             marked_xid = case when m.has_hole then m.marked_xid else pg_current_xact_id() end
       where m.chat_id = p_mark_chats[1] and m.user_id = p_mark_users[1] and (m.delivered_seq < p_mark_seqs[1] or m.has_hole)
         -- Another transaction that moves it meanwhile moves the step up.
         and m.step >= (select x.step from marks x where x.chat_id = p_mark_chats[1] and x.user_id = p_mark_users[1] order by x.step desc limit 1)
      returning m.has_hole into v_has_hole;
      if v_has_hole then
        perform restante_exact_marks(p_mark_chats, p_mark_users);
      end if;
    end if;
    if array_length(p_device_users, 1) = 1 then
      update device_cursors d set acked_seq = p_device_seqs[1], step = p_device_seqs[1] >> 4
       where d.user_id = p_device_users[1] and d.device_id = p_devices[1] and d.class = p_device_classes[1] and d.acked_seq < p_device_seqs[1]
         and d.step >= (select x.step from device_cursors x
                         where x.user_id = p_device_users[1] and x.device_id = p_devices[1] and x.class = p_device_classes[1] order by x.step desc limit 1);
    end if;
    return;
  end if;

  -- An update locks its rows in the order in which its join comes by them: that of the sorted unnest, as long as that is
  -- the outer side of a nested loop. "= any (array[…])" leaves no other plan: it is no equality by which the sides could be
  -- sorted alike, so there is no reason to walk the index as a whole, and the table is only ever looked up by key.
  with settled as (
    update message_status s set status = 'delivered', delivered_at = settled_at
      from (select * from unnest(p_users, p_classes, p_seqs) with ordinality x (user_id, class, seq, ord)
             order by x.user_id, x.class, x.seq) u
     where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status = 'sent'
    returning u.ord, s.message_id
  ) select array_agg(k.ord::integer), array_agg(k.message_id) into moved, v_messages from settled k;
  if moved is not null then
    insert into statistics_journal (at, kind, class, messages)
      values (settled_at, 'delivered', case when p_classes[1] = all (p_classes) then p_classes[1] end, v_messages);
  end if;

  if array_length(p_exact_users, 1) > 0 then
    -- Some marks are to be computed: all members are locked first, in one order.
    perform restante_lock_marks(p_mark_chats || p_exact_chats, p_mark_users || p_exact_users);
  end if;
  if array_length(p_mark_users, 1) > 0 then
    -- A session's proposal holds unless the member has a hole; then the update only locks it and gives it back.
    with marked as (
      update marks m
         set delivered_seq = case when m.has_hole then m.delivered_seq else u.seq end, moves = m.moves + 1, step = (m.moves + 1) >> 4,
             marked_xid = case when m.has_hole then m.marked_xid else pg_current_xact_id() end
        from (select x.chat, x.user_id, x.seq,
                     (select n.step from marks n where n.chat_id = x.chat and n.user_id = x.user_id order by n.step desc limit 1) as step
                from unnest(p_mark_chats, p_mark_users, p_mark_seqs) x (chat, user_id, seq) order by x.chat, x.user_id) u
       where m.chat_id = any (array[u.chat]) and m.user_id = any (array[u.user_id]) and m.step >= u.step and (m.delivered_seq < u.seq or m.has_hole)
      returning m.has_hole, m.user_id, m.chat_id
    ) select array_agg(k.user_id), array_agg(k.chat_id) into v_hole_users, v_hole_chats from marked k where k.has_hole;
    v_exact_users := v_exact_users || v_hole_users;
    v_exact_chats := v_exact_chats || v_hole_chats;
  end if;
  if array_length(v_exact_users, 1) > 0 then
    perform restante_exact_marks(v_exact_chats, v_exact_users);
  end if;

  if array_length(p_device_users, 1) > 0 then
    update device_cursors d set acked_seq = u.seq, step = u.seq >> 4
      from (select x.user_id, x.device_id, x.class, x.seq,
                   (select n.step from device_cursors n
                     where n.user_id = x.user_id and n.device_id = x.device_id and n.class = x.class order by n.step desc limit 1) as step
              from unnest(p_device_users, p_devices, p_device_classes, p_device_seqs) x (user_id, device_id, class, seq)
             order by x.user_id, x.device_id, x.class) u
     where d.user_id = any (array[u.user_id]) and d.device_id = u.device_id and d.class = u.class and d.step >= u.step and d.acked_seq < u.seq;
  end if;
end $$;
comment on function restante_settle(bigint[], inbox_class[], bigint[], bigint[], uuid[], bigint[], bigint[], uuid[], bigint[], text[], inbox_class[], bigint[]) is
  'Makes acks true in one transaction: rows sent -> delivered, members'' marks, devices'' cursors. Marks come proposed (p_mark_*) or are to be computed from the rows (p_exact_*). Returns the places in p_users of the rows that moved (null: none); rows that do not wait any more are passed over, so it may be repeated. One call names a row, a (chat, member) among the proposals and a (device, class) once.';

create function restante_read(p_users bigint[], p_chats uuid[], p_up_to bigint[], p_rows_max integer)
returns table (
  ord integer, message_id uuid, chat_seq bigint, sender_id bigint, read_at timestamptz, ended text, up_to bigint, more boolean, advanced boolean
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now      timestamptz := clock_timestamp();
  v_each     integer := greatest(p_rows_max / array_length(p_users, 1), 1);
  v_far      integer := least(5000, greatest(4 * p_rows_max / array_length(p_users, 1), 50)); -- so many messages of each are looked at
  v_ords     integer[]; -- per row to be read: its request, …
  v_classes  inbox_class[];
  v_seqs     bigint[];
  v_messages uuid[];
  v_numbers  bigint[];
  v_senders  bigint[];
  v_left     boolean[];     -- … and by what it may have ended
  v_recalls  timestamptz[];
  v_expiries timestamptz[];
  v_moved    integer[]; -- those of the rows that moved, …
  v_ended    text[];    -- … why they ended; null: they became read,
  v_at_once  boolean[]; -- … and were these delivered here, too?
  v_of       integer[]; -- per request of a member: its place, …
  v_ends     bigint[];  -- … up to where it is done here,
  v_more     boolean[]; -- … is there more,
  v_advanced boolean[]; -- … and was less read before?
  v_hole_users bigint[];
  v_hole_chats uuid[];
begin
  perform restante_needs_read_committed();
  -- The rows to read, and how far the chat goes, from one snapshot: what commits later has a higher number.
  with wanted as materialized (
    select u.ord::integer as ord, u.user_id, u.chat, b.read_seq, b.up_to, least(b.up_to, b.read_seq + v_far) as far
      from unnest(p_users, p_chats, p_up_to) with ordinality u (user_id, chat, up_to, ord)
      -- One who never was a member has no marks.
      cross join lateral (
        select k.read_seq, least(u.up_to, h.last_seq, l.left_seq) as up_to
          from (select x.read_seq from marks x where x.chat_id = u.chat and x.user_id = u.user_id order by x.step desc limit 1) k
          cross join lateral (select x.last_seq from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1) h
          -- For one that has left, the chat ends where it left.
          cross join lateral (select x.left_seq from chat_members x where x.chat_id = u.chat and x.user_id = u.user_id limit 1) l) b
  ), rows as materialized (
    select w.ord, r.*
      from wanted w
      cross join lateral (
        select s.class, s.seq, m.id, m.seq as chat_seq, m.sender_id, m.expires_at, m.recalled_at,
               exists (select from restante_departed(w.user_id, w.chat, m.seq)) as has_left
          from (select x.id, x.seq, x.sender_id, x.expires_at, x.recalled_at from messages x
                 where x.chat_id = w.chat and x.seq > w.read_seq and x.seq <= w.far order by x.seq limit v_far) m
          cross join lateral (
            select x.class, x.seq from message_status x
             where x.message_id = m.id and x.user_id = w.user_id and x.status in ('sent', 'delivered') limit 1) s
         order by m.seq limit v_each) r
  ), found as (
    select r.ord, count(*) as rows, max(r.chat_seq) as last from rows r group by r.ord
  ), ends as (
    select w.ord, case when f.rows >= v_each then f.last else greatest(w.far, w.read_seq) end as done, w.up_to, w.read_seq
      from wanted w left join lateral (select x.rows, x.last from found x where x.ord = w.ord) f on true
  )
  select a.ords, a.classes, a.seqs, a.messages, a.numbers, a.senders, a.lefts, a.recalls, a.expiries, b.ords, b.ends, b.more, b.advanced
    into v_ords, v_classes, v_seqs, v_messages, v_numbers, v_senders, v_left, v_recalls, v_expiries, v_of, v_ends, v_more, v_advanced
    from (select array_agg(r.ord) as ords, array_agg(r.class) as classes, array_agg(r.seq) as seqs, array_agg(r.id) as messages,
                 array_agg(r.chat_seq) as numbers, array_agg(r.sender_id) as senders, array_agg(r.has_left) as lefts,
                 array_agg(r.recalled_at) as recalls, array_agg(r.expires_at) as expiries from rows r) a,
         (select array_agg(e.ord order by e.ord) as ords, array_agg(least(e.done, e.up_to) order by e.ord) as ends,
                 array_agg(least(e.done, e.up_to) < e.up_to order by e.ord) as more,
                 array_agg(least(e.done, e.up_to) > e.read_seq order by e.ord) as advanced from ends e) b;

  -- Rows in the one order, as restante_settle(); then marks. What no page would show any more has not been read by anybody: its reader was
  -- told a gap, so it ends here as the job would end it. The clock is asked once a row: a subquery that is volatile stays one.
  with moved as (
    update message_status s
       set (status, ended, reason, read_at, delivered_at) = (
         select case when e.ended is null then 'read'::delivery_status else 'expired' end, e.ended,
                case e.ended when 'left' then 'left' when 'recalled' then 'recalled' when 'expired' then 'its time had come' else s.reason end,
                case when e.ended is null then v_now end, case when e.ended is null then coalesce(s.delivered_at, v_now) end
           from (select restante_ended_unwritten(s.status, u.has_left, u.recalled_at, u.expires_at, clock_timestamp()) as ended) e)
      from (select p_users[x.ord] as user_id, x.class, x.seq, x.has_left, x.recalled_at, x.expires_at, x.n
              from unnest(v_ords, v_classes, v_seqs, v_left, v_recalls, v_expiries) with ordinality x (ord, class, seq, has_left, recalled_at, expires_at, n)
             order by 1, x.class, x.seq) u
     where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status in ('sent', 'delivered')
    returning u.n, case when s.status = 'expired' then s.reason end as ended, s.delivered_at = v_now as at_once
  ) select array_agg(k.n::integer), array_agg(k.ended), array_agg(k.at_once) into v_moved, v_ended, v_at_once from moved k;
  insert into statistics_journal (at, kind, class, messages)
    select v_now, case when k.at_once then 'read_at_once'::journal_kind else 'read' end,
           case when v_classes[1] = all (v_classes) then v_classes[1] end, array_agg(v_messages[k.n])
      from (select unnest(v_moved) as n, unnest(v_ended) as ended, unnest(v_at_once) as at_once) k where k.ended is null group by k.at_once;

  with marked as (
    update marks m
       set read_seq = case when m.has_hole then m.read_seq else greatest(m.read_seq, u.seq) end,
           delivered_seq = case when m.has_hole then m.delivered_seq else greatest(m.delivered_seq, u.seq) end,
           moves = m.moves + 1, step = (m.moves + 1) >> 4,
           marked_xid = case when m.has_hole then m.marked_xid else pg_current_xact_id() end
      from (select x.chat, x.user_id, x.seq,
                   (select n.step from marks n where n.chat_id = x.chat and n.user_id = x.user_id order by n.step desc limit 1) as step
              from (select p_chats[y.ord] as chat, p_users[y.ord] as user_id, max(y.seq) as seq from unnest(v_of, v_ends) y (ord, seq) group by 1, 2) x
             order by x.chat, x.user_id) u
     where m.chat_id = any (array[u.chat]) and m.user_id = any (array[u.user_id]) and m.step >= u.step
       and (m.read_seq < u.seq or m.delivered_seq < u.seq or m.has_hole)
    returning m.has_hole, m.user_id, m.chat_id
  ) select array_agg(k.user_id), array_agg(k.chat_id) into v_hole_users, v_hole_chats from marked k where k.has_hole;
  if v_hole_users is not null then
    -- A sender that was away learns of a row that ended by its chat's mark.
    perform restante_exact_marks(v_hole_chats, v_hole_users, num_nonnulls(variadic v_ended) > 0);
  end if;

  return query
    select v_ords[k.n], v_messages[k.n], v_numbers[k.n], v_senders[k.n], v_now, k.ended, null::bigint, null::boolean, null::boolean
      from unnest(v_moved, v_ended) k (n, ended)
    union all
    select r.ord, null, null, null, v_now, null, r.up_to, r.more, r.advanced from unnest(v_of, v_ends, v_more, v_advanced) r (ord, up_to, more, advanced);
end $$;
comment on function restante_read(bigint[], uuid[], bigint[], integer) is
  'Marks what members have read, each up to a number of a chat, and no further than where the chat ends for them: at its last number, or where they left. At most p_rows_max rows a call, for which it looks at 5,000 messages of each at most, and at fewer where p_rows_max is small. Returns the rows that moved, and for each request one row without a message that says up to where it is done here (more = call again; advanced = the member had read less before); none for one who never was a member. delivered_at is set where it was not. A row that waits although its message has expired, or although its reader has left, becomes expired instead, and ended says why.';

create function restante_attempt(p_users bigint[], p_classes inbox_class[], p_seqs bigint[], p_reasons text[], p_final boolean[], p_attempts_max integer)
returns table (ord integer, attempts integer, failed boolean, counted_at timestamptz)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now      timestamptz := clock_timestamp();
  v_ord      integer[];
  v_attempts integer[];
  v_failed   boolean[];
  v_users    bigint[];
  v_chats    uuid[];
begin
  perform restante_needs_read_committed();
  with counted as (
    update message_status s
       set attempts = s.attempts + 1, reason = u.reason,
           status = case when u.final or s.attempts + 1 >= p_attempts_max then 'failed'::delivery_status else s.status end,
           ended = case when u.final or s.attempts + 1 >= p_attempts_max then 'failed'::ended_reason end
      from (select * from unnest(p_users, p_classes, p_seqs, p_reasons, p_final) with ordinality x (user_id, class, seq, reason, final, ord)
             order by x.user_id, x.class, x.seq) u
     where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status = 'sent'
    returning u.ord::integer as ord, s.attempts::integer as attempts, s.status = 'failed' as failed, s.user_id, s.message_id
  )
  select array_agg(k.ord), array_agg(k.attempts), array_agg(k.failed),
         array_agg(k.user_id) filter (where k.failed), array_agg(m.chat_id) filter (where k.failed)
    into v_ord, v_attempts, v_failed, v_users, v_chats
    from counted k join messages m on m.id = k.message_id;

  -- A failed row counts as passed, so the mark may move.
  if v_users is not null then
    perform restante_exact_marks(v_chats, v_users, true);
  end if;
  return query select q.ord, q.attempts, q.failed, v_now from unnest(v_ord, v_attempts, v_failed) q (ord, attempts, failed);
end $$;
comment on function restante_attempt(bigint[], inbox_class[], bigint[], text[], boolean[], integer) is
  'Counts an attempt against rows that still wait; the last one, or a final one, fails the row. Rows that do not wait are passed over. A row may stand in a call once.';

create function restante_waiting_rows(p_user bigint, p_class inbox_class, p_after bigint, p_up_to bigint, out seqs bigint[], out chats uuid[])
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
begin
  select array_agg(w.seq order by w.seq), array_agg(m.chat_id order by w.seq) into seqs, chats
    from (select s.seq, s.message_id from message_status s
           where s.user_id = p_user and s.class = p_class and s.seq > p_after and s.seq <= p_up_to and s.status = 'sent' order by s.seq limit 51) w
    left join lateral (select x.chat_id from messages x where x.id = w.message_id limit 1) m on true;
end $$;
comment on function restante_waiting_rows(bigint, inbox_class, bigint, bigint) is
  'The first 51 rows that wait in a part of an inbox, in order, and their chats. Null: none.';

create function restante_overtaken(p_seqs bigint[], p_chats uuid[], p_last bigint) returns integer
language plpgsql immutable
set search_path from current
as $$
begin
  if cardinality(p_seqs) > 50 then
    return 0;
  end if;
  return (
    select coalesce(max(q.n), 0)
      from (select u.n, lead(u.seq, 1, p_last + 1) over by_n - u.seq - 1 as ended, max(u.of_its_chat) over by_n as of_their_chats
              from (select x.seq, x.n, max(x.n) over (partition by x.chat) as of_its_chat from unnest(p_seqs, p_chats) with ordinality x (seq, chat, n)) u
            window by_n as (order by u.n)) q
     where q.ended >= 1000 and q.of_their_chats = q.n);
end $$;
comment on function restante_overtaken(bigint[], uuid[], bigint) is
  'The number of rows that wait in an inbox, the first ones, that get new numbers at its end: as many as possible, so that a thousand numbers or more that have ended follow the last of them, and no row of their chats stays behind: its message would be seen before theirs. None where more than 50 wait. Takes all that wait, in order, their chats, and the last number.';

create function restante_advance_settled(p_user bigint, p_class inbox_class) returns bigint
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_at      tid;
  v_before  bigint;
  v_settled bigint;
  v_last    bigint;
  v_seen    bigint;       -- the last number when the inbox was looked at without its lock
  v_seqs    bigint[];     -- the rows that wait, in order, …
  v_chats   uuid[];       -- … and their chats
  v_count   integer := 0; -- so many of them, the first ones, shall get new numbers
  v_rows    tid[];
  v_marks   tid[];
  v_held    boolean := false; -- these are locked by us, with their marks
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform restante_needs_read_committed();
  end if;
  select i.settled_seq, i.last_seq into v_settled, v_seen from inboxes i where i.user_id = p_user and i.class = p_class order by i.step desc limit 1;
  -- Rows that wait below a thousand that have ended: each session that opens this inbox would pass all of them. They get new numbers, at
  -- the end, as by a requeue. All that waits has to be known for it, and looking for that takes too long to hold a lock meanwhile. What is
  -- seen here is all that can wait up to v_seen once the lock is held: rows end, or get a number above it.
  if v_seen - v_settled between 1001 and 200000 then
    select w.seqs, w.chats into v_seqs, v_chats from restante_waiting_rows(p_user, p_class, v_settled, v_seen) w;
    v_count := restante_overtaken(v_seqs, v_chats, v_seen);
    if v_count = 0 and v_seqs[1] = v_settled + 1 then
      return v_settled;
    end if;
  end if;
  -- A writer that numbers this inbox holds its row; where one has it, the old value is still true. A row that is locked is read anew.
  select i.ctid, i.settled_seq, i.last_seq into v_at, v_before, v_last
    from inboxes i where i.user_id = p_user and i.class = p_class order by i.step desc limit 1 for no key update skip locked;
  if not found then
    return v_settled;
  end if;
  -- Statements after the lock, so snapshots after the lock: in the same one a row that committed while we waited would be passed
  -- over, and never be emitted again.
  if v_count > 0 then
    select v_seqs || w.seqs, v_chats || w.chats into v_seqs, v_chats from restante_waiting_rows(p_user, p_class, v_seen, least(v_last, v_seen + 1000)) w;
    v_count := case when v_last <= v_seen + 1000 then restante_overtaken(v_seqs, v_chats, v_last) else 0 end;
  end if;
  if v_count > 0 then
    -- A transaction that works on one of them now ends it, or the next call finds all of them again. One that stayed where it is would come before
    -- those of its chat that moved.
    select array_agg(r.at order by u.seq) into v_rows
      from unnest(v_seqs[:v_count]) u (seq)
      cross join lateral (
        select s.ctid as at from message_status s
         where s.user_id = p_user and s.class = p_class and s.seq = u.seq and s.status = 'sent' limit 1 for update skip locked) r;
    -- Streams of events have no marks.
    select array_agg(k.at) filter (where k.at is not null), (p_class <> 'chat' or count(*) = count(k.at)) and coalesce(cardinality(v_rows), 0) = v_count
      into v_marks, v_held
      from (select distinct x.chat from unnest(v_chats[:v_count]) x (chat)) u
      left join lateral (
        select x.ctid as at from marks x where x.chat_id = u.chat and x.user_id = p_user order by x.step desc limit 1 for no key update skip locked) k on true;
  end if;
  if v_held then
    update message_status s set seq = v_last + u.n from unnest(v_rows) with ordinality u (at, n) where s.ctid = u.at;
    insert into inbox_gaps (user_id, class, seq, reason) select p_user, p_class, u.seq, 'requeued' from unnest(v_seqs[:v_count]) u (seq);
    -- The new numbers lie behind all others: a session that has not read these rows yet finds them there.
    update marks k set has_hole = true, moves = k.moves + 1, step = (k.moves + 1) >> 4 from unnest(v_marks) u (at) where k.ctid = u.at and not k.has_hole;
    v_last := v_last + v_count;
  end if;
  -- 50,000 numbers at most: sessions that write to this inbox wait meanwhile.
  v_settled := coalesce(
    (select s.seq - 1 from message_status s
      where s.user_id = p_user and s.class = p_class and s.seq > v_before and s.seq <= v_before + 50000 and s.status = 'sent' order by s.seq limit 1),
    least(v_last, v_before + 50000));
  if v_settled > v_before or v_held then
    update inboxes i set settled_seq = v_settled, last_seq = v_last, step = v_last >> 4 where i.ctid = v_at;
  end if;
  return v_settled;
end $$;
comment on function restante_advance_settled(bigint, inbox_class) is
  'Moves settled_seq up to the row before the first that waits, 50,000 numbers at most, and returns it. Rows that wait below a thousand that have ended, while no later one of their chats waits above them, get new numbers at the end of the inbox (restante_overtaken), their old ones are named in inbox_gaps; where more than 50 wait, or 200,000 numbers are not settled, none does. Never waits for a lock: where one is held it returns the value as it is.';
