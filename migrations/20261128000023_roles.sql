-- Roles of the database: as which users a role may send from SQL, and what an analyst may look at. `restante grants` prints the lines that
-- give the tables to an owner without login and let the functions for applications run with its rights. Until they are run, these
-- functions have the rights of their caller, and nothing here is asked.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table application_senders (
  role_name text collate "C" not null,
  sender    text collate "C" not null,
  constraint a_role_is_given_a_sender_once primary key (role_name, sender),
  constraint a_role_has_a_name check (octet_length(role_name) between 1 and 63),
  constraint a_sender_has_at_most_128_characters check (char_length(sender) <= 128)
);
comment on table application_senders is
  'As which users an application''s role may send, publish and recall from SQL. Asked where restante_send(), restante_publish() and restante_recall() run with the rights of their owner (restante grants). Written by the owner by hand. Remove the rows of a role before it is dropped: another one of its name would have them.';
comment on column application_senders.role_name is 'The role that has logged in (session_user). SET ROLE changes nothing here.';
comment on column application_senders.sender is 'The user (users.external_id) as which it may send. Empty: every user.';
comment on constraint a_role_has_a_name on application_senders is 'PostgreSQL has no longer ones.';
comment on constraint a_sender_has_at_most_128_characters on application_senders is 'No user has a longer name.';
comment on index a_role_is_given_a_sender_once is 'Looks whether the session''s role may send as a user.';

create function restante_check_sender(p_function regproc, p_sender text) returns void
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
begin
  -- With the caller's rights these decide. A member of the owner could write the tables itself.
  if not (select p.prosecdef from pg_proc p where p.oid = p_function) or pg_has_role(session_user, current_user, 'member') then
    return;
  end if;
  perform from application_senders a where a.role_name = session_user::text and a.sender = any (array['', p_sender]);
  if not found then
    raise exception 'role % may not send as user %', session_user, p_sender
      using errcode = 'insufficient_privilege', hint = 'The owner of the tables lists the users of a role in application_senders.';
  end if;
end $$;
comment on function restante_check_sender(regproc, text) is
  'Raises where p_function, which calls it, runs with the rights of its owner and the role that has logged in may not send as this user. A role that is a member of the owner, and a superuser, may send as anybody.';

create view analyst_users as
  select u.id, u.external_id, u.created_at, u.came_at from users u;
comment on view analyst_users is 'Users without their names and pictures.';
comment on column analyst_users.id is 'users.id.';
comment on column analyst_users.external_id is 'users.external_id.';
comment on column analyst_users.created_at is 'users.created_at.';
comment on column analyst_users.came_at is 'users.came_at.';

create view analyst_chats as
  select c.id, c.kind, c.created_at from chats c;
comment on view analyst_chats is 'Chats, and streams of feeds, without their titles.';
comment on column analyst_chats.id is 'chats.id.';
comment on column analyst_chats.kind is 'chats.kind.';
comment on column analyst_chats.created_at is 'chats.created_at.';

create view analyst_members as
  select m.chat_id, m.user_id, m.role, m.joined_seq, m.left_seq from chat_members m;
comment on view analyst_members is 'The members that chats have, or had.';
comment on column analyst_members.chat_id is 'chat_members.chat_id.';
comment on column analyst_members.user_id is 'chat_members.user_id.';
comment on column analyst_members.role is 'chat_members.role.';
comment on column analyst_members.joined_seq is 'chat_members.joined_seq.';
comment on column analyst_members.left_seq is 'chat_members.left_seq.';

create view analyst_messages as
  select m.id, m.chat_id, m.seq, m.sender_id, m.message_type, m.created_at, m.expires_at, m.recalled_at from messages m;
comment on view analyst_messages is 'Messages and events without what they say: no content, metadata, data or collapse key. Their type is what the sender says it is.';
comment on column analyst_messages.id is 'messages.id.';
comment on column analyst_messages.chat_id is 'messages.chat_id.';
comment on column analyst_messages.seq is 'messages.seq.';
comment on column analyst_messages.sender_id is 'messages.sender_id.';
comment on column analyst_messages.message_type is 'messages.message_type.';
comment on column analyst_messages.created_at is 'messages.created_at.';
comment on column analyst_messages.expires_at is 'messages.expires_at.';
comment on column analyst_messages.recalled_at is 'messages.recalled_at.';

create view analyst_deliveries as
  select s.message_id, s.user_id, s.class, s.seq, s.status, s.attempts, s.ended, s.delivered_at, s.read_at from message_status s;
comment on view analyst_deliveries is 'What became of each message for each recipient. The reason in words is left out: a client writes it, and may quote the message.';
comment on column analyst_deliveries.message_id is 'message_status.message_id.';
comment on column analyst_deliveries.user_id is 'message_status.user_id.';
comment on column analyst_deliveries.class is 'message_status.class.';
comment on column analyst_deliveries.seq is 'message_status.seq.';
comment on column analyst_deliveries.status is 'message_status.status.';
comment on column analyst_deliveries.attempts is 'message_status.attempts.';
comment on column analyst_deliveries.ended is 'message_status.ended.';
comment on column analyst_deliveries.delivered_at is 'message_status.delivered_at.';
comment on column analyst_deliveries.read_at is 'message_status.read_at.';
