-- Feeds and events from SQL, inside an application's own transaction.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table outgoing_events (
  xid            xid8 not null default pg_current_xact_id(),
  place          integer not null,
  message_id     uuid not null,
  publisher_id   bigint not null,
  event_type     message_type_text not null,
  data           jsonb,
  users          bigint[],
  feed_id        uuid,
  class          inbox_class not null,
  ttl_ms         bigint not null,
  collapse_key   text collate "C",
  excepted       bigint[],
  merge          jsonb,
  constraint a_transaction_publishes_an_event_once primary key (xid, message_id),
  constraint a_transaction_publishes_in_order unique (xid, place),
  constraint a_transaction_publishes_at_most_1000_events check (place between 1 and 1000),
  constraint an_event_has_listed_users_or_a_feed check (num_nulls(users, feed_id) = 1)
);
comment on table outgoing_events is
  'Requests of restante_publish() inside transactions that have not committed yet. Published and emptied at their commit: seen from outside it is always empty.';
comment on column outgoing_events.xid is 'The transaction that made it.';
comment on column outgoing_events.place is 'Order of the requests of a transaction, from 1.';
comment on column outgoing_events.message_id is 'The id the event will have.';
comment on column outgoing_events.publisher_id is 'The publisher (users.id).';
comment on column outgoing_events.event_type is 'post_update, new_comment, ...';
comment on column outgoing_events.data is 'Its data.';
comment on column outgoing_events.users is 'The users that get it. Null: it goes to a feed.';
comment on column outgoing_events.feed_id is 'The feed. Null: it has listed users.';
comment on column outgoing_events.class is 'event, or alert where it is urgent.';
comment on column outgoing_events.ttl_ms is 'Milliseconds from its acceptance on for which it is delivered.';
comment on column outgoing_events.collapse_key is 'The newest event of a key takes the place of one that waits. Null: none.';
comment on column outgoing_events.excepted is 'Users that do not get it.';
comment on column outgoing_events.merge is 'The rules for its data where it takes the place of others (messages.merge). Null: it is not merged.';
comment on constraint a_transaction_publishes_at_most_1000_events on outgoing_events is 'The streams are locked for as long as the commit takes.';
comment on constraint an_event_has_listed_users_or_a_feed on outgoing_events is 'One of the two.';
comment on index a_transaction_publishes_an_event_once is 'A repeated request of a transaction is one.';
comment on index a_transaction_publishes_in_order is 'A commit takes its own requests, in order.';

create function restante_make_feed(p_maker text, p_title text default null, p_publishers text[] default null, p_feed uuid default gen_random_uuid()) returns uuid
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
begin
  case restante_new_feed(p_feed, (select u.id from restante_users(array[p_maker]) u), p_title,
                         array(select u.id from restante_users(coalesce(p_publishers, '{}')) u), 500)
    when 'done' then return p_feed;
    when 'too_many' then raise exception 'a feed may have at most 500 publishers' using errcode = 'program_limit_exceeded';
    else raise exception 'the id % belongs to somebody else''s feed or chat', p_feed using errcode = 'unique_violation';
  end case;
end $$;
comment on function restante_make_feed(text, text, text[], uuid) is
  'Makes a feed inside your own transaction, and returns its id. Its maker is its first publisher. The same id again from the same maker is the same feed.';

create function restante_follow(p_feed uuid, p_users text[]) returns void
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
begin
  case restante_add_followers(p_feed, array(select u.id from restante_users(p_users) u), 500)
    when 'done' then null;
    when 'too_many' then raise exception 'a user may follow at most 500 feeds' using errcode = 'program_limit_exceeded';
    else raise exception 'there is no feed %', p_feed using errcode = 'no_data_found';
  end case;
end $$;
comment on function restante_follow(uuid, text[]) is
  'These users follow the feed: they get what is published after this. Inside your own transaction, which locks them until it ends.';

create function restante_unfollow(p_feed uuid, p_users text[]) returns void
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
begin
  case restante_remove_followers(p_feed, array(select u.id from users u where u.is_current and u.external_id = any (p_users)))
    when 'done' then null;
    when 'forbidden' then raise exception 'every user follows the feed of everyone' using errcode = 'insufficient_privilege';
    else raise exception 'there is no feed %', p_feed using errcode = 'no_data_found';
  end case;
end $$;
comment on function restante_unfollow(uuid, text[]) is
  'These users follow the feed no more, and what of it waits for them ends. Inside your own transaction, which locks their inboxes of events until it ends.';

create function restante_wake_followers(p_streams uuid[]) returns void language sql volatile
set search_path from current
as $$
  select pg_notify(restante_wake_channel(), 'feed ' || u.chat) from (select distinct unnest(p_streams) as chat) u where u.chat is not null;
$$;
comment on function restante_wake_followers(uuid[]) is
  'Tells every node that something was published in these streams (chats.id), as "feed " and the id on restante_wake_channel(). Each wakes those of its users that follow. A hint: nothing is lost without it.';

create function restante_check_merge(p_merge jsonb, p_collapse_key text, p_data jsonb) returns void
language plpgsql immutable
set search_path from current
as $$
begin
  if p_merge is null then
    return;
  elsif jsonb_typeof(p_merge) <> 'object' then
    raise exception 'merge is an object of names, each with sum, union or count' using errcode = 'invalid_parameter_value';
  elsif p_collapse_key is null then
    raise exception 'merge needs a collapse key: without one nothing is merged' using errcode = 'invalid_parameter_value';
  elsif jsonb_typeof(p_data) is distinct from 'object' then
    raise exception 'merge needs an object as data' using errcode = 'invalid_parameter_value';
  elsif (select count(*) from jsonb_object_keys(p_merge)) not between 1 and 20 then
    raise exception 'merge names 1 to 20 members' using errcode = 'invalid_parameter_value';
  elsif exists (select from jsonb_each(p_merge) e where char_length(e.key) not between 1 and 64) then
    raise exception 'merge names members of 1 to 64 characters' using errcode = 'invalid_parameter_value';
  elsif exists (select from jsonb_each(p_merge) e where e.value not in ('"sum"', '"union"', '"count"')) then
    raise exception 'merge says sum, union or count for each member' using errcode = 'invalid_parameter_value';
  elsif exists (select from jsonb_each(p_merge) e where e.value = '"union"' and p_merge ? (e.key || 'More')) then
    raise exception 'merge must not name the member beside a union, which says how many more there are' using errcode = 'invalid_parameter_value';
  elsif octet_length(p_data::text) + (select sum(64 + 2 * octet_length(to_json(k.name)::text)) from jsonb_object_keys(p_merge) k (name)) > 8192 then
    raise exception 'data leaves no room for what merge makes of it within 8192 bytes' using errcode = 'program_limit_exceeded';
  end if;
end $$;
comment on function restante_check_merge(jsonb, text, jsonb) is
  'Raises unless an event of this collapse key and data can be published with this merge; null: it is not merged. The limits that the service has for clients.';

create function restante_publish(
  p_publisher    text,
  p_type         text,
  p_data         jsonb,
  p_to_users     text[] default null,
  p_feed         uuid default null,
  p_event_id     uuid default gen_random_uuid(),
  p_ttl          interval default '24 hours',
  p_collapse_key text default null,
  p_urgent       boolean default false,
  p_except       text[] default null,
  p_merge        jsonb default null
) returns uuid
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
declare
  v_ttl_ms    bigint;
  v_publisher bigint;
  v_before    bigint;
  v_place     integer;
begin
  perform restante_needs_read_committed();
  perform restante_check_sender('restante_publish', p_publisher);
  perform restante_admit_plain_text();
  if p_publisher is null or p_type is null then
    raise exception 'an event needs a publisher and a type' using errcode = 'null_value_not_allowed';
  elsif starts_with(p_type, 'restante:') then
    raise exception 'event types that begin with restante: are reserved' using errcode = 'invalid_parameter_value';
  elsif p_ttl is null or extract(epoch from p_ttl) not between 0.000001 and 2592000 then
    raise exception 'an event lives for more than no time and for at most 30 days, not for %', p_ttl using errcode = 'invalid_parameter_value';
  elsif octet_length(p_data::text) > 8192 then
    raise exception 'data has % bytes, at most 8192 are allowed', octet_length(p_data::text) using errcode = 'program_limit_exceeded';
  elsif char_length(p_collapse_key) not between 1 and 128 then
    raise exception 'a collapse key has 1 to 128 characters' using errcode = 'invalid_parameter_value';
  elsif cardinality(p_to_users) > 10000 then
    raise exception 'an event may list at most 10000 users, this one lists %', cardinality(p_to_users) using errcode = 'program_limit_exceeded';
  elsif cardinality(p_except) > 500 then
    raise exception 'an event may except at most 500 users, this one excepts %', cardinality(p_except) using errcode = 'program_limit_exceeded';
  elsif p_to_users is not null and p_feed is not null then
    raise exception 'an event goes to listed users or to a feed, not to both' using errcode = 'invalid_parameter_value';
  -- The limits that the service has for clients, as in restante_send().
  elsif jsonb_path_exists(p_data, 'strict $.**{32 to last} ? (@.type() == "array" || @.type() == "object")', silent => true) then
    raise exception 'data is nested more than 32 levels deep' using errcode = 'invalid_parameter_value';
  elsif jsonb_path_exists(p_data, 'strict $.** ? (@.type() == "number" && (@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308))', silent => true) then
    raise exception 'data holds a number that is no double' using errcode = 'invalid_parameter_value';
  end if;
  perform restante_check_merge(nullif(p_merge, 'null'), p_collapse_key, p_data);
  if p_feed = '00000000-0000-0000-0000-000000000002' or p_feed is not null and not exists (select from feeds s where s.feed_id = p_feed and s.class = 'event') then
    raise exception 'there is no feed %', p_feed using errcode = 'no_data_found';
  end if;
  v_ttl_ms := greatest(ceil(extract(epoch from p_ttl) * 1000), 1)::bigint;
  select u.id into v_publisher from restante_users(array[p_publisher]) u;
  -- The same id again is the same event, as it is for a client.
  select o.publisher_id into v_before from outgoing_events o where o.xid = pg_current_xact_id() and o.message_id = p_event_id;
  if found then
    if v_before <> v_publisher then
      raise exception 'event id % belongs to another publisher', p_event_id using errcode = 'unique_violation';
    end if;
    return p_event_id;
  end if;
  select o.place into v_place from outgoing_events o where o.xid = pg_current_xact_id() order by o.place desc limit 1;
  if v_place >= 1000 then
    raise exception 'a transaction may publish at most 1000 events'
      using errcode = 'program_limit_exceeded', hint = 'Its commit locks their streams. Commit, and publish the rest in another transaction.';
  end if;
  insert into outgoing_events (place, message_id, publisher_id, event_type, data, users, feed_id, class, ttl_ms, collapse_key, excepted, merge)
    values (coalesce(v_place, 0) + 1, p_event_id, v_publisher, p_type, p_data,
            case when p_to_users is not null then array(select u.id from restante_users(p_to_users) u order by 1) end,
            case when p_to_users is null then coalesce(p_feed, '00000000-0000-0000-0000-000000000001') end,
            case when p_urgent then 'alert'::inbox_class else 'event' end, v_ttl_ms, p_collapse_key,
            array(select u.id from users u where u.is_current and u.external_id = any (p_except)), nullif(p_merge, 'null'));
  perform from outgoing_events o where o.xid = pg_current_xact_id() and o.message_id = p_event_id;
  if not found then
    raise exception 'restante_publish() needs the constraint events_are_published_at_commit to be deferred, and this transaction has made it immediate'
      using errcode = 'invalid_transaction_state', hint = 'Run "set constraints events_are_published_at_commit deferred" before it.';
  end if;
  return p_event_id;
end $$;
comment on function restante_publish(text, text, jsonb, text[], uuid, uuid, interval, text, boolean, text[], jsonb) is
  'Publishes an event inside your own transaction, with the same effect as over HTTP, and returns its id: to listed users, to a feed, or without either to everyone. It is accepted when you commit (its stream is locked only then) and is gone when you roll back. At most 1,000 events a transaction. The same id again from the same publisher is the same event.';

create function publish_outgoing() returns trigger
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
declare
  v_ids uuid[]; v_publishers bigint[]; v_types text[]; v_data text[]; v_ttls bigint[]; v_keys text[]; v_classes inbox_class[]; v_feeds uuid[];
  v_merges text[]; v_places integer[]; v_users bigint[]; v_excepted_places integer[]; v_excepted bigint[];
  v_outcomes text[];
  v_streams  uuid[];
  v_woken    bigint[];
  v_ended    bigint[];
  v_is_noted boolean;
begin
  -- As in accept_outgoing(): the first of the transaction's triggers takes all.
  if not exists (select 1 from outgoing_events o where o.xid = pg_current_xact_id() and o.message_id = new.message_id) then
    return null;
  end if;
  -- Messages wait for inboxes, and events for streams: in this order nobody who has a stream waits for an inbox.
  perform restante_accept_outgoing();
  v_is_noted := restante_admit_plain_text();
  with taken as materialized (
    delete from outgoing_events o where o.xid = pg_current_xact_id() returning o.*
  ), placed as materialized (
    select t.*, (row_number() over (order by t.place))::integer as n from taken t
  ), listed as (
    select p.n, u.id from placed p cross join lateral (select unnest(p.users) as id) u
  ), excepted as (
    select p.n, u.id from placed p cross join lateral (select unnest(p.excepted) as id) u
  )
  select a.*, b.*, c.*
    into v_ids, v_publishers, v_types, v_data, v_ttls, v_keys, v_classes, v_feeds, v_merges, v_places, v_users, v_excepted_places, v_excepted
    from (select array_agg(p.message_id order by p.n), array_agg(p.publisher_id order by p.n), array_agg(p.event_type::text order by p.n),
                 array_agg(p.data::text order by p.n), array_agg(p.ttl_ms order by p.n), array_agg(p.collapse_key order by p.n),
                 array_agg(p.class order by p.n), array_agg(p.feed_id order by p.n), array_agg(p.merge::text order by p.n) from placed p) a,
         (select array_agg(l.n), array_agg(l.id) from listed l) b,
         (select array_agg(e.n), array_agg(e.id) from excepted e) c;
  if cardinality(v_users) > 20000 then
    raise exception 'a transaction may publish to at most 20000 listed users, this one lists %', cardinality(v_users)
      using errcode = 'program_limit_exceeded', hint = 'Its commit locks the stream. Publish the rest in another transaction.';
  end if;
  select b.outcomes, b.streams, b.woken, b.superseded into v_outcomes, v_streams, v_woken, v_ended
    from restante_publish_batch(v_ids, v_publishers, v_types, v_data, v_ttls, v_keys, v_classes, v_feeds, array_fill(true, array[cardinality(v_ids)]),
                                v_places, v_users, v_excepted_places, v_excepted, 500, 1000, v_merges) b;
  for n in 1 .. cardinality(v_ids) loop
    if v_outcomes[n] = 'conflict' then
      raise exception 'event id % belongs to somebody else''s event or message', v_ids[n] using errcode = 'unique_violation';
    elsif v_outcomes[n] not in ('accepted', 'duplicate') then
      raise exception 'event % cannot be published: %', v_ids[n], v_outcomes[n] using errcode = 'invalid_parameter_value';
    end if;
  end loop;
  if v_is_noted then
    perform restante_note_plain(v_ids);
  end if;
  if v_woken is not null then
    perform restante_wake(v_woken);
  end if;
  if v_ended is not null then
    perform restante_check_marks(v_ended);
  end if;
  perform restante_wake_followers(v_streams);
  return null;
end $$;
comment on function publish_outgoing() is 'Runs at the commit of a transaction that called restante_publish().';

create constraint trigger events_are_published_at_commit after insert on outgoing_events
  deferrable initially deferred for each row execute function publish_outgoing();
comment on trigger events_are_published_at_commit on outgoing_events is
  'Deferred, so that streams are locked for a commit and not for the time the caller''s transaction stays open.';
