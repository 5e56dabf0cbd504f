-- Chats, who is in them, and how far each member has got.

create type chat_kind as enum ('direct', 'group', 'feed');
comment on type chat_kind is 'direct = two people (or one with itself), group = members are added and removed, feed = events to followers (class event).';
create type member_role as enum ('member', 'admin');
comment on type member_role is 'admin may add and remove members of a group; member may leave.';

create table chats (
  id         uuid not null,
  kind       chat_kind not null,
  title      text,
  direct_key text,
  last_seq   bigint not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  constraint chats_are_known_by_their_id primary key (id),
  constraint two_users_share_one_direct_chat unique (direct_key),
  constraint direct_chats_and_only_they_have_a_key check ((kind = 'direct') = (direct_key is not null)),
  constraint a_title_has_at_most_256_characters check (char_length(title) <= 256),
  constraint chat_numbers_start_at_one check (last_seq >= 0)
) with (fillfactor = 50);
comment on table chats is
  'One row per conversation. The row lock orders everything that happens in it: sending, joining, leaving. Updated for every message: heap-only, index nothing that changes.';
comment on column chats.id is 'UUID, made by the service.';
comment on column chats.kind is 'direct, group or feed; never changes.';
comment on column chats.title is 'Shown to members; null for direct chats.';
comment on column chats.direct_key is '"smaller users.id : larger users.id", so that two users have one direct chat. Null for groups and feeds.';
comment on column chats.last_seq is 'Highest message number given in this chat; messages holds 1..last_seq without a hole.';
comment on column chats.created_at is 'When it was made.';
comment on constraint direct_chats_and_only_they_have_a_key on chats is 'Without its key the direct chat of two users would be made a second time.';
comment on constraint a_title_has_at_most_256_characters on chats is 'What the service accepts from clients.';
comment on constraint chat_numbers_start_at_one on chats is '0 means that nothing has been sent yet.';
comment on index chats_are_known_by_their_id is 'Locks and reads one chat.';
comment on index two_users_share_one_direct_chat is 'Finds the direct chat of two users; lets only one be made.';

create trigger chat_counters_only_grow before update on chats
  for each row when (new.last_seq < old.last_seq)
  execute function refuse_to_go_back('last_seq');
comment on trigger chat_counters_only_grow on chats is 'A number that was given once is never given again.';

create table chat_members (
  chat_id       uuid not null,
  user_id       bigint not null,
  role          member_role not null default 'member',
  joined_seq    bigint not null default 0,
  left_seq      bigint,
  delivered_seq bigint not null default 0,
  read_seq      bigint not null default 0,
  has_hole      boolean not null default false,
  marked_xid    xid8 not null default pg_current_xact_id(),
  constraint a_user_is_in_a_chat_once primary key (chat_id, user_id),
  constraint members_are_members_of_a_chat foreign key (chat_id) references chats (id),
  constraint members_are_users foreign key (user_id) references users (id),
  constraint nobody_leaves_before_joining check (left_seq >= joined_seq),
  constraint what_is_read_was_delivered check (read_seq <= delivered_seq)
) with (fillfactor = 70);
comment on table chat_members is
  'Who is, or was, in a chat, and the two marks that tell a sender how far that member has got. Who joins or leaves locks the chat first, so membership at message number n is exact.';
comment on column chat_members.chat_id is 'The chat.';
comment on column chat_members.user_id is 'The member.';
comment on column chat_members.role is 'admin may add and remove members.';
comment on column chat_members.joined_seq is 'chats.last_seq when the member joined (the last time): it gets and sees messages above it.';
comment on column chat_members.left_seq is 'chats.last_seq when the member left; null while it is in the chat.';
comment on column chat_members.delivered_seq is
  'Mark: no message of the chat at or below this number waits (status sent) for this member. Own messages and numbers it has no row for count as passed. Only a requeue lowers it.';
comment on column chat_members.read_seq is 'Mark: no message of the chat at or below this number is unread by this member. Never above delivered_seq.';
comment on column chat_members.has_hole is
  'A requeued message waits below what this member has acked since: the marks are then computed from the rows, not taken from what a session proposes. Cleared when nothing waits.';
comment on column chat_members.marked_xid is
  'Transaction that last moved a mark. A sender that was away asks for marks at or above the xmin of its last look: by transaction, not by clock, so that one that commits late is not missed.';
comment on constraint members_are_members_of_a_chat on chat_members is 'Delete a chat''s members before the chat.';
comment on constraint members_are_users on chat_members is 'Delete a user''s memberships before the user.';
comment on constraint nobody_leaves_before_joining on chat_members is 'Who joins again has left_seq set to null.';
comment on constraint what_is_read_was_delivered on chat_members is 'Whoever moves read_seq moves delivered_seq at least as far.';
comment on index a_user_is_in_a_chat_once is 'Members of a chat, in the order in which they are locked.';

create index members_by_user on chat_members (user_id, chat_id);
comment on index members_by_user is 'The chats of a user; the marks of those it shares chats with.';
