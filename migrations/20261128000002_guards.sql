-- Guards: what must hold in the tables however they are written. Each is one AFTER trigger whose WHEN is a short superset of what
-- is forbidden: PostgreSQL parses it anew for each statement, so its length is paid by every ack, unless the statement sets none of
-- the columns that it is of. (A BEFORE trigger would lock each row in a visit of its own.) A refused update is undone with its statement.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function refuse_to_go_back() returns trigger language plpgsql
set search_path from current
as $$
begin
  raise exception '%', tg_argv[0] using errcode = 'integrity_constraint_violation', constraint = tg_name, table = tg_table_name;
end $$;
comment on function refuse_to_go_back() is 'Raises. The rule itself is the WHEN clause of the trigger that calls it, so that a legal update costs no function call.';

create trigger inbox_counters_only_grow after update of last_seq on inboxes
  for each row when (new.last_seq < old.last_seq)
  execute function refuse_to_go_back('the counter of an inbox only grows');
comment on trigger inbox_counters_only_grow on inboxes is 'A number that was given once is never given again.';

create trigger what_is_settled_was_numbered after update of settled_seq on inboxes
  for each row when (new.settled_seq < old.settled_seq or new.settled_seq > new.last_seq)
  execute function refuse_to_go_back('settled_seq of an inbox only grows, and stays at or below last_seq');
comment on trigger what_is_settled_was_numbered on inboxes is
  'With a settled_seq beyond what was ever numbered, what comes next would never be delivered.';

create trigger chat_counters_only_grow after update of last_seq on chat_heads
  for each row when (new.last_seq < old.last_seq)
  execute function refuse_to_go_back('the counter of a chat only grows');
comment on trigger chat_counters_only_grow on chat_heads is 'A number that was given once is never given again.';

create trigger device_sessions_only_grow after update on devices
  for each row when (new.session_no < old.session_no)
  execute function refuse_to_go_back('the number of a device''s session only grows');
comment on trigger device_sessions_only_grow on devices is 'Of two connections the one with the lower number yields.';

create trigger device_cursors_only_grow after update on device_cursors
  for each row when (new.acked_seq < old.acked_seq)
  execute function refuse_to_go_back('the cursor of a device only grows');
comment on trigger device_cursors_only_grow on device_cursors is 'A cursor that went back would repeat what was acked.';

create function guard_the_status() returns trigger language plpgsql
set search_path from current
as $$
declare
  v_rule text := case
    when new.seq < old.seq or (new.seq > old.seq and new.status <> 'sent') or not (
         new.status = old.status or old.status = 'sent'
      or (old.status = 'delivered' and new.status = 'read')
      or (old.status = 'failed' and new.status = 'sent' and new.seq > old.seq)) then tg_name
    when old.delivered_at <> new.delivered_at then 'delivered_at_is_set_once'
    when (new.status in ('delivered', 'read')) <> (new.delivered_at is not null) then 'a_row_is_delivered_exactly_when_it_says_when'
    when (new.status = 'read') <> (new.read_at is not null) then 'a_row_is_read_exactly_when_it_says_when'
    when (new.status in ('failed', 'expired')) <> (new.ended is not null) then 'what_ended_otherwise_says_why'
  end;
begin
  if v_rule is not null then
    raise exception 'a status only moves forward: % cannot become % like this (user %, message %)', old.status, new.status, old.user_id, old.message_id
      using errcode = 'integrity_constraint_violation', constraint = v_rule, table = tg_table_name;
  end if;
  if old.status = 'sent' and new.status > 'read' or old.status = 'failed' and new.status = 'sent' then
    insert into statistics_journal (at, kind, ended, messages)
      values (clock_timestamp(), 'ended', case when new.status = 'sent' then 'requeued' else new.ended end, array[new.message_id]);
  end if;
  -- Its sender learns of it, also later. Of an event nobody is told; only what failed is kept, as a dead letter.
  if old.status = 'sent' and new.status > 'read' and (new.class = 'chat' or new.status = 'failed') then
    insert into endings as e (message_id, user_id, sender_id, chat_id, chat_seq, class, status, ended, reason, attempts, last_error, is_hidden)
      select new.message_id, new.user_id, m.sender_id, m.chat_id, m.seq, new.class, new.status, new.ended, coalesce(new.reason, new.ended::text), new.attempts,
             -- An attempt that fails the row brings its words; what ends it otherwise has words of another kind.
             case when new.attempts > old.attempts then new.reason else old.reason end,
             -- Between two users of whom one blocks the other no end is told.
             new.ended = 'blocked' or exists (select from closed_chats c where c.chat_id = m.chat_id)
        from messages m where m.id = new.message_id
    on conflict on constraint a_row_ends_once do update
       set status = excluded.status, ended = excluded.ended, reason = excluded.reason, attempts = excluded.attempts, last_error = excluded.last_error,
           is_hidden = excluded.is_hidden, discarded_at = null, ended_at = clock_timestamp(), ended_xid = pg_current_xact_id();
  elsif old.status = 'failed' and new.status = 'sent' then
    update endings e
       set status = 'sent', ended = 'requeued', reason = 'requeued', discarded_at = null, ended_at = clock_timestamp(), ended_xid = pg_current_xact_id(),
           is_hidden = exists (select from closed_chats c where c.chat_id = e.chat_id)
     where e.message_id = new.message_id and e.user_id = new.user_id;
  end if;
  return null;
end $$;
comment on function guard_the_status() is
  'Raises where a row of the queue would become what it must not, naming the rule as constraint; keeps endings: of chats all, of events what failed; and notes each end for the statistics.';

create trigger a_status_only_moves_forward after update on message_status
  for each row when (
       new.status > 'read' or new.status < old.status or new.seq <> old.seq or new.delivered_at <> old.delivered_at
    or (new.delivered_at is null) <> (new.status = 'sent') or (new.read_at is null) <> (new.status < 'read'))
  execute function guard_the_status();
comment on trigger a_status_only_moves_forward on message_status is
  'sent < delivered < read; failed and expired are final, save for an operator''s requeue, which gives a failed row a new, higher number. delivered_at is set once, and exactly when the status says so. Acks and reads as they should be do not call the function.';
