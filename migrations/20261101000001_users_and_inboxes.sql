-- Users and their inboxes: who a message can wait for, and the counters that number what waits.

create type inbox_class as enum ('chat', 'event');
comment on type inbox_class is
  'Which of a user''s two inboxes a row lies in: chat = messages between people, event = feed events. Each is numbered on its own.';

create table users (
  id           bigint generated always as identity,
  external_id  text not null,
  display_name text,
  avatar_url   text,
  created_at   timestamptz not null default clock_timestamp(),
  constraint users_are_known_by_their_number primary key (id),
  constraint each_external_id_names_one_user unique (external_id),
  constraint an_external_id_has_1_to_128_characters check (char_length(external_id) between 1 and 128)
);
comment on table users is
  'One row per person or program that has sent, received or connected. Made on first sight by restante_users(), together with its two inboxes. Changes rarely on purpose: nothing that moves often belongs here.';
comment on column users.id is 'Number used inside this schema only. Outside, a user is always its external_id.';
comment on column users.external_id is 'The "sub" of the user''s token, 1 to 128 characters. What every API shows.';
comment on column users.display_name is 'Name shown to recipients beside a message, if known.';
comment on column users.avatar_url is 'Address of the picture shown to recipients, if known.';
comment on column users.created_at is 'When the user was first seen.';
comment on constraint an_external_id_has_1_to_128_characters on users is 'Longer or empty ones come from no token that the service accepts.';
comment on index users_are_known_by_their_number is 'Joins from every table that names a user.';
comment on index each_external_id_names_one_user is 'Finds the user of a token; keeps two nodes from making the same user twice.';

create table inboxes (
  user_id     bigint not null,
  class       inbox_class not null,
  last_seq    bigint not null default 0,
  settled_seq bigint not null default 0,
  constraint a_user_has_one_inbox_per_class primary key (user_id, class),
  constraint inboxes_belong_to_a_user foreign key (user_id) references users (id),
  constraint settled_seq_lies_between_zero_and_last_seq check (settled_seq between 0 and last_seq)
) with (fillfactor = 50);
comment on table inboxes is
  'Two counters per user and class. The row lock on last_seq is what makes inbox numbers gapless and equal to commit order; whoever numbers an inbox holds it. Updated for every message received: heap-only, so keep fillfactor low and index nothing that changes.';
comment on column inboxes.user_id is 'Whose inbox.';
comment on column inboxes.class is 'chat or event.';
comment on column inboxes.last_seq is 'Highest number given so far; message_status holds 1..last_seq without a hole, save for what inbox_gaps names.';
comment on column inboxes.settled_seq is
  'Nothing at or below this number waits any more (no row in status sent). A drain starts behind it. Computed only while this row is locked, in a later statement than the lock; may lag, must never lead.';
comment on constraint inboxes_belong_to_a_user on inboxes is 'Delete a user''s inboxes first, and before them what waits there.';
comment on constraint settled_seq_lies_between_zero_and_last_seq on inboxes is 'Refused: a settled_seq beyond what was ever numbered. What comes next would never be delivered.';
comment on index a_user_has_one_inbox_per_class is 'Locks and reads the counter of one inbox.';

create function refuse_to_go_back() returns trigger language plpgsql as $$
begin
  raise exception 'counters only grow: % would go back in %', tg_argv[0], tg_table_name
    using errcode = 'integrity_constraint_violation', constraint = tg_name, table = tg_table_name;
end $$;
comment on function refuse_to_go_back() is 'Raises. The rule itself is the WHEN clause of the trigger that calls it, so that a legal update costs no function call.';

create trigger inbox_counters_only_grow before update on inboxes
  for each row when (new.last_seq < old.last_seq or new.settled_seq < old.settled_seq)
  execute function refuse_to_go_back('last_seq or settled_seq');
comment on trigger inbox_counters_only_grow on inboxes is 'A number that was given once is never given again.';
