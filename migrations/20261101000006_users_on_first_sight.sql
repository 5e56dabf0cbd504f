-- Users are made on first sight, with their inboxes.

create function restante_users(p_external_ids text[]) returns table (external_id text, id bigint)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
begin
  -- User and inboxes in one statement: whoever sees the one sees the others. Sorted, so that two nodes that meet the
  -- same new users do not wait for each other in a circle.
  if exists (select 1 from unnest(p_external_ids) x (name) left join users u on u.external_id = x.name where u.id is null) then
    with made as (
      insert into users (external_id)
        select distinct x.name from unnest(p_external_ids) x (name) order by x.name
        on conflict on constraint each_external_id_names_one_user do nothing
        returning id
    )
    insert into inboxes (user_id, class) select made.id, c.class from made cross join unnest(enum_range(null::inbox_class)) c (class);
  end if;
  -- A later statement: those that another node made meanwhile are seen too.
  return query select u.external_id, u.id from users u where u.external_id = any (p_external_ids);
end $$;
comment on function restante_users(text[]) is 'The numbers of these users; those that are new are made, with both inboxes.';

create function restante_direct_chat(p_user bigint, p_other bigint) returns uuid
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_key  text := least(p_user, p_other) || ':' || greatest(p_user, p_other);
  v_chat uuid;
begin
  with made as (
    insert into chats (id, kind, direct_key) values (gen_random_uuid(), 'direct', v_key)
      on conflict on constraint two_users_share_one_direct_chat do nothing
      returning id
  )
  insert into chat_members (chat_id, user_id)
    select made.id, m.user_id from made cross join (select p_user as user_id union select p_other) m;
  -- A later statement: of two that make it at once, both find the same.
  select c.id into v_chat from chats c where c.direct_key = v_key;
  return v_chat;
end $$;
comment on function restante_direct_chat(bigint, bigint) is
  'The direct chat of two users (or of one with itself), made with its members if it is missing.';
