-- Settling visits each row once. The order of locks comes from the plan, and the plan has no choice (see restante_settle).

-- A BEFORE trigger locks every row that an update is about to change, in a visit and a WAL record of its own. AFTER it,
-- what is refused is refused all the same: the statement fails and nothing of it stays.
drop trigger a_status_only_moves_forward on message_status;
create trigger a_status_only_moves_forward after update on message_status
  for each row when (not (
       new.status = old.status
    or (old.status = 'sent')
    or (old.status = 'delivered' and new.status = 'read')
    or (old.status = 'failed' and new.status = 'sent' and new.seq > old.seq)
  ) or new.seq < old.seq or (old.delivered_at is not null and new.delivered_at is distinct from old.delivered_at)
    or (new.seq <> old.seq and new.status <> 'sent'))
  execute function refuse_the_status();
comment on trigger a_status_only_moves_forward on message_status is
  'sent < delivered < read; failed and expired are final, save for an operator''s requeue, which gives a failed row a new, higher number. delivered_at is set once. An AFTER trigger: before the update it would cost every ack a second visit of its row.';

drop function restante_settle(bigint[], inbox_class[], bigint[], bigint[], uuid[], bigint[], bigint[], uuid[], bigint[], text[], bigint[], bigint[]);
create function restante_settle(
  p_users bigint[], p_classes inbox_class[], p_seqs bigint[],
  p_mark_users bigint[], p_mark_chats uuid[], p_mark_seqs bigint[],
  p_exact_users bigint[], p_exact_chats uuid[],
  p_device_users bigint[], p_devices text[], p_device_chat_seqs bigint[], p_device_event_seqs bigint[],
  out moved integer[], out settled_at timestamptz
)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set enable_memoize = off
set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
#variable_conflict use_column
declare
  v_exact_users bigint[] := p_exact_users;
  v_exact_chats uuid[]   := p_exact_chats;
  v_hole_users  bigint[];
  v_hole_chats  uuid[];
begin
  settled_at := clock_timestamp();
  -- An update locks its rows in the order in which its join comes by them: that of the sorted unnest, as long as that is
  -- the outer side of a nested loop. "= any (array[…])" leaves no other plan: it is no equality by which the sides could be
  -- sorted alike, so there is no reason to walk the index as a whole, and the table is only ever looked up by key.
  with settled as (
    update message_status s set status = 'delivered', delivered_at = settled_at
      from (select * from unnest(p_users, p_classes, p_seqs) with ordinality x (user_id, class, seq, ord)
             order by x.user_id, x.class, x.seq) u
     where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status = 'sent'
    returning u.ord
  ) select array_agg(k.ord::integer) into moved from settled k;

  if array_length(p_exact_users, 1) > 0 then
    -- Some marks are to be computed: all members are locked first, in one order.
    perform 1 from chat_members cm
      join unnest(p_mark_chats || p_exact_chats, p_mark_users || p_exact_users) u (chat, user_id) on cm.chat_id = u.chat and cm.user_id = u.user_id
     order by cm.chat_id, cm.user_id for no key update of cm;
  end if;
  if array_length(p_mark_users, 1) > 0 then
    -- What a session proposes holds unless the member has a hole; then the update only locks it and gives it back.
    with marked as (
      update chat_members cm
         set delivered_seq = case when cm.has_hole then cm.delivered_seq else u.seq end,
             marked_xid = case when cm.has_hole then cm.marked_xid else pg_current_xact_id() end
        from (select * from unnest(p_mark_chats, p_mark_users, p_mark_seqs) x (chat, user_id, seq) order by x.chat, x.user_id) u
       where cm.chat_id = any (array[u.chat]) and cm.user_id = any (array[u.user_id]) and (cm.delivered_seq < u.seq or cm.has_hole)
      returning cm.has_hole, cm.user_id, cm.chat_id
    ) select array_agg(k.user_id), array_agg(k.chat_id) into v_hole_users, v_hole_chats from marked k where k.has_hole;
    v_exact_users := v_exact_users || v_hole_users;
    v_exact_chats := v_exact_chats || v_hole_chats;
  end if;
  if array_length(v_exact_users, 1) > 0 then
    perform restante_exact_marks(v_exact_chats, v_exact_users);
  end if;

  if array_length(p_device_users, 1) > 0 then
    update devices d
       set acked_chat_seq = greatest(d.acked_chat_seq, u.chat_seq), acked_event_seq = greatest(d.acked_event_seq, u.event_seq)
      from (select * from unnest(p_device_users, p_devices, p_device_chat_seqs, p_device_event_seqs) x (user_id, device_id, chat_seq, event_seq)
             order by x.user_id, x.device_id) u
     where d.user_id = any (array[u.user_id]) and d.device_id = u.device_id
       and (d.acked_chat_seq < u.chat_seq or d.acked_event_seq < u.event_seq);
  end if;
end $$;
comment on function restante_settle(bigint[], inbox_class[], bigint[], bigint[], uuid[], bigint[], bigint[], uuid[], bigint[], text[], bigint[], bigint[]) is
  'Makes acks true in one transaction: rows sent -> delivered, members'' marks, devices'' cursors. Marks come proposed (p_mark_*) or are to be computed from the rows (p_exact_*). Returns the places in p_users of the rows that moved (null: none); rows that do not wait any more are passed over, so it may be repeated. One call names a row, a (chat, member) among the proposals and a device once.';
