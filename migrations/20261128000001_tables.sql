-- The tables. Every migration begins by freezing where it works: names stay unqualified, everything lands in the first schema of
-- the search path, and no temporary table of the session can divert it.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Users and their inboxes: who a message can wait for, and the counters that number what waits.

create type inbox_class as enum ('chat', 'alert', 'event');
comment on type inbox_class is
  'The one of a user''s inboxes that a row lies in: chat = messages between people, alert = urgent events, event = all other events. Each is numbered on its own; they are drained in this order.';

create table users (
  id           bigint generated always as identity,
  external_id  text collate "C" not null,
  display_name text,
  avatar_url   text,
  created_at   timestamptz not null default clock_timestamp(),
  came_at      timestamptz,
  is_current   boolean not null default true,
  constraint users_are_known_by_their_number primary key (id),
  constraint an_external_id_has_1_to_128_characters check (char_length(external_id) between 1 and 128)
);
comment on table users is
  'One row per person or program that has sent, received or connected. Made on first sight by restante_users(), together with its inboxes. Changes rarely on purpose: nothing that moves often belongs here.';
comment on column users.id is 'Number used inside this schema only. Outside, a user is always its external_id.';
comment on column users.external_id is 'The "sub" of the user''s token, 1 to 128 characters. What every API shows. Compared byte by byte (collation C), so that no upgrade of a collation''s library can hide a user.';
comment on column users.display_name is 'Name shown to recipients beside a message, if known.';
comment on column users.avatar_url is 'Address of the picture shown to recipients, if known.';
comment on column users.created_at is 'When the row was made.';
comment on column users.came_at is 'When the user first came with a token of its own. Null: it was only named by others so far, as a member or a recipient.';
comment on column users.is_current is
  'It is the user that its external_id names. False: it was erased, and another user has its external_id now. The row stays for what others have of it, and nobody is it any more.';
comment on constraint an_external_id_has_1_to_128_characters on users is 'Longer or empty ones come from no token that the service accepts.';
comment on index users_are_known_by_their_number is 'Joins from every table that names a user.';
create unique index each_external_id_names_one_user on users (external_id) where is_current;
comment on index each_external_id_names_one_user is 'Finds the user of a token; keeps two nodes from making the same user twice.';
create index users_that_were_erased on users (external_id, id) where not is_current;
comment on index users_that_were_erased is 'Finds those that had an external_id before.';

create table inboxes (
  user_id     bigint not null,
  class       inbox_class not null,
  step        bigint not null default 0,
  last_seq    bigint not null default 0,
  settled_seq bigint not null default 0,
  constraint an_inbox_is_found_by_its_newest_step primary key (user_id, class, step),
  constraint inboxes_belong_to_a_user foreign key (user_id) references users (id)
) with (fillfactor = 50);
comment on table inboxes is
  'Two counters per user and class, one row each. The row lock is what makes inbox numbers gapless and equal to commit order; who numbers an inbox holds it. A STEPPED row: its key ends in a step that grows by one every 16 numbers, and it is looked up from the newest step down. Updates within a step are heap-only; a new step is a new index entry. So while a dump or a forgotten transaction keeps old row versions, a look-up passes at most 16 of them.';
comment on column inboxes.user_id is 'Whose inbox.';
comment on column inboxes.class is 'chat, alert or event.';
comment on column inboxes.step is 'last_seq / 16. Spreads old row versions over index entries, and means nothing else.';
comment on column inboxes.last_seq is 'Highest number given so far; message_status holds purged_seq + 1 to last_seq without a hole, save for what inbox_gaps names.';
comment on column inboxes.settled_seq is
  'Nothing at or below this number waits any more (no row in status sent). A drain starts behind it. Computed only while this row is locked, in a later statement than the lock; may lag, must never lead.';
comment on constraint inboxes_belong_to_a_user on inboxes is 'Delete a user''s inboxes first, and before them what waits there.';
comment on index an_inbox_is_found_by_its_newest_step is 'Locks and reads the counters of one inbox: order by step desc limit 1.';

-- Chats, who is in them, and how far each member has got.

create type chat_kind as enum ('direct', 'group', 'feed');
comment on type chat_kind is 'direct = two people (or one with itself), group = members are added and removed, feed = a stream of events (feeds).';
create type member_role as enum ('member', 'admin');
comment on type member_role is 'admin may add and remove members of a group; member may leave.';

create table chats (
  id         uuid not null,
  kind       chat_kind not null,
  title      text,
  direct_key text collate "C",
  created_at timestamptz not null default clock_timestamp(),
  recount_xid xid8,
  constraint chats_are_known_by_their_id primary key (id),
  constraint two_users_share_one_direct_chat unique (direct_key),
  constraint direct_chats_and_only_they_have_a_key check ((kind = 'direct') = (direct_key is not null)),
  constraint a_title_has_at_most_256_characters check (char_length(title) <= 256)
);
comment on table chats is 'One row per conversation, with what does not change as messages come. Its counter is in chat_heads.';
comment on column chats.id is 'UUID, made by the service.';
comment on column chats.kind is 'direct, group or feed; never changes.';
comment on column chats.title is 'Shown to members; null for direct chats.';
comment on column chats.direct_key is '"smaller users.id : larger users.id", so that two users have one direct chat. Null for groups and feeds.';
comment on column chats.created_at is 'When it was made.';
comment on column chats.recount_xid is
  'Transaction of the last change of members before or after which the chat had more than 50: its senders are told counts anew, or members by name again (restante_note_recount). Null: it never had.';
comment on constraint direct_chats_and_only_they_have_a_key on chats is 'Without its key the direct chat of two users would be made a second time.';
comment on constraint a_title_has_at_most_256_characters on chats is 'The service accepts no longer one from clients.';
comment on index chats_are_known_by_their_id is 'Reads one chat.';
comment on index two_users_share_one_direct_chat is 'Finds the direct chat of two users; lets only one be made.';

create table chat_heads (
  chat_id  uuid not null,
  step     bigint not null default 0,
  class    inbox_class not null default 'chat',
  last_seq bigint not null default 0,
  constraint a_chat_head_is_found_by_its_newest_step primary key (chat_id, step)
) with (fillfactor = 50);
comment on table chat_heads is
  'The counter of each chat, one row a chat. Its row lock orders everything that happens in the chat: sending, joining, leaving. A stepped row, see inboxes. Written together with the chat by the functions that make chats.';
comment on column chat_heads.chat_id is 'The chat (chats.id).';
comment on column chat_heads.step is 'last_seq / 16. Spreads old row versions over index entries, and means nothing else.';
comment on column chat_heads.class is 'The inbox in which members, or followers, get what is sent here.';
comment on column chat_heads.last_seq is 'Highest message number given in this chat; messages holds chats.purged_seq + 1 to last_seq without a hole.';
comment on index a_chat_head_is_found_by_its_newest_step is 'Locks and reads the counter of one chat: order by step desc limit 1.';

create table chat_members (
  chat_id    uuid not null,
  user_id    bigint not null,
  role       member_role not null default 'member',
  joined_seq bigint not null default 0,
  left_seq   bigint,
  constraint a_user_is_in_a_chat_once primary key (chat_id, user_id),
  constraint members_are_members_of_a_chat foreign key (chat_id) references chats (id),
  constraint members_are_users foreign key (user_id) references users (id),
  constraint nobody_leaves_before_joining check (left_seq >= joined_seq)
) with (fillfactor = 90);
comment on table chat_members is
  'The members that a chat has, or had. Joining and leaving lock the chat''s head first, so membership at message number n is exact. How far a member has got is in marks.';
comment on column chat_members.chat_id is 'The chat.';
comment on column chat_members.user_id is 'The member.';
comment on column chat_members.role is 'admin may add and remove members.';
comment on column chat_members.joined_seq is 'chat_heads.last_seq when the member joined (the last time): it gets and sees messages above it.';
comment on column chat_members.left_seq is 'chat_heads.last_seq when the member left; null while it is in the chat.';
comment on constraint members_are_members_of_a_chat on chat_members is 'Delete a chat''s members before the chat.';
comment on constraint members_are_users on chat_members is 'Delete a user''s memberships before the user.';
comment on constraint nobody_leaves_before_joining on chat_members is 'A member that joins again has left_seq set to null.';
comment on index a_user_is_in_a_chat_once is 'Members of a chat.';

create index members_by_user on chat_members (user_id, chat_id);
comment on index members_by_user is 'The chats of a user; the marks of those it shares chats with.';

create table marks (
  chat_id       uuid not null,
  user_id       bigint not null,
  step          bigint not null default 0,
  moves         bigint not null default 0,
  delivered_seq bigint not null default 0,
  read_seq      bigint not null default 0,
  has_hole      boolean not null default false,
  marked_xid    xid8 not null default pg_current_xact_id(),
  constraint a_mark_is_found_by_its_newest_step primary key (chat_id, user_id, step),
  constraint what_is_read_was_delivered check (read_seq <= delivered_seq)
) with (fillfactor = 50);
comment on table marks is
  'The numbers up to which each member of a chat has got without a hole: one row tells a sender that was away what a thousand rows became. One row a member, made with it. A stepped row, see inboxes; it steps by moves, since a requeue lowers marks.';
comment on column marks.chat_id is 'The chat.';
comment on column marks.user_id is 'The member (chat_members).';
comment on column marks.step is 'moves / 16. Spreads old row versions over index entries, and means nothing else.';
comment on column marks.moves is 'How often this row was changed.';
comment on column marks.delivered_seq is
  'No message of the chat at or below this number waits (status sent) for this member. Own messages and numbers it has no row for count as passed. Only a requeue lowers it.';
comment on column marks.read_seq is 'No message of the chat at or below this number is unread by this member. Never above delivered_seq.';
comment on column marks.has_hole is
  'A message may wait below what this member has acked since: it was requeued, or skipped, or acked by another way. The marks are then computed from the rows, not taken from what a session proposes. Cleared when nothing waits.';
comment on column marks.marked_xid is
  'Transaction that last moved a mark. A sender that was away asks for marks of the transactions that its last look did not see: by transaction, not by clock, so that one that commits late is not missed.';
comment on constraint what_is_read_was_delivered on marks is 'A writer that moves read_seq moves delivered_seq at least as far.';
comment on index a_mark_is_found_by_its_newest_step is 'Locks and reads the marks of one member: order by step desc limit 1.';

create table marks_behind (
  chat_id uuid not null,
  user_id bigint not null,
  constraint a_member_is_behind_once primary key (chat_id, user_id)
);
comment on table marks_behind is
  'Members whose marks could not be computed to the end in one go, since too many messages lie in between. A job goes on, a part at a time (restante_catch_up_marks). Empty, as a rule.';
comment on column marks_behind.chat_id is 'The chat.';
comment on column marks_behind.user_id is 'The member.';
comment on index a_member_is_behind_once is 'The job takes the first.';

-- The queue: messages, stored once, and a row per recipient.

create type delivery_status as enum ('sent', 'delivered', 'read', 'failed', 'expired');
comment on type delivery_status is
  'The state of a message for one recipient: sent (stored, waits) -> delivered (acked) -> read; failed and expired end it otherwise. Order matters: a status only moves to the right.';

create type ended_reason as enum (
  'expired', 'capped', 'superseded', 'muted', 'left', 'recalled', 'blocked', 'failed', 'discarded', 'requeued', 'unreadable', 'purged');
comment on type ended_reason is
  'The reason for which a number of an inbox will not come (any more), from the closed list that clients know: expired = its time had come; capped = too many waited; superseded = a newer one of its collapse key took its place; muted, blocked = the recipient wants none; left = the recipient left the chat; recalled = its sender took it back; failed = the last attempt failed; discarded = given up by an operator; requeued = it has another number now; unreadable = the row cannot be read; purged = finished and removed.';

create domain message_type_text as text
  constraint a_message_type_has_1_to_64_characters check (char_length(value) between 1 and 64);
comment on constraint a_message_type_has_1_to_64_characters on domain message_type_text is 'The service accepts no other from clients.';
comment on domain message_type_text is 'A word of 1 to 64 characters. A domain, since a check of the table would be parsed anew by each statement that stores messages.';

create table messages (
  id           uuid not null,
  chat_id      uuid not null,
  seq          bigint not null,
  sender_id    bigint not null,
  message_type message_type_text not null default 'text',
  content      text,
  metadata     jsonb,
  sealed       bytea,
  key_id       text collate "C",
  created_at   timestamptz not null,
  expires_at   timestamptz,
  collapse_key text collate "C",
  constraint messages_are_known_by_their_id primary key (id),
  constraint a_chat_number_names_one_message unique (chat_id, seq)
);
comment on table messages is
  'Every message once, whatever the number of recipients. Written only by restante_accept() and, those of feeds, by restante_publish_batch(), which check what foreign keys and checks would (they double the cost of accepting), and by restante_take_back(), which empties a message that is recalled and adds a notice of it; removed by restante_purge_chats().';
comment on column messages.id is 'Chosen by the client before it sends, or by the service: sending the same id again returns the first result.';
comment on column messages.chat_id is 'The chat (chats.id).';
comment on column messages.seq is 'Number in the chat, 1, 2, 3, ... in commit order without a hole. The notice that a message was recalled has the number of that message, negated.';
comment on column messages.sender_id is 'The sender (users.id). It has no row in message_status.';
comment on column messages.message_type is 'The type that the client gave it: text, image, action, ... restante:recalled: the notice of a recall; no client may send a type that begins with restante:.';
comment on column messages.content is 'The text, at most 32 KiB; of the notice of a recall the id of the message. Null when it is sealed or was recalled, and for events.';
comment on column messages.metadata is 'The client''s own JSON, at most 8 KiB, and of an event its data; null when it is sealed, or there is none.';
comment on column messages.sealed is 'Content and metadata as ciphertext; null: they are plain.';
comment on column messages.key_id is 'Name of the key of sealed; null: plain.';
comment on column messages.created_at is 'The database''s clock after the locks were taken: grows with seq within a chat.';
comment on column messages.expires_at is 'From then on it is no longer delivered: rows still waiting become expired. Null: never.';
comment on column messages.collapse_key is 'Events of one key replace each other while they wait. Null: none.';
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
  ended        ended_reason,
  delivered_at timestamptz,
  read_at      timestamptz,
  reason       text,
  constraint an_inbox_number_names_one_row primary key (user_id, class, seq),
  constraint a_recipient_gets_a_message_once unique (message_id, user_id)
) with (fillfactor = 70);
comment on table message_status is
  'THE QUEUE: one row per recipient. What waits is "status = sent and seq > inboxes.settled_seq" on the primary key. No index holds a column that changes, so acks are heap-only updates: keep it so. What a row may become is guarded by the trigger a_status_only_moves_forward.';
comment on column message_status.user_id is 'The recipient (users.id).';
comment on column message_status.class is 'The inbox the row lies in.';
comment on column message_status.seq is 'Number in that inbox, 1, 2, 3, ... in commit order without a hole; a number above inboxes.purged_seq whose row is gone is in inbox_gaps.';
comment on column message_status.message_id is 'The message (messages.id).';
comment on column message_status.status is 'sent, delivered, read, failed or expired.';
comment on column message_status.attempts is 'Emissions that the client did not ack in time while it acked later ones, plus rejects. A lost connection counts none.';
comment on column message_status.ended is 'Why it failed or expired, of the closed list; null: it did not.';
comment on column message_status.delivered_at is 'When the recipient''s ack was committed. Set once.';
comment on column message_status.read_at is 'When the recipient''s read was committed. Set once.';
comment on column message_status.reason is 'Why it failed or expired, in words, or what the client said when it last rejected it.';
comment on index an_inbox_number_names_one_row is 'The drain, the ack, and proof that a number was given once.';
comment on index a_recipient_gets_a_message_once is 'Status of a message for all recipients; acks and reads by message.';

create table inbox_gaps (
  user_id bigint not null,
  class   inbox_class not null,
  seq     bigint not null,
  reason  ended_reason not null,
  constraint a_gap_is_named_once primary key (user_id, class, seq),
  constraint gaps_belong_to_a_user foreign key (user_id) references users (id)
);
comment on table inbox_gaps is 'Inbox numbers above inboxes.purged_seq that have no row: moved to a new number (requeued), or given to events of a feed that ended before they became rows (restante_take). Clients are told (queue:gap). A gap goes with the rows around it (restante_purge_inboxes).';
comment on column inbox_gaps.user_id is 'Whose inbox.';
comment on column inbox_gaps.class is 'Which inbox.';
comment on column inbox_gaps.seq is 'The number that will never come.';
comment on column inbox_gaps.reason is 'Why, of the closed list.';
comment on constraint gaps_belong_to_a_user on inbox_gaps is 'Delete a user''s gaps before the user.';
comment on index a_gap_is_named_once is 'Read beside a page of the inbox.';

create table departures (
  user_id   bigint not null,
  chat_id   uuid not null,
  after_seq bigint not null,
  up_to_seq bigint not null,
  ended     ended_reason not null default 'left',
  constraint a_departure_is_noted_once primary key (user_id, chat_id, up_to_seq),
  constraint departures_are_of_a_user foreign key (user_id) references users (id)
);
comment on table departures is
  'Members that left a chat while more waited for them than one transaction should end, followers that left a feed, and users that have blocked the other member of a direct chat. No page shows them the rest, and a job ends it a part at a time (restante_end_departures). Empty, as a rule.';
comment on column departures.user_id is 'The member that left.';
comment on column departures.chat_id is 'The chat.';
comment on column departures.after_seq is 'Rows that waited have ended up to this number of the chat.';
comment on column departures.up_to_seq is 'The last number of the chat that it could have got.';
comment on column departures.ended is 'The reason for which what waits has ended: left, or blocked.';
comment on constraint departures_are_of_a_user on departures is 'Delete them before the user.';
comment on index a_departure_is_noted_once is 'Read beside each page of an inbox: does anything there wait for somebody who has left?';

-- Devices with their own cursors, and when a user was last there.

create table devices (
  user_id      bigint not null,
  device_id    text collate "C" not null,
  session_no   bigint not null default 1,
  last_seen_at timestamptz not null default clock_timestamp(),
  node_id      uuid,
  constraint a_user_names_a_device_once primary key (user_id, device_id),
  constraint devices_belong_to_a_user foreign key (user_id) references users (id),
  constraint a_device_id_has_1_to_64_characters check (char_length(device_id) between 1 and 64)
) with (fillfactor = 70);
comment on table devices is
  'A named installation of a client (?device=). It has its own cursors (device_cursors): it gets everything behind them, whatever another device of the user has acked. A user has at most 50: a new one takes the place of the one that was not seen for longest and is not connected (restante_new_device).';
comment on column devices.user_id is 'Whose device.';
comment on column devices.device_id is 'The name that the client gave, 1 to 64 characters.';
comment on column devices.session_no is 'Counted up at every connect; of two connections the one with the lower number yields (close code 4509).';
comment on column devices.last_seen_at is 'Last connect or disconnect. A device that is not connected is removed 90 days after it (restante_purge_devices).';
comment on column devices.node_id is 'The node that it is connected to (nodes.node_id), since its last connect. Null: it is not connected. Counts only while that node lives.';
comment on constraint devices_belong_to_a_user on devices is 'Delete a user''s devices before the user.';
comment on constraint a_device_id_has_1_to_64_characters on devices is 'The service accepts no other in ?device=.';
comment on index a_user_names_a_device_once is 'Opens a device; counts its session up.';

create table device_cursors (
  user_id   bigint not null,
  device_id text collate "C" not null,
  class     inbox_class not null,
  step      bigint not null default 0,
  acked_seq bigint not null default 0,
  constraint a_cursor_is_found_by_its_newest_step primary key (user_id, device_id, class, step),
  constraint cursors_belong_to_a_device foreign key (user_id, device_id) references devices (user_id, device_id) on delete cascade
) with (fillfactor = 50);
comment on table device_cursors is 'How far a device has acked, one row a class. A stepped row, see inboxes.';
comment on column device_cursors.user_id is 'Whose device.';
comment on column device_cursors.device_id is 'The device.';
comment on column device_cursors.class is 'Which inbox.';
comment on column device_cursors.step is 'acked_seq / 16. Spreads old row versions over index entries, and means nothing else.';
comment on column device_cursors.acked_seq is 'The device has acked every number of this inbox up to here. Only grows; 0 stands before everything.';
comment on constraint cursors_belong_to_a_device on device_cursors is 'They go with their device.';
comment on index a_cursor_is_found_by_its_newest_step is 'Reads and moves one cursor: order by step desc limit 1.';

create table last_seen (
  user_id bigint not null,
  seen_at timestamptz not null,
  constraint a_user_was_last_seen_once primary key (user_id),
  constraint last_seen_belongs_to_a_user foreign key (user_id) references users (id)
) with (fillfactor = 70);
comment on table last_seen is 'When the last connection of a user ended, for RETENTION_DAYS. The nodes know the users that are connected now.';
comment on column last_seen.user_id is 'The user.';
comment on column last_seen.seen_at is 'End of its last connection, by the database''s clock.';
comment on constraint last_seen_belongs_to_a_user on last_seen is 'Delete it before the user.';
comment on index a_user_was_last_seen_once is 'Answers presence:get.';

-- Endings: what failed or expired, for the senders who were away and for the operator who looks.

create table endings (
  message_id   uuid not null,
  user_id      bigint not null,
  sender_id    bigint not null,
  chat_id      uuid not null,
  chat_seq     bigint not null,
  class        inbox_class not null default 'chat',
  status       delivery_status not null,
  ended        ended_reason not null,
  reason       text not null,
  attempts     smallint not null default 0,
  last_error   text,
  discarded_at timestamptz,
  is_hidden    boolean not null default false,
  ended_at     timestamptz not null default clock_timestamp(),
  ended_xid    xid8 not null default pg_current_xact_id(),
  constraint a_row_ends_once primary key (message_id, user_id),
  constraint endings_failed_expired_or_were_put_back check (status in ('failed', 'expired', 'sent'))
);
comment on table endings is
  'One row per row of message_status that failed or expired, or had failed and was put back, written by a trigger; it goes with that row. Events that expire have none. Few, so they can be indexed: the queue itself must not be.';
comment on column endings.message_id is 'The message.';
comment on column endings.user_id is 'The recipient who did not get it.';
comment on column endings.sender_id is 'Its sender, who is told.';
comment on column endings.chat_id is 'Its chat.';
comment on column endings.chat_seq is 'Its number in the chat.';
comment on column endings.class is 'The inbox of the row. Senders are told of chat only; of events it holds the dead letters.';
comment on column endings.status is 'failed or expired; sent once it was put back, whatever became of it since.';
comment on column endings.ended is 'Why, of the closed list.';
comment on column endings.reason is 'Why, in words.';
comment on column endings.attempts is 'Attempts that were counted against it.';
comment on column endings.last_error is 'The last error before it ended: the client''s words, or ack timeout. Null: nothing ever did.';
comment on column endings.discarded_at is 'When an operator gave it up for good: it is no dead letter any more. Null: it is one, if it has failed.';
comment on column endings.is_hidden is 'True: a block has ended it, or it ended while the chat was closed. Its sender is not told of it by itself, but when a mark passes it.';
comment on column endings.ended_at is 'When it ended, or was put back.';
comment on column endings.ended_xid is 'Transaction that changed it last: a sender asks for what changed in the transactions that its last look did not see.';
comment on constraint endings_failed_expired_or_were_put_back on endings is
  'sent: an operator put it back, and its sender may have to be told. What is delivered has not ended.';
comment on index a_row_ends_once is 'Found by message and recipient when it is put back.';

create index endings_by_sender on endings (sender_id, ended_xid, message_id, user_id) where class = 'chat' and not is_hidden;
comment on index endings_by_sender is 'A sender that was away is told of them in this order.';
create index hidden_endings_by_chat on endings (chat_id, user_id, chat_seq) where is_hidden;
comment on index hidden_endings_by_chat is 'Finds those that a mark passes.';
create index dead_letters_by_time on endings (ended_at, message_id, user_id) where status = 'failed' and discarded_at is null;
comment on index dead_letters_by_time is 'The list of dead letters, a page at a time.';
create index dead_letters_by_sender on endings (sender_id, ended_at, message_id, user_id) where status = 'failed' and discarded_at is null;
comment on index dead_letters_by_sender is 'The dead letters of one sender.';
create index dead_letters_by_recipient on endings (user_id, ended_at, message_id) where status = 'failed' and discarded_at is null;
comment on index dead_letters_by_recipient is 'The dead letters of one recipient.';

-- Sending from SQL.

create table outgoing (
  xid          xid8 not null default pg_current_xact_id(),
  place        integer not null,
  message_id   uuid not null,
  chat_id      uuid not null,
  sender_id    bigint not null,
  message_type message_type_text not null,
  content      text not null,
  metadata     jsonb,
  expires_at   timestamptz,
  constraint a_transaction_asks_for_a_message_once primary key (xid, message_id),
  constraint a_transaction_asks_in_order unique (xid, place),
  constraint a_transaction_sends_at_most_1000_messages check (place between 1 and 1000)
);
comment on table outgoing is
  'Requests of restante_send() inside transactions that have not committed yet. Accepted and emptied at their commit: seen from outside it is always empty.';
comment on column outgoing.xid is 'The transaction that made it.';
comment on column outgoing.place is 'Order of the requests of a transaction, from 1.';
comment on column outgoing.message_id is 'The id the message will have.';
comment on column outgoing.chat_id is 'The chat.';
comment on column outgoing.sender_id is 'The sender (users.id).';
comment on column outgoing.message_type is 'text, image, ...';
comment on column outgoing.content is 'The text.';
comment on column outgoing.metadata is 'The client''s own JSON.';
comment on column outgoing.expires_at is 'From then on it is no longer delivered.';
comment on constraint a_transaction_sends_at_most_1000_messages on outgoing is 'The chats are locked for as long as the commit takes.';
comment on index a_transaction_asks_for_a_message_once is 'A repeated request of a transaction is one. Requests of other transactions are in nobody''s way.';
comment on index a_transaction_asks_in_order is 'A commit takes its own requests, in order, whatever others have not committed yet and whatever earlier ones left behind for vacuum.';

-- The nodes that live, and which users each says to be online. Only the database's clock counts: nodes' own may differ.

create table nodes (
  node_id    uuid not null,
  started_at timestamptz not null default clock_timestamp(),
  seen_at    timestamptz not null default clock_timestamp(),
  gone_at    timestamptz not null,
  lives      interval not null,
  is_leaving boolean not null default false,
  boot       uuid not null default gen_random_uuid(),
  constraint a_node_is_listed_once primary key (node_id)
) with (fillfactor = 50);
comment on table nodes is
  'Nodes of the service that run now. Each renews its row every few seconds; one that does not is taken out by another, with its leases.';
comment on column nodes.node_id is 'Drawn at the start of the node. It listens on the channel restante_node_<id without dashes>.';
comment on column nodes.started_at is 'When it was first listed.';
comment on column nodes.seen_at is 'Its last heartbeat: last_seen of its users, should it die.';
comment on column nodes.gone_at is 'From then on it counts as gone, unless another heartbeat comes before.';
comment on column nodes.lives is 'How long a heartbeat is good for. A gone_at further ahead than that was written before the clock was set back: it is not believed.';
comment on column nodes.is_leaving is 'It ends as planned: nothing is told to it any more, and its users count until gone_at, so that they may come to other nodes unnoticed.';
comment on column nodes.boot is
  'Drawn each time that the node is listed. Nodes believe what another one tells only under the boot that is listed: what it told under an earlier one cannot be told again.';
comment on constraint a_node_is_listed_once on nodes is 'A heartbeat finds its row.';
comment on index a_node_is_listed_once is 'A heartbeat finds its row; whose lease is it?';

create table bus_keys (
  key_number bigint not null,
  secret     bytea not null,
  made_at    timestamptz not null default clock_timestamp(),
  constraint a_bus_key_is_known_by_its_number primary key (key_number),
  constraint a_bus_key_has_32_bytes check (octet_length(secret) = 32)
);
revoke all on bus_keys from public;
comment on table bus_keys is
  'The secrets with which nodes encrypt what they tell one another, since anybody who may connect to the database may listen and notify. Only the role of the service may read it. A heartbeat makes the next key when the newest is a day old; two are valid while it changes.';
comment on column bus_keys.key_number is 'Later keys have higher numbers.';
comment on column bus_keys.secret is '32 random bytes. Keys for AES-256-GCM are derived from it, one for each node and boot.';
comment on column bus_keys.made_at is 'When it was made. Nodes seal with it a minute later, when all of them know it; a minute after that its predecessor is removed.';
comment on constraint a_bus_key_has_32_bytes on bus_keys is 'The service expects no other.';
comment on index a_bus_key_is_known_by_its_number is 'The newest keys.';

create table presence_leases (
  user_id bigint not null,
  node_id uuid not null,
  constraint a_node_has_one_lease_of_a_user primary key (user_id, node_id),
  constraint leases_belong_to_a_user foreign key (user_id) references users (id),
  constraint leases_belong_to_a_node foreign key (node_id) references nodes (node_id)
);
comment on table presence_leases is
  'The users that are online, and their nodes: a row counts while its node does (nodes.gone_at), so that a heartbeat renews all of a node''s with one row. Written in batches, a moment after the fact. A hint: no message depends on it.';
comment on column presence_leases.user_id is 'The user.';
comment on column presence_leases.node_id is 'A node it is connected to.';
comment on constraint a_node_has_one_lease_of_a_user on presence_leases is 'However many connections it has there.';
comment on constraint leases_belong_to_a_user on presence_leases is 'Delete them before the user.';
comment on constraint leases_belong_to_a_node on presence_leases is 'A node that was taken out has none; it lists itself again first.';
comment on index a_node_has_one_lease_of_a_user is 'Is this user online, and where else?';

create index leases_of_a_node on presence_leases (node_id, user_id);
comment on index leases_of_a_node is 'The users of a node that has gone.';

create table jobs (
  name         text collate "C" not null,
  cursor       text not null default '',
  passed_at    timestamptz,
  holder       uuid,
  lease_no     bigint not null default 0,
  renewed_at   timestamptz,
  leased_until timestamptz,
  constraint a_job_is_listed_once primary key (name),
  constraint a_cursor_has_at_most_1000_characters check (char_length(cursor) <= 1000),
  constraint a_lease_number_is_never_negative check (lease_no >= 0),
  constraint a_lease_has_a_holder_a_beginning_and_an_end check (num_nulls(holder, renewed_at, leased_until) in (0, 3)),
  constraint a_lease_ends_after_it_was_renewed check (leased_until > renewed_at)
) with (fillfactor = 50);
comment on table jobs is
  'Jobs that one node does for all: how far each has got, and which node does it. A node takes a job with a lease, and another takes it over when the lease has run out. Only the database''s clock counts.';
comment on column jobs.name is
  'cap: ends events where too many live. seal: encrypts what is plain, or under an old key. devices: removes devices that were not seen for 90 days. erase: goes on with users that are erased. expire: ends messages whose time has come. invitations: removes invitations that have expired. logins: removes logins that have ended. fan_out: writes rows of events with many listed users. recall: goes on with recalls. reap: takes out nodes that have gone, with their leases. retention: removes what is finished and old. revocations: removes revocations whose tokens have expired. statistics: counts what has happened. presence: no job; it is locked by each transaction that changes who is online.';
comment on column jobs.cursor is
  'The place that the job has got to, in a form of its own; the next holder goes on from there. devices: the device that was looked at last. expire: everything that expired up to this instant has ended. retention: the table and the place in it behind which its next page begins. fan_out: the inbox behind which its next page begins. recall: the message behind which it looks for the next recall. cap: the number of living_events below which its next page begins, and how many it has counted. Empty: from the beginning.';
comment on column jobs.passed_at is 'When a pass last succeeded, at whatever node.';
comment on column jobs.holder is 'The node that does the job (nodes.node_id). Null: no node does; the next one that asks gets it.';
comment on column jobs.lease_no is
  'Grows by one with each new holder. A pass stores its cursor only under the number that it began with: a holder whose lease ran out in the middle of a pass changes nothing of its successor''s.';
comment on column jobs.renewed_at is 'When the holder last said that it goes on.';
comment on column jobs.leased_until is 'From then on any node may take the job, unless the holder renews the lease before.';
comment on constraint a_cursor_has_at_most_1000_characters on jobs is 'A cursor is a place, and no list.';
comment on constraint a_lease_number_is_never_negative on jobs is 'It counts holders.';
comment on constraint a_lease_has_a_holder_a_beginning_and_an_end on jobs is 'All of it, or none.';
comment on constraint a_lease_ends_after_it_was_renewed on jobs is 'Each renewal gives it time.';
comment on index a_job_is_listed_once is 'Finds and locks one job.';
insert into jobs (name) values ('expire'), ('presence'), ('reap');
