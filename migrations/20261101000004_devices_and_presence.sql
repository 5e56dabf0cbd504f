-- Devices with their own cursor, and when a user was last there.

create table devices (
  user_id         bigint not null,
  device_id       text not null,
  acked_chat_seq  bigint not null default 0,
  acked_event_seq bigint not null default 0,
  session_no      bigint not null default 1,
  last_seen_at    timestamptz not null default clock_timestamp(),
  constraint a_user_names_a_device_once primary key (user_id, device_id),
  constraint devices_belong_to_a_user foreign key (user_id) references users (id),
  constraint a_device_id_has_1_to_64_characters check (char_length(device_id) between 1 and 64),
  constraint acked_numbers_start_at_zero check (acked_chat_seq >= 0 and acked_event_seq >= 0)
) with (fillfactor = 70);
comment on table devices is
  'A named installation of a client (?device=). It has its own cursor: it gets everything behind it, whatever another device of the user has acked.';
comment on column devices.user_id is 'Whose device.';
comment on column devices.device_id is 'The name that the client gave, 1 to 64 characters.';
comment on column devices.acked_chat_seq is 'The device has acked every number of the chat inbox up to here. Only grows.';
comment on column devices.acked_event_seq is 'The same for the event inbox.';
comment on column devices.session_no is 'Counted up at every connect; of two connections the one with the lower number yields (close code 4509).';
comment on column devices.last_seen_at is 'Last connect or disconnect; unseen for 90 days: deleted.';
comment on constraint devices_belong_to_a_user on devices is 'Delete a user''s devices before the user.';
comment on constraint a_device_id_has_1_to_64_characters on devices is 'What the service accepts in ?device=.';
comment on constraint acked_numbers_start_at_zero on devices is '0 stands before everything: the device gets all there is.';
comment on index a_user_names_a_device_once is 'Opens a device; counts its session up.';

create trigger device_cursors_only_grow before update on devices
  for each row when (new.acked_chat_seq < old.acked_chat_seq or new.acked_event_seq < old.acked_event_seq or new.session_no < old.session_no)
  execute function refuse_to_go_back('acked_chat_seq, acked_event_seq or session_no');
comment on trigger device_cursors_only_grow on devices is 'A cursor that went back would repeat what was acked.';

create table last_seen (
  user_id bigint not null,
  seen_at timestamptz not null,
  constraint a_user_was_last_seen_once primary key (user_id),
  constraint last_seen_belongs_to_a_user foreign key (user_id) references users (id)
) with (fillfactor = 70);
comment on table last_seen is 'When the last connection of a user ended. Who is connected now is known to the nodes.';
comment on column last_seen.user_id is 'The user.';
comment on column last_seen.seen_at is 'End of its last connection, by the database''s clock.';
comment on constraint last_seen_belongs_to_a_user on last_seen is 'Delete it before the user.';
comment on index a_user_was_last_seen_once is 'Answers presence:get.';
