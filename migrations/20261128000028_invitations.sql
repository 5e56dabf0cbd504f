-- Invitations to groups. Where only contacts write to one another, an admin of a group adds its contacts, and invites everybody else: one who is
-- invited is no member, and gets nothing of the group, until it has accepted. The functions that add and remove members invite and withdraw
-- (restante_add_members, restante_create_group, restante_remove_members).
--
-- A transaction that changes an invitation holds the lock of the chat's head, or of the row of users of the one who is invited, in this order where it needs
-- both. A block by the one who is invited locks that row, too: so no invitation is made behind it.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table invitations (
  user_id     bigint not null,
  chat_id     uuid not null,
  inviter_id  bigint,
  invited_at  timestamptz not null default clock_timestamp(),
  expires_at  timestamptz not null,
  declined_at timestamptz,
  constraint a_user_is_invited_to_a_chat_once primary key (user_id, chat_id),
  constraint invitations_are_of_a_user foreign key (user_id) references users (id),
  constraint invitations_are_to_a_chat foreign key (chat_id) references chats (id),
  constraint invitations_are_made_by_a_user foreign key (inviter_id) references users (id),
  constraint nobody_invites_itself check (user_id <> inviter_id),
  constraint an_invitation_that_waits_names_its_inviter check (inviter_id is not null or declined_at is not null),
  constraint an_invitation_ends_after_it_was_made check (expires_at > invited_at)
);
comment on table invitations is
  'The users who are invited to groups. One waits while it is neither declined nor expired. Written by restante_put_invitations(), ended by those who accept, decline, withdraw and block, and by a job.';
comment on column invitations.user_id is 'The user that is invited.';
comment on column invitations.chat_id is 'The group.';
comment on column invitations.inviter_id is 'The admin that has invited it. Null: the user has declined, and the admin is erased.';
comment on column invitations.invited_at is 'Since when.';
comment on column invitations.expires_at is 'From then on it counts no more, and a job removes the row (invitations).';
comment on column invitations.declined_at is 'The time at which the user has declined it. Until the invitation expires the user is not invited to this group again.';
comment on constraint invitations_are_of_a_user on invitations is 'Delete a user''s invitations before the user.';
comment on constraint invitations_are_to_a_chat on invitations is 'Delete them before the chat.';
comment on constraint invitations_are_made_by_a_user on invitations is 'Delete the invitations that a user has made before the user.';
comment on constraint nobody_invites_itself on invitations is 'An inviter is a member of the group.';
comment on constraint an_invitation_that_waits_names_its_inviter on invitations is 'One that was declined outlives its inviter.';
comment on constraint an_invitation_ends_after_it_was_made on invitations is 'It waits for a while.';
comment on index a_user_is_invited_to_a_chat_once is 'Finds the invitation of a user to a group, and lists a user''s invitations.';

create index invitations_by_chat on invitations (chat_id, user_id);
comment on index invitations_by_chat is 'Lists the users who are invited to a group.';
create index invitations_by_inviter on invitations (inviter_id, user_id);
comment on index invitations_by_inviter is 'Counts what a user has made, and finds those that end when it is blocked or erased.';
create index invitations_by_end on invitations (expires_at);
comment on index invitations_by_end is 'Finds those that have expired.';

create function restante_invitations_left(p_inviter bigint) returns bigint
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
begin
  -- One that was declined counts too: its row is there.
  return 500 - (select count(*) from (select from invitations i where i.inviter_id = p_inviter limit 500) x);
end $$;
comment on function restante_invitations_left(bigint) is 'The number of users that this one may still invite, until some of its invitations are accepted or have ended.';

create function restante_invited_beside(p_chat uuid, p_users bigint[], p_max integer) returns bigint
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
begin
  return (
    select count(*) from (
      select from invitations i
       where i.chat_id = p_chat and i.declined_at is null and i.expires_at > clock_timestamp() and i.user_id <> all (p_users) limit p_max) x);
end $$;
comment on function restante_invited_beside(uuid, bigint[], integer) is 'The number of users who are invited to a group beside these, counted up to p_max.';

create function restante_end_invitations(p_chat uuid, p_users bigint[], p_inviter bigint default null) returns bigint[]
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_ended bigint[];
begin
  if p_inviter is null then
    with ended as (delete from invitations i where i.chat_id = p_chat and i.user_id = any (p_users) and i.declined_at is null returning i.user_id)
    select array_agg(e.user_id order by e.user_id) into v_ended from ended e;
  else
    with ended as (delete from invitations i where i.inviter_id = p_inviter and i.user_id = any (p_users) and i.declined_at is null returning i.user_id)
    select array_agg(e.user_id order by e.user_id) into v_ended from ended e;
  end if;
  if v_ended is not null then
    -- Sessions of theirs at every node look for what waits for them.
    perform restante_check_marks(v_ended);
  end if;
  return coalesce(v_ended, '{}');
end $$;
comment on function restante_end_invitations(uuid, bigint[], bigint) is
  'Ends the invitations of these users that are not declined: those to a group, or those that p_inviter has made. One that was declined stays, or it could be made again. Returns whose have ended.';

create function restante_why_not_invite(p_chat uuid, p_inviter bigint, p_users bigint[]) returns text
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
begin
  perform restante_needs_read_committed();
  if cardinality(p_users) = 0 then
    return null;
  end if;
  -- Two that invite the same user, or in the name of the same one, count one after the other. A block is waited for, or waits.
  perform restante_lock_users(p_users || p_inviter);
  -- A statement after the locks.
  if exists (
    select from (select unnest(p_users) as id) u
    cross join lateral (
      select count(*) as stored, count(*) filter (where i.declined_at is null and i.expires_at > clock_timestamp()) as waiting,
             count(*) filter (where i.chat_id = p_chat and i.declined_at is not null and i.expires_at > clock_timestamp()) as declined,
             count(*) filter (where i.chat_id = p_chat and i.declined_at is null and i.expires_at > clock_timestamp()) as invited
        from (select * from invitations x where x.user_id = u.id limit 1000) i
    ) n
    where n.declined > 0 or n.invited = 0 and (n.waiting >= 100 or n.stored >= 1000)
  ) then
    return 'not_accepted';
  end if;
  if cardinality(p_users) - (
    select count(*) from (select unnest(p_users) as id) u
    cross join lateral (select from invitations i where i.user_id = u.id and i.chat_id = p_chat and i.expires_at > clock_timestamp() limit 1) i
  ) > restante_invitations_left(p_inviter) then
    return 'too_many_invitations';
  end if;
  return null;
end $$;
comment on function restante_why_not_invite(uuid, bigint, bigint[]) is
  'The reason why this user does not invite these to a group: not_accepted (one of them has declined an invitation to it that has not expired, or has as many invitations as it may), too_many_invitations (that the inviter has made). Null: they may be, unless one has blocked the inviter. They and the inviter stay locked until the transaction ends. Who is invited already counts for nothing.';

create function restante_put_invitations(p_chat uuid, p_inviter bigint, p_users bigint[]) returns bigint[]
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_invited bigint[];
begin
  perform restante_needs_read_committed();
  with made as (
    insert into invitations as i (user_id, chat_id, inviter_id, expires_at)
      select u.id, p_chat, p_inviter, clock_timestamp() + interval '30 days' from unnest(p_users) u (id) order by u.id
      on conflict on constraint a_user_is_invited_to_a_chat_once do update
        set inviter_id = excluded.inviter_id, invited_at = excluded.invited_at, expires_at = excluded.expires_at, declined_at = null
        where i.expires_at <= clock_timestamp()
      returning i.user_id
  )
  select array_agg(m.user_id order by m.user_id) into v_invited from made m;
  if v_invited is not null then
    -- Sessions of theirs at every node look for what waits for them.
    perform restante_check_marks(v_invited);
  end if;
  return coalesce(v_invited, '{}');
end $$;
comment on function restante_put_invitations(uuid, bigint, bigint[]) is
  'Invites these users to a group, for 30 days, and returns those of them who were not invited before. Called after restante_why_not_invite() in the same transaction.';

create function restante_take_invitation(p_user bigint, p_chat uuid, p_members_max integer)
returns table (outcome text, title text, joined_seq bigint, inviter text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_last    bigint;
  v_joined  bigint;
  v_inviter bigint;
  v_count   bigint;
begin
  perform restante_needs_read_committed();
  -- Without an invitation nothing is locked: those who send would wait for it.
  if not exists (select from invitations i where i.user_id = p_user and i.chat_id = p_chat) then
    select cm.joined_seq into v_joined from chat_members cm where cm.chat_id = p_chat and cm.user_id = p_user and cm.left_seq is null;
    return query select case when v_joined is null then 'not_found' else 'again' end, null::text, v_joined, null::text;
    return;
  end if;
  select h.last_seq into v_last from chat_heads h where h.chat_id = p_chat order by h.step desc limit 1 for no key update;
  perform from users u where u.id = p_user for no key update;
  -- A statement after the locks: nobody joins, leaves or sends any more, and a block of the inviter is seen.
  select i.inviter_id into v_inviter from invitations i
   where i.user_id = p_user and i.chat_id = p_chat and i.declined_at is null and i.expires_at > clock_timestamp();
  select count(*) into v_count from chat_members cm where cm.chat_id = p_chat and cm.left_seq is null;
  if v_inviter is null or v_count = 0 then
    select cm.joined_seq into v_joined from chat_members cm where cm.chat_id = p_chat and cm.user_id = p_user and cm.left_seq is null;
    return query select case when v_joined is null then 'not_found' else 'again' end, null::text, v_joined, null::text;
    return;
  elsif v_count >= p_members_max then
    return query select 'too_many_members', null::text, null::bigint, null::text;
    return;
  end if;
  perform restante_put_members(p_chat, array[p_user], v_last, v_count);
  return query select 'done', (select c.title from chats c where c.id = p_chat), v_last, (select u.external_id from users u where u.id = v_inviter);
end $$;
comment on function restante_take_invitation(bigint, uuid, integer) is
  'A user accepts an invitation, and is a member from now on: it gets messages above joined_seq, as one who is added. Outcome: done, with the title of the group and who had invited it; again (it is a member already); not_found (no invitation waits for it, or nobody is in the group any more); too_many_members.';

create function restante_turn_down_invitation(p_user bigint, p_chat uuid) returns text
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_declined_at timestamptz;
begin
  perform restante_needs_read_committed();
  perform from users u where u.id = p_user for no key update;
  select i.declined_at into v_declined_at from invitations i where i.user_id = p_user and i.chat_id = p_chat and i.expires_at > clock_timestamp();
  if not found then
    return 'not_found';
  elsif v_declined_at is not null then
    return 'again';
  end if;
  update invitations i set declined_at = clock_timestamp() where i.user_id = p_user and i.chat_id = p_chat;
  perform restante_check_marks(array[p_user]);
  return 'done';
end $$;
comment on function restante_turn_down_invitation(bigint, uuid) is
  'A user declines an invitation. Until it expires nobody invites the user to this group again; a contact that is an admin can add it. Outcome: done; again (it has declined it); not_found (it has none).';

-- For applications.

create function restante_invite(p_chat uuid, p_inviter text, p_users text[]) returns text[]
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
declare
  v_outcome text;
  v_invited text[];
begin
  select min(a.outcome) filter (where a.outcome not in ('done', 'invited')), array_agg(a.external_id order by a.external_id collate "C") filter (where a.outcome = 'invited')
    into v_outcome, v_invited
    from restante_add_named_members(p_chat, (select u.id from users u where u.is_current and u.external_id = p_inviter), p_users, true, 5000, true) a;
  if v_outcome is not null then
    raise exception 'user % cannot invite these users to chat %: %', p_inviter, p_chat, v_outcome using errcode =
      case v_outcome when 'too_many_members' then 'program_limit_exceeded' when 'too_many_invitations' then 'program_limit_exceeded' else 'insufficient_privilege' end;
  end if;
  return coalesce(v_invited, '{}');
end $$;
comment on function restante_invite(uuid, text, text[]) is
  'An admin of a group brings users into it, inside your own transaction, as over HTTP where only contacts write to one another: its contacts are members from your commit on, everybody else is invited. Returns who is invited now. Raises where nothing is done.';

create function restante_accept_invitation(p_user text, p_chat uuid) returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
  v_taken record;
begin
  select t.outcome, t.joined_seq into v_taken
    from restante_take_invitation((select u.id from users u where u.is_current and u.external_id = p_user), p_chat, 5000) t;
  case v_taken.outcome
    when 'not_found' then
      raise exception 'user % is not invited to chat %', p_user, p_chat using errcode = 'no_data_found';
    when 'too_many_members' then
      raise exception 'chat % has 5000 members, the most that are allowed', p_chat using errcode = 'program_limit_exceeded';
    else
      return v_taken.joined_seq;
  end case;
end $$;
comment on function restante_accept_invitation(text, uuid) is
  'A user accepts an invitation, inside your own transaction. Returns the number above which it gets messages; raises where none waits for it.';

create function restante_decline_invitation(p_user text, p_chat uuid) returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
  v_outcome text := restante_turn_down_invitation((select u.id from users u where u.is_current and u.external_id = p_user), p_chat);
begin
  if v_outcome = 'not_found' then
    raise exception 'user % is not invited to chat %', p_user, p_chat using errcode = 'no_data_found';
  end if;
  return v_outcome = 'done';
end $$;
comment on function restante_decline_invitation(text, uuid) is
  'A user declines an invitation, inside your own transaction. False: it had declined it; raises where it has none.';
