-- The queue: messages, stored once, and a row per recipient.

create type delivery_status as enum ('sent', 'delivered', 'read', 'failed', 'expired');
comment on type delivery_status is
  'What became of a message for one recipient: sent (stored, waits) -> delivered (acked) -> read; failed and expired end it otherwise. Order matters: a status only moves to the right.';

create table messages (
  id           uuid not null,
  chat_id      uuid not null,
  seq          bigint not null,
  sender_id    bigint not null,
  message_type text not null default 'text',
  content      text not null,
  content_key  text,
  metadata     jsonb,
  created_at   timestamptz not null,
  expires_at   timestamptz,
  collapse_key text,
  constraint messages_are_known_by_their_id primary key (id),
  constraint a_chat_number_names_one_message unique (chat_id, seq),
  constraint message_numbers_start_at_one check (seq >= 1),
  constraint a_message_type_has_1_to_64_characters check (char_length(message_type) between 1 and 64)
);
comment on table messages is
  'Every message once, whatever the number of recipients. Written only by restante_accept(), which checks what foreign keys would (they double the cost of accepting); never updated.';
comment on column messages.id is 'Chosen by the client before it sends, or by the service: sending the same id again returns the first result.';
comment on column messages.chat_id is 'The chat (chats.id).';
comment on column messages.seq is 'Number in the chat, 1, 2, 3, ... in commit order without a hole.';
comment on column messages.sender_id is 'Who sent it (users.id). The sender has no row in message_status.';
comment on column messages.message_type is 'What the client says it is: text, image, action, ...';
comment on column messages.content is 'The text, at most 32 KiB; encrypted when content_key is set.';
comment on column messages.content_key is 'Name of the key that content is encrypted with; null: plain.';
comment on column messages.metadata is 'The client''s own JSON, at most 8 KiB.';
comment on column messages.created_at is 'The database''s clock after the locks were taken: grows with seq within a chat.';
comment on column messages.expires_at is 'From then on it is no longer delivered: rows still waiting become expired. Null: never.';
comment on column messages.collapse_key is 'Events of one key replace each other while they wait. Null: none.';
comment on constraint message_numbers_start_at_one on messages is 'Marks of 0 mean that nothing was delivered or read yet.';
comment on constraint a_message_type_has_1_to_64_characters on messages is 'What the service accepts from clients.';
comment on index messages_are_known_by_their_id is 'Finds a message; makes a repeated send a duplicate.';
comment on index a_chat_number_names_one_message is 'History of a chat; proof that a number was given once.';

create index messages_that_expire on messages (expires_at, id) where expires_at is not null;
comment on index messages_that_expire is 'The sweep for messages whose time has come. Costs nothing for messages that never expire.';

create table message_status (
  user_id      bigint not null,
  class        inbox_class not null,
  seq          bigint not null,
  message_id   uuid not null,
  status       delivery_status not null default 'sent',
  attempts     smallint not null default 0,
  delivered_at timestamptz,
  read_at      timestamptz,
  reason       text,
  constraint an_inbox_number_names_one_row primary key (user_id, class, seq),
  constraint a_recipient_gets_a_message_once unique (message_id, user_id),
  constraint inbox_numbers_start_at_one check (seq >= 1),
  constraint attempts_are_counted_from_zero check (attempts >= 0),
  constraint a_row_is_delivered_exactly_when_it_says_when check ((status in ('delivered', 'read')) = (delivered_at is not null)),
  constraint a_row_is_read_exactly_when_it_says_when check ((status = 'read') = (read_at is not null)),
  constraint what_ended_otherwise_says_why check (status not in ('failed', 'expired') or reason is not null)
) with (fillfactor = 70);
comment on table message_status is
  'THE QUEUE: one row per recipient. What waits is "status = sent and seq > inboxes.settled_seq" on the primary key. No index holds a column that changes, so acks are heap-only updates: keep it so.';
comment on column message_status.user_id is 'The recipient (users.id).';
comment on column message_status.class is 'The inbox the row lies in.';
comment on column message_status.seq is 'Number in that inbox, 1, 2, 3, ... in commit order without a hole; numbers whose row is gone are in inbox_gaps.';
comment on column message_status.message_id is 'The message (messages.id).';
comment on column message_status.status is 'sent, delivered, read, failed or expired.';
comment on column message_status.attempts is 'Emissions that the client did not ack in time while it acked later ones, plus rejects. A lost connection counts none.';
comment on column message_status.delivered_at is 'When the recipient''s ack was committed. Set once.';
comment on column message_status.read_at is 'When the recipient''s read was committed. Set once.';
comment on column message_status.reason is 'Why it failed or expired, or what the client said when it last rejected it.';
comment on constraint inbox_numbers_start_at_one on message_status is 'A cursor of 0 stands before everything.';
comment on constraint attempts_are_counted_from_zero on message_status is 'Refused: a count that was lowered below zero by hand.';
comment on constraint a_row_is_delivered_exactly_when_it_says_when on message_status is 'Whoever sets the status sets delivered_at in the same update, and nobody else does.';
comment on constraint a_row_is_read_exactly_when_it_says_when on message_status is 'Whoever sets the status to read sets read_at in the same update.';
comment on constraint what_ended_otherwise_says_why on message_status is 'A row that failed or expired is shown to its sender, with this reason.';
comment on index an_inbox_number_names_one_row is 'The drain, the ack, and proof that a number was given once.';
comment on index a_recipient_gets_a_message_once is 'Status of a message for all recipients; acks and reads by message.';

create function refuse_the_status() returns trigger language plpgsql as $$
begin
  raise exception 'a status only moves forward: % cannot become % (user %, message %)', old.status, new.status, old.user_id, old.message_id
    using errcode = 'integrity_constraint_violation', constraint = tg_name, table = tg_table_name;
end $$;
comment on function refuse_the_status() is 'Raises. The rule is the WHEN clause of the trigger that calls it.';

create trigger a_status_only_moves_forward before update on message_status
  for each row when (not (
       new.status = old.status
    or (old.status = 'sent')
    or (old.status = 'delivered' and new.status = 'read')
    or (old.status = 'failed' and new.status = 'sent' and new.seq > old.seq)
  ) or new.seq < old.seq or (old.delivered_at is not null and new.delivered_at is distinct from old.delivered_at)
    or (new.seq <> old.seq and new.status <> 'sent'))
  execute function refuse_the_status();
comment on trigger a_status_only_moves_forward on message_status is
  'sent < delivered < read; failed and expired are final, save for an operator''s requeue, which gives a failed row a new, higher number. delivered_at is set once.';

create table inbox_gaps (
  user_id bigint not null,
  class   inbox_class not null,
  seq     bigint not null,
  reason  text not null,
  constraint a_gap_is_named_once primary key (user_id, class, seq),
  constraint gaps_belong_to_an_inbox foreign key (user_id, class) references inboxes (user_id, class),
  constraint a_gap_has_a_known_reason check (reason in ('requeued', 'purged'))
);
comment on table inbox_gaps is 'Inbox numbers that have no row any more: moved to a new number (requeued) or removed when finished (purged). Clients with a device are told (queue:gap).';
comment on column inbox_gaps.user_id is 'Whose inbox.';
comment on column inbox_gaps.class is 'Which inbox.';
comment on column inbox_gaps.seq is 'The number that will never come.';
comment on column inbox_gaps.reason is 'requeued or purged.';
comment on constraint gaps_belong_to_an_inbox on inbox_gaps is 'Delete an inbox''s gaps before the inbox.';
comment on constraint a_gap_has_a_known_reason on inbox_gaps is 'Clients are told the reason in queue:gap and know these words.';
comment on index a_gap_is_named_once is 'Read beside a page of the inbox.';
