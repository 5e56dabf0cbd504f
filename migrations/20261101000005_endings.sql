-- Endings: what failed or expired, for the senders who were away and for the operator who looks.

create table endings (
  message_id uuid not null,
  user_id    bigint not null,
  sender_id  bigint not null,
  chat_id    uuid not null,
  chat_seq   bigint not null,
  status     delivery_status not null,
  reason     text not null,
  ended_at   timestamptz not null default clock_timestamp(),
  ended_xid  xid8 not null default pg_current_xact_id(),
  constraint a_row_ends_once primary key (message_id, user_id),
  constraint endings_are_failed_or_expired check (status in ('failed', 'expired'))
);
comment on table endings is
  'One row per row of message_status that failed or expired, written by a trigger. Few, so they can be indexed: the queue itself must not be. A requeue takes the row away again.';
comment on column endings.message_id is 'The message.';
comment on column endings.user_id is 'The recipient who did not get it.';
comment on column endings.sender_id is 'Its sender, who is told.';
comment on column endings.chat_id is 'Its chat.';
comment on column endings.chat_seq is 'Its number in the chat.';
comment on column endings.status is 'failed or expired.';
comment on column endings.reason is 'Why.';
comment on column endings.ended_at is 'When.';
comment on column endings.ended_xid is 'Transaction that ended it: a sender asks for what ended at or above the xmin of its last look.';
comment on constraint endings_are_failed_or_expired on endings is 'What was delivered or waits has not ended otherwise.';
comment on index a_row_ends_once is 'Found by message and recipient when it is put back.';

create index endings_by_sender on endings (sender_id, ended_xid);
comment on index endings_by_sender is 'What a sender has to be told after it was away.';

create function note_the_ending() returns trigger language plpgsql set search_path from current as $$
begin
  insert into endings (message_id, user_id, sender_id, chat_id, chat_seq, status, reason)
    select new.message_id, new.user_id, m.sender_id, m.chat_id, m.seq, new.status, new.reason
      from messages m where m.id = new.message_id;
  return null;
end $$;
comment on function note_the_ending() is 'Writes the row of endings.';

create trigger endings_are_noted after update on message_status
  for each row when (old.status = 'sent' and new.status in ('failed', 'expired'))
  execute function note_the_ending();
comment on trigger endings_are_noted on message_status is 'Whoever ends a row, the sender learns of it.';

create function forget_the_ending() returns trigger language plpgsql set search_path from current as $$
begin
  delete from endings e where e.message_id = new.message_id and e.user_id = new.user_id;
  return null;
end $$;
comment on function forget_the_ending() is 'Takes the row of endings away.';

create trigger a_requeue_is_no_ending after update on message_status
  for each row when (old.status = 'failed' and new.status = 'sent')
  execute function forget_the_ending();
comment on trigger a_requeue_is_no_ending on message_status is 'A row that was put back waits again.';
