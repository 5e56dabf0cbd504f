-- Erasing a user. One transaction takes its profile and notes the erasure (restante_erase_user). A job does the rest, a part at a time:
-- chats, events, the inbox, other people. The place that it has come to stands in the row of the erasure, so any node goes on there.
-- It goes through everything twice: a node that hears of the revocation late may store something for a token that is revoked.
--
-- Between the rounds the name passes on to another user, which has nothing (restante_pass_on_name). The row of the erased one stays, since
-- messages and receipts of others name it, but no token, no request and no statement by name leads to it any more. So the next holder of the
-- name sees nothing of it, whatever it asks for. What was under way to the erased one while the name passed on is found by the second round.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table erasures (
  user_id  bigint not null,
  empties  boolean not null,
  asked_at timestamptz not null default clock_timestamp(),
  round    smallint not null default 1,
  stage    text collate "C" not null default 'chats',
  chat_id  uuid not null default '00000000-0000-0000-0000-000000000000',
  class    inbox_class not null default 'chat',
  seq      bigint not null default 0,
  emptied  bigint not null default 0,
  successor_id bigint,
  passed_at timestamptz,
  done_at  timestamptz,
  constraint a_user_is_erased_once primary key (user_id),
  constraint only_users_are_erased foreign key (user_id) references users (id),
  constraint successors_are_users foreign key (successor_id) references users (id),
  constraint an_erasure_has_a_stage check (stage in ('chats', 'events', 'inbox', 'people', 'name')),
  constraint an_erasure_has_two_rounds check (round in (1, 2))
);
comment on table erasures is 'Users that were erased, and how far that has got. Written by restante_erase_user(), and by the job erase, a part at a time.';
comment on column erasures.user_id is 'The user (users.id). Its row in users stays, since rows of others name it.';
comment on column erasures.empties is 'The messages and events of the user are emptied. False: they stay as they are.';
comment on column erasures.asked_at is 'When it was asked for, the last time.';
comment on column erasures.round is 'The job goes through everything twice, the second time some seconds later. Until then another node may have taken a token that was revoked.';
comment on column erasures.stage is 'The part that the job is at: chats (memberships, messages), events, inbox (what waits for the user), people (contacts, blocks, follows, devices), name (it passes on to the successor; the second round begins with it).';
comment on column erasures.chat_id is 'The chat, or the stream, that the job is at. Those of the user below it are done.';
comment on column erasures.class is 'The inbox that the job is at.';
comment on column erasures.seq is 'Numbers up to this one were looked at, of the chat, stream or inbox. The largest number there is: the chat is done.';
comment on column erasures.emptied is 'Messages and events that were emptied so far.';
comment on column erasures.successor_id is 'The user that has the name of the erased one afterwards (users.id). Made in the stage name; null: it was not made yet.';
comment on column erasures.passed_at is 'When the name passed on to the successor. Null: the erased user has it still.';
comment on column erasures.done_at is 'When the second round came to its end. Null: the job is at work.';
comment on constraint only_users_are_erased on erasures is 'There is nothing to erase of others.';
comment on constraint successors_are_users on erasures is 'The name leads to it.';
comment on constraint an_erasure_has_a_stage on erasures is 'The job knows these.';
comment on constraint an_erasure_has_two_rounds on erasures is 'A third one would find nothing.';
comment on index a_user_is_erased_once is 'The erasure of a user.';
create index erasures_under_way on erasures (user_id) where done_at is null;
comment on index erasures_under_way is 'The job takes them in turn.';

create function restante_forget_profile(p_user bigint) returns void
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  update users u set display_name = null, avatar_url = null, came_at = null where u.id = p_user;
  delete from preferences p where p.user_id = p_user;
  delete from last_seen l where l.user_id = p_user;
  delete from user_limits l where l.user_id = p_user;
  -- One that has passed on its name has no account.
  delete from accounts a where a.name = (select u.external_id from users u where u.id = p_user and u.is_current);
end $$;
comment on function restante_forget_profile(bigint) is
  'Removes what is stored of a user beside its id: name, picture, preferences, when it came and was seen, its account and raised limits. Repeated, it does nothing.';

create function restante_erase_user(
  p_user text, p_empties boolean, p_actor text default null, p_node uuid default null,
  out outcome text, out number bigint, out revoked_at timestamptz, out expires_at timestamptz
)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_user bigint;
begin
  perform restante_needs_read_committed();
  -- The erasure before the user, as its job takes them. One that waits here while the name passes on finds the user that has it then.
  perform from erasures e where e.user_id = (select u.id from users u where u.is_current and u.external_id = p_user) for no key update;
  -- Of two that erase the same user the second waits here, and sees what the first has noted.
  select u.id into v_user from users u where u.is_current and u.external_id = p_user for no key update;
  if v_user is null and exists (select from accounts a where a.name = p_user) then
    -- Somebody who has registered and never came is made a user, so that the name stays taken.
    select u.id into v_user from restante_users(array[p_user]) u;
  end if;
  if v_user is null then
    outcome := 'not_found';
  else
    insert into erasures as e (user_id, empties) values (v_user, p_empties)
      on conflict on constraint a_user_is_erased_once do update
        set empties = true, asked_at = excluded.asked_at, round = 1, stage = 'chats', chat_id = excluded.chat_id, class = excluded.class, seq = 0
        -- One that is under way goes on, unless more is wanted now. One that is done has no name.
        where excluded.empties > e.empties;
    outcome := case when found then 'begun' else 'running' end;
    select r.number, r.revoked_at, r.expires_at into number, revoked_at, expires_at
      from restante_revoke(p_user, p_reason => 'the user is erased', p_by => coalesce(p_actor, session_user), p_node => p_node) r;
    perform restante_forget_profile(v_user);
  end if;
  perform restante_audit('user.erase', jsonb_build_object('userId', left(p_user, 128), 'content', case when p_empties then 'empty' else 'keep' end),
                         outcome, p_actor, p_node);
end $$;
comment on function restante_erase_user(text, boolean, text, uuid) is
  'Erases a user, and notes it in the audit. Its profile is gone and its tokens are revoked (restante_revoke) with the commit. The job erase does the rest: memberships, contacts, blocks, follows and devices go, what waits for the user ends (left), and with p_empties each of its messages is recalled and each of its events emptied. Outcome: begun; running (it is under way already, and goes on); not_found. Repeated after the name has passed on, it erases the user that has it now.';

create function restante_leave_direct(p_user bigint, p_chat uuid) returns bigint
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
declare
  v_last  bigint;
  v_other bigint;
begin
  perform restante_needs_read_committed();
  select h.last_seq into v_last from chat_heads h where h.chat_id = p_chat order by h.step desc limit 1 for no key update;
  -- A statement after the lock: nothing is accepted meanwhile.
  update chat_members m set left_seq = v_last where m.chat_id = p_chat and m.user_id = p_user and m.left_seq is null;
  select x.user_id into v_other from chat_members x where x.chat_id = p_chat and x.user_id <> p_user limit 1;
  return v_other;
end $$;
comment on function restante_leave_direct(bigint, uuid) is
  'A user that was erased leaves a direct chat. The other member, which is returned, keeps it, and nothing is accepted in it any more. Nobody else leaves one: the two of a direct chat are its members for good. Null: there is no other.';

create function restante_pass_on_name(p_user bigint, p_blocks_max integer) returns boolean
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
declare
  v_one      erasures;
  v_name     text;
  v_blockers bigint[];
begin
  perform restante_needs_read_committed();
  select e.* into v_one from erasures e where e.user_id = p_user and e.done_at is null and e.stage = 'name' for no key update;
  if not found then
    return true;
  end if;
  v_blockers := array(select b.user_id from blocks b where b.other_id = p_user order by b.user_id limit p_blocks_max);
  -- One that blocks the user waits here, or is seen.
  perform restante_lock_users(v_blockers || p_user);
  select u.external_id into v_name from users u where u.id = p_user and u.is_current;
  if v_one.successor_id is null then
    insert into users (external_id, is_current) values (v_name, false) returning id into v_one.successor_id;
    update erasures e set successor_id = v_one.successor_id where e.user_id = p_user;
  end if;
  perform restante_move_blocks(p_user, v_one.successor_id, v_blockers);
  if exists (select from blocks b where b.other_id = p_user) then
    return false;
  end if;
  update users u set is_current = false where u.id = p_user;
  update users u set is_current = true where u.id = v_one.successor_id;
  -- Numbers go on, so that a cursor of a client from before is none of the future. What lies below is gone.
  insert into inboxes (user_id, class, step, last_seq, settled_seq, purged_seq)
    select v_one.successor_id, c.class, i.step, i.last_seq, i.last_seq, i.last_seq
      from (select unnest(enum_range(null::inbox_class)) as class) c
      cross join lateral (
        select x.step, x.last_seq from inboxes x where x.user_id = p_user and x.class = c.class order by x.step desc limit 1 for no key update) i;
  -- Connections with tokens from meanwhile are those of the erased user: they end.
  perform restante_revoke(v_name, p_reason => 'the user is erased', p_by => coalesce(r.revoked_by, session_user))
    from (select 1) one
    left join lateral (
      select x.revoked_by from revocations x where x.user_name = v_name and x.device_id is null and x.token_id is null limit 1) r on true;
  update erasures e set stage = 'chats', passed_at = clock_timestamp() where e.user_id = p_user;
  return true;
end $$;
comment on function restante_pass_on_name(bigint, integer) is
  'Passes the name of a user that is erased on to another user, made for it, which has nothing but the blocks by others; its inboxes go on behind the last numbers of the erased one. Tokens that were issued before are revoked. False: p_blocks_max blocks were moved, and there are more; call it again.';

create function restante_move_blocks(p_from bigint, p_to bigint, p_blockers bigint[]) returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  insert into blocks (user_id, other_id, blocked_at)
    select b.user_id, p_to, b.blocked_at
      from (select unnest(p_blockers) as user_id) u
      cross join lateral (select x.user_id, x.blocked_at from blocks x where x.user_id = u.user_id and x.other_id = p_from limit 1) b
    on conflict on constraint a_user_blocks_another_once do nothing;
  delete from blocks b using (select unnest(p_blockers) as user_id) u where b.user_id = u.user_id and b.other_id = p_from;
end $$;
comment on function restante_move_blocks(bigint, bigint, bigint[]) is
  'These users, whose rows are locked (restante_lock_users), block the other one instead where they block the first. Their direct chat with the first stays closed.';

create function restante_erase_messages(p_user bigint, p_chat uuid, p_messages_max integer) returns integer
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_one  erasures;
  v_last bigint;
  v_to   bigint;
  v_end  bigint;
  v_ids  uuid[];
  v_rows tid[];
begin
  perform restante_needs_read_committed();
  select e.* into v_one from erasures e
   where e.user_id = p_user and e.done_at is null and e.stage = 'chats' and e.chat_id = p_chat and e.empties for no key update;
  if not found then
    return 0;
  end if;
  select h.last_seq into v_last from chat_heads h where h.chat_id = p_chat order by h.step desc limit 1;
  v_to := least(greatest(v_one.seq, (select c.purged_seq from chats c where c.id = p_chat)) + 1000, v_last);
  select array_agg(q.id order by q.seq), max(q.seq) into v_ids, v_end
    from (select m.id, m.seq from messages m
           where m.chat_id = p_chat and m.seq > v_one.seq and m.seq <= v_to and m.sender_id = p_user and m.recalled_at is null
           order by m.seq limit p_messages_max) q;
  if cardinality(v_ids) = p_messages_max then
    v_to := v_end;
  end if;
  for v_n in 1 .. coalesce(cardinality(v_ids), 0) loop
    perform restante_take_back(v_ids[v_n], p_user, null);
  end loop;
  -- A client that rejects a message may quote it. A row that is held is being acked.
  select array_agg(q.at) into v_rows
    from (select unnest(v_ids) as id) u
    cross join lateral (
      select x.ctid as at from message_status x
       where x.message_id = u.id and x.reason is not null and x.status in ('sent', 'delivered', 'read', 'failed') for no key update skip locked) q;
  update message_status s set reason = null where s.ctid = any (v_rows);
  perform restante_forget_errors(v_ids, null);
  update erasures e set chat_id = p_chat, seq = v_to, emptied = e.emptied + coalesce(cardinality(v_ids), 0) where e.user_id = p_user;
  return coalesce(cardinality(v_ids), 0);
end $$;
comment on function restante_erase_messages(bigint, uuid, integer) is
  'Recalls the next messages of a user that is erased in the chat that the job is at: at most p_messages_max, among the next 1,000 numbers. Moves the place of the erasure, and returns how many. What clients have written of them goes, too.';

create function restante_forget_errors(p_messages uuid[], p_user bigint) returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  update endings e set last_error = null, reason = case e.status when 'failed' then 'failed' else e.reason end
    from (select unnest(p_messages) as id) u
   where e.message_id = any (array[u.id]) and (p_user is null or e.user_id = p_user) and (e.last_error is not null or e.status = 'failed');
end $$;
comment on function restante_forget_errors(uuid[], bigint) is
  'Removes the words with which clients have rejected these messages from the endings: those of one recipient, or of all (null).';

create function restante_erase_events(p_user bigint, p_events_max integer) returns boolean
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
declare
  v_one    erasures;
  v_now    timestamptz := clock_timestamp();
  v_stream uuid;
  v_before uuid;
  v_seq    bigint;
  v_last   bigint;
  v_count  bigint;
  v_ids    uuid[];
  v_left   bigint := p_events_max;
begin
  perform restante_needs_read_committed();
  select e.* into v_one from erasures e where e.user_id = p_user and e.done_at is null and e.stage = 'events' for no key update;
  if not found then
    return true;
  end if;
  v_stream := (select f.chat_id from feeds f where f.chat_id >= v_one.chat_id order by f.chat_id limit 1);
  v_seq := case when v_stream = v_one.chat_id then v_one.seq else 0 end;
  while v_stream is not null and v_left > 0 loop
    select count(*), max(q.seq), array_agg(q.id) filter (where q.is_own) into v_count, v_last, v_ids
      from (select m.id, m.seq, m.sender_id = p_user and (m.metadata is not null or m.sealed is not null) as is_own
              from messages m where m.chat_id = v_stream and m.seq > v_seq order by m.seq limit v_left) q;
    -- Rows that wait end as those that have expired: nobody is shown an event without its data. The job expire writes it.
    update messages m
       set metadata = null, sealed = null, key_id = null, expires_at = least(m.expires_at, v_now)
      from (select unnest(v_ids) as id) u where m.id = any (array[u.id]);
    perform restante_forget_errors(v_ids, null);
    v_one.emptied := v_one.emptied + coalesce(cardinality(v_ids), 0);
    v_before := v_stream;
    v_seq := coalesce(v_last, v_seq);
    if v_count < v_left then
      v_stream := (select f.chat_id from feeds f where f.chat_id > v_before order by f.chat_id limit 1);
      v_seq := 0;
    end if;
    -- A stream without events costs a look, too.
    v_left := v_left - v_count - 1;
  end loop;
  update erasures e
     set stage = case when v_stream is null then 'inbox' else e.stage end, seq = v_seq, emptied = v_one.emptied,
         chat_id = coalesce(v_stream, '00000000-0000-0000-0000-000000000000')
   where e.user_id = p_user;
  return v_stream is null;
end $$;
comment on function restante_erase_events(bigint, integer) is
  'Empties the next events of a user that is erased, of all streams: it looks at p_events_max events. An event that is emptied has expired. Moves the place of the erasure. True: these were the last.';

create function restante_erase_inbox(p_user bigint, p_rows_max integer)
returns table (class inbox_class, seq bigint, message_id uuid, chat_id uuid, chat_seq bigint, sender_id bigint, ended_at timestamptz, is_held boolean)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_one     erasures;
  v_now     timestamptz := clock_timestamp();
  v_ids     uuid[];   -- the messages of the page
  v_last    bigint;
  v_waiting bigint;   -- rows of it that wait,
  v_rows    tid[];    -- … and are not held
  v_words   tid[];    -- those with words of the user that are not held
  v_ended   uuid[];
  v_seqs    bigint[];
  v_chats   uuid[];
  v_is_held boolean;
begin
  perform restante_needs_read_committed();
  select e.* into v_one from erasures e where e.user_id = p_user and e.done_at is null and e.stage = 'inbox' for no key update;
  if not found then
    return;
  end if;
  select array_agg(q.message_id), max(q.seq), count(*) filter (where q.status = 'sent') into v_ids, v_last, v_waiting
    from (select s.message_id, s.seq, s.status from message_status s
           where s.user_id = p_user and s.class = v_one.class and s.seq > v_one.seq order by s.seq limit p_rows_max) q;
  -- A row ends together with its mark, or not now, as in restante_expire. Events have no marks.
  select array_agg(q.at), array_agg(distinct q.chat_id) into v_rows, v_chats
    from (select l.at, m.chat_id
            from (select unnest(v_ids) as id) u
            cross join lateral (select x.chat_id from messages x where x.id = u.id limit 1) m
            left join lateral (
              select true as is_here from marks x where x.chat_id = m.chat_id and x.user_id = p_user order by x.step desc limit 1
                for no key update skip locked) k on v_one.class = 'chat'
            cross join lateral (
              select x.ctid as at from message_status x
               where x.message_id = u.id and x.user_id = p_user and x.status = 'sent' and (k.is_here or v_one.class <> 'chat') limit 1
                for no key update skip locked) l
           limit p_rows_max) q;
  if v_rows is not null then
    with ended as (
      update message_status s set status = 'expired', ended = 'left', reason = 'left' where s.ctid = any (v_rows) and s.status = 'sent'
      returning s.message_id, s.seq
    )
    select array_agg(e.message_id), array_agg(e.seq) into v_ended, v_seqs from ended e;
    perform restante_exact_marks(v_chats, array_fill(p_user, array[cardinality(v_chats)]), true);
  end if;
  -- With these words the user's clients have rejected something.
  v_words := array(
    select s.ctid from message_status s
     where s.user_id = p_user and s.class = v_one.class and s.seq > v_one.seq and s.seq <= v_last and s.reason is not null
       and s.status in ('delivered', 'read', 'failed')
       for no key update skip locked);
  update message_status s set reason = null where s.ctid = any (v_words) and s.status in ('delivered', 'read', 'failed');
  perform restante_forget_errors(v_ids, p_user);
  v_is_held := coalesce(cardinality(v_ended), 0) < v_waiting or exists (
    select from message_status s
     where s.user_id = p_user and s.class = v_one.class and s.seq > v_one.seq and s.seq <= v_last and s.reason is not null
       and s.status in ('delivered', 'read', 'failed'));
  if v_last is null then
    perform restante_advance_settled(p_user, v_one.class);
    update erasures e
       set class = case v_one.class when 'chat' then 'alert' else 'event' end::inbox_class, seq = 0,
           stage = case v_one.class when 'event' then 'people' else 'inbox' end
     where e.user_id = p_user;
  elsif not v_is_held then
    update erasures e set seq = v_last where e.user_id = p_user;
  end if;
  return query
    select v_one.class, e.seq, m.id, m.chat_id, m.seq, m.sender_id, v_now, v_is_held
      from (select unnest(v_ended) as id, unnest(v_seqs) as seq) e
      cross join lateral (select x.id, x.chat_id, x.seq, x.sender_id from messages x where x.id = e.id limit 1) m
    union all
    select v_one.class, null, null, null, null, null, v_now, v_is_held;
end $$;
comment on function restante_erase_inbox(bigint, integer) is
  'Ends what waits for a user that is erased (left): the next p_rows_max rows of the inbox that the job is at. Moves the place of the erasure, unless something is held (is_held). The words with which clients of the user have rejected messages go. One row per row that ended, and one without a message; nothing at all: the job is not at an inbox.';

create function restante_end_erasure_round(p_user bigint) returns boolean
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
declare
  v_one      erasures;
  v_blockers bigint[];
begin
  perform restante_needs_read_committed();
  select e.* into v_one from erasures e where e.user_id = p_user and e.done_at is null and e.stage = 'people' for no key update;
  if not found then
    return false;
  end if;
  if v_one.round = 2 then
    v_blockers := array(select b.user_id from blocks b where b.other_id = p_user order by b.user_id limit 1000);
    perform restante_lock_users(v_blockers || p_user);
  end if;
  perform restante_forget_profile(p_user);
  delete from feed_publishers p where p.user_id = p_user;
  delete from invitations i where i.user_id = p_user;
  perform restante_end_invitations(null, array(select distinct i.user_id from invitations i where i.inviter_id = p_user), p_user);
  -- One that was declined stays so, and names it no more.
  update invitations i set inviter_id = null where i.inviter_id = p_user;
  if v_one.round = 2 then
    delete from devices d where d.user_id = p_user;
    delete from followers f where f.user_id = p_user;
    -- Blocks that were under way while the name passed on.
    perform restante_move_blocks(p_user, v_one.successor_id, v_blockers);
  else
    -- A device that has connected since is that of somebody with a newer token, whose connection ends when the name passes on.
    delete from devices d
     where d.user_id = p_user
       and (d.last_seen_at <= v_one.asked_at or not exists (select from nodes n where n.node_id = d.node_id and restante_is_alive(n, clock_timestamp())));
  end if;
  update erasures e
     set round = 2, done_at = case v_one.round when 2 then clock_timestamp() end,
         stage = 'name', chat_id = '00000000-0000-0000-0000-000000000000', class = 'chat', seq = 0
   where e.user_id = p_user;
  return v_one.round = 2;
end $$;
comment on function restante_end_erasure_round(bigint) is
  'Ends a round of an erasure: the profile goes again, and publishing, invitations and devices, in the second round also that the user follows everyone. True: this was the second one, and the erasure is done.';
