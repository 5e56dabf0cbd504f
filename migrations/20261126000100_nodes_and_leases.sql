-- The nodes that live, and which users each says to be online. Only the database's clock counts: nodes' own may differ.

create table nodes (
  node_id    uuid not null,
  started_at timestamptz not null default clock_timestamp(),
  seen_at    timestamptz not null default clock_timestamp(),
  gone_at    timestamptz not null,
  is_leaving boolean not null default false,
  constraint a_node_is_listed_once primary key (node_id)
) with (fillfactor = 50);
comment on table nodes is
  'Nodes of the service that run now. Each renews its row every few seconds; one that does not is taken out by another, with its leases.';
comment on column nodes.node_id is 'Drawn at the start of the node. It listens on the channel restante_node_<id without dashes>.';
comment on column nodes.started_at is 'When it was first listed.';
comment on column nodes.seen_at is 'Its last heartbeat: last_seen of its users, should it die.';
comment on column nodes.gone_at is 'From then on it counts as gone, unless another heartbeat comes before.';
comment on column nodes.is_leaving is 'It ends as planned: nothing is told to it any more, and its users count until gone_at, so that they may come to other nodes unnoticed.';
comment on constraint a_node_is_listed_once on nodes is 'A heartbeat finds its row.';
comment on index a_node_is_listed_once is 'A heartbeat finds its row; whose lease is it?';

create table presence_leases (
  user_id bigint not null,
  node_id uuid not null,
  constraint a_node_has_one_lease_of_a_user primary key (user_id, node_id),
  constraint leases_belong_to_a_user foreign key (user_id) references users (id),
  constraint leases_belong_to_a_node foreign key (node_id) references nodes (node_id)
);
comment on table presence_leases is
  'Who is online, and where: a row counts while its node does (nodes.gone_at), so that a heartbeat renews all of a node''s with one row. Written in batches, a moment after the fact. A hint: no message depends on it.';
comment on column presence_leases.user_id is 'The user.';
comment on column presence_leases.node_id is 'A node it is connected to.';
comment on constraint a_node_has_one_lease_of_a_user on presence_leases is 'However many connections it has there.';
comment on constraint leases_belong_to_a_user on presence_leases is 'Delete them before the user.';
comment on constraint leases_belong_to_a_node on presence_leases is 'A node that was taken out has none; it lists itself again first.';
comment on index a_node_has_one_lease_of_a_user is 'Is this user online, and where else?';

create index leases_of_a_node on presence_leases (node_id, user_id);
comment on index leases_of_a_node is 'The users of a node that has gone.';

create function restante_beat(p_node uuid, p_lives_ms integer)
returns table (came boolean, live uuid[], any_gone boolean)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  update nodes n set seen_at = v_now, gone_at = v_now + p_lives_ms * interval '1 millisecond', is_leaving = false where n.node_id = p_node;
  came := not found;
  if came then
    insert into nodes as n (node_id, gone_at) values (p_node, v_now + p_lives_ms * interval '1 millisecond')
      on conflict (node_id) do update set seen_at = v_now, gone_at = excluded.gone_at;
  end if;
  -- A handful of rows, by the key from its beginning.
  select array_agg(n.node_id) filter (where n.gone_at > v_now and not n.is_leaving), coalesce(bool_or(n.gone_at <= v_now), false) into live, any_gone
    from nodes n where n.node_id >= '00000000-0000-0000-0000-000000000000';
  return next;
end $$;
comment on function restante_beat(uuid, integer) is
  'The heartbeat of a node, good for so many milliseconds: was it listed before, which nodes live, has any gone without leaving?';

create function restante_leave(p_node uuid, p_grace_ms integer) returns void
language sql volatile
set enable_seqscan = off
set search_path from current
as $$
  update nodes n set seen_at = clock_timestamp(), gone_at = clock_timestamp() + p_grace_ms * interval '1 millisecond', is_leaving = true where n.node_id = p_node;
$$;
comment on function restante_leave(uuid, integer) is
  'A node ends as planned: it counts as gone after a grace, in which its users may come to other nodes. Another node takes it out.';

create function restante_presence_lock() returns void
language sql volatile
set search_path from current
as $$
  select pg_advisory_xact_lock(8243122654985253988);
$$;
comment on function restante_presence_lock() is
  'Held while presence changes. "Is the user leased elsewhere?" must be asked after whoever is changing that has committed: else one node says offline and another, which saw the old lease, says nothing.';

create function restante_arrive(p_node uuid, p_users bigint[])
returns table (user_id bigint, external_id text, at timestamptz)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
#variable_conflict use_column
begin
  perform restante_presence_lock();
  return query
    with ours as (
      insert into presence_leases (user_id, node_id) select u, p_node from (select distinct unnest(p_users) as u order by 1) x
        on conflict do nothing
        returning presence_leases.user_id
    )
    select o.user_id, u.external_id, clock_timestamp() from ours o cross join lateral (select y.external_id from users y where y.id = o.user_id limit 1) u
     where not exists (
       select from presence_leases l
       cross join lateral (select from nodes n where n.node_id = l.node_id and n.gone_at > clock_timestamp() limit 1) n
       where l.user_id = o.user_id and l.node_id <> p_node);
end $$;
comment on function restante_arrive(uuid, bigint[]) is 'These users are connected to this node. Returns those who were online nowhere before.';

create function restante_depart(p_node uuid, p_users bigint[], p_ages_ms bigint[])
returns table (user_id bigint, external_id text, at timestamptz)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
#variable_conflict use_column
begin
  perform restante_presence_lock();
  return query
    with gone as (
      delete from presence_leases l using (select unnest(p_users) as u, unnest(p_ages_ms) as age) x
       where l.user_id = x.u and l.node_id = p_node
      returning l.user_id, clock_timestamp() - x.age * interval '1 millisecond' as went_at
    ), noted as (
      insert into last_seen as s (user_id, seen_at) select g.user_id, g.went_at from gone g order by 1
        on conflict (user_id) do update set seen_at = greatest(s.seen_at, excluded.seen_at)
        returning s.user_id, s.seen_at
    )
    select o.user_id, u.external_id, o.seen_at from noted o cross join lateral (select y.external_id from users y where y.id = o.user_id limit 1) u
     where not exists (
       select from presence_leases l
       cross join lateral (select from nodes n where n.node_id = l.node_id and n.gone_at > clock_timestamp() limit 1) n
       where l.user_id = o.user_id and l.node_id <> p_node);
end $$;
comment on function restante_depart(uuid, bigint[], bigint[]) is
  'These users left this node so many milliseconds ago. Notes when, and returns those who are online nowhere now.';

create function restante_bury(p_users_max integer)
returns table (user_id bigint, external_id text, at timestamptz)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
set search_path from current
as $$
#variable_conflict use_column
declare
  v_node uuid;
  v_seen timestamptz;
begin
  perform restante_presence_lock();
  select n.node_id, n.seen_at into v_node, v_seen
    from nodes n where n.node_id >= '00000000-0000-0000-0000-000000000000' and n.gone_at <= clock_timestamp()
   order by n.node_id limit 1 for update;
  if not found then
    return;
  end if;
  return query
    with gone as (
      delete from presence_leases l
       using (select p.user_id from presence_leases p where p.node_id = v_node order by p.user_id limit p_users_max) x
       where l.user_id = x.user_id and l.node_id = v_node
      returning l.user_id
    ), noted as (
      insert into last_seen as s (user_id, seen_at) select g.user_id, v_seen from gone g order by 1
        on conflict (user_id) do update set seen_at = greatest(s.seen_at, excluded.seen_at)
        returning s.user_id, s.seen_at
    )
    select o.user_id, u.external_id, o.seen_at from noted o cross join lateral (select y.external_id from users y where y.id = o.user_id limit 1) u
     where not exists (
       select from presence_leases l
       cross join lateral (select from nodes n where n.node_id = l.node_id and n.gone_at > clock_timestamp() limit 1) n
       where l.user_id = o.user_id and l.node_id <> v_node);
  -- Whoever is left is taken out by the next call.
  delete from nodes n where n.node_id = v_node and not exists (select from presence_leases l where l.node_id = v_node);
end $$;
comment on function restante_bury(integer) is
  'Takes one node out that has gone, with at most so many of its leases; call it until no node has gone. Returns users who are online nowhere now; each is returned to one caller only.';
