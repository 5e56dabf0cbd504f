-- Dead letters: what failed, with what went wrong last, listed in the order of time, put back or given up by an
-- operator. Their senders learn of either, live and after being away.

alter table endings
  add column attempts     smallint not null default 0,
  add column last_error   text,
  add column discarded_at timestamptz;
comment on column endings.attempts is 'Attempts that were counted against it.';
comment on column endings.last_error is 'What went wrong last before it ended: the client''s words, or ack timeout. Null: nothing ever did.';
comment on column endings.discarded_at is 'When an operator gave it up for good: it is no dead letter any more. Null: it is one, if it has failed.';
update endings e set attempts = s.attempts, last_error = s.reason
  from message_status s where s.message_id = e.message_id and s.user_id = e.user_id and e.status = 'failed';

alter table endings drop constraint endings_are_failed_or_expired;
alter table endings add constraint endings_failed_expired_or_were_put_back check (status in ('failed', 'expired', 'sent'));
comment on constraint endings_failed_expired_or_were_put_back on endings is
  'sent: an operator put it back, and its sender may have to be told. What is delivered has not ended.';
comment on table endings is
  'One row per row of message_status that failed or expired, or had failed and was put back, written by triggers. Few, so they can be indexed: the queue itself must not be.';
comment on column endings.status is 'failed or expired; sent once it was put back, whatever became of it since.';
comment on column endings.ended_at is 'When it ended, or was put back.';
comment on column endings.ended_xid is 'Transaction that changed it last: a sender asks for what changed at or above the xmin of its last look.';

create index dead_letters_by_time on endings (ended_at, message_id, user_id) where status = 'failed' and discarded_at is null;
comment on index dead_letters_by_time is 'The list of dead letters, a page at a time.';
create index dead_letters_by_sender on endings (sender_id, ended_at, message_id, user_id) where status = 'failed' and discarded_at is null;
comment on index dead_letters_by_sender is 'The dead letters of one sender.';
create index dead_letters_by_recipient on endings (user_id, ended_at, message_id) where status = 'failed' and discarded_at is null;
comment on index dead_letters_by_recipient is 'The dead letters of one recipient.';

create or replace function note_the_ending() returns trigger language plpgsql set search_path from current as $$
begin
  insert into endings as e (message_id, user_id, sender_id, chat_id, chat_seq, status, reason, attempts, last_error)
    select new.message_id, new.user_id, m.sender_id, m.chat_id, m.seq, new.status, new.reason, new.attempts,
           -- An attempt that fails the row brings its words; whoever else ends it has words of another kind.
           case when new.attempts > old.attempts then new.reason else old.reason end
      from messages m where m.id = new.message_id
  on conflict on constraint a_row_ends_once do update
     set status = excluded.status, reason = excluded.reason, attempts = excluded.attempts, last_error = excluded.last_error,
         discarded_at = null, ended_at = clock_timestamp(), ended_xid = pg_current_xact_id();
  return null;
end $$;

drop trigger a_requeue_is_no_ending on message_status;
drop function forget_the_ending();
create function note_the_return() returns trigger language plpgsql set search_path from current as $$
begin
  update endings e set status = 'sent', reason = 'requeued', discarded_at = null, ended_at = clock_timestamp(), ended_xid = pg_current_xact_id()
   where e.message_id = new.message_id and e.user_id = new.user_id;
  return null;
end $$;
comment on function note_the_return() is 'Says in the row of endings that it waits again.';
create trigger a_requeue_is_no_ending after update on message_status
  for each row when (old.status = 'failed' and new.status = 'sent')
  execute function note_the_return();
comment on trigger a_requeue_is_no_ending on message_status is 'A row that was put back waits again, and its sender learns of it.';

create function restante_look_at_marks(p_users bigint[]) returns void
language sql volatile
set search_path from current
as $$
  -- As restante_wake(): 300 numbers stay under NOTIFY's 8,000 bytes.
  select pg_notify('restante_wake', string_agg('m' || u.user_id, ','))
    from (select x.user_id, row_number() over () / 300 as part from (select distinct unnest(p_users) as user_id) x) u
   group by u.part;
$$;
comment on function restante_look_at_marks(bigint[]) is
  'Tells every node that marks moved for these senders (users.id with an m before it, comma separated, channel restante_wake). A hint: nothing is lost without it.';

create function restante_put_back(p_message uuid, p_user text, out outcome text, out inbox_seq bigint)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_user    bigint;
  v_row     message_status;
  v_chat    uuid;
  v_seq     bigint;
  v_sender  bigint;
  v_expires timestamptz;
begin
  select u.id into v_user from users u where u.external_id = p_user;
  select m.chat_id, m.seq, m.sender_id, m.expires_at into v_chat, v_seq, v_sender, v_expires from messages m where m.id = p_message;
  select s.* into v_row from message_status s where s.message_id = p_message and s.user_id = v_user;
  if not found then
    outcome := 'no_recipient';
    return;
  end if;
  if v_expires <= clock_timestamp() then
    outcome := 'expired';
    return;
  end if;
  -- chats, inboxes, message_status, chat_members: the order in which every writer locks. The chat first, so that
  -- nobody leaves meanwhile.
  perform 1 from chats c where c.id = v_chat for no key update;
  perform 1 from chat_members cm where cm.chat_id = v_chat and cm.user_id = v_user and cm.left_seq is null;
  if not found then
    outcome := 'left';
    return;
  end if;
  perform 1 from inboxes i where i.user_id = v_user and i.class = v_row.class for no key update;
  select s.* into v_row from message_status s where s.message_id = p_message and s.user_id = v_user for update;
  if v_row.status <> 'failed' then
    outcome := 'not_failed';
    return;
  end if;
  update inboxes i set last_seq = i.last_seq + 1 where i.user_id = v_user and i.class = v_row.class returning i.last_seq into inbox_seq;
  update message_status s set seq = inbox_seq, status = 'sent', attempts = 0, reason = null
   where s.user_id = v_user and s.class = v_row.class and s.seq = v_row.seq;
  insert into inbox_gaps (user_id, class, seq, reason) values (v_user, v_row.class, v_row.seq, 'requeued');
  -- It waits again below what may have been acked since: the marks go back behind it, and are exact until it is settled.
  perform 1 from chat_members cm where cm.chat_id = v_chat and cm.user_id = v_user for no key update;
  update chat_members cm
     set delivered_seq = least(cm.delivered_seq, v_seq - 1), read_seq = least(cm.read_seq, v_seq - 1),
         has_hole = true, marked_xid = pg_current_xact_id()
   where cm.chat_id = v_chat and cm.user_id = v_user;
  perform restante_wake(array[v_user]);
  perform restante_look_at_marks(array[v_sender]);
  raise log 'restante: message % for user % was put back by %', p_message, p_user, session_user;
  outcome := 'requeued';
end $$;
comment on function restante_put_back(uuid, text) is
  'Puts a failed message back at the end of its recipient''s inbox, under a new number; the old number is named in inbox_gaps. The message keeps its id and its number in the chat; attempts start at 0. Outcome: requeued, with the new number; or why nothing was done: no_recipient, expired (its time has come), left (the recipient has left the chat), not_failed.';

create or replace function restante_requeue(p_message uuid, p_user text) returns bigint
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
    when 'left' then
      raise exception 'user % has left the chat of message %', p_user, p_message using errcode = 'object_not_in_prerequisite_state';
    else
      raise exception 'message % for user % is %, only failed ones can be put back', p_message, p_user,
        (select s.status from message_status s join users u on u.id = s.user_id where s.message_id = p_message and u.external_id = p_user)
        using errcode = 'object_not_in_prerequisite_state';
  end case;
end $$;
comment on function restante_requeue(uuid, text) is
  'restante_put_back() for people: returns the new number, and raises where nothing was done.';

drop function restante_discard(uuid, text, text);
create function restante_discard(p_message uuid, p_user text, p_reason text default 'discarded by an operator') returns boolean
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_user   bigint;
  v_chat   uuid;
  v_sender bigint;
begin
  select u.id into v_user from users u where u.external_id = p_user;
  -- What waits ends; a dead letter has ended already and only gets the last word.
  update message_status s set status = 'failed', reason = p_reason
   where s.message_id = p_message and s.user_id = v_user
     and (s.status = 'sent'
          or s.status = 'failed' and exists (select 1 from endings e where e.message_id = p_message and e.user_id = v_user and e.discarded_at is null));
  if not found then
    return false;
  end if;
  select m.chat_id, m.sender_id into v_chat, v_sender from messages m where m.id = p_message;
  perform 1 from chat_members cm where cm.chat_id = v_chat and cm.user_id = v_user for no key update;
  perform restante_touch_marks(array[v_chat], array[v_user]);
  update endings e set reason = p_reason, discarded_at = clock_timestamp(), ended_xid = pg_current_xact_id()
   where e.message_id = p_message and e.user_id = v_user;
  perform restante_look_at_marks(array[v_sender]);
  raise log 'restante: message % for user % was discarded by %', p_message, p_user, session_user;
  return true;
end $$;
comment on function restante_discard(uuid, text, text) is
  'Gives up a message that still waits, or a dead letter: the row is failed with this reason, is listed no more, and the sender sees it. False when it is neither. For a message that crashes its client, and for clearing the list.';

create function restante_dead_letters(
  p_sender text, p_recipient text, p_message uuid, p_since timestamptz, p_reason text,
  p_before_at timestamptz, p_before_message uuid, p_before_user bigint, p_rows_max integer
) returns table (
  message_id uuid, user_id bigint, recipient text, sender text, chat_id uuid, chat_seq bigint, message_type text,
  reason text, last_error text, attempts smallint, accepted_at timestamptz, failed_at timestamptz
)
language plpgsql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_sender    bigint;
  v_recipient bigint;
  v_messages  uuid[];
  v_users     bigint[];
begin
  select u.id into v_sender from users u where u.external_id = p_sender;
  select u.id into v_recipient from users u where u.external_id = p_recipient;
  -- Nobody of this name: nothing of theirs failed.
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
           e.chat_id, e.chat_seq, m.message_type, e.reason, e.last_error, e.attempts, m.created_at, e.ended_at
      from unnest(v_messages, v_users) k (message_id, user_id)
      join endings e on e.message_id = k.message_id and e.user_id = k.user_id
      join messages m on m.id = k.message_id
     order by e.ended_at desc, e.message_id desc, e.user_id desc;
end $$;
comment on function restante_dead_letters(text, text, uuid, timestamptz, text, timestamptz, uuid, bigint, integer) is
  'Dead letters, newest first, a page at a time: those before (p_before_at, p_before_message, p_before_user), since p_since, and of this sender, recipient, message, with a reason that begins like this, where these are not null.';
