-- For operators: what became of a message, put it back, give it up, list what failed; and the nudges that tell nodes of it.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function restante_wake_channel() returns text
language sql stable
set search_path from current
as $$
  select case current_schema() when 'public' then 'restante_wake' else 'restante_wake_' || quote_ident(current_schema())::regnamespace::oid end;
$$;
comment on function restante_wake_channel() is 'On which channel nodes are woken from SQL: channels belong to a database, and another schema of it may hold another service.';

create function restante_wake(p_users bigint[]) returns void
language sql volatile
set search_path from current
as $$
  -- 300 numbers of at most 19 digits stay under NOTIFY's 8,000 bytes.
  select pg_notify(restante_wake_channel(), string_agg(u.user_id::text, ','))
    from (select x.user_id, row_number() over () / 300 as part from (select distinct unnest(p_users) as user_id) x) u
   group by u.part;
$$;
comment on function restante_wake(bigint[]) is 'Tells every node that something waits for these users (users.id, comma separated, on restante_wake_channel()). A hint: nothing is lost without it.';


create function restante_check_marks(p_users bigint[]) returns void
language sql volatile
set search_path from current
as $$
  -- As restante_wake(): 300 numbers stay under NOTIFY's 8,000 bytes.
  select pg_notify(restante_wake_channel(), string_agg('m' || u.user_id, ','))
    from (select x.user_id, row_number() over () / 300 as part from (select distinct unnest(p_users) as user_id) x) u
   group by u.part;
$$;
comment on function restante_check_marks(bigint[]) is
  'Tells every node that marks moved for these users, or that something which waited for them has ended (users.id with an m before it, comma separated, on restante_wake_channel()). A hint: nothing is lost without it.';

create function delivery_trace(p_message uuid)
returns table (
  recipient text, status delivery_status, class inbox_class, inbox_seq bigint, attempts smallint,
  accepted_at timestamptz, delivered_at timestamptz, read_at timestamptz, delivered_after interval, reason text, waiting_before_it bigint
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
  -- The name by a sub-select: as a join it might begin with all users, where statistics are old.
  select (select u.external_id from users u where u.id = s.user_id), s.status, s.class, s.seq, s.attempts, m.created_at, s.delivered_at, s.read_at, s.delivered_at - m.created_at, s.reason,
         case when s.status = 'sent' then (
           select count(*) from message_status b, (select x.settled_seq from inboxes x where x.user_id = s.user_id and x.class = s.class order by x.step desc limit 1) i
            where b.user_id = s.user_id and b.class = s.class and b.seq > i.settled_seq and b.seq < s.seq and b.status = 'sent') end
    from messages m
    join message_status s on s.message_id = m.id
   where m.id = p_message
   order by s.status, 1;
$$;
comment on function delivery_trace(uuid) is
  'The state of this message for every recipient: where it stands, when it got there, why it ended, and how many rows wait before it in that inbox.';

create function restante_recipient(p_message uuid, p_user text) returns bigint
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_user bigint := (select u.id from users u where u.is_current and u.external_id = p_user);
begin
  if not exists (select from message_status s where s.message_id = p_message and s.user_id = v_user) then
    v_user := coalesce(
      (select u.id from users u
        where not u.is_current and u.external_id = p_user
          and (select true from message_status s where s.message_id = p_message and s.user_id = u.id limit 1)
        order by u.id desc limit 1),
      v_user);
  end if;
  return v_user;
end $$;
comment on function restante_recipient(uuid, text) is
  'The user of this name that is a recipient of the message: the one that has the name now, or else one that had it and was erased. The first where neither is; null: nobody has the name.';

create function restante_return_to_inbox(p_message uuid, p_user text, out outcome text, out inbox_seq bigint)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_user    bigint;
  v_row     message_status;
  v_chat    uuid;
  v_seq     bigint;
  v_sender  bigint;
  v_expires timestamptz;
  v_recalled timestamptz;
  v_at      tid;
  v_last    bigint;
begin
  perform restante_needs_read_committed();
  v_user := restante_recipient(p_message, p_user);
  -- A recall waits for this lock, and ends what waits after it.
  select m.chat_id, m.seq, m.sender_id, m.expires_at, m.recalled_at into v_chat, v_seq, v_sender, v_expires, v_recalled
    from messages m where m.id = p_message for share;
  select s.* into v_row from message_status s where s.message_id = p_message and s.user_id = v_user;
  if not found then
    outcome := 'no_recipient';
    return;
  end if;
  if v_expires <= clock_timestamp() then
    outcome := 'expired';
    return;
  elsif v_recalled is not null then
    outcome := 'recalled';
    return;
  end if;
  -- chat_heads, inboxes, message_status, marks: the order in which every writer locks. The chat first, so that nobody leaves meanwhile.
  perform 1 from chat_heads h where h.chat_id = v_chat order by h.step desc limit 1 for no key update;
  -- The notice of a recall (a negative number) is for those who have the message, members or not.
  if v_seq > 0 and not exists (select from chat_members cm where cm.chat_id = v_chat and cm.user_id = v_user and cm.left_seq is null)
     -- Of a feed: one that follows it, and of events to listed users anybody.
     and not exists (
       select from feeds s
        where s.chat_id = v_chat
          and (s.feed_id = '00000000-0000-0000-0000-000000000002'
               or exists (select from followers f where f.user_id = v_user and f.feed_id = s.feed_id and f.class = s.class))) then
    outcome := 'left';
    return;
  end if;
  -- One who blocks writes the block before it waits for the lock on the chat, so it is seen here, or it ends what is put back. A block counts in
  -- the direct chat of the two alone: closed_chats has no others. The notice of a recall reaches who has the message.
  if v_seq > 0 and exists (select from closed_chats c where c.chat_id = v_chat and c.user_id = v_user)
     and exists (select from blocks b where b.user_id = v_user and b.other_id = v_sender) then
    outcome := 'blocked';
    return;
  end if;
  select i.ctid, i.last_seq + 1 into v_at, v_last
    from inboxes i where i.user_id = v_user and i.class = v_row.class order by i.step desc limit 1 for no key update;
  select s.* into v_row from message_status s where s.message_id = p_message and s.user_id = v_user for update;
  if not found then
    -- It was removed while the locks were waited for.
    outcome := 'no_recipient';
    return;
  end if;
  if v_row.status <> 'failed' then
    outcome := 'not_failed';
    return;
  end if;
  update inboxes i set last_seq = v_last, step = v_last >> 4 where i.ctid = v_at;
  inbox_seq := v_last;
  update message_status s set seq = inbox_seq, status = 'sent', attempts = 0, ended = null, reason = null
   where s.user_id = v_user and s.class = v_row.class and s.seq = v_row.seq;
  insert into inbox_gaps (user_id, class, seq, reason) values (v_user, v_row.class, v_row.seq, 'requeued');
  -- It waits again below what may have been acked since: the marks go back behind it, and are exact until it is settled. A notice has none.
  select k.ctid into v_at from marks k where k.chat_id = v_chat and k.user_id = v_user order by k.step desc limit 1 for no key update;
  update marks k
     set delivered_seq = least(k.delivered_seq, v_seq - 1), read_seq = least(k.read_seq, v_seq - 1), has_hole = true,
         moves = k.moves + 1, step = (k.moves + 1) >> 4, marked_xid = pg_current_xact_id()
   where k.ctid = v_at and v_seq > 0;
  perform restante_wake(array[v_user]);
  perform restante_check_marks(array[v_sender]);
  raise log 'restante: message % for user % was put back by %', p_message, p_user, session_user;
  outcome := 'requeued';
end $$;
comment on function restante_return_to_inbox(uuid, text) is
  'Puts a failed message back at the end of its recipient''s inbox, under a new number; the old number is named in inbox_gaps. The message keeps its id and its number in the chat; attempts start at 0. Outcome: requeued, with the new number; or why nothing was done: no_recipient, expired (its time has come), recalled (its sender took it back), left (the recipient has left the chat, or the feed), blocked (of their direct chat: the recipient has blocked the sender), not_failed.';

create function restante_requeue(p_message uuid, p_user text) returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
  v_outcome text;
  v_seq     bigint;
begin
  select r.outcome, r.inbox_seq into v_outcome, v_seq from restante_put_back(p_message, p_user) r;
  case v_outcome
    when 'requeued' then return v_seq;
    when 'no_recipient' then
      raise exception 'user % is no recipient of message %', p_user, p_message using errcode = 'no_data_found';
    when 'expired' then
      raise exception 'the time of message % has come, nobody gets it any more', p_message using errcode = 'object_not_in_prerequisite_state';
    when 'recalled' then
      raise exception 'message % was recalled by its sender', p_message using errcode = 'object_not_in_prerequisite_state';
    when 'left' then
      raise exception 'user % has left the chat of message %', p_user, p_message using errcode = 'object_not_in_prerequisite_state';
    when 'blocked' then
      raise exception 'user % has blocked the sender of message %', p_user, p_message using errcode = 'object_not_in_prerequisite_state';
    else
      raise exception 'message % for user % is %, only failed ones can be put back', p_message, p_user,
        (select s.status from message_status s join users u on u.id = s.user_id where s.message_id = p_message and u.id = restante_recipient(p_message, p_user))
        using errcode = 'object_not_in_prerequisite_state';
  end case;
end $$;
comment on function restante_requeue(uuid, text) is
  'restante_put_back() for people: returns the new number, and raises where nothing was done.';

create function restante_give_up(p_message uuid, p_user text, p_reason text) returns boolean
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_user   bigint;
  v_chat   uuid;
  v_sender bigint;
begin
  perform restante_needs_read_committed();
  v_user := restante_recipient(p_message, p_user);
  -- A row that waits ends; a dead letter has ended already and only gets the last word.
  update message_status s set status = 'failed', ended = 'discarded', reason = p_reason
   where s.message_id = p_message and s.user_id = v_user
     and (s.status = 'sent'
          or s.status = 'failed' and exists (select 1 from endings e where e.message_id = p_message and e.user_id = v_user and e.discarded_at is null));
  if not found then
    return false;
  end if;
  select m.chat_id, m.sender_id into v_chat, v_sender from messages m where m.id = p_message;
  perform restante_exact_marks(array[v_chat], array[v_user], true);
  update endings e set ended = 'discarded', reason = p_reason, discarded_at = clock_timestamp(), ended_xid = pg_current_xact_id()
   where e.message_id = p_message and e.user_id = v_user;
  -- The recipient too: what its sessions hold of it is not to be emitted any more.
  perform restante_check_marks(array[v_sender, v_user]);
  raise log 'restante: message % for user % was discarded by %', p_message, p_user, session_user;
  return true;
end $$;
comment on function restante_give_up(uuid, text, text) is
  'Gives up a message that still waits, or a dead letter: the row is failed with this reason, is listed no more, and the sender sees it. False when it is neither. restante_discard() notes it in the audit too.';

create function restante_dead_letters(
  p_sender text, p_recipient text, p_message uuid, p_since timestamptz, p_reason text,
  p_before_at timestamptz, p_before_message uuid, p_before_user bigint, p_rows_max integer
) returns table (
  message_id uuid, user_id bigint, recipient text, sender text, chat_id uuid, chat_seq bigint, message_type text,
  reason text, last_error text, attempts smallint, accepted_at timestamptz, failed_at timestamptz
)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_sender    bigint;
  v_recipient bigint;
  v_messages  uuid[];
  v_users     bigint[];
begin
  select u.id into v_sender from users u where u.is_current and u.external_id = p_sender;
  select u.id into v_recipient from users u where u.is_current and u.external_id = p_recipient;
  -- No user has this name, so nothing of that user failed.
  if (p_sender is not null and v_sender is null) or (p_recipient is not null and v_recipient is null) then
    return;
  end if;
  -- The same filter each time; which index leads depends on what was asked for.
  if p_message is not null then
    select array_agg(q.message_id), array_agg(q.user_id) into v_messages, v_users from (
      select e.message_id, e.user_id from endings e
       where e.status = 'failed' and e.discarded_at is null and e.message_id = p_message
         and (v_sender is null or e.sender_id = v_sender) and (v_recipient is null or e.user_id = v_recipient)
         and e.ended_at >= p_since and (p_reason is null or starts_with(e.reason, p_reason))
         and (e.ended_at, e.message_id, e.user_id) < (p_before_at, p_before_message, p_before_user)
       order by e.ended_at desc, e.message_id desc, e.user_id desc limit p_rows_max) q;
  elsif v_recipient is not null then
    select array_agg(q.message_id), array_agg(q.user_id) into v_messages, v_users from (
      select e.message_id, e.user_id from endings e
       where e.status = 'failed' and e.discarded_at is null and e.user_id = v_recipient
         and (v_sender is null or e.sender_id = v_sender)
         and e.ended_at >= p_since and (p_reason is null or starts_with(e.reason, p_reason))
         and (e.ended_at, e.message_id) < (p_before_at, p_before_message)
       order by e.ended_at desc, e.message_id desc limit p_rows_max) q;
  elsif v_sender is not null then
    select array_agg(q.message_id), array_agg(q.user_id) into v_messages, v_users from (
      select e.message_id, e.user_id from endings e
       where e.status = 'failed' and e.discarded_at is null and e.sender_id = v_sender
         and e.ended_at >= p_since and (p_reason is null or starts_with(e.reason, p_reason))
         and (e.ended_at, e.message_id, e.user_id) < (p_before_at, p_before_message, p_before_user)
       order by e.ended_at desc, e.message_id desc, e.user_id desc limit p_rows_max) q;
  else
    select array_agg(q.message_id), array_agg(q.user_id) into v_messages, v_users from (
      select e.message_id, e.user_id from endings e
       where e.status = 'failed' and e.discarded_at is null
         and e.ended_at >= p_since and (p_reason is null or starts_with(e.reason, p_reason))
         and (e.ended_at, e.message_id, e.user_id) < (p_before_at, p_before_message, p_before_user)
       order by e.ended_at desc, e.message_id desc, e.user_id desc limit p_rows_max) q;
  end if;
  return query
    select e.message_id, e.user_id,
           (select u.external_id from users u where u.id = e.user_id), (select u.external_id from users u where u.id = e.sender_id),
           e.chat_id, e.chat_seq, m.message_type::text, e.reason, e.last_error, e.attempts, m.created_at, e.ended_at
      from unnest(v_messages, v_users) k (message_id, user_id)
      join endings e on e.message_id = k.message_id and e.user_id = k.user_id
      join messages m on m.id = k.message_id
     order by e.ended_at desc, e.message_id desc, e.user_id desc;
end $$;
comment on function restante_dead_letters(text, text, uuid, timestamptz, text, timestamptz, uuid, bigint, integer) is
  'Dead letters, newest first, a page at a time: those before (p_before_at, p_before_message, p_before_user), since p_since, and of this sender, recipient, message, with a reason that begins like this, where these are not null.';
