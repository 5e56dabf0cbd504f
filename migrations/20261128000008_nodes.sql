-- The nodes that live, which users each says to be online, and which job each does for all.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function restante_is_alive(p_node nodes, p_at timestamptz) returns boolean
language plpgsql immutable
set search_path from current
as $$
begin
  return p_node.gone_at > p_at and p_node.gone_at <= p_at + p_node.lives;
end $$;
comment on function restante_is_alive(nodes, timestamptz) is
  'Does this node live? A gone_at further ahead than a heartbeat is good for was written before the clock was set back, and is not believed.';

create function restante_bus_keys(out key_numbers bigint[], out secrets bytea[], out sealing bigint)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
declare
  v_now    timestamptz := clock_timestamp();
  v_number bigint;
  v_made   timestamptz;
begin
  perform restante_needs_read_committed();
  select k.key_number, k.made_at into v_number, v_made from bus_keys k where k.key_number >= 0 order by k.key_number desc limit 1;
  -- A key whose time is in the future was made before the clock was set back.
  if not found or v_made > v_now or v_made <= v_now - interval '1 day' then
    -- gen_random_uuid() is as random as PostgreSQL can be, 122 bits of it.
    insert into bus_keys (key_number, secret, made_at)
      values (coalesce(v_number, 0) + 1,
              sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), v_now)
      on conflict do nothing;
    -- The newest key may be of another node, which has committed meanwhile.
    select k.key_number, k.made_at into v_number, v_made from bus_keys k where k.key_number >= 0 order by k.key_number desc limit 1;
  end if;
  delete from bus_keys k where k.key_number < v_number and (k.key_number < v_number - 1 or v_made <= v_now - interval '2 minutes');
  -- A key is used once every node that lives has asked for it. The first one is used at once.
  select array_agg(k.key_number), array_agg(k.secret), coalesce(max(k.key_number) filter (where k.made_at <= v_now - interval '1 minute'), min(k.key_number))
    into key_numbers, secrets, sealing
    from bus_keys k where k.key_number >= 0;
end $$;
comment on function restante_bus_keys() is
  'The secrets of nodes that are valid now, and the number of the one to seal with. Makes one where none is there, or the newest is a day old.';

create function restante_beat(p_node uuid, p_lives_ms integer)
returns table (came boolean, boot uuid, live uuid[], boots uuid[], key_numbers bigint[], secrets bytea[], sealing bigint)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now   timestamptz := clock_timestamp();
  v_lives interval := p_lives_ms * interval '1 millisecond';
begin
  update nodes n set seen_at = v_now, gone_at = v_now + v_lives, lives = v_lives, is_leaving = false where n.node_id = p_node;
  came := not found;
  if came then
    insert into nodes as n (node_id, gone_at, lives) values (p_node, v_now + v_lives, v_lives)
      on conflict (node_id) do update set seen_at = v_now, gone_at = excluded.gone_at, lives = excluded.lives;
  end if;
  -- A handful of rows, by the key from its beginning.
  select array_agg(n.node_id), array_agg(n.boot), (array_agg(n.boot) filter (where n.node_id = p_node))[1] into live, boots, boot
    from nodes n where n.node_id >= '00000000-0000-0000-0000-000000000000' and restante_is_alive(n, v_now) and not n.is_leaving;
  select k.key_numbers, k.secrets, k.sealing into key_numbers, secrets, sealing from restante_bus_keys() k;
  return next;
end $$;
comment on function restante_beat(uuid, integer) is
  'The heartbeat of a node, good for so many milliseconds: was it listed before, which nodes live under which boots, and with which secrets do they speak?';

create function restante_leave(p_node uuid, p_grace_ms integer) returns void
language sql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
  update nodes n set seen_at = clock_timestamp(), gone_at = clock_timestamp() + p_grace_ms * interval '1 millisecond', lives = p_grace_ms * interval '1 millisecond', is_leaving = true where n.node_id = p_node;
$$;
comment on function restante_leave(uuid, integer) is
  'A node ends as planned: it counts as gone after a grace, in which its users may come to other nodes. Another node takes it out.';

create function restante_presence_lock() returns void
language sql volatile
set enable_seqscan = off set enable_bitmapscan = off
set search_path from current
as $$
  select from jobs j where j.name = 'presence' for no key update;
$$;
comment on function restante_presence_lock() is
  'Held while presence changes. "Is the user leased elsewhere?" must be asked after whoever is changing that has committed: else one node says offline and another, which saw the old lease, says nothing.';

create function restante_arrive(p_node uuid, p_users bigint[])
returns table (user_id bigint, external_id text, at timestamptz)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
#variable_conflict use_column
begin
  perform restante_needs_read_committed();
  perform restante_presence_lock();
  return query
    with ours as (
      insert into presence_leases (user_id, node_id) select u, p_node from (select distinct unnest(p_users) as u order by 1) x
        on conflict do nothing
        returning presence_leases.user_id
    )
    select o.user_id, u.external_id, clock_timestamp() from ours o cross join lateral (select y.external_id from users y where y.id = o.user_id limit 1) u
     -- By key, each for itself: "not exists" lets a planner walk all leases.
     where (select true from presence_leases l
             cross join lateral (select from nodes n where n.node_id = l.node_id and restante_is_alive(n, clock_timestamp()) limit 1) n
             where l.user_id = o.user_id and l.node_id <> p_node limit 1) is null;
end $$;
comment on function restante_arrive(uuid, bigint[]) is 'These users are connected to this node. Returns those who were online nowhere before.';

create function restante_depart(p_node uuid, p_users bigint[], p_ages_ms bigint[])
returns table (user_id bigint, external_id text, at timestamptz)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
#variable_conflict use_column
begin
  perform restante_needs_read_committed();
  perform restante_presence_lock();
  return query
    with gone as (
      -- The lock of presence keeps leases where they are. Joined by key, a planner might walk all of them for each user.
      delete from presence_leases l
       using (select k.at, x.age from (select unnest(p_users) as u, unnest(p_ages_ms) as age) x
               cross join lateral (select y.ctid as at from presence_leases y where y.user_id = x.u and y.node_id = p_node limit 1) k) x
       where l.ctid = x.at
      returning l.user_id, clock_timestamp() - x.age * interval '1 millisecond' as went_at
    ), noted as (
      insert into last_seen as s (user_id, seen_at) select g.user_id, g.went_at from gone g order by 1
        on conflict (user_id) do update set seen_at = least(greatest(s.seen_at, excluded.seen_at), clock_timestamp())
        returning s.user_id, s.seen_at
    )
    select o.user_id, u.external_id, o.seen_at from noted o cross join lateral (select y.external_id from users y where y.id = o.user_id limit 1) u
     -- By key, each for itself: "not exists" lets a planner walk all leases.
     where (select true from presence_leases l
             cross join lateral (select from nodes n where n.node_id = l.node_id and restante_is_alive(n, clock_timestamp()) limit 1) n
             where l.user_id = o.user_id and l.node_id <> p_node limit 1) is null;
end $$;
comment on function restante_depart(uuid, bigint[], bigint[]) is
  'These users left this node so many milliseconds ago. Notes when, and returns those who are online nowhere now.';

create function restante_reap(p_users_max integer)
returns table (user_id bigint, external_id text, at timestamptz)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
#variable_conflict use_column
declare
  v_node uuid;
  v_seen timestamptz;
begin
  perform restante_needs_read_committed();
  perform restante_presence_lock();
  select n.node_id, least(n.seen_at, clock_timestamp()) into v_node, v_seen
    from nodes n where n.node_id >= '00000000-0000-0000-0000-000000000000' and not restante_is_alive(n, clock_timestamp())
   order by n.node_id limit 1 for update;
  if not found then
    return;
  end if;
  return query
    with gone as (
      delete from presence_leases l
       -- By place, as in restante_depart.
       using (select p.ctid as at from presence_leases p where p.node_id = v_node order by p.user_id limit p_users_max) x
       where l.ctid = x.at
      returning l.user_id
    ), noted as (
      insert into last_seen as s (user_id, seen_at) select g.user_id, v_seen from gone g order by 1
        on conflict (user_id) do update set seen_at = least(greatest(s.seen_at, excluded.seen_at), clock_timestamp())
        returning s.user_id, s.seen_at
    )
    select o.user_id, u.external_id, o.seen_at from noted o cross join lateral (select y.external_id from users y where y.id = o.user_id limit 1) u
     -- By key, each for itself: "not exists" lets a planner walk all leases.
     where (select true from presence_leases l
             cross join lateral (select from nodes n where n.node_id = l.node_id and restante_is_alive(n, clock_timestamp()) limit 1) n
             where l.user_id = o.user_id and l.node_id <> v_node limit 1) is null;
  -- The next call takes out the leases that are left.
  delete from nodes n where n.node_id = v_node and not exists (select from presence_leases l where l.node_id = v_node);
end $$;
comment on function restante_reap(integer) is
  'Takes one node out that has gone, with at most so many of its leases; call it until no node has gone. Returns users who are online nowhere now; each is returned to one caller only.';

create function restante_is_leased(p_job jobs, p_at timestamptz) returns boolean
language plpgsql immutable
set search_path from current
as $$
begin
  return coalesce(p_job.renewed_at <= p_at and p_job.leased_until > p_at, false);
end $$;
comment on function restante_is_leased(jobs, timestamptz) is
  'Does a node hold this job? A lease that was renewed later than now was written before the clock was set back, and is not believed.';

create function restante_acquire_job(p_name text, p_node uuid, p_lease_ms integer)
returns table (lease_no bigint, cursor text, passed_ms bigint)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
#variable_conflict use_column
declare
  v_lease interval := p_lease_ms * interval '1 millisecond';
begin
  perform restante_needs_read_committed();
  -- An update that waits for another node's compares the row anew, by the clock of then: one of the two gets the job.
  update jobs j
     set holder = p_node, lease_no = j.lease_no + case when j.holder = p_node then 0 else 1 end,
         renewed_at = clock_timestamp(), leased_until = clock_timestamp() + v_lease
   where j.name = p_name and (j.holder = p_node or not restante_is_leased(j, clock_timestamp()));
  if not found then
    -- A job that is new has no row yet.
    insert into jobs (name, holder, lease_no, renewed_at, leased_until)
      select p_name, p_node, 1, clock_timestamp(), clock_timestamp() + v_lease
       where not exists (select from jobs j where j.name = p_name)
        on conflict do nothing;
  end if;
  return query
    select case when j.holder = p_node then j.lease_no end, j.cursor, (extract(epoch from clock_timestamp() - j.passed_at) * 1000)::bigint
      from jobs j where j.name = p_name;
end $$;
comment on function restante_acquire_job(text, uuid, integer) is
  'A node asks for a job, or renews the lease that it has, for so many milliseconds. Returns the number of its lease (null: another node holds the job), the cursor, and how many milliseconds ago a pass last succeeded. Waits for no pass: the row is locked for a moment only.';

create function restante_advance_job(p_name text, p_node uuid, p_lease_no bigint, p_cursor text, p_lease_ms integer) returns boolean
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  update jobs j
     set cursor = p_cursor, passed_at = clock_timestamp(),
         renewed_at = clock_timestamp(), leased_until = clock_timestamp() + p_lease_ms * interval '1 millisecond'
   where j.name = p_name and j.holder = p_node and j.lease_no = p_lease_no;
  return found;
end $$;
comment on function restante_advance_job(text, uuid, bigint, text, integer) is
  'A pass has succeeded: stores where the next one begins, and renews the lease. False, and nothing is changed: another node has taken the job since.';

create function restante_release_job(p_name text, p_node uuid, p_lease_no bigint) returns boolean
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  update jobs j set holder = null, renewed_at = null, leased_until = null
   where j.name = p_name and j.holder = p_node and j.lease_no = p_lease_no;
  return found;
end $$;
comment on function restante_release_job(text, uuid, bigint) is
  'A node gives a job back, so that another need not wait for the end of its lease. False: it has lost the job already.';
