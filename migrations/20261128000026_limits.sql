-- Limits of single users: an operator may let a user do more in a time than others. Every node keeps them in memory, so that no request asks for
-- them. A node learns of a change by a notification on restante_wake_channel(), and where it has missed that, by a read every 30 s.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table user_limits (
  user_id bigint not null,
  factor  integer not null,
  set_at  timestamptz not null default clock_timestamp(),
  constraint a_user_has_one_factor primary key (user_id),
  constraint raised_limits_are_those_of_users foreign key (user_id) references users (id),
  constraint a_factor_lies_between_2_and_1000 check (factor between 2 and 1000)
);
comment on table user_limits is 'Users whose rates an operator has raised. Nodes read all of it: for some users, not for many.';
comment on column user_limits.user_id is 'The user.';
comment on column user_limits.factor is 'All rates of the user are multiplied by it.';
comment on column user_limits.set_at is 'When it was set.';
comment on constraint raised_limits_are_those_of_users on user_limits is 'Delete a user''s factor before the user.';
comment on constraint a_factor_lies_between_2_and_1000 on user_limits is 'A user with the factor 1 has no row.';
comment on index a_user_has_one_factor is 'All factors, in the order of users; that of one user.';

create function restante_set_limit(p_user text, p_factor integer, p_actor text default null, p_node uuid default null, p_rows_max integer default 10000) returns text
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set search_path from current
as $$
declare
  v_user    bigint;
  v_outcome text := 'set';
begin
  perform restante_needs_read_committed();
  if p_factor is null or p_factor < 1 or p_factor > 1000 then
    raise exception 'a factor is 1 to 1000' using errcode = 'invalid_parameter_value';
  end if;
  select u.id into v_user from users u where u.is_current and u.external_id = p_user;
  if v_user is null then
    v_outcome := 'not_found';
  elsif p_factor = 1 then
    delete from user_limits l where l.user_id = v_user;
  elsif not exists (select from user_limits l where l.user_id = v_user)
        and (select count(*) from (select from user_limits x where x.user_id >= 0 order by x.user_id limit p_rows_max) q) >= p_rows_max then
    v_outcome := 'too_many';
  else
    insert into user_limits as l (user_id, factor) values (v_user, p_factor)
      on conflict on constraint a_user_has_one_factor do update set factor = excluded.factor, set_at = clock_timestamp();
  end if;
  perform restante_audit('limits.set', jsonb_build_object('userId', left(p_user, 128), 'factor', p_factor), v_outcome, p_actor, p_node);
  perform pg_notify(restante_wake_channel(), 'limits');
  return v_outcome;
end $$;
comment on function restante_set_limit(text, integer, text, uuid, integer) is
  'Multiplies all rates of a user by p_factor, 1 to 1000, on every node, and notes it in the audit; 1: they are those of others again. Outcome: set; not_found: there is no such user; too_many: p_rows_max users have a factor already. Repeated, the last one counts.';
