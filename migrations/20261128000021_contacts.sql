-- Policy between people: blocks and contacts.
--
-- Blocks: a user wants nothing from another one. While there is a block between two users, whichever made it, their direct chat is closed:
-- accepting looks for it by the chat alone, in a table that is nearly empty, so it costs the same for a chat of two and a chat of thousands.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table blocks (
  user_id    bigint not null,
  other_id   bigint not null,
  blocked_at timestamptz not null default clock_timestamp(),
  constraint a_user_blocks_another_once primary key (user_id, other_id),
  constraint blocks_are_made_by_a_user foreign key (user_id) references users (id),
  constraint blocks_are_of_a_user foreign key (other_id) references users (id),
  constraint nobody_blocks_itself check (user_id <> other_id)
);
comment on table blocks is
  'The blocks of users. Written by restante_put_block() and restante_take_block_back(), under the locks of the rows of users of both.';
comment on column blocks.user_id is 'The user that blocks.';
comment on column blocks.other_id is 'The user that is blocked, and is told nothing of it.';
comment on column blocks.blocked_at is 'Since when.';
comment on constraint blocks_are_made_by_a_user on blocks is 'Delete a user''s blocks before the user.';
comment on constraint blocks_are_of_a_user on blocks is 'Delete the blocks of a user before the user.';
comment on constraint nobody_blocks_itself on blocks is 'One''s chat with oneself stays open.';
comment on index a_user_blocks_another_once is 'Has this user blocked that one? Lists a user''s blocks.';
create index blocks_by_other on blocks (other_id, user_id);
comment on index blocks_by_other is 'Finds who has blocked a user that is erased.';

create table closed_chats (
  chat_id       uuid not null,
  user_id       bigint not null,
  delivered_seq bigint not null,
  read_seq      bigint not null,
  marked_xid    xid8 not null default pg_current_xact_id(),
  closed_at     timestamptz not null default clock_timestamp(),
  constraint a_member_of_a_closed_chat_is_noted_once primary key (chat_id, user_id),
  constraint closed_chats_are_chats foreign key (chat_id) references chats (id)
);
comment on table closed_chats is
  'The direct chats with a block between their two members: a row a member. Nothing is accepted in them, and neither member learns how far the other gets. Changed under the lock of the chat''s head, so that accepting sees it in a statement after that lock.';
comment on column closed_chats.chat_id is 'The chat.';
comment on column closed_chats.user_id is 'The member.';
comment on column closed_chats.delivered_seq is 'Its mark when the chat was closed: the other one is shown this one until it is open again.';
comment on column closed_chats.read_seq is 'Likewise.';
comment on column closed_chats.marked_xid is 'The transaction in which that mark had moved last.';
comment on column closed_chats.closed_at is 'Since when. What the member has acked or read after it is not shown to the other one.';
comment on constraint closed_chats_are_chats on closed_chats is 'Delete them before the chat.';
comment on index a_member_of_a_closed_chat_is_noted_once is 'Is this chat closed?';

create table reopened_chats (
  chat_id            uuid not null,
  user_id            bigint not null,
  told_delivered_seq bigint not null,
  told_read_seq      bigint not null,
  told_xid           xid8 not null,
  delivered_seq      bigint not null,
  read_seq           bigint not null,
  constraint a_member_of_a_reopened_chat_is_noted_once primary key (chat_id, user_id),
  constraint reopened_chats_are_chats foreign key (chat_id) references chats (id)
);
comment on table reopened_chats is
  'The direct chats that were closed once: a row a member. Its moves while the chat was closed are told to the other one neither then nor later. A mark that is no higher than when the chat was opened again counts as it was before it was closed.';
comment on column reopened_chats.chat_id is 'The chat.';
comment on column reopened_chats.user_id is 'The member.';
comment on column reopened_chats.told_delivered_seq is 'Its mark before the chat was closed, as the other one may know it.';
comment on column reopened_chats.told_read_seq is 'Likewise.';
comment on column reopened_chats.told_xid is 'The transaction in which that mark had moved last.';
comment on column reopened_chats.delivered_seq is 'Its mark when the chat was opened again, and what the block had still to end by then.';
comment on column reopened_chats.read_seq is 'Its mark when the chat was opened again.';
comment on constraint reopened_chats_are_chats on reopened_chats is 'Delete them before the chat.';
comment on index a_member_of_a_reopened_chat_is_noted_once is 'Was this chat closed once, and what is hidden of the member''s mark?';

create function restante_told_mark(p_seq bigint, p_reopened bigint, p_told bigint) returns bigint
language plpgsql immutable
set search_path from current
as $$
begin
  return case when p_seq <= p_reopened then least(p_seq, p_told) else p_seq end;
end $$;
comment on function restante_told_mark(bigint, bigint, bigint) is
  'A mark as the other member may know it: where it is no higher than when the chat was opened again (p_reopened; null: it was never closed) it counts as before.';

create function restante_put_block(p_user bigint, p_other bigint, p_blocks_max integer)
returns table (
  outcome text, chat_id uuid, class inbox_class, seq bigint, message_id uuid, chat_seq bigint, sender_id bigint, ended_at timestamptz,
  were_contacts boolean, is_told boolean
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now   timestamptz;
  v_chat  uuid;
  v_last  bigint;
  v_after bigint;
  v_were  boolean;
  v_told  boolean;
begin
  perform restante_needs_read_committed();
  -- A transaction that makes the direct chat of the two refers to both users, so it is waited for here, or waits for this one.
  -- The same holds for one that makes them contacts.
  perform from users u where u.id = any (array[p_user, p_other]) order by u.id for update;
  if exists (select from blocks b where b.user_id = p_user and b.other_id = p_other) then
    return query select 'again', null::uuid, null::inbox_class, null::bigint, null::uuid, null::bigint, null::bigint, null::timestamptz, false, false;
    return;
  elsif (select count(*) from (select from blocks b where b.user_id = p_user limit p_blocks_max) x) >= p_blocks_max then
    return query select 'too_many', null::uuid, null::inbox_class, null::bigint, null::uuid, null::bigint, null::bigint, null::timestamptz, false, false;
    return;
  end if;
  insert into blocks (user_id, other_id) values (p_user, p_other);
  -- Neither keeps the other as a contact, or a request.
  delete from contacts c where c.user_id = p_user and c.other_id = p_other;
  v_were := found;
  delete from contacts c where c.user_id = p_other and c.other_id = p_user;
  v_were := v_were or found;
  -- Of a request to one that blocks already the other one has never heard.
  v_told := v_were and not restante_has_blocked(array[p_other], p_user);
  -- Nor does it stay invited by the other one. One who invites it has locked its row of users, too.
  perform restante_end_invitations(null, array[p_user], p_other);
  select c.id into v_chat from chats c where c.direct_key = least(p_user, p_other) || ':' || greatest(p_user, p_other);
  if v_chat is not null then
    select h.last_seq into v_last from chat_heads h where h.chat_id = v_chat order by h.step desc limit 1 for no key update;
    -- A statement after the lock: whatever was accepted before it is seen, and nothing is accepted after it.
    v_now := clock_timestamp();
    insert into closed_chats (chat_id, user_id, delivered_seq, read_seq, marked_xid)
      select v_chat, k.user_id, k.delivered_seq, k.read_seq, k.marked_xid
        from (select p_user as id union all select p_other) u
        cross join lateral (
          select x.user_id, x.delivered_seq, x.read_seq, x.marked_xid from marks x where x.chat_id = v_chat and x.user_id = u.id order by x.step desc limit 1) k
      on conflict on constraint a_member_of_a_closed_chat_is_noted_once do nothing;
    -- All that waits here for the one who blocks is from the other: it ends. 1,000 messages of the chat at once, the rest by a job.
    select x.delivered_seq into v_after from marks x where x.chat_id = v_chat and x.user_id = p_user order by x.step desc limit 1;
    if v_last > v_after + 1000 then
      insert into departures (user_id, chat_id, after_seq, up_to_seq, ended) values (p_user, v_chat, v_after + 1000, v_last, 'blocked')
        on conflict on constraint a_departure_is_noted_once do nothing;
    end if;
    return query
      with ended as (
        update message_status s set status = 'expired', ended = 'blocked', reason = 'undelivered'
          from (
            select x.user_id, x.class, x.seq, m.seq as chat_seq, m.sender_id
              from (select y.id, y.seq, y.sender_id from messages y
                     where y.chat_id = v_chat and y.seq > v_after and y.seq <= v_after + 1000 order by y.seq limit 1000) m
              -- By key, each for itself, as in restante_remove_members.
              cross join lateral (
                select y.user_id, y.class, y.seq from message_status y
                 where y.message_id = m.id and y.user_id = p_user and y.status = 'sent' limit 1) x
             order by x.user_id, x.class, x.seq
          ) u
         where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status = 'sent'
        returning s.class, s.seq, s.message_id, u.chat_seq, u.sender_id
      )
      select 'done', v_chat, e.class, e.seq, e.message_id, e.chat_seq, e.sender_id, v_now, v_were, v_told from ended e;
    perform restante_exact_marks(array[v_chat], array[p_user]);
  end if;
  return query select 'done', v_chat, null::inbox_class, null::bigint, null::uuid, null::bigint, null::bigint, coalesce(v_now, clock_timestamp()), v_were, v_told;
end $$;
comment on function restante_put_block(bigint, bigint, integer) is
  'A user blocks another one, and is no longer invited to groups by it. What waits for it in their direct chat ends as blocked, and the chat is closed; where much waits, the rest is noted in departures, shown to nobody any more, and ended by a job. In groups nothing changes. The sender is shown another word than the reason (undelivered). One row per row that ended and one without, outcome done, with the direct chat if there is one, whether they were contacts or one had requested the other, and whether the other one is told that they are none (is_told). Else one row that says why nothing was done: again (it is blocked), too_many (p_blocks_max are).';

create function restante_reopen_chat(p_chat uuid, p_user bigint, p_other bigint) returns void
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  -- Acks that are under way are waited for: they were made while the chat was closed.
  perform restante_lock_marks(array[p_chat, p_chat], array[p_user, p_other]);
  insert into reopened_chats as r (chat_id, user_id, told_delivered_seq, told_read_seq, told_xid, delivered_seq, read_seq)
    select c.chat_id, c.user_id, restante_told_mark(c.delivered_seq, o.delivered_seq, o.told_delivered_seq),
           restante_told_mark(c.read_seq, o.read_seq, o.told_read_seq),
           case when c.delivered_seq <= o.delivered_seq and c.read_seq <= o.read_seq then o.told_xid else c.marked_xid end,
           -- A job may have more to end for the one that had blocked: that moves its mark later.
           greatest(k.delivered_seq, o.delivered_seq, d.up_to_seq), greatest(k.read_seq, o.read_seq)
      from (select unnest(array[p_user, p_other]) as id) u
      cross join lateral (select x.* from closed_chats x where x.chat_id = p_chat and x.user_id = u.id limit 1) c
      cross join lateral (
        select x.delivered_seq, x.read_seq from marks x where x.chat_id = p_chat and x.user_id = u.id order by x.step desc limit 1) k
      left join lateral (select x.* from reopened_chats x where x.chat_id = p_chat and x.user_id = u.id limit 1) o on true
      left join lateral (
        select x.up_to_seq from departures x
         where x.user_id = u.id and x.chat_id = p_chat and x.ended = 'blocked' order by x.up_to_seq desc limit 1) d on true
    on conflict on constraint a_member_of_a_reopened_chat_is_noted_once do update
      set told_delivered_seq = excluded.told_delivered_seq, told_read_seq = excluded.told_read_seq, told_xid = excluded.told_xid,
          delivered_seq = excluded.delivered_seq, read_seq = excluded.read_seq;
  delete from closed_chats c where c.chat_id = p_chat;
end $$;
comment on function restante_reopen_chat(uuid, bigint, bigint) is
  'Opens the direct chat of two users that neither blocks any more, and notes what is hidden of how far each has got meanwhile. Called under the lock of the chat''s head.';

create function restante_take_block_back(p_user bigint, p_other bigint) returns table (outcome text, chat_id uuid)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_chat uuid;
begin
  perform restante_needs_read_committed();
  perform from users u where u.id = any (array[p_user, p_other]) order by u.id for update;
  delete from blocks b where b.user_id = p_user and b.other_id = p_other;
  if not found then
    return query select 'again', null::uuid;
    return;
  end if;
  select c.id into v_chat from chats c where c.direct_key = least(p_user, p_other) || ':' || greatest(p_user, p_other);
  if v_chat is not null then
    perform from chat_heads h where h.chat_id = v_chat order by h.step desc limit 1 for no key update;
    -- A statement after the lock: the other one may have blocked this one meanwhile.
    if not exists (select from blocks b where b.user_id = p_other and b.other_id = p_user) then
      perform restante_reopen_chat(v_chat, p_user, p_other);
    end if;
  end if;
  return query select 'done', v_chat;
end $$;
comment on function restante_take_block_back(bigint, bigint) is
  'A user blocks another one no more. Their direct chat is open again unless the other one blocks too. What has ended stays ended. Outcome: done, with the direct chat if there is one; again (it was not blocked).';

create function restante_two_users(p_user text, p_other text, p_alike text, out user_id bigint, out other_id bigint)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
begin
  if p_user = p_other then
    raise exception 'user % cannot %', p_user, p_alike using errcode = 'invalid_parameter_value';
  end if;
  select min(u.id) filter (where u.external_id = p_user), min(u.id) filter (where u.external_id = p_other) into user_id, other_id
    from restante_users(array[p_user, p_other]) u;
end $$;
comment on function restante_two_users(text, text, text) is
  'The numbers of two users, who are made where they are new. Raises where both are the same one, which cannot do what p_alike says.';

create function restante_people_changed(p_users bigint[], p_chat uuid) returns void
language plpgsql volatile
set search_path from current
as $$
begin
  perform restante_check_marks(p_users);
  if p_chat is not null then
    perform pg_notify(restante_wake_channel(), 'chat ' || p_chat);
  end if;
end $$;
comment on function restante_people_changed(bigint[], uuid) is
  'Tells every node that these users may know more or less of one another than before, and that the receipts of their direct chat, if there is one, are told in another form (its id with "chat " before it, on restante_wake_channel()). A hint: without it nodes find out within 30 s.';

create function restante_block(p_user text, p_other text) returns boolean
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_both  record;
  v_block record;
begin
  select * into v_both from restante_two_users(p_user, p_other, 'block itself');
  select b.outcome, b.chat_id into v_block from restante_put_block(v_both.user_id, v_both.other_id, 10000) b limit 1;
  if v_block.outcome = 'too_many' then
    raise exception 'user % has blocked 10000 users, the most that are allowed', p_user using errcode = 'program_limit_exceeded';
  end if;
  perform restante_people_changed(array[v_both.user_id, v_both.other_id], v_block.chat_id);
  return v_block.outcome = 'done';
end $$;
comment on function restante_block(text, text) is
  'One user blocks another, inside your own transaction, with the same effect as over HTTP. True: from your commit on; false: it had blocked it before.';

create function restante_unblock(p_user text, p_other text) returns boolean
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_user  bigint := (select u.id from users u where u.is_current and u.external_id = p_user);
  v_other bigint := (select u.id from users u where u.is_current and u.external_id = p_other);
  v_block record;
begin
  select b.outcome, b.chat_id into v_block from restante_take_block_back(v_user, v_other) b;
  if v_block.outcome = 'done' then
    perform restante_people_changed(array[v_user, v_other], v_block.chat_id);
  end if;
  return v_block.outcome = 'done';
end $$;
comment on function restante_unblock(text, text) is
  'One user blocks another no more, inside your own transaction. What has ended stays ended. False: it had not blocked it.';

-- Contacts: two users that both want to be. A row says that one wants the other; they are contacts when there are both rows.

create table contacts (
  user_id   bigint not null,
  other_id  bigint not null,
  wanted_at timestamptz not null default clock_timestamp(),
  constraint a_user_wants_another_as_contact_once primary key (user_id, other_id),
  constraint contacts_are_wanted_by_a_user foreign key (user_id) references users (id),
  constraint contacts_are_with_a_user foreign key (other_id) references users (id),
  constraint nobody_is_its_own_contact check (user_id <> other_id)
);
comment on table contacts is
  'The users that want one another as contacts: a request, while there is no row the other way, and with one both are contacts. Written by restante_put_contact(), restante_drop_contact() and restante_put_block(), under the locks of the rows of users of both.';
comment on column contacts.user_id is 'The user that has requested the other one, or has accepted its request.';
comment on column contacts.other_id is 'The other one.';
comment on column contacts.wanted_at is 'Since when.';
comment on constraint contacts_are_wanted_by_a_user on contacts is 'Delete a user''s contacts before the user.';
comment on constraint contacts_are_with_a_user on contacts is 'Delete the contacts of a user before the user.';
comment on constraint nobody_is_its_own_contact on contacts is 'A chat with oneself needs none.';
comment on index a_user_wants_another_as_contact_once is 'Are these two contacts? Lists a user''s contacts, and the requests that it has made.';

create index contacts_by_other on contacts (other_id, user_id);
comment on index contacts_by_other is 'Lists the requests that a user has got.';

create function restante_put_contact(p_user bigint, p_other bigint, p_accepts boolean, p_contacts_max integer, out outcome text, out has_changed boolean, out is_told boolean)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_wants     boolean;
  v_is_wanted boolean;
begin
  perform restante_needs_read_committed();
  -- Of two that request one another at once, the second sees the first.
  perform from users u where u.id = any (array[p_user, p_other]) order by u.id for no key update;
  v_wants := exists (select from contacts c where c.user_id = p_user and c.other_id = p_other);
  v_is_wanted := exists (select from contacts c where c.user_id = p_other and c.other_id = p_user);
  has_changed := false;
  is_told := false;
  if restante_has_blocked(array[p_user], p_other) then
    outcome := 'blocked';
  elsif p_accepts and not v_is_wanted then
    outcome := 'not_found';
  elsif v_wants then
    outcome := case when v_is_wanted then 'contact' else 'requested' end;
  elsif (select count(*) from (select from contacts c where c.user_id = p_user limit p_contacts_max) x) >= p_contacts_max then
    outcome := 'too_many';
  else
    insert into contacts (user_id, other_id) values (p_user, p_other);
    outcome := case when v_is_wanted then 'contact' else 'requested' end;
    has_changed := true;
    is_told := not restante_has_blocked(array[p_other], p_user);
  end if;
end $$;
comment on function restante_put_contact(bigint, bigint, boolean, integer) is
  'A user requests another one as a contact, or accepts its request; with p_accepts it does nothing where there is none. Outcome: requested; contact (the other one had requested it, or they were contacts); not_found (there is no request to accept); blocked (the user has blocked the other one); too_many (the user has p_contacts_max contacts and requests). has_changed: the sessions of the user are told. is_told: the other one is, too. Of a request by a user that it has blocked it learns nothing, and the user sees no difference.';

create function restante_drop_contact(p_user bigint, p_other bigint, p_declines boolean, out outcome text, out has_changed boolean, out is_told boolean)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_wants     boolean;
  v_is_wanted boolean;
begin
  perform restante_needs_read_committed();
  perform from users u where u.id = any (array[p_user, p_other]) order by u.id for no key update;
  v_wants := exists (select from contacts c where c.user_id = p_user and c.other_id = p_other);
  -- A request by one that the user has blocked is seen by nobody before the block is taken back.
  v_is_wanted := exists (select from contacts c where c.user_id = p_other and c.other_id = p_user) and not restante_has_blocked(array[p_user], p_other);
  has_changed := v_wants or v_is_wanted;
  is_told := false;
  if p_declines and (v_wants or not v_is_wanted) then
    outcome := 'not_found';
    has_changed := false;
    return;
  end if;
  outcome := 'none';
  if has_changed then
    delete from contacts c where c.user_id = p_user and c.other_id = p_other;
    delete from contacts c where c.user_id = p_other and c.other_id = p_user;
    is_told := not restante_has_blocked(array[p_other], p_user);
  end if;
end $$;
comment on function restante_drop_contact(bigint, bigint, boolean) is
  'A user removes a contact, takes its request back, or declines the other one''s; with p_declines it does the last alone. Outcome: none (they are no contacts, and none has requested the other), not_found (there is no request to decline, or one by a user that it has blocked). has_changed and is_told as in restante_put_contact().';

create function restante_change_contact(p_user text, p_other text, p_change text) returns text
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_user    bigint;
  v_other   bigint;
  v_outcome text;
begin
  select b.user_id, b.other_id into v_user, v_other from restante_two_users(p_user, p_other, 'be its own contact') b;
  case p_change
    when 'request' then select c.outcome into v_outcome from restante_put_contact(v_user, v_other, false, 10000) c;
    when 'accept' then select c.outcome into v_outcome from restante_put_contact(v_user, v_other, true, 10000) c;
    else select c.outcome into v_outcome from restante_drop_contact(v_user, v_other, p_change = 'decline') c;
  end case;
  case v_outcome
    when 'not_found' then
      raise exception 'user % has not requested user % as a contact', p_other, p_user using errcode = 'no_data_found';
    when 'blocked' then
      raise exception 'user % has blocked user %', p_user, p_other using errcode = 'object_not_in_prerequisite_state';
    when 'too_many' then
      raise exception 'user % has 10000 contacts and requests, the most that are allowed', p_user using errcode = 'program_limit_exceeded';
    else
      perform restante_people_changed(array[v_user, v_other], null);
      return v_outcome;
  end case;
end $$;
comment on function restante_change_contact(text, text, text) is 'Does what restante_request_contact() and the three like it say.';

create function restante_request_contact(p_user text, p_other text) returns text
language plpgsql volatile
set search_path from current
as $$
begin
  return restante_change_contact(p_user, p_other, 'request');
end $$;
comment on function restante_request_contact(text, text) is
  'One user requests another as a contact, inside your own transaction, with the same effect as over HTTP, save that nobody is told as it happens. Returns requested, or contact where the other one had requested it or they are contacts.';

create function restante_accept_contact(p_user text, p_other text) returns text
language plpgsql volatile
set search_path from current
as $$
begin
  return restante_change_contact(p_user, p_other, 'accept');
end $$;
comment on function restante_accept_contact(text, text) is 'One user accepts the request of another, inside your own transaction. Returns contact; raises where there is no request.';

create function restante_decline_contact(p_user text, p_other text) returns text
language plpgsql volatile
set search_path from current
as $$
begin
  return restante_change_contact(p_user, p_other, 'decline');
end $$;
comment on function restante_decline_contact(text, text) is 'One user declines the request of another, inside your own transaction. Returns none; raises where there is no request.';

create function restante_remove_contact(p_user text, p_other text) returns text
language plpgsql volatile
set search_path from current
as $$
begin
  return restante_change_contact(p_user, p_other, 'remove');
end $$;
comment on function restante_remove_contact(text, text) is 'One user removes another from its contacts, or takes a request back, inside your own transaction. Returns none.';

-- The application's own rule, where it has one: restante_may_send(sender text, recipient text) returns boolean, in the schema of these tables.

create function restante_ask_may_send(p_sender bigint, p_chat uuid, p_other text) returns boolean
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
declare
  v_sender text := (select u.external_id from users u where u.id = p_sender);
  v_other  text := p_other;
  v_may    boolean;
begin
  if p_chat is not null then
    select u.external_id into v_other
      from chats c
      cross join lateral (select split_part(c.direct_key, ':', 1)::bigint as one, split_part(c.direct_key, ':', 2)::bigint as two) p
      join users u on u.id = case when p.one = p_sender then p.two else p.one end
     where c.id = p_chat and c.kind = 'direct';
  end if;
  if v_sender is null or v_other is null or to_regprocedure('restante_may_send(text, text)') is null then
    return null;
  end if;
  -- The planner knows it only when it is called: it may not have been there when this was made.
  execute 'select restante_may_send($1, $2)' into v_may using v_sender, v_other;
  return v_may;
-- A time-out of the statement too: an error would leave open whether the database is there.
exception
  when query_canceled or others then
    return null;
end $$;
comment on function restante_ask_may_send(bigint, uuid, text) is
  'The answer of restante_may_send(sender, recipient), which the application defines, for a sender and the other member of a direct chat, or the user of a name. Null: there is no such function, it has failed, or has taken longer than the statement may.';
