-- Users, chats, and who is in them. Joining and leaving happen under the lock of the chat's head, so that who is a member at message
-- number n is exact.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function restante_users(p_external_ids text[], p_have_come boolean default false) returns table (external_id text, id bigint)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
begin
  -- User and inboxes in one statement: a session that sees the one sees the others. Sorted, so that two nodes that meet the
  -- same new users do not wait for each other in a circle.
  if exists (select from unnest(p_external_ids) x (name) where (select u.id from users u where u.is_current and u.external_id = x.name limit 1) is null) then
    with made as (
      insert into users (external_id, came_at)
        select q.name, case when p_have_come then clock_timestamp() end
          from (select distinct x.name collate "C" as name from unnest(p_external_ids) x (name)) q order by q.name
        on conflict (external_id) where is_current do nothing
        returning id
    )
    insert into inboxes (user_id, class) select made.id, c.class from made cross join unnest(enum_range(null::inbox_class)) c (class);
  end if;
  -- A later statement: those that another node made meanwhile are seen too.
  return query select u.external_id, u.id from users u where u.is_current and u.external_id = any (p_external_ids);
end $$;
comment on function restante_users(text[], boolean) is
  'The numbers of these users; those that are new are made, with their inboxes. p_have_come: they come with tokens of their own, and are not only named.';

create function restante_are_contacts(p_one bigint, p_other bigint) returns boolean
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
begin
  return exists (select from contacts c where c.user_id = p_one and c.other_id = p_other)
     and exists (select from contacts c where c.user_id = p_other and c.other_id = p_one);
end $$;
comment on function restante_are_contacts(bigint, bigint) is 'True where these two users are contacts: each wants the other.';

create function restante_direct_chats(
  p_users  bigint[],
  p_others text[],    -- the name of the other; the user's own: its chat with itself
  p_make   boolean[], -- may it be made, and the other user too?
  p_contacts_only boolean default false, -- is it made for contacts only?
  -- Per item, in the order of p_users:
  out chats uuid[],   -- null: not there, and not to be made
  out made  boolean[], -- was it made now? Null as a whole: none was
  out is_known boolean[] -- is there a user of the other name, before any is made? Null as a whole: all chats are there
)
language plpgsql
volatile
-- Rows are looked up by key, whatever the planner believes of the tables, or believed when it made a plan that is kept.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set enable_material = off
set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_others bigint[]; -- per item: the number of the other; null: nobody has that name
  v_keys   text[];   -- per item: the key of the chat; null likewise
  v_new    text[];   -- keys of the chats that were made here
begin
  perform restante_needs_read_committed();
  -- least() passes over a null: without the `case` an unknown name would find the user's chat with itself.
  select array_agg(q.other), array_agg(q.key), array_agg(q.chat) into v_others, v_keys, chats
    from (
      select o.id as other, k.key, c.id as chat
        from (select generate_subscripts(p_users, 1) as ord, unnest(p_users) as id, unnest(p_others) as name) u
        left join lateral (select x.id from users x where x.is_current and x.external_id = u.name offset 0) o on true
        cross join lateral (select case when o.id is not null then least(u.id, o.id) || ':' || greatest(u.id, o.id) end as key offset 0) k
        left join lateral (select x.id from chats x where x.direct_key = k.key offset 0) c on true
       order by u.ord
    ) q;
  if array_position(chats, null) is null then
    return;
  end if;
  is_known := array(select x.other is not null from unnest(v_others) with ordinality x (other, n) order by x.n);
  if array_position(p_make, true) is null then
    return;
  end if;

  -- An unknown user has no contacts.
  if array_position(v_others, null) is not null and not p_contacts_only then
    -- All users before the first chat: who waits for a user holds no chat, so nobody waits in a circle.
    perform restante_users(array(
      select distinct u.name
        from (select unnest(v_others) as other, unnest(p_others) as name, unnest(p_make) as make) u
       where u.other is null and u.make));
    select array_agg(q.key) into v_keys
      from (
        select case when o.id is not null then least(u.id, o.id) || ':' || greatest(u.id, o.id) end as key
          from (select generate_subscripts(p_users, 1) as ord, unnest(p_users) as id, unnest(p_others) as name) u
          left join lateral (select x.id from users x where x.is_current and x.external_id = u.name offset 0) o on true
         order by u.ord
      ) q;
  end if;

  -- In the order of their keys: two that make the same ones wait for each other in one direction only.
  with wanted as materialized (
    select distinct on (w.key collate "C") w.key
      from (select unnest(v_keys) as key, unnest(chats) as chat, unnest(p_make) as make) w
     where w.chat is null and w.make and w.key is not null
       and (not p_contacts_only or split_part(w.key, ':', 1) = split_part(w.key, ':', 2)
            or restante_are_contacts(split_part(w.key, ':', 1)::bigint, split_part(w.key, ':', 2)::bigint))
       -- A chat of two users with a block between them is not begun.
       and (select true from blocks b where b.user_id = split_part(w.key, ':', 1)::bigint and b.other_id = split_part(w.key, ':', 2)::bigint limit 1) is null
       and (select true from blocks b where b.user_id = split_part(w.key, ':', 2)::bigint and b.other_id = split_part(w.key, ':', 1)::bigint limit 1) is null
     order by w.key collate "C"
  ), made_now as (
    insert into chats (id, kind, direct_key)
      select gen_random_uuid(), 'direct', w.key from wanted w order by w.key collate "C"
      on conflict on constraint two_users_share_one_direct_chat do nothing
      returning id, direct_key
  ), heads as (
    insert into chat_heads (chat_id) select m.id from made_now m
  ), pairs as materialized (
    select m.id as chat_id, split_part(m.direct_key, ':', s.part)::bigint as user_id
      from made_now m cross join (values (1), (2)) s (part)
     where s.part = 1 or split_part(m.direct_key, ':', 1) <> split_part(m.direct_key, ':', 2)
  ), marked as (
    insert into marks (chat_id, user_id) select p.chat_id, p.user_id from pairs p
  ), members as (
    insert into chat_members (chat_id, user_id) select p.chat_id, p.user_id from pairs p
  )
  select array_agg(m.direct_key) into v_new from made_now m;
  -- A later statement: one who blocks has been waited for by the reference to it, or waits for this transaction (restante_put_block).
  if v_new is not null then
    insert into closed_chats (chat_id, user_id, delivered_seq, read_seq)
      select c.id, p.user_id, 0, 0
        from (select unnest(v_new) as key) n
        cross join lateral (select split_part(n.key, ':', 1)::bigint as one, split_part(n.key, ':', 2)::bigint as two) u
        cross join lateral (
          select from blocks b where b.user_id = u.one and b.other_id = u.two union all
          select from blocks b where b.user_id = u.two and b.other_id = u.one limit 1) b
        cross join lateral (select x.id from chats x where x.direct_key = n.key limit 1) c
        cross join lateral unnest(array[u.one, u.two]) p (user_id)
      on conflict on constraint a_member_of_a_closed_chat_is_noted_once do nothing;
  end if;

  -- A later statement: of two that make a chat at once, both find the same.
  select array_agg(q.chat), array_agg(q.made) into chats, made
    from (
      select coalesce(u.chat, c.id) as chat, coalesce(u.chat is null and u.key = any (v_new), false) as made
        from (select generate_subscripts(v_keys, 1) as ord, unnest(v_keys) as key, unnest(chats) as chat) u
        left join lateral (select x.id from chats x where x.direct_key = u.key and u.chat is null offset 0) c on true
       order by u.ord
    ) q;
end $$;
comment on function restante_direct_chats(bigint[], text[], boolean[], boolean) is
  'The direct chats of these users with those of these names, all in one statement. A missing chat is made where it may be, with its members and the other user; never between two users of whom one has blocked the other, nor, with p_contacts_only, between two that are no contacts.';

create function restante_direct_chat(p_user bigint, p_other bigint) returns uuid
language plpgsql volatile
set search_path from current
as $$
begin
  return (select d.chats[1]
            from restante_direct_chats(array[p_user], array[(select u.external_id from users u where u.id = p_other)], array[true]) d);
end $$;
comment on function restante_direct_chat(bigint, bigint) is
  'The direct chat of two users (or of one with itself), made with its members if it is missing.';

create function restante_has_blocked(p_users bigint[], p_other bigint) returns boolean
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
begin
  return exists (
    select from (select unnest(p_users) as id) u
    cross join lateral (select from blocks b where b.user_id = u.id and b.other_id = p_other limit 1) b);
end $$;
comment on function restante_has_blocked(bigint[], bigint) is 'True where one of these users has blocked that one. Users that it has blocked itself do not count.';

create function restante_strangers(p_users bigint[], p_caller bigint) returns bigint[]
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
begin
  return array(select u.id from (select unnest(p_users) as id) u where u.id <> p_caller and not restante_are_contacts(u.id, p_caller) order by u.id);
end $$;
comment on function restante_strangers(bigint[], bigint) is 'Those of these users that are no contacts of the caller, without the caller itself.';

create function restante_lock_users(p_users bigint[]) returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  perform from users u where u.id = any (p_users) order by u.id for no key update;
end $$;
comment on function restante_lock_users(bigint[]) is
  'Locks the rows of these users in the order of their numbers, as those do that block. One who blocks, or takes a block back, waits for it, or is waited for.';

create function restante_create_group(
  p_chat uuid, p_creator bigint, p_title text, p_members bigint[], p_contacts_only boolean default false, out outcome text, out invited bigint[]
)
language plpgsql volatile
set search_path from current
as $$
declare
  v_users     bigint[] := array(select p_creator union select unnest(p_members) order by 1);
  v_strangers bigint[] := '{}';
  v_members   bigint[];
begin
  invited := '{}';
  if p_contacts_only then
    v_strangers := restante_strangers(v_users, p_creator);
    if cardinality(v_strangers) > 0 then
      -- Members are referred to later, so all are locked at once.
      perform restante_lock_users(v_users);
    end if;
    outcome := restante_why_not_invite(p_chat, p_creator, v_strangers);
  end if;
  -- A statement after the locks of those who would be invited.
  if outcome is null and restante_has_blocked(v_users, p_creator) then
    outcome := 'not_accepted';
  end if;
  if outcome is not null then
    return;
  end if;
  v_members := array(select unnest(v_users) except select unnest(v_strangers) order by 1);
  insert into chats (id, kind, title) values (p_chat, 'group', p_title);
  insert into chat_heads (chat_id) values (p_chat);
  insert into chat_members (chat_id, user_id, role)
    select p_chat, q.user_id, case when q.user_id = p_creator then 'admin'::member_role else 'member' end from unnest(v_members) q (user_id);
  insert into marks (chat_id, user_id) select p_chat, q.user_id from unnest(v_members) q (user_id);
  invited := restante_put_invitations(p_chat, p_creator, v_strangers);
  outcome := 'done';
end $$;
comment on function restante_create_group(uuid, bigint, text, bigint[], boolean) is
  'Makes a group with these members; its creator is its admin. With p_contacts_only those who are no contacts of it are invited instead. Nobody else can see the chat before the commit, so it is not locked. Outcome: done, with those who were invited. Else nothing was done: not_accepted (one of them has blocked the creator, or cannot be invited by it), too_many_invitations.';

create function restante_note_recount(p_chat uuid, p_before bigint, p_after bigint) returns void
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
begin
  if greatest(p_before, p_after) > 50 then
    update chats c set recount_xid = pg_current_xact_id() where c.id = p_chat;
  end if;
end $$;
comment on function restante_note_recount(uuid, bigint, bigint) is
  'Notes that a chat has so many members now, and had so many before, where either is more than 50: senders who look for what has moved are then told of it. Called under the lock of the chat''s head.';

create function restante_put_members(p_chat uuid, p_users bigint[], p_last_seq bigint, p_count bigint) returns void
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  insert into chat_members as cm (chat_id, user_id, joined_seq)
    select p_chat, u.user_id, p_last_seq from unnest(p_users) u (user_id)
    on conflict on constraint a_user_is_in_a_chat_once do update set role = 'member', joined_seq = p_last_seq, left_seq = null;
  -- Members that were in the group before have marks, and a late ack may be moving these.
  perform restante_lock_marks(array_fill(p_chat, array[coalesce(cardinality(p_users), 0)]), p_users);
  update marks k
     set delivered_seq = p_last_seq, read_seq = p_last_seq, has_hole = false, moves = k.moves + 1, step = (k.moves + 1) >> 4, marked_xid = pg_current_xact_id()
    from (select u.user_id, (select n.step from marks n where n.chat_id = p_chat and n.user_id = u.user_id order by n.step desc limit 1) as step
            from unnest(p_users) u (user_id)) w
   where k.chat_id = p_chat and k.user_id = any (array[w.user_id]) and k.step = w.step;
  insert into marks (chat_id, user_id, delivered_seq, read_seq)
    select p_chat, u.user_id, p_last_seq, p_last_seq from unnest(p_users) u (user_id)
     where not exists (select from marks n where n.chat_id = p_chat and n.user_id = u.user_id);
  if p_users is not null then
    perform restante_note_recount(p_chat, p_count, p_count + array_length(p_users, 1));
    perform restante_end_invitations(p_chat, p_users);
  end if;
end $$;
comment on function restante_put_members(uuid, bigint[], bigint, bigint) is
  'Makes these users, who are none yet, members of a group that has so many: they get messages above p_last_seq, its highest number, and are invited no more. Called under the lock of the chat''s head, by those who have looked whether they may.';

create function restante_add_members(p_chat uuid, p_caller bigint, p_users bigint[], p_members_max integer, p_contacts_only boolean default false)
returns table (outcome text, user_id bigint, external_id text, title text, joined_seq bigint)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_kind      chat_kind;
  v_title     text;
  v_last      bigint;
  v_role      member_role;
  v_new       bigint[];
  v_strangers bigint[] := '{}';
  v_refused   text;
  v_count     bigint;
begin
  perform restante_needs_read_committed();
  -- A caller that is no member locks nothing: those who send would wait for it.
  if not exists (select from chat_members cm where cm.chat_id = p_chat and cm.user_id = p_caller and cm.left_seq is null) then
    return query select 'not_a_member', null::bigint, null::text, null::text, null::bigint;
    return;
  end if;
  select h.last_seq into v_last from chat_heads h where h.chat_id = p_chat order by h.step desc limit 1 for no key update;
  -- A statement after the lock: nobody joins, leaves or sends any more, and whatever they did is seen.
  select c.kind, c.title into v_kind, v_title from chats c where c.id = p_chat;
  select cm.role into v_role from chat_members cm where cm.chat_id = p_chat and cm.user_id = p_caller and cm.left_seq is null;
  if v_role is null then
    return query select 'not_a_member', null::bigint, null::text, null::text, null::bigint;
    return;
  end if;
  if v_kind <> 'group' then
    return query select 'not_a_group', null::bigint, null::text, null::text, null::bigint;
    return;
  end if;
  if v_role <> 'admin' then
    return query select 'forbidden', null::bigint, null::text, null::text, null::bigint;
    return;
  end if;
  select array_agg(q.user_id order by q.user_id) into v_new
    from (
      select distinct u.user_id from unnest(p_users) u (user_id)
        left join chat_members cm on cm.chat_id = p_chat and cm.user_id = u.user_id and cm.left_seq is null
       where cm.user_id is null
    ) q;
  select count(*) into v_count from chat_members cm where cm.chat_id = p_chat and cm.left_seq is null;
  if v_count + coalesce(array_length(v_new, 1), 0) + restante_invited_beside(p_chat, v_new, p_members_max) > p_members_max then
    return query select 'too_many_members', null::bigint, null::text, null::text, null::bigint;
    return;
  end if;
  if p_contacts_only and v_new is not null then
    v_strangers := restante_strangers(v_new, p_caller);
    if cardinality(v_strangers) > 0 then
      perform restante_lock_users(v_new || p_caller);
    end if;
    v_refused := restante_why_not_invite(p_chat, p_caller, v_strangers);
  end if;
  -- A statement after the locks of those who would be invited.
  if v_refused is null and restante_has_blocked(v_new, p_caller) then
    v_refused := 'not_accepted';
  end if;
  if v_refused is not null then
    return query select v_refused, null::bigint, null::text, null::text, null::bigint;
    return;
  end if;
  if cardinality(v_strangers) > 0 then
    select array_agg(x.user_id order by x.user_id) into v_new from unnest(v_new) x (user_id) where x.user_id <> all (v_strangers);
  end if;
  perform restante_put_members(p_chat, v_new, v_last, v_count);
  return query
    select 'done', u.id, u.external_id, v_title, v_last
      from (select 1) one left join users u on u.id = any (v_new)
     order by u.id;
  if cardinality(v_strangers) > 0 then
    return query
      select 'invited', u.id, u.external_id, v_title, v_last from unnest(restante_put_invitations(p_chat, p_caller, v_strangers)) x (user_id)
        cross join lateral (select y.id, y.external_id from users y where y.id = x.user_id limit 1) u;
  end if;
end $$;
comment on function restante_add_members(uuid, bigint, bigint[], integer, boolean) is
  'Adds members to a group; with p_contacts_only those who are no contacts of the caller are invited instead. One row per member that is new, with the number above which it gets messages (a row without a user when nobody is), outcome done, and then one per user that is invited now, outcome invited. Else one row that says why nothing was done: not_a_member (the caller is not in it, or there is no such chat), not_a_group, forbidden (the caller is no admin), too_many_members, not_accepted (one of those who are new has blocked the caller, or cannot be invited by it), too_many_invitations. A user that is a member or invited already is passed over.';

create function restante_why_not_add(p_chat uuid, p_caller bigint, p_users bigint[], p_unknown bigint, p_members_max integer, p_contacts_only boolean)
returns text
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_role  member_role;
  v_kind  chat_kind;
  v_new   bigint[];
  v_count bigint;
begin
  select cm.role into v_role from chat_members cm where cm.chat_id = p_chat and cm.user_id = p_caller and cm.left_seq is null;
  select c.kind into v_kind from chats c where c.id = p_chat;
  if v_role is null then
    return 'not_a_member';
  elsif v_kind <> 'group' then
    return 'not_a_group';
  elsif v_role <> 'admin' then
    return 'forbidden';
  end if;
  select count(*) into v_count from chat_members cm where cm.chat_id = p_chat and cm.left_seq is null;
  -- A member is passed over, whatever it has blocked.
  select array_agg(u.user_id) into v_new
    from (select distinct x.user_id from unnest(p_users) x (user_id)) u
   where (select true from chat_members cm where cm.chat_id = p_chat and cm.user_id = u.user_id and cm.left_seq is null limit 1) is null;
  return case when v_count + coalesce(cardinality(v_new), 0) + p_unknown > p_members_max then 'too_many_members'
              when restante_has_blocked(v_new, p_caller) then 'not_accepted'
              -- An unknown user has no contacts.
              when p_contacts_only and restante_invitations_left(p_caller) < p_unknown then 'too_many_invitations' end;
end $$;
comment on function restante_why_not_add(uuid, bigint, bigint[], bigint, integer, boolean) is
  'The outcome with which restante_add_members would refuse these users and so many more who are new, as far as that is seen without a lock; null: it would not.';

create function restante_add_named_members(
  p_chat uuid, p_caller bigint, p_names text[], p_make boolean, p_members_max integer, p_contacts_only boolean default false
)
returns table (outcome text, user_id bigint, external_id text, title text, joined_seq bigint)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_users   bigint[];
  v_unknown text[];
  v_refused text;
begin
  perform restante_needs_read_committed();
  select coalesce(array_agg(u.id) filter (where u.id is not null), '{}'), array_agg(x.name) filter (where u.id is null) into v_users, v_unknown
    from (select distinct unnest(p_names) as name) x left join lateral (select y.id from users y where y.is_current and y.external_id = x.name limit 1) u on true;
  if v_unknown is not null then
    v_refused := restante_why_not_add(p_chat, p_caller, v_users, cardinality(v_unknown), p_members_max, p_contacts_only);
    if v_refused is not null then
      return query select v_refused, null::bigint, null::text, null::text, null::bigint;
      return;
    end if;
    if not p_make then
      return query select 'unknown', null::bigint, x.name, null::text, null::bigint from unnest(v_unknown) x (name);
      return;
    end if;
    -- Before the lock of the chat: this may wait for another session that makes the same users.
    select array_agg(u.id) into v_users from restante_users(p_names) u;
  end if;
  return query select * from restante_add_members(p_chat, p_caller, v_users, p_members_max, p_contacts_only);
end $$;
comment on function restante_add_named_members(uuid, bigint, text[], boolean, integer, boolean) is
  'restante_add_members for users by their names. Where the service does not know some of them, it makes them (p_make), or changes nothing and returns a row for each, outcome unknown. It makes nobody for a caller that may not add them.';

create function restante_remove_members(p_chat uuid, p_caller bigint, p_users bigint[])
returns table (
  outcome text, user_id bigint, external_id text, left_seq bigint,
  class inbox_class, seq bigint, message_id uuid, chat_seq bigint, sender_id bigint, ended_at timestamptz
)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now     timestamptz;
  v_kind    chat_kind;
  v_last    bigint;
  v_role    member_role;
  v_leaving bigint[];
  v_each    bigint;
  v_refused text;
  v_heir    bigint;
  v_count   bigint;
begin
  perform restante_needs_read_committed();
  -- A caller that is no member locks nothing, as in restante_add_members.
  if not exists (select from chat_members cm where cm.chat_id = p_chat and cm.user_id = p_caller and cm.left_seq is null) then
    return query select 'not_a_member', null::bigint, null::text, null::bigint, null::inbox_class, null::bigint, null::uuid, null::bigint,
                        null::bigint, null::timestamptz;
    return;
  end if;
  select h.last_seq into v_last from chat_heads h where h.chat_id = p_chat order by h.step desc limit 1 for no key update;
  -- A statement after the lock, as above. The clock too: nothing was accepted after it that is ended here.
  v_now := clock_timestamp();
  select c.kind into v_kind from chats c where c.id = p_chat;
  select cm.role into v_role from chat_members cm where cm.chat_id = p_chat and cm.user_id = p_caller and cm.left_seq is null;
  v_refused := case
    when v_role is null then 'not_a_member'
    when v_kind <> 'group' then 'not_a_group'
    when v_role <> 'admin' and exists (select 1 from unnest(p_users) u (user_id) where u.user_id <> p_caller) then 'forbidden'
  end;
  if v_refused is not null then
    return query select v_refused, null::bigint, null::text, null::bigint, null::inbox_class, null::bigint, null::uuid, null::bigint,
                        null::bigint, null::timestamptz;
    return;
  end if;
  select array_agg(cm.user_id order by cm.user_id) into v_leaving
    from chat_members cm where cm.chat_id = p_chat and cm.user_id = any (p_users) and cm.left_seq is null;

  -- Rows that wait for them in this chat end: 1,000 messages of the chat at once, and the rest by a job, since everybody else in the
  -- chat waits for this transaction. Nothing at or below delivered_seq waits; only a requeue lowers it, and that locks the chat as well.
  v_each := greatest(1000 / coalesce(array_length(v_leaving, 1), 1), 1);
  insert into departures (user_id, chat_id, after_seq, up_to_seq)
    select u.user_id, p_chat, k.delivered_seq + v_each, v_last
      from unnest(v_leaving) u (user_id)
      cross join lateral (select x.delivered_seq from marks x where x.chat_id = p_chat and x.user_id = u.user_id order by x.step desc limit 1) k
     where v_last > k.delivered_seq + v_each
    on conflict on constraint a_departure_is_noted_once do nothing;
  return query
    with ended as (
      update message_status s set status = 'expired', ended = 'left', reason = 'left'
        from (
          select x.user_id, x.class, x.seq, m.seq as chat_seq, m.sender_id
            from unnest(v_leaving) u (user_id)
            cross join lateral (select y.delivered_seq from marks y where y.chat_id = p_chat and y.user_id = u.user_id order by y.step desc limit 1) k
            cross join lateral (
              select y.id, y.seq, y.sender_id from messages y
               where y.chat_id = p_chat and y.seq > k.delivered_seq and y.seq <= k.delivered_seq + v_each order by y.seq limit v_each) m
            -- By key, each for itself: joined, a planner might walk the member's whole inbox.
            cross join lateral (
              select y.user_id, y.class, y.seq from message_status y
               where y.message_id = m.id and y.user_id = u.user_id and y.status = 'sent' limit 1) x
           order by x.user_id, x.class, x.seq
        ) u
       where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status = 'sent'
      returning s.user_id, s.class, s.seq, s.message_id, u.chat_seq, u.sender_id
    )
    select 'done', u.id, u.external_id, v_last, e.class, e.seq, e.message_id, e.chat_seq, e.sender_id, v_now
      from ended e join users u on u.id = e.user_id
    union all
    select 'done', u.id, u.external_id, v_last, null, null, null, null, null, v_now
      from (select 1) one left join users u on u.id = any (v_leaving);

  update chat_members cm set left_seq = v_last, role = 'member' where cm.chat_id = p_chat and cm.user_id = any (v_leaving);
  if v_leaving is not null then
    select count(*) into v_count from (select from chat_members cm where cm.chat_id = p_chat and cm.left_seq is null limit 51) x;
    perform restante_note_recount(p_chat, v_count + array_length(v_leaving, 1), v_count);
  end if;

  -- An admin withdraws an invitation as it removes a member. One that was declined stays, or it could be made again.
  return query
    select 'withdrawn', u.id, u.external_id, v_last, null::inbox_class, null::bigint, null::uuid, null::bigint, null::bigint, v_now
      from unnest(restante_end_invitations(p_chat, p_users)) w (user_id)
      cross join lateral (select y.id, y.external_id from users y where y.id = w.user_id limit 1) u;
  -- Nobody is left who has invited them.
  if v_count = 0 then
    perform restante_end_invitations(p_chat, array(select i.user_id from invitations i where i.chat_id = p_chat));
  end if;

  -- A group is never without an admin as long as somebody is in it: the one who has been here longest becomes one.
  if not exists (select 1 from chat_members cm where cm.chat_id = p_chat and cm.left_seq is null and cm.role = 'admin') then
    select cm.user_id into v_heir from chat_members cm
     where cm.chat_id = p_chat and cm.left_seq is null order by cm.joined_seq, cm.user_id limit 1;
    update chat_members cm set role = 'admin' where cm.chat_id = p_chat and cm.user_id = v_heir;
  end if;
end $$;
comment on function restante_remove_members(uuid, bigint, bigint[]) is
  'Takes members out of a group; a member may take out itself, an admin anybody. Rows that wait for them in this chat become expired, reason left; where there are many, the rest is noted in departures, shown to nobody any more, and ended by a job. Those of them who are invited are invited no more. One row per member that left (class and what follows null) and one per row that ended, outcome done; a row without a user when nobody left; then one per invitation that was withdrawn, outcome withdrawn. Else one row that says why nothing was done: not_a_member, not_a_group, forbidden. A user that is no member is passed over.';

create function restante_end_departures(p_messages_max integer)
returns table (
  user_id bigint, member text, chat_id uuid, class inbox_class, seq bigint, message_id uuid, chat_seq bigint, sender_id bigint, ended_at timestamptz,
  ended ended_reason
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now  timestamptz := clock_timestamp();
  v_one  departures;
  v_name text;
  v_to   bigint;
begin
  perform restante_needs_read_committed();
  select d.* into v_one from departures d where d.user_id >= 0 order by d.user_id, d.chat_id, d.up_to_seq limit 1 for update skip locked;
  if not found then
    return;
  end if;
  v_to := least(v_one.after_seq + p_messages_max, v_one.up_to_seq);
  select u.external_id into v_name from users u where u.id = v_one.user_id;
  return query
    with ended as (
      update message_status s set status = 'expired', ended = v_one.ended, reason = case v_one.ended when 'blocked' then 'undelivered' else v_one.ended::text end
        from (
          select x.user_id, x.class, x.seq, m.seq as chat_seq, m.sender_id
            from (select y.id, y.seq, y.sender_id from messages y
                   where y.chat_id = v_one.chat_id and y.seq > v_one.after_seq and y.seq <= v_to order by y.seq limit p_messages_max) m
            -- By key, each for itself, as above.
            cross join lateral (
              select y.user_id, y.class, y.seq from message_status y
               where y.message_id = m.id and y.user_id = v_one.user_id and y.status = 'sent' limit 1) x
           order by x.class, x.seq
        ) u
       where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status = 'sent'
      returning s.class, s.seq, s.message_id, u.chat_seq, u.sender_id
    )
    select v_one.user_id, v_name, v_one.chat_id, e.class, e.seq, e.message_id, e.chat_seq, e.sender_id, v_now, v_one.ended from ended e
    union all
    select v_one.user_id, v_name, v_one.chat_id, null, null, null, null, null, v_now, v_one.ended;
  -- One that has left has no marks to move.
  if v_one.ended = 'blocked' then
    perform restante_exact_marks(array[v_one.chat_id], array[v_one.user_id]);
  end if;
  if v_to >= v_one.up_to_seq then
    delete from departures d where d.user_id = v_one.user_id and d.chat_id = v_one.chat_id and d.up_to_seq = v_one.up_to_seq;
  else
    update departures d set after_seq = v_to where d.user_id = v_one.user_id and d.chat_id = v_one.chat_id and d.up_to_seq = v_one.up_to_seq;
  end if;
end $$;
comment on function restante_end_departures(integer) is
  'Ends a part of what waits for one member that has left, or has blocked the other one (departures), so many messages of the chat at most. One row per row that ended, and one without a message in any case; nothing at all when there is no departure that nobody else works on.';
