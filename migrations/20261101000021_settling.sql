-- Settling: acks, reads, counted attempts, and the marks that follow from them.

-- The marks of members whose rows are locked by the caller, computed from the rows.
create function restante_exact_marks(p_chats uuid[], p_users bigint[]) returns void
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
begin
  -- One snapshot for last_seq and rows: whatever is numbered up to that last_seq is visible here too.
  update chat_members cm
     set delivered_seq = greatest(cm.delivered_seq, e.delivered), read_seq = greatest(cm.read_seq, e.read),
         has_hole = e.waits, marked_xid = pg_current_xact_id()
    from (
      select u.chat, u.user_id, coalesce(w.seq - 1, c.last_seq) as delivered, coalesce(r.seq - 1, c.last_seq) as read,
             m.has_hole and w.seq is not null as waits
        from unnest(p_chats, p_users) u (chat, user_id)
        join chats c on c.id = u.chat
        join chat_members m on m.chat_id = u.chat and m.user_id = u.user_id
        left join lateral (
          select x.seq from messages x join message_status s on s.message_id = x.id and s.user_id = u.user_id
           where x.chat_id = u.chat and x.seq > m.delivered_seq and s.status = 'sent'
           order by x.seq limit 1) w on true
        left join lateral (
          select x.seq from messages x join message_status s on s.message_id = x.id and s.user_id = u.user_id
           where x.chat_id = u.chat and x.seq > m.read_seq and s.status in ('sent', 'delivered')
           order by x.seq limit 1) r on true
    ) e
   where cm.chat_id = e.chat and cm.user_id = e.user_id
     and (cm.delivered_seq < e.delivered or cm.read_seq < e.read or cm.has_hole <> e.waits);
end $$;
comment on function restante_exact_marks(uuid[], bigint[]) is
  'Moves the marks of these members to where their rows say. The caller holds the locks on their chat_members rows since an earlier statement: computed in the statement that locks, the sub-select would be of the older snapshot.';

create function restante_settle(
  p_users bigint[], p_classes inbox_class[], p_seqs bigint[],
  p_mark_users bigint[], p_mark_chats uuid[], p_mark_seqs bigint[],
  p_exact_users bigint[], p_exact_chats uuid[],
  p_device_users bigint[], p_devices text[], p_device_chat_seqs bigint[], p_device_event_seqs bigint[]
) returns table (ord integer, settled_at timestamptz)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now         timestamptz := clock_timestamp();
  v_moved       integer[];
  v_exact_users bigint[];
  v_exact_chats uuid[];
begin
  perform 1 from unnest(p_users, p_classes, p_seqs) u (user_id, class, seq)
    join message_status s on s.user_id = u.user_id and s.class = u.class and s.seq = u.seq
   where s.status = 'sent'
   order by s.user_id, s.class, s.seq for no key update of s;
  with moved as (
    update message_status s set status = 'delivered', delivered_at = v_now
      from unnest(p_users, p_classes, p_seqs) with ordinality u (user_id, class, seq, ord)
     where s.user_id = u.user_id and s.class = u.class and s.seq = u.seq and s.status = 'sent'
    returning u.ord::integer as ord
  ) select array_agg(moved.ord) into v_moved from moved;

  -- Marks. Locked in order first; what a session proposes holds unless the member has a hole.
  if array_length(p_mark_users, 1) > 0 or array_length(p_exact_users, 1) > 0 then
    perform 1 from chat_members cm
      join unnest(p_mark_chats || p_exact_chats, p_mark_users || p_exact_users) u (chat, user_id) on cm.chat_id = u.chat and cm.user_id = u.user_id
     order by cm.chat_id, cm.user_id for no key update of cm;
    update chat_members cm set delivered_seq = u.seq, marked_xid = pg_current_xact_id()
      from unnest(p_mark_chats, p_mark_users, p_mark_seqs) u (chat, user_id, seq)
     where cm.chat_id = u.chat and cm.user_id = u.user_id and cm.delivered_seq < u.seq and not cm.has_hole;
    select array_agg(q.user_id), array_agg(q.chat) into v_exact_users, v_exact_chats
      from (
        select u.user_id, u.chat from unnest(p_exact_users, p_exact_chats) u (user_id, chat)
        union
        select u.user_id, u.chat from unnest(p_mark_users, p_mark_chats) u (user_id, chat)
          join chat_members cm on cm.chat_id = u.chat and cm.user_id = u.user_id
         where cm.has_hole
      ) q;
    if v_exact_users is not null then
      perform restante_exact_marks(v_exact_chats, v_exact_users);
    end if;
  end if;

  if array_length(p_device_users, 1) > 0 then
    perform 1 from devices d
      join unnest(p_device_users, p_devices) u (user_id, device_id) on d.user_id = u.user_id and d.device_id = u.device_id
     order by d.user_id, d.device_id for no key update of d;
    update devices d
       set acked_chat_seq = greatest(d.acked_chat_seq, u.chat_seq), acked_event_seq = greatest(d.acked_event_seq, u.event_seq)
      from unnest(p_device_users, p_devices, p_device_chat_seqs, p_device_event_seqs) u (user_id, device_id, chat_seq, event_seq)
     where d.user_id = u.user_id and d.device_id = u.device_id
       and (d.acked_chat_seq < u.chat_seq or d.acked_event_seq < u.event_seq);
  end if;

  return query select u.ord, v_now from unnest(v_moved) u (ord);
end $$;
comment on function restante_settle(bigint[], inbox_class[], bigint[], bigint[], uuid[], bigint[], bigint[], uuid[], bigint[], text[], bigint[], bigint[]) is
  'Makes acks true in one transaction: rows sent -> delivered, members'' marks, devices'' cursors. Marks come proposed (p_mark_*) or are to be computed from the rows (p_exact_*). Returns the places in p_users of the rows that moved; rows that do not wait any more are passed over, so it may be repeated. One call names a (chat, member) once among the proposals and a device once.';

create function restante_read(p_user bigint, p_chat uuid, p_up_to bigint, p_rows_max integer)
returns table (message_id uuid, chat_seq bigint, sender_id bigint, read_at timestamptz, up_to bigint, more boolean)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now     timestamptz := clock_timestamp();
  v_end     bigint;
  v_classes inbox_class[];
  v_seqs    bigint[];
  v_last    bigint;
  v_hole    boolean;
begin
  -- The rows to read, and how far the chat goes, from one snapshot: what commits later has a higher number.
  select q.classes, q.seqs, q.rows_end, q.up_to into v_classes, v_seqs, v_last, v_end
    from (
      select array_agg(r.class) as classes, array_agg(r.seq) as seqs, max(r.chat_seq) as rows_end, min(b.up_to) as up_to
        from (select least(p_up_to, c.last_seq) as up_to, cm.read_seq
                from chat_members cm join chats c on c.id = cm.chat_id
               where cm.chat_id = p_chat and cm.user_id = p_user) b
        left join lateral (
          select s.class, s.seq, m.seq as chat_seq
            from messages m join message_status s on s.message_id = m.id and s.user_id = p_user
           where m.chat_id = p_chat and m.seq > b.read_seq and m.seq <= b.up_to and s.status in ('sent', 'delivered')
           order by m.seq limit p_rows_max) r on true
    ) q;
  if v_end is null then
    return; -- never was a member
  end if;
  if array_length(v_seqs, 1) >= p_rows_max then
    v_end := v_last;
  end if;

  perform 1 from unnest(v_classes, v_seqs) u (class, seq)
    join message_status s on s.user_id = p_user and s.class = u.class and s.seq = u.seq
   order by s.user_id, s.class, s.seq for no key update of s;

  return query
    with moved as (
      update message_status s set status = 'read', read_at = v_now, delivered_at = coalesce(s.delivered_at, v_now)
        from unnest(v_classes, v_seqs) u (class, seq)
       where s.user_id = p_user and s.class = u.class and s.seq = u.seq and s.status in ('sent', 'delivered')
      returning s.message_id
    )
    select m.id, m.seq, m.sender_id, v_now, v_end, v_end < p_up_to and array_length(v_seqs, 1) >= p_rows_max
      from moved join messages m on m.id = moved.message_id
     order by m.seq;
  if not found then
    return query select null::uuid, null::bigint, null::bigint, v_now, v_end, false;
  end if;

  select cm.has_hole into v_hole from chat_members cm where cm.chat_id = p_chat and cm.user_id = p_user for no key update;
  if v_hole then
    perform restante_exact_marks(array[p_chat], array[p_user]);
  else
    update chat_members cm
       set read_seq = greatest(cm.read_seq, v_end), delivered_seq = greatest(cm.delivered_seq, v_end), marked_xid = pg_current_xact_id()
     where cm.chat_id = p_chat and cm.user_id = p_user and (cm.read_seq < v_end or cm.delivered_seq < v_end);
  end if;
end $$;
comment on function restante_read(bigint, uuid, bigint, integer) is
  'Marks what a member has read, up to a number of the chat, at most p_rows_max rows a call (more = call again). Returns the rows that moved, or one row without a message when none did, or nothing for somebody who never was a member. delivered_at is set where it was not.';

create function restante_attempt(p_users bigint[], p_classes inbox_class[], p_seqs bigint[], p_reasons text[], p_final boolean[], p_attempts_max integer)
returns table (ord integer, attempts integer, failed boolean, counted_at timestamptz)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
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
  perform 1 from unnest(p_users, p_classes, p_seqs) u (user_id, class, seq)
    join message_status s on s.user_id = u.user_id and s.class = u.class and s.seq = u.seq
   where s.status = 'sent'
   order by s.user_id, s.class, s.seq for no key update of s;
  with counted as (
    update message_status s
       set attempts = s.attempts + 1, reason = u.reason,
           status = case when u.final or s.attempts + 1 >= p_attempts_max then 'failed'::delivery_status else s.status end
      from unnest(p_users, p_classes, p_seqs, p_reasons, p_final) with ordinality u (user_id, class, seq, reason, final, ord)
     where s.user_id = u.user_id and s.class = u.class and s.seq = u.seq and s.status = 'sent'
    returning u.ord::integer as ord, s.attempts::integer as attempts, s.status = 'failed' as failed, s.user_id, s.message_id
  )
  select array_agg(k.ord), array_agg(k.attempts), array_agg(k.failed),
         array_agg(k.user_id) filter (where k.failed), array_agg(m.chat_id) filter (where k.failed)
    into v_ord, v_attempts, v_failed, v_users, v_chats
    from counted k join messages m on m.id = k.message_id;

  -- A failed row counts as passed, so the mark may move.
  if v_users is not null then
    perform 1 from chat_members cm join unnest(v_chats, v_users) u (chat, user_id) on cm.chat_id = u.chat and cm.user_id = u.user_id
      order by cm.chat_id, cm.user_id for no key update of cm;
    perform restante_touch_marks(v_chats, v_users);
  end if;
  return query select q.ord, q.attempts, q.failed, v_now from unnest(v_ord, v_attempts, v_failed) q (ord, attempts, failed);
end $$;
comment on function restante_attempt(bigint[], inbox_class[], bigint[], text[], boolean[], integer) is
  'Counts an attempt against rows that still wait; the last one, or a final one, fails the row. Rows that do not wait are passed over. A row may stand in a call once.';

create function restante_touch_marks(p_chats uuid[], p_users bigint[]) returns void
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
begin
  perform restante_exact_marks(p_chats, p_users);
  -- Also where no number moved: the sender that was away learns of a row that ended otherwise by its chat's mark.
  update chat_members cm set marked_xid = pg_current_xact_id()
    from (select distinct u.chat, u.user_id from unnest(p_chats, p_users) u (chat, user_id)) u
   where cm.chat_id = u.chat and cm.user_id = u.user_id;
end $$;
comment on function restante_touch_marks(uuid[], bigint[]) is
  'restante_exact_marks(), and the marks count as moved in any case. For rows that failed or expired.';

create function restante_advance_settled(p_user bigint, p_class inbox_class) returns bigint
language plpgsql volatile
set enable_seqscan = off set jit = off
set search_path from current
as $$
declare
  v_settled bigint;
  v_first   bigint;
  v_last    bigint;
begin
  -- Whoever numbers this inbox holds its row; where somebody has it, the old value is true still.
  select i.settled_seq into v_settled from inboxes i where i.user_id = p_user and i.class = p_class for no key update skip locked;
  if not found then
    select i.settled_seq into v_settled from inboxes i where i.user_id = p_user and i.class = p_class;
    return v_settled;
  end if;
  -- A statement after the lock, so a snapshot after the lock: in the same one a row that committed while we waited
  -- would be passed over, and never be emitted again.
  select i.settled_seq, i.last_seq into v_settled, v_last from inboxes i where i.user_id = p_user and i.class = p_class;
  select s.seq into v_first from message_status s
   where s.user_id = p_user and s.class = p_class and s.seq > v_settled and s.status = 'sent' order by s.seq limit 1;
  v_last := coalesce(v_first - 1, v_last);
  if v_last > v_settled then
    update inboxes i set settled_seq = v_last where i.user_id = p_user and i.class = p_class;
  end if;
  return greatest(v_last, v_settled);
end $$;
comment on function restante_advance_settled(bigint, inbox_class) is
  'Moves settled_seq up to the row before the first that waits, and returns it. Never waits for a lock: where the inbox is held it returns the value as it is.';
