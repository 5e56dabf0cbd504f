-- For operators: what became of a message, put it back, give it up.

create function delivery_trace(p_message uuid)
returns table (
  recipient text, status delivery_status, class inbox_class, inbox_seq bigint, attempts smallint,
  accepted_at timestamptz, delivered_at timestamptz, read_at timestamptz, delivered_after interval, reason text, waiting_before_it bigint
)
language sql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
  -- The name by a sub-select: as a join it might begin with all users, where statistics are old.
  select (select u.external_id from users u where u.id = s.user_id), s.status, s.class, s.seq, s.attempts, m.created_at, s.delivered_at, s.read_at, s.delivered_at - m.created_at, s.reason,
         case when s.status = 'sent' then (
           select count(*) from message_status b, inboxes i
            where i.user_id = s.user_id and i.class = s.class
              and b.user_id = s.user_id and b.class = s.class and b.seq > i.settled_seq and b.seq < s.seq and b.status = 'sent') end
    from messages m
    join message_status s on s.message_id = m.id
   where m.id = p_message
   order by s.status, 1;
$$;
comment on function delivery_trace(uuid) is
  'What became of this message, for every recipient: where it stands, when it got there, why it ended, and how many rows wait before it in that inbox.';

create function restante_requeue(p_message uuid, p_user text) returns bigint
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_user  bigint;
  v_row   message_status;
  v_last  bigint;
  v_chat  uuid;
  v_seq   bigint;
begin
  select u.id into v_user from users u where u.external_id = p_user;
  select m.chat_id, m.seq into v_chat, v_seq from messages m where m.id = p_message;
  select s.* into v_row from message_status s where s.message_id = p_message and s.user_id = v_user;
  if not found then
    raise exception 'user % is no recipient of message %', p_user, p_message using errcode = 'no_data_found';
  end if;
  -- chats, inboxes, message_status, chat_members: the order in which every writer locks. The chat first, so that
  -- nobody leaves meanwhile.
  perform 1 from chats c where c.id = v_chat for no key update;
  perform 1 from chat_members cm where cm.chat_id = v_chat and cm.user_id = v_user and cm.left_seq is null;
  if not found then
    raise exception 'user % has left the chat of message %', p_user, p_message using errcode = 'object_not_in_prerequisite_state';
  end if;
  perform 1 from inboxes i where i.user_id = v_user and i.class = v_row.class for no key update;
  select s.* into v_row from message_status s where s.message_id = p_message and s.user_id = v_user for update;
  if v_row.status <> 'failed' then
    raise exception 'message % for user % is %, only failed ones can be put back', p_message, p_user, v_row.status
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  update inboxes i set last_seq = i.last_seq + 1 where i.user_id = v_user and i.class = v_row.class returning i.last_seq into v_last;
  update message_status s set seq = v_last, status = 'sent', attempts = 0, reason = null
   where s.user_id = v_user and s.class = v_row.class and s.seq = v_row.seq;
  insert into inbox_gaps (user_id, class, seq, reason) values (v_user, v_row.class, v_row.seq, 'requeued');
  -- It waits again below what may have been acked since: the marks go back behind it, and are exact until it is settled.
  perform 1 from chat_members cm where cm.chat_id = v_chat and cm.user_id = v_user for no key update;
  update chat_members cm
     set delivered_seq = least(cm.delivered_seq, v_seq - 1), read_seq = least(cm.read_seq, v_seq - 1),
         has_hole = true, marked_xid = pg_current_xact_id()
   where cm.chat_id = v_chat and cm.user_id = v_user;
  perform restante_wake(array[v_user]);
  return v_last;
end $$;
comment on function restante_requeue(uuid, text) is
  'Puts a failed message back at the end of its recipient''s inbox, under a new number, which it returns; the old number is named in inbox_gaps. The message keeps its id and its number in the chat; attempts start at 0.';

create function restante_discard(p_message uuid, p_user text, p_reason text default 'discarded by an operator') returns boolean
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_user bigint;
  v_chat uuid;
begin
  select u.id into v_user from users u where u.external_id = p_user;
  update message_status s set status = 'failed', reason = p_reason
   where s.message_id = p_message and s.user_id = v_user and s.status = 'sent';
  if not found then
    return false;
  end if;
  select m.chat_id into v_chat from messages m where m.id = p_message;
  perform 1 from chat_members cm where cm.chat_id = v_chat and cm.user_id = v_user for no key update;
  perform restante_touch_marks(array[v_chat], array[v_user]);
  return true;
end $$;
comment on function restante_discard(uuid, text, text) is
  'Gives up a message that still waits: the row becomes failed with this reason, and the sender sees it. False when it does not wait. For a message that crashes its client.';
