-- Preferences: the types of events and the chats that a user has muted. A muted type makes no rows (restante_take,
-- restante_publish_batch, restante_fan_out). A message of a muted chat is delivered as ever, and its client is told that it is muted.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table preferences (
  user_id     bigint not null,
  muted_types text[] not null,
  muted_chats uuid[] not null,
  constraint a_user_has_preferences_once primary key (user_id),
  constraint preferences_are_of_a_user foreign key (user_id) references users (id) on delete cascade,
  constraint a_user_mutes_at_most_100_types check (cardinality(muted_types) <= 100),
  constraint a_user_mutes_at_most_1000_chats check (cardinality(muted_chats) <= 1000)
);
comment on table preferences is
  'The users that have muted something, a row each. Most have none, so that a look finds nothing on the first page of the index.';
comment on column preferences.user_id is 'The user.';
comment on column preferences.muted_types is 'Types of events (messages.message_type) that make no row for the user, each once.';
comment on column preferences.muted_chats is 'Chats (chats.id) in which the user is or was a member: what comes from there is delivered and marked as muted. Each once.';
comment on constraint preferences_are_of_a_user on preferences is 'They go with the user.';
comment on constraint a_user_mutes_at_most_100_types on preferences is 'They are compared with each event that comes.';
comment on constraint a_user_mutes_at_most_1000_chats on preferences is 'Each session of the user remembers them.';
comment on index a_user_has_preferences_once is 'What has this user muted?';

alter table fan_outs
  add column muted integer not null default 0,
  add constraint a_fan_out_has_muted_at_most_those_that_wait_no_more check (muted between 0 and recipients - waiting);
comment on column fan_outs.muted is 'How many of them get no row, since they have muted the type.';
comment on constraint a_fan_out_has_muted_at_most_those_that_wait_no_more on fan_outs is 'Whether a recipient has muted the type is looked at when its row would be written.';

create function restante_put_preferences(p_user bigint, p_types text[], p_chats uuid[]) returns text
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_types text[] := case when p_types is not null then array(select distinct unnest(p_types) order by 1) end;
  v_chats uuid[] := case when p_chats is not null then array(select distinct unnest(p_chats) order by 1) end;
begin
  perform restante_needs_read_committed();
  if exists (select from unnest(v_types) t (name) where t.name is null or char_length(t.name) not between 1 and 64)
     or exists (select from unnest(v_chats) c (id) where c.id is null) then
    return 'invalid';
  elsif cardinality(v_types) > 100 or cardinality(v_chats) > 1000 then
    return 'too_many';
  -- One answer for a chat of others and for one that there is not. A member that has left is still listed.
  elsif exists (select from unnest(v_chats) c (id)
                 where not exists (select from chat_members m where m.chat_id = c.id and m.user_id = p_user)) then
    return 'not_found';
  end if;
  insert into preferences as p (user_id, muted_types, muted_chats)
    select p_user, coalesce(v_types, '{}'), coalesce(v_chats, '{}')
     where cardinality(v_types) > 0 or cardinality(v_chats) > 0 or exists (select from preferences x where x.user_id = p_user)
    on conflict on constraint a_user_has_preferences_once
    do update set muted_types = coalesce(v_types, p.muted_types), muted_chats = coalesce(v_chats, p.muted_chats);
  delete from preferences p where p.user_id = p_user and p.muted_types = '{}' and p.muted_chats = '{}';
  return 'done';
end $$;
comment on function restante_put_preferences(bigint, text[], uuid[]) is
  'Sets the types of events and the chats that a user has muted; a list that is null stays as it is. Else nothing is done: invalid (a type has 1 to 64 characters), too_many (100 types, 1,000 chats), not_found: the user never was a member of one of the chats, or there is no such chat.';

create function restante_set_preferences(p_user text, p_muted_types text[] default null, p_muted_chats uuid[] default null) returns void
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
declare
  v_user bigint;
begin
  perform restante_needs_read_committed();
  if p_user is null then
    raise exception 'preferences need a user' using errcode = 'null_value_not_allowed';
  end if;
  select u.id into v_user from restante_users(array[p_user]) u;
  case restante_put_preferences(v_user, p_muted_types, p_muted_chats)
    when 'done' then null;
    when 'invalid' then raise exception 'a type has 1 to 64 characters, and nothing that is muted is null' using errcode = 'invalid_parameter_value';
    when 'too_many' then raise exception 'a user may mute at most 100 types and 1000 chats' using errcode = 'program_limit_exceeded';
    else raise exception 'a user may mute chats in which it is or was a member' using errcode = 'no_data_found';
  end case;
  -- The user's sessions remember what is muted, and read it together with the marks.
  perform restante_check_marks(array[v_user]);
end $$;
comment on function restante_set_preferences(text, text[], uuid[]) is
  'Sets what a user has muted, inside your own transaction: types of events that make no rows for it any more, and chats whose messages its clients are not to ring for. A list that is null stays as it is, an empty one mutes nothing. What waits already stays. The sessions of the user learn of it when you commit.';
