-- Groups: making them, joining, leaving. All of it under the chat's row lock, so that who is a member at message
-- number n is exact.

create function restante_create_group(p_chat uuid, p_creator bigint, p_title text, p_members bigint[]) returns void
language plpgsql volatile
set search_path from current
as $$
begin
  insert into chats (id, kind, title) values (p_chat, 'group', p_title);
  insert into chat_members (chat_id, user_id, role)
    select p_chat, q.user_id, case when q.user_id = p_creator then 'admin'::member_role else 'member' end
      from (select p_creator as user_id union select unnest(p_members)) q
     order by q.user_id;
end $$;
comment on function restante_create_group(uuid, bigint, text, bigint[]) is
  'Makes a group with these members; whoever makes it is its admin. Nobody else can see the chat before the commit, so nothing is locked.';

create function restante_add_members(p_chat uuid, p_caller bigint, p_users bigint[], p_members_max integer)
returns table (outcome text, user_id bigint, external_id text, title text, joined_seq bigint)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_kind  chat_kind;
  v_title text;
  v_last  bigint;
  v_role  member_role;
  v_new   bigint[];
begin
  select c.kind, c.title, c.last_seq into v_kind, v_title, v_last from chats c where c.id = p_chat for no key update;
  -- A statement after the lock: nobody joins, leaves or sends any more, and whatever they did is seen.
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
  if (select count(*) from chat_members cm where cm.chat_id = p_chat and cm.left_seq is null) + coalesce(array_length(v_new, 1), 0) > p_members_max then
    return query select 'too_many_members', null::bigint, null::text, null::text, null::bigint;
    return;
  end if;

  -- Those who were here before have a row, which a late ack may be moving.
  perform 1 from chat_members cm where cm.chat_id = p_chat and cm.user_id = any (v_new) order by cm.user_id for no key update;
  insert into chat_members as cm (chat_id, user_id, joined_seq, delivered_seq, read_seq)
    select p_chat, u.user_id, v_last, v_last, v_last from unnest(v_new) u (user_id)
    on conflict on constraint a_user_is_in_a_chat_once do update
      set role = 'member', joined_seq = v_last, left_seq = null, delivered_seq = v_last, read_seq = v_last,
          has_hole = false, marked_xid = pg_current_xact_id();
  return query
    select 'done', u.id, u.external_id, v_title, v_last
      from (select 1) one left join users u on u.id = any (v_new)
     order by u.id;
end $$;
comment on function restante_add_members(uuid, bigint, bigint[], integer) is
  'Adds members to a group. One row per member that is new, with the number above which it gets messages (a row without a user when nobody is), outcome done. Else one row that says why nothing was done: not_a_member (the caller is not in it, or there is no such chat), not_a_group, forbidden (the caller is no admin), too_many_members. Who is a member already is passed over.';

create function restante_remove_members(p_chat uuid, p_caller bigint, p_users bigint[])
returns table (
  outcome text, user_id bigint, external_id text, left_seq bigint,
  class inbox_class, seq bigint, message_id uuid, chat_seq bigint, sender_id bigint, ended_at timestamptz
)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now     timestamptz;
  v_kind    chat_kind;
  v_last    bigint;
  v_role    member_role;
  v_leaving bigint[];
  v_refused text;
  v_heir    bigint;
begin
  select c.kind, c.last_seq into v_kind, v_last from chats c where c.id = p_chat for no key update;
  -- A statement after the lock, as above. The clock too: nothing was accepted after it that is ended here.
  v_now := clock_timestamp();
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

  -- What waits for them in this chat ends. Nothing at or below delivered_seq waits, and only somebody who holds the
  -- chat, as we do now, can lower it.
  perform 1 from chat_members cm
    join messages m on m.chat_id = p_chat and m.seq > cm.delivered_seq
    join message_status s on s.message_id = m.id and s.user_id = cm.user_id
   where cm.chat_id = p_chat and cm.user_id = any (v_leaving) and s.status = 'sent'
   order by s.user_id, s.class, s.seq for no key update of s;
  return query
    with ended as (
      update message_status s set status = 'expired', reason = 'left'
        from chat_members cm
        join messages m on m.chat_id = p_chat and m.seq > cm.delivered_seq
       where cm.chat_id = p_chat and cm.user_id = any (v_leaving)
         and s.message_id = m.id and s.user_id = cm.user_id and s.status = 'sent'
      returning s.user_id, s.class, s.seq, s.message_id, m.seq as chat_seq, m.sender_id
    )
    select 'done', u.id, u.external_id, v_last, e.class, e.seq, e.message_id, e.chat_seq, e.sender_id, v_now
      from ended e join users u on u.id = e.user_id
    union all
    select 'done', u.id, u.external_id, v_last, null, null, null, null, null, v_now
      from (select 1) one left join users u on u.id = any (v_leaving);

  perform 1 from chat_members cm where cm.chat_id = p_chat and cm.user_id = any (v_leaving) order by cm.user_id for no key update;
  update chat_members cm set left_seq = v_last, role = 'member' where cm.chat_id = p_chat and cm.user_id = any (v_leaving);

  -- A group is never without an admin as long as somebody is in it: who has been here longest becomes one.
  if not exists (select 1 from chat_members cm where cm.chat_id = p_chat and cm.left_seq is null and cm.role = 'admin') then
    select cm.user_id into v_heir from chat_members cm
     where cm.chat_id = p_chat and cm.left_seq is null order by cm.joined_seq, cm.user_id limit 1;
    update chat_members cm set role = 'admin' where cm.chat_id = p_chat and cm.user_id = v_heir;
  end if;
end $$;
comment on function restante_remove_members(uuid, bigint, bigint[]) is
  'Takes members out of a group; a member may take out itself, an admin anybody. Rows that wait for them in this chat become expired, reason left. One row per member that left (class and what follows null) and one per row that ended, outcome done; a row without a user when nobody left. Else one row that says why nothing was done: not_a_member, not_a_group, forbidden. Who is no member is passed over.';
