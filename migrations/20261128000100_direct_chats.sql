-- Many direct chats in one statement: found, or made, by the number of the one user and the name of the other.

create function restante_direct_chats(
  p_users  bigint[],
  p_others text[],    -- the name of the other; the user's own: its chat with itself
  p_make   boolean[], -- may it be made, and the other user too?
  -- Per item, in the order of p_users:
  out chats uuid[],   -- null: not there, and not to be made
  out made  boolean[] -- was it made now? Null as a whole: none was
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
  -- least() passes over a null: without the `case` an unknown name would find the user's chat with itself.
  select array_agg(q.other), array_agg(q.key), array_agg(q.chat) into v_others, v_keys, chats
    from (
      select o.id as other, k.key, c.id as chat
        from (select generate_subscripts(p_users, 1) as ord, unnest(p_users) as id, unnest(p_others) as name) u
        left join lateral (select x.id from users x where x.external_id = u.name offset 0) o on true
        cross join lateral (select case when o.id is not null then least(u.id, o.id) || ':' || greatest(u.id, o.id) end as key offset 0) k
        left join lateral (select x.id from chats x where x.direct_key = k.key offset 0) c on true
       order by u.ord
    ) q;
  if array_position(chats, null) is null or array_position(p_make, true) is null then
    return;
  end if;

  if array_position(v_others, null) is not null then
    -- All users before the first chat: who waits for a user holds no chat, so nobody waits in a circle.
    perform restante_users(array(
      select distinct u.name
        from (select unnest(v_others) as other, unnest(p_others) as name, unnest(p_make) as make) u
       where u.other is null and u.make));
    select array_agg(q.key) into v_keys
      from (
        select case when o.id is not null then least(u.id, o.id) || ':' || greatest(u.id, o.id) end as key
          from (select generate_subscripts(p_users, 1) as ord, unnest(p_users) as id, unnest(p_others) as name) u
          left join lateral (select x.id from users x where x.external_id = u.name offset 0) o on true
         order by u.ord
      ) q;
  end if;

  -- In the order of their keys: two that make the same ones wait for each other in one direction only.
  with wanted as materialized (
    select distinct on (w.key collate "C") w.key
      from (select unnest(v_keys) as key, unnest(chats) as chat, unnest(p_make) as make) w
     where w.chat is null and w.make and w.key is not null
     order by w.key collate "C"
  ), made_now as (
    insert into chats (id, kind, direct_key)
      select gen_random_uuid(), 'direct', w.key from wanted w order by w.key collate "C"
      on conflict on constraint two_users_share_one_direct_chat do nothing
      returning id, direct_key
  ), members as (
    insert into chat_members (chat_id, user_id)
      select m.id, split_part(m.direct_key, ':', s.part)::bigint
        from made_now m cross join (values (1), (2)) s (part)
       where s.part = 1 or split_part(m.direct_key, ':', 1) <> split_part(m.direct_key, ':', 2)
  )
  select array_agg(m.direct_key) into v_new from made_now m;

  -- A later statement: of two that make a chat at once, both find the same.
  select array_agg(q.chat), array_agg(q.made) into chats, made
    from (
      select coalesce(u.chat, c.id) as chat, coalesce(u.chat is null and u.key = any (v_new), false) as made
        from (select generate_subscripts(v_keys, 1) as ord, unnest(v_keys) as key, unnest(chats) as chat) u
        left join lateral (select x.id from chats x where x.direct_key = u.key and u.chat is null offset 0) c on true
       order by u.ord
    ) q;
end $$;
comment on function restante_direct_chats(bigint[], text[], boolean[]) is
  'The direct chats of these users with those of these names, all in one statement. What is missing is made where it may be, with its members and the other user.';
