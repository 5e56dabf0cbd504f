-- The schema as the migrations make it: to be read, not to be run. `cargo xtask schema` writes it with PostgreSQL 15's pg_dump,
-- and `cargo xtask schema --check` compares. What it is all for is said in its comments and in docs/operations.md.
CREATE TYPE chat_kind AS ENUM (
    'direct',
    'group',
    'feed'
);

COMMENT ON TYPE chat_kind IS 'direct = two people (or one with itself), group = members are added and removed, feed = a stream of events (feeds).';

CREATE TYPE delivery_status AS ENUM (
    'sent',
    'delivered',
    'read',
    'failed',
    'expired'
);

COMMENT ON TYPE delivery_status IS 'The state of a message for one recipient: sent (stored, waits) -> delivered (acked) -> read; failed and expired end it otherwise. Order matters: a status only moves to the right.';

CREATE TYPE ended_reason AS ENUM (
    'expired',
    'capped',
    'superseded',
    'muted',
    'left',
    'recalled',
    'blocked',
    'failed',
    'discarded',
    'requeued',
    'unreadable',
    'purged'
);

COMMENT ON TYPE ended_reason IS 'The reason for which a number of an inbox will not come (any more), from the closed list that clients know: expired = its time had come; capped = too many waited; superseded = a newer one of its collapse key took its place; muted, blocked = the recipient wants none; left = the recipient left the chat; recalled = its sender took it back; failed = the last attempt failed; discarded = given up by an operator; requeued = it has another number now; unreadable = the row cannot be read; purged = finished and removed.';

CREATE TYPE inbox_class AS ENUM (
    'chat',
    'alert',
    'event'
);

COMMENT ON TYPE inbox_class IS 'The one of a user''s inboxes that a row lies in: chat = messages between people, alert = urgent events, event = all other events. Each is numbered on its own; they are drained in this order.';

CREATE TYPE journal_kind AS ENUM (
    'accepted',
    'queued',
    'delivered',
    'read',
    'read_at_once',
    'ended'
);

COMMENT ON TYPE journal_kind IS 'The move of the messages of a line of statistics_journal: accepted = stored; queued = got a row of one more recipient later; delivered = acked by one; read = read by one that had it; read_at_once = read by one that had not acked it; ended = its row ended otherwise, or was put back.';

CREATE TYPE member_role AS ENUM (
    'member',
    'admin'
);

COMMENT ON TYPE member_role IS 'admin may add and remove members of a group; member may leave.';

CREATE DOMAIN message_type_text AS text
	CONSTRAINT a_message_type_has_1_to_64_characters CHECK (((char_length(VALUE) >= 1) AND (char_length(VALUE) <= 64)));

COMMENT ON DOMAIN message_type_text IS 'A word of 1 to 64 characters. A domain, since a check of the table would be parsed anew by each statement that stores messages.';

COMMENT ON CONSTRAINT a_message_type_has_1_to_64_characters ON DOMAIN message_type_text IS 'The service accepts no other from clients.';

CREATE FUNCTION accept_outgoing() RETURNS trigger
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  -- The first of the transaction's triggers takes all its requests; the others find nothing, by index.
  if exists (select 1 from outgoing o where o.xid = pg_current_xact_id() and o.message_id = new.message_id) then
    perform restante_accept_outgoing();
  end if;
  return null;
end $$;

COMMENT ON FUNCTION accept_outgoing() IS 'Runs at the commit of a transaction that called restante_send().';

CREATE FUNCTION delivery_trace(p_message uuid) RETURNS TABLE(recipient text, status delivery_status, class inbox_class, inbox_seq bigint, attempts smallint, accepted_at timestamp with time zone, delivered_at timestamp with time zone, read_at timestamp with time zone, delivered_after interval, reason text, waiting_before_it bigint)
    LANGUAGE sql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
  -- The name by a sub-select: as a join it might begin with all users, where statistics are old.
  select (select u.external_id from users u where u.id = s.user_id), s.status, s.class, s.seq, s.attempts, m.created_at, s.delivered_at, s.read_at, s.delivered_at - m.created_at, s.reason,
         case when s.status = 'sent' then (
           select count(*) from message_status b, (select x.settled_seq from inboxes x where x.user_id = s.user_id and x.class = s.class order by x.step desc limit 1) i
            where b.user_id = s.user_id and b.class = s.class and b.seq > i.settled_seq and b.seq < s.seq and b.status = 'sent') end
    from messages m
    join message_status s on s.message_id = m.id
   where m.id = p_message
   order by s.status, 1;
$$;

COMMENT ON FUNCTION delivery_trace(p_message uuid) IS 'The state of this message for every recipient: where it stands, when it got there, why it ended, and how many rows wait before it in that inbox.';

CREATE FUNCTION follow_everyone() RETURNS trigger
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  insert into followers (user_id, feed_id, class, cursor_seq, followed_seq)
    select n.id, s.feed_id, s.class, s.last_seq, s.last_seq
      from (select x.feed_id, x.class, h.last_seq
              from feeds x
              cross join lateral (select y.last_seq from chat_heads y where y.chat_id = x.chat_id order by y.step desc limit 1) h
             where x.feed_id = '00000000-0000-0000-0000-000000000001') s
      cross join made n
     order by n.id, s.class;
  return null;
end $$;

COMMENT ON FUNCTION follow_everyone() IS 'Makes users that are new followers of everyone''s feed, from its last numbers on.';

CREATE FUNCTION guard_the_status() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_rule text := case
    when new.seq < old.seq or (new.seq > old.seq and new.status <> 'sent') or not (
         new.status = old.status or old.status = 'sent'
      or (old.status = 'delivered' and new.status = 'read')
      or (old.status = 'failed' and new.status = 'sent' and new.seq > old.seq)) then tg_name
    when old.delivered_at <> new.delivered_at then 'delivered_at_is_set_once'
    when (new.status in ('delivered', 'read')) <> (new.delivered_at is not null) then 'a_row_is_delivered_exactly_when_it_says_when'
    when (new.status = 'read') <> (new.read_at is not null) then 'a_row_is_read_exactly_when_it_says_when'
    when (new.status in ('failed', 'expired')) <> (new.ended is not null) then 'what_ended_otherwise_says_why'
  end;
begin
  if v_rule is not null then
    raise exception 'a status only moves forward: % cannot become % like this (user %, message %)', old.status, new.status, old.user_id, old.message_id
      using errcode = 'integrity_constraint_violation', constraint = v_rule, table = tg_table_name;
  end if;
  if old.status = 'sent' and new.status > 'read' or old.status = 'failed' and new.status = 'sent' then
    insert into statistics_journal (at, kind, ended, messages)
      values (clock_timestamp(), 'ended', case when new.status = 'sent' then 'requeued' else new.ended end, array[new.message_id]);
  end if;
  -- Its sender learns of it, also later. Of an event nobody is told; only what failed is kept, as a dead letter.
  if old.status = 'sent' and new.status > 'read' and (new.class = 'chat' or new.status = 'failed') then
    insert into endings as e (message_id, user_id, sender_id, chat_id, chat_seq, class, status, ended, reason, attempts, last_error, is_hidden)
      select new.message_id, new.user_id, m.sender_id, m.chat_id, m.seq, new.class, new.status, new.ended, coalesce(new.reason, new.ended::text), new.attempts,
             -- An attempt that fails the row brings its words; what ends it otherwise has words of another kind.
             case when new.attempts > old.attempts then new.reason else old.reason end,
             -- Between two users of whom one blocks the other no end is told.
             new.ended = 'blocked' or exists (select from closed_chats c where c.chat_id = m.chat_id)
        from messages m where m.id = new.message_id
    on conflict on constraint a_row_ends_once do update
       set status = excluded.status, ended = excluded.ended, reason = excluded.reason, attempts = excluded.attempts, last_error = excluded.last_error,
           is_hidden = excluded.is_hidden, discarded_at = null, ended_at = clock_timestamp(), ended_xid = pg_current_xact_id();
  elsif old.status = 'failed' and new.status = 'sent' then
    update endings e
       set status = 'sent', ended = 'requeued', reason = 'requeued', discarded_at = null, ended_at = clock_timestamp(), ended_xid = pg_current_xact_id(),
           is_hidden = exists (select from closed_chats c where c.chat_id = e.chat_id)
     where e.message_id = new.message_id and e.user_id = new.user_id;
  end if;
  return null;
end $$;

COMMENT ON FUNCTION guard_the_status() IS 'Raises where a row of the queue would become what it must not, naming the rule as constraint; keeps endings: of chats all, of events what failed; and notes each end for the statistics.';

CREATE FUNCTION publish_outgoing() RETURNS trigger
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION publish_outgoing() IS 'Runs at the commit of a transaction that called restante_publish().';

CREATE FUNCTION refuse_to_go_back() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  raise exception '%', tg_argv[0] using errcode = 'integrity_constraint_violation', constraint = tg_name, table = tg_table_name;
end $$;

COMMENT ON FUNCTION refuse_to_go_back() IS 'Raises. The rule itself is the WHEN clause of the trigger that calls it, so that a legal update costs no function call.';

CREATE FUNCTION restante_accept(p_ids uuid[], p_chats uuid[], p_senders bigint[], p_types text[], p_contents text[], p_metadata text[], p_expires timestamp with time zone[], p_skip_held boolean DEFAULT false, p_verdicts text[] DEFAULT NULL::text[], p_sealed bytea[] DEFAULT NULL::bytea[], p_key text DEFAULT NULL::text, OUT outcomes text[], OUT seqs bigint[], OUT classes inbox_class[], OUT first_chats uuid[], OUT first_times timestamp with time zone[], OUT places integer[], OUT recipients bigint[], OUT inbox_seqs bigint[], OUT accepted_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_chat      uuid;        -- of a message alone: its chat,
  v_at        tid;         -- … where the head of the chat is,
  v_class     inbox_class; -- … the inbox it goes to,
  v_seq       bigint;      -- … its number,
  v_recipient bigint;      -- … who gets it; null: nobody, or more than one
  v_inbox_seq bigint;
  v_done      boolean;
  v_locked    uuid[];    -- chats that are locked here (only looked at when p_skip_held)
  v_old       uuid := (lpad(to_hex((extract(epoch from clock_timestamp() - interval '1 day') * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid; -- UUIDv7s of earlier days are below it
  v_gone      uuid[];    -- ids that may be those of messages that were removed
  v_members   integer[]; -- items whose senders are members
  v_outsiders integer[]; -- items whose senders are not; null when all are
  v_lonely    integer[]; -- items that nobody but the sender is a member for; null when there are none
  v_chat_at   tid[];     -- per item: where the head of its chat is, when it is accepted
  v_accepted  bigint;    -- items accepted
  v_free      integer[]; -- places in recipients whose inboxes are locked here (only looked at when p_skip_held)
  v_held      uuid[];    -- chats with a member whose inbox somebody else holds
  v_inbox_at  tid[];     -- per inbox: where its row is
  v_inbox_end bigint[];  -- … and the last number that is given there
  v_expected  bigint[];  -- rows to be written: messages, recipients' rows, counters of chats, of inboxes
  v_written   bigint[];  -- … and written
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform restante_needs_read_committed();
  end if;

  -- 0. A message alone, from one of two members to the other: the same steps with single rows, at half the price. Where anything is
  -- unusual nothing has been written yet, and the long way finds out what.
  if array_length(p_ids, 1) = 1 and not p_skip_held and p_ids[1] >= v_old then
    v_chat := p_chats[1];
    select h.ctid, h.class, h.last_seq + 1 into v_at, v_class, v_seq
      from chat_heads h where h.chat_id = v_chat order by h.step desc limit 1 for no key update;
    -- A later statement, so a later snapshot: who is a member stands still under the lock.
    -- The same holds for whether the chat is closed.
    select case when count(*) = 2 and bool_or(q.user_id = p_senders[1]) and not exists (select from closed_chats x where x.chat_id = v_chat)
                then max(q.user_id) filter (where q.user_id <> p_senders[1]) end into v_recipient
      from (select cm.user_id from chat_members cm where cm.chat_id = v_chat and cm.left_seq is null limit 3) q;
    -- Looked at by itself: an expression with a call of a function is made ready in each transaction, at the price of a look-up.
    if p_verdicts is not null then
      if p_verdicts[1] <> 'yes' and not (p_verdicts[1] = 'contacts' and coalesce(restante_are_contacts(p_senders[1], v_recipient), false)) then
        v_recipient := null;
      end if;
    end if;
    accepted_at := clock_timestamp();
    if v_recipient is not null and (p_expires[1] is null or p_expires[1] > accepted_at) then
      insert into messages (id, chat_id, seq, sender_id, message_type, content, metadata, sealed, key_id, created_at, expires_at)
        values (p_ids[1], v_chat, v_seq, p_senders[1], p_types[1], p_contents[1], p_metadata[1]::jsonb, p_sealed[1], p_key, accepted_at, p_expires[1])
        on conflict on constraint messages_are_known_by_their_id do nothing;
      if found then
        update inboxes i set last_seq = i.last_seq + 1, step = (i.last_seq + 1) >> 4
         where i.user_id = v_recipient and i.class = v_class
           -- Another transaction that moves it meanwhile moves it up.
           and i.step >= (select x.step from inboxes x where x.user_id = v_recipient and x.class = v_class order by x.step desc limit 1)
        returning i.last_seq into v_inbox_seq;
        v_done := found;
        update chat_heads h set last_seq = v_seq, step = v_seq >> 4 where h.ctid = v_at;
        v_done := v_done and found;
        insert into message_status (user_id, class, seq, message_id) values (v_recipient, v_class, v_inbox_seq, p_ids[1]);
        -- A number without a stored row would be a hole; a counter that stands still would give its numbers twice.
        if not (v_done and found) then
          raise exception 'accepting did not write all of a message' using errcode = 'data_corrupted';
        end if;
        insert into statistics_journal (at, kind, class, message_type, accepted, recipients)
          values (accepted_at, 'accepted', v_class, p_types[1], 1, '{1}');
        outcomes := '{accepted}';
        seqs := array[v_seq];
        classes := array[v_class];
        first_chats := array[null::uuid];
        first_times := array[null::timestamptz];
        places := '{1}';
        recipients := array[v_recipient];
        inbox_seqs := array[v_inbox_seq];
        return;
      end if;
    end if;
  end if;

  -- Arrays are unnested side by side in a select list: in FROM, each would first be written into a store of its own, at
  -- five times the price.

  -- 1. Lock the chats, in the order of their ids. From here on their numbers and members stand still.
  if p_skip_held then
    select array_agg(u.chat) into v_locked
      from (select distinct unnest(p_chats) as chat order by 1) u
      cross join lateral (select from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1 for no key update skip locked) h;
  else
    perform 1
      from (select distinct unnest(p_chats) as chat order by 1) u
      -- By key, and in the order of the outer side: a nested loop is the only way to join it.
      cross join lateral (select from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1 for no key update) h;
  end if;

  -- A UUIDv7 tells when it was made. An old one may be repeated after its message was removed. A purge of its chat is
  -- waited for, and then seen.
  if exists (select from (select unnest(p_ids) as id) u where u.id < v_old and substr(u.id::text, 15, 1) = '7') then
    perform 1
      from (select distinct x.chat from (select unnest(p_ids) as id, unnest(p_chats) as chat) x
             where x.id < v_old and substr(x.id::text, 15, 1) = '7' order by 1) u
      cross join lateral (select from chats x where x.id = u.chat limit 1 for share) c;
    select array_agg(u.id) into v_gone
      from (select unnest(p_ids) as id, unnest(p_chats) as chat) u
      cross join lateral (select x.purged_at from chats x where x.id = u.chat limit 1) c
     -- The clock of the client that made the id may be a day ahead.
     where u.id < v_old and substr(u.id::text, 15, 1) = '7' and u.id < restante_first_id(c.purged_at + interval '1 day');
  end if;

  -- 2. In later statements, so with later snapshots: who is a member, and what is there already, under the lock.
  select array_agg(u.ord) filter (where cm.user_id = u.sender), array_agg(u.ord) filter (where cm.user_id <> u.sender),
         array_agg(cm.user_id) filter (where cm.user_id <> u.sender)
    into v_members, places, recipients
    from (select generate_subscripts(p_ids, 1) as ord, unnest(p_chats) as chat, unnest(p_senders) as sender) u
    -- By key, whatever the planner believes of the table: "offset 0" keeps the look-up apart, so it cannot become the outer side.
    cross join lateral (select x.user_id from chat_members x where x.chat_id = u.chat and x.left_seq is null offset 0) cm;
  if array_length(v_members, 1) is distinct from array_length(p_ids, 1) then
    select array_agg(q.ord) into v_outsiders
      from (select generate_subscripts(p_ids, 1) as ord except all select unnest(v_members)) q;
  end if;
  select array_agg(q.ord) into v_lonely from (select generate_subscripts(p_ids, 1) as ord except select unnest(places)) q;
  select array_agg(q.outcome), array_agg(q.seq), array_agg(q.class), array_agg(q.first_chat), array_agg(q.first_time), array_agg(q.at), count(q.at)
    into outcomes, seqs, classes, first_chats, first_times, v_chat_at, v_accepted
    from (
      select l.outcome, coalesce(l.class, 'chat') as class,
             -- An item that is accepted gets a number, in the order received; no other does.
             case l.outcome when 'accepted' then l.last_seq + row_number() over (partition by l.at, l.outcome = 'accepted' order by l.ord)
                            when 'duplicate' then l.first_seq end as seq,
             case l.outcome when 'accepted' then l.at end as at,
             case l.outcome when 'duplicate' then l.first_chat end as first_chat,
             case l.outcome when 'duplicate' then l.first_time end as first_time
        from (
          select u.ord, h.at, h.last_seq, h.class, m.chat_id as first_chat, m.seq as first_seq,
                 -- A time that somebody wrote there and no calendar of a client holds would end the lane.
                 least(greatest(m.created_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59+00') as first_time,
                 case
                   when m.sender_id = u.sender then 'duplicate'
                   when m.sender_id is not null then 'conflict'
                   when h.at is null then 'not_a_member'
                   when p_skip_held and not coalesce(u.chat = any (v_locked), false) then 'held'
                   when u.ord = any (v_outsiders) then 'not_a_member'
                   when u.id = any (v_gone) then 'purged'
                   when b.outcome is not null then b.outcome
                   when u.expires_at <= clock_timestamp() then 'too_late'
                   else 'accepted'
                 end as outcome
            from (
              select generate_subscripts(p_ids, 1) as ord, unnest(p_ids) as id, unnest(p_chats) as chat, unnest(p_senders) as sender,
                     unnest(p_expires) as expires_at, unnest(p_verdicts) as verdict
            ) u
            left join messages m on m.id = u.id
            left join lateral (
              select x.ctid as at, x.last_seq, x.class from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1) h on true
            left join lateral (
              (select 'not_accepted' as outcome from closed_chats x where x.chat_id = u.chat limit 1)
              union all
              select case u.verdict when 'unknown' then 'undecided' else 'not_accepted' end
                from chats x
                cross join lateral (select split_part(x.direct_key, ':', 1)::bigint as one, split_part(x.direct_key, ':', 2)::bigint as two) p
               where u.verdict <> 'yes' and x.id = u.chat and x.kind = 'direct' and p.one <> p.two
                 and (u.verdict <> 'contacts' or not restante_are_contacts(p.one, p.two))
              union all
              -- The other one was erased: it has left their chat, and nobody will come to it.
              select 'not_accepted' from chats x
               where u.ord = any (v_lonely) and x.id = u.chat and x.kind = 'direct'
                 and split_part(x.direct_key, ':', 1) <> split_part(x.direct_key, ':', 2)
              limit 1
            ) b on true
          offset 0 -- so that an outcome is found once, and not wherever it is used
        ) l
       order by l.ord
    ) q;

  -- A chat with a member whose inbox is held waits as a whole: its order is that of its numbers.
  if p_skip_held and v_accepted > 0 then
    select array_agg(q.n) into v_free
      from (
        select p.n
          from (
            select s.n, s.user_id, classes[s.ord] as class
              from (select generate_subscripts(places, 1) as n, unnest(places) as ord, unnest(recipients) as user_id) s
             where v_chat_at[s.ord] is not null
             order by s.user_id, classes[s.ord], s.n
          ) p
          -- By key, and in the order of the outer side.
          cross join lateral (
            select from inboxes x where x.user_id = p.user_id and x.class = p.class order by x.step desc limit 1 for no key update skip locked) i
      ) q;
    select array_agg(distinct p_chats[q.ord]) into v_held
      from (
        select p.n, p.ord from (select generate_subscripts(places, 1) as n, unnest(places) as ord) p where v_chat_at[p.ord] is not null
        except all
        select f.n, places[f.n] from (select unnest(v_free) as n) f
      ) q;
    if v_held is not null then
      select array_agg(case when q.held then 'held' else q.outcome end), array_agg(case when not q.held then q.seq end),
             array_agg(case when not q.held then q.at end), count(q.at) filter (where not q.held)
        into outcomes, seqs, v_chat_at, v_accepted
        from (
          select u.outcome, u.seq, u.at, u.at is not null and u.chat = any (v_held) as held
            from (
              select generate_subscripts(p_ids, 1) as ord, unnest(outcomes) as outcome, unnest(seqs) as seq, unnest(v_chat_at) as at,
                     unnest(p_chats) as chat
            ) u
           order by u.ord
        ) q;
    end if;
  end if;

  -- 3. The rows to be made, in the order in which inboxes are locked.
  select array_agg(q.ord), array_agg(q.user_id) into places, recipients
    from (
      select p.ord, p.user_id
        from (select unnest(places) as ord, unnest(recipients) as user_id) p
       where v_chat_at[p.ord] is not null
       order by p.user_id, classes[p.ord], p.ord
    ) q;

  -- 4. Lock the inboxes, in order, and number what each gets, in the order received. A row that is locked is read anew: its
  -- counter is the last one.
  with locked as materialized (
    select i.at, i.last_seq, g.items
      from (
        select p.user_id, p.class, count(*) as items
          from (select unnest(recipients) as user_id, classes[unnest(places)] as class) p
         group by p.user_id, p.class
         order by p.user_id, p.class
      ) g
      -- By key, and in the order of the outer side: a nested loop is the only way to join it.
      cross join lateral (
        select x.ctid as at, x.last_seq from inboxes x where x.user_id = g.user_id and x.class = g.class order by x.step desc limit 1 for no key update
      ) i
  )
  select a.at, a.seq, b.seq into v_inbox_at, v_inbox_end, inbox_seqs
    from (select array_agg(l.at) as at, array_agg(l.last_seq + l.items) as seq from locked l) a,
         (select array_agg(s.seq) as seq from (select l.last_seq + generate_series(1, l.items) as seq from locked l) s) b;
  -- A recipient without an inbox: what follows it would have the numbers of others.
  if array_length(inbox_seqs, 1) is distinct from array_length(recipients, 1) then
    raise exception 'accepting found % recipients and numbered %', array_length(recipients, 1), array_length(inbox_seqs, 1)
      using errcode = 'data_corrupted';
  end if;

  -- 5. Write, in one statement. Counters are found where they were locked: nobody can move them meanwhile. No "on conflict":
  -- a number that was given must be used, or all of it is rolled back.
  accepted_at := clock_timestamp();
  with chat_ends as materialized (
    select u.at, max(u.seq) as seq from (select unnest(v_chat_at) as at, unnest(seqs) as seq) u where u.at is not null group by u.at
  ), moved_chats as (
    update chat_heads h set last_seq = n.seq, step = n.seq >> 4 from chat_ends n where h.ctid = n.at returning 1
  ), moved_inboxes as (
    update inboxes i set last_seq = n.seq, step = n.seq >> 4
      from (select unnest(v_inbox_at) as at, unnest(v_inbox_end) as seq) n where i.ctid = n.at returning 1
  ), stored as (
    insert into messages (id, chat_id, seq, sender_id, message_type, content, metadata, sealed, key_id, created_at, expires_at)
      select u.id, u.chat, u.seq, u.sender, u.message_type, u.content, u.metadata::jsonb, u.sealed, p_key, accepted_at, u.expires_at
        from (
          select unnest(v_chat_at) as at, unnest(p_ids) as id, unnest(p_chats) as chat, unnest(seqs) as seq, unnest(p_senders) as sender,
                 unnest(p_types) as message_type, unnest(p_contents) as content, unnest(p_metadata) as metadata, unnest(p_sealed) as sealed,
                 unnest(p_expires) as expires_at
        ) u
       where u.at is not null
      returning 1
  ), queued as (
    insert into message_status (user_id, class, seq, message_id)
      select p.user_id, classes[p.ord], p.seq, p_ids[p.ord]
        from (select unnest(places) as ord, unnest(recipients) as user_id, unnest(inbox_seqs) as seq) p
      returning 1
  ), noted as (
    insert into statistics_journal (at, kind, class, message_type, accepted, recipients)
      select accepted_at, 'accepted', u.class, u.message_type, count(*), array[sum(u.rows)]
        from (
          select unnest(v_chat_at) as at, unnest(classes) as class, unnest(p_types) as message_type,
                 -- Rows of each item, in the order of the items.
                 unnest(array(select (count(*) - 1)::integer
                                from (select unnest(places) as ord union all select generate_subscripts(v_chat_at, 1)) q group by q.ord order by q.ord)) as rows
        ) u
       where u.at is not null
       group by u.class, u.message_type
  )
  select array[v_accepted, coalesce(array_length(recipients, 1), 0), (select count(*) from chat_ends), coalesce(array_length(v_inbox_at, 1), 0)],
         array[(select count(*) from stored), (select count(*) from queued), (select count(*) from moved_chats), (select count(*) from moved_inboxes)]
    into v_expected, v_written;
  -- A number without a stored row would be a hole; a counter that stands still would give its numbers twice.
  if v_written <> v_expected then
    raise exception 'accepting should have written % rows (messages, recipients, chats, inboxes) and wrote %', v_expected, v_written
      using errcode = 'data_corrupted';
  end if;
end $$;

COMMENT ON FUNCTION restante_accept(p_ids uuid[], p_chats uuid[], p_senders bigint[], p_types text[], p_contents text[], p_metadata text[], p_expires timestamp with time zone[], p_skip_held boolean, p_verdicts text[], p_sealed bytea[], p_key text, OUT outcomes text[], OUT seqs bigint[], OUT classes inbox_class[], OUT first_chats uuid[], OUT first_times timestamp with time zone[], OUT places integer[], OUT recipients bigint[], OUT inbox_seqs bigint[], OUT accepted_at timestamp with time zone) IS 'Stores messages and a row per recipient, numbers both without a gap, and returns one row of arrays. Per item outcomes: accepted, duplicate (same sender: the first result, in seqs, first_chats and first_times), conflict (another sender''s id), not_a_member, purged (the id is a UUIDv7 from before a message of the chat that was removed, so that its message may have been removed too), not_accepted (one of the two members of a direct chat has blocked the other, or was erased, or p_verdicts says no), undecided (p_verdicts does not know), too_late (expires_at has passed), held (only with p_skip_held: somebody else has the chat, or a member''s inbox, locked). Per recipient of an accepted item its place among the items, the user and the number in the inbox; sorted by inbox. The only writer of messages. An id must not stand in one call twice.';

CREATE FUNCTION restante_accept_contact(p_user text, p_other text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return restante_change_contact(p_user, p_other, 'accept');
end $$;

COMMENT ON FUNCTION restante_accept_contact(p_user text, p_other text) IS 'One user accepts the request of another, inside your own transaction. Returns contact; raises where there is no request.';

CREATE FUNCTION restante_accept_invitation(p_user text, p_chat uuid) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_taken record;
begin
  select t.outcome, t.joined_seq into v_taken
    from restante_take_invitation((select u.id from users u where u.is_current and u.external_id = p_user), p_chat, 5000) t;
  case v_taken.outcome
    when 'not_found' then
      raise exception 'user % is not invited to chat %', p_user, p_chat using errcode = 'no_data_found';
    when 'too_many_members' then
      raise exception 'chat % has 5000 members, the most that are allowed', p_chat using errcode = 'program_limit_exceeded';
    else
      return v_taken.joined_seq;
  end case;
end $$;

COMMENT ON FUNCTION restante_accept_invitation(p_user text, p_chat uuid) IS 'A user accepts an invitation, inside your own transaction. Returns the number above which it gets messages; raises where none waits for it.';

CREATE FUNCTION restante_accept_outgoing() RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_ids uuid[]; v_chats uuid[]; v_senders bigint[]; v_types text[]; v_contents text[]; v_metadata text[]; v_expires timestamptz[];
  v_rows     bigint;
  v_outcomes text[];
  v_users    bigint[];
  v_is_noted boolean;
begin
  with taken as (delete from outgoing o where o.xid = pg_current_xact_id() returning o.*)
  select array_agg(q.message_id), array_agg(q.chat_id), array_agg(q.sender_id), array_agg(q.message_type::text), array_agg(q.content),
         array_agg(q.metadata::text), array_agg(q.expires_at)
    into v_ids, v_chats, v_senders, v_types, v_contents, v_metadata, v_expires
    from (select * from taken order by place) q;
  if v_ids is null then
    return;
  end if;
  v_is_noted := restante_admit_plain_text();
  -- Counted before anything is locked.
  if array_length(v_ids, 1) > 1 then
    select sum(c.items * (select count(*) from chat_members cm where cm.chat_id = c.chat and cm.left_seq is null)) into v_rows
      from (select u.chat, count(*) as items from unnest(v_chats) u (chat) group by u.chat) c;
    if v_rows > 10000 then
      raise exception 'a transaction may send to at most 10000 recipients, this one would send to %', v_rows
        using errcode = 'program_limit_exceeded', hint = 'Its commit locks the chats and inboxes. Send the rest in another transaction.';
    end if;
  end if;
  select a.outcomes, a.recipients into v_outcomes, v_users
    from restante_accept(v_ids, v_chats, v_senders, v_types, v_contents, v_metadata, v_expires) a;
  for n in 1 .. array_length(v_ids, 1) loop
    if v_outcomes[n] = 'conflict' then
      raise exception 'message id % belongs to another sender', v_ids[n] using errcode = 'unique_violation';
    elsif v_outcomes[n] = 'not_a_member' then
      raise exception 'the sender of message % is no longer a member of chat %', v_ids[n], v_chats[n] using errcode = 'insufficient_privilege';
    elsif v_outcomes[n] = 'not_accepted' then
      raise exception 'one of the members of chat % has blocked the other or was erased, message % is not accepted', v_chats[n], v_ids[n]
        using errcode = 'insufficient_privilege';
    elsif v_outcomes[n] = 'purged' then
      raise exception 'message id % is from before messages of chat % that were removed, its message may have been one of them', v_ids[n], v_chats[n]
        using errcode = 'unique_violation', hint = 'Send it with a new id.';
    elsif v_outcomes[n] = 'too_late' then
      raise exception 'message % expired before its commit', v_ids[n] using errcode = 'invalid_parameter_value';
    end if;
  end loop;
  if v_is_noted then
    perform restante_note_plain(v_ids);
  end if;
  if v_users is not null then
    perform restante_wake(v_users);
  end if;
end $$;

COMMENT ON FUNCTION restante_accept_outgoing() IS 'Accepts what this transaction has asked for with restante_send().';

CREATE FUNCTION restante_acquire_job(p_name text, p_node uuid, p_lease_ms integer) RETURNS TABLE(lease_no bigint, cursor text, passed_ms bigint)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_acquire_job(p_name text, p_node uuid, p_lease_ms integer) IS 'A node asks for a job, or renews the lease that it has, for so many milliseconds. Returns the number of its lease (null: another node holds the job), the cursor, and how many milliseconds ago a pass last succeeded. Waits for no pass: the row is locked for a moment only.';

CREATE FUNCTION restante_add_counts(p_counts bigint[], p_more bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return array(select coalesce(u.a, 0) + coalesce(u.b, 0) from unnest(p_counts, p_more) with ordinality u (a, b, n) order by u.n);
end $$;

COMMENT ON FUNCTION restante_add_counts(p_counts bigint[], p_more bigint[]) IS 'The sums of two rows of counts, place by place. What one lacks at its end counts as 0.';

CREATE FUNCTION restante_add_followers(p_feed uuid, p_users bigint[], p_feeds_max integer) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  if p_feed = '00000000-0000-0000-0000-000000000002' or not exists (select from feeds s where s.feed_id = p_feed and s.class = 'event') then
    return 'not_found';
  end if;
  -- New follows of a user come one after the other, and each is counted. A statement after the lock sees those before it.
  perform from (select distinct unnest(p_users) as id order by 1) n
    cross join lateral (select from users u where u.id = n.id limit 1 for no key update) u;
  if exists (
    select from (select distinct unnest(p_users) as id) n
     where not exists (select from followers f where f.user_id = n.id and f.feed_id = p_feed and f.class = 'event')
       and p_feeds_max <= (select count(*) from followers f
                            where f.user_id = n.id and f.class = 'event' and f.feed_id <> '00000000-0000-0000-0000-000000000001')) then
    return 'too_many';
  end if;
  -- An event that commits later has a higher number, whatever is under way now.
  insert into followers (user_id, feed_id, class, cursor_seq, followed_seq)
    select n.id, s.feed_id, s.class, h.last_seq, h.last_seq
      from (select distinct unnest(p_users) as id) n
      cross join lateral (select x.feed_id, x.class, x.chat_id from feeds x where x.feed_id = p_feed) s
      cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
     order by n.id, s.class
    on conflict on constraint a_user_follows_a_stream_once do nothing;
  return 'done';
end $$;

COMMENT ON FUNCTION restante_add_followers(p_feed uuid, p_users bigint[], p_feeds_max integer) IS 'These users follow the feed: they get what is published after this, and who follows it already goes on. Else nothing is done: not_found; too_many: one of them would follow more than p_feeds_max feeds, that of everyone not counted.';

CREATE FUNCTION restante_add_members(p_chat uuid, p_caller bigint, p_users bigint[], p_members_max integer, p_contacts_only boolean DEFAULT false) RETURNS TABLE(outcome text, user_id bigint, external_id text, title text, joined_seq bigint)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_add_members(p_chat uuid, p_caller bigint, p_users bigint[], p_members_max integer, p_contacts_only boolean) IS 'Adds members to a group; with p_contacts_only those who are no contacts of the caller are invited instead. One row per member that is new, with the number above which it gets messages (a row without a user when nobody is), outcome done, and then one per user that is invited now, outcome invited. Else one row that says why nothing was done: not_a_member (the caller is not in it, or there is no such chat), not_a_group, forbidden (the caller is no admin), too_many_members, not_accepted (one of those who are new has blocked the caller, or cannot be invited by it), too_many_invitations. A user that is a member or invited already is passed over.';

CREATE FUNCTION restante_add_named_members(p_chat uuid, p_caller bigint, p_names text[], p_make boolean, p_members_max integer, p_contacts_only boolean DEFAULT false) RETURNS TABLE(outcome text, user_id bigint, external_id text, title text, joined_seq bigint)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_add_named_members(p_chat uuid, p_caller bigint, p_names text[], p_make boolean, p_members_max integer, p_contacts_only boolean) IS 'restante_add_members for users by their names. Where the service does not know some of them, it makes them (p_make), or changes nothing and returns a row for each, outcome unknown. It makes nobody for a caller that may not add them.';

CREATE FUNCTION restante_admit_plain_text() RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_is_on  boolean;
  v_allows boolean;
begin
  select e.is_on, e.allows_sql into v_is_on, v_allows from encryption e where e.only_row;
  if v_is_on and not v_allows then
    raise exception 'encryption at rest is on, and SQL cannot encrypt'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Send over HTTP or a socket, or let the service set ENCRYPTION_ALLOW_SQL=true: plain text then stands in tables, WAL and backups until the service has encrypted it.';
  end if;
  return coalesce(v_is_on, false);
end $$;

COMMENT ON FUNCTION restante_admit_plain_text() IS 'Raises where SQL may not store plain text, because nodes encrypt. Returns whether what SQL stores is to be noted, so that it is sealed soon (restante_note_plain).';

CREATE FUNCTION restante_advance_job(p_name text, p_node uuid, p_lease_no bigint, p_cursor text, p_lease_ms integer) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  update jobs j
     set cursor = p_cursor, passed_at = clock_timestamp(),
         renewed_at = clock_timestamp(), leased_until = clock_timestamp() + p_lease_ms * interval '1 millisecond'
   where j.name = p_name and j.holder = p_node and j.lease_no = p_lease_no;
  return found;
end $$;

COMMENT ON FUNCTION restante_advance_job(p_name text, p_node uuid, p_lease_no bigint, p_cursor text, p_lease_ms integer) IS 'A pass has succeeded: stores where the next one begins, and renews the lease. False, and nothing is changed: another node has taken the job since.';

CREATE FUNCTION restante_advance_settled(p_user bigint, p_class inbox_class) RETURNS bigint
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_at      tid;
  v_before  bigint;
  v_settled bigint;
  v_last    bigint;
  v_seen    bigint;       -- the last number when the inbox was looked at without its lock
  v_seqs    bigint[];     -- the rows that wait, in order, …
  v_chats   uuid[];       -- … and their chats
  v_count   integer := 0; -- so many of them, the first ones, shall get new numbers
  v_rows    tid[];
  v_marks   tid[];
  v_held    boolean := false; -- these are locked by us, with their marks
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform restante_needs_read_committed();
  end if;
  select i.settled_seq, i.last_seq into v_settled, v_seen from inboxes i where i.user_id = p_user and i.class = p_class order by i.step desc limit 1;
  -- Rows that wait below a thousand that have ended: each session that opens this inbox would pass all of them. They get new numbers, at
  -- the end, as by a requeue. All that waits has to be known for it, and looking for that takes too long to hold a lock meanwhile. What is
  -- seen here is all that can wait up to v_seen once the lock is held: rows end, or get a number above it.
  if v_seen - v_settled between 1001 and 200000 then
    select w.seqs, w.chats into v_seqs, v_chats from restante_waiting_rows(p_user, p_class, v_settled, v_seen) w;
    v_count := restante_overtaken(v_seqs, v_chats, v_seen);
    if v_count = 0 and v_seqs[1] = v_settled + 1 then
      return v_settled;
    end if;
  end if;
  -- A writer that numbers this inbox holds its row; where one has it, the old value is still true. A row that is locked is read anew.
  select i.ctid, i.settled_seq, i.last_seq into v_at, v_before, v_last
    from inboxes i where i.user_id = p_user and i.class = p_class order by i.step desc limit 1 for no key update skip locked;
  if not found then
    return v_settled;
  end if;
  -- Statements after the lock, so snapshots after the lock: in the same one a row that committed while we waited would be passed
  -- over, and never be emitted again.
  if v_count > 0 then
    select v_seqs || w.seqs, v_chats || w.chats into v_seqs, v_chats from restante_waiting_rows(p_user, p_class, v_seen, least(v_last, v_seen + 1000)) w;
    v_count := case when v_last <= v_seen + 1000 then restante_overtaken(v_seqs, v_chats, v_last) else 0 end;
  end if;
  if v_count > 0 then
    -- A transaction that works on one of them now ends it, or the next call finds all of them again. One that stayed where it is would come before
    -- those of its chat that moved.
    select array_agg(r.at order by u.seq) into v_rows
      from unnest(v_seqs[:v_count]) u (seq)
      cross join lateral (
        select s.ctid as at from message_status s
         where s.user_id = p_user and s.class = p_class and s.seq = u.seq and s.status = 'sent' limit 1 for update skip locked) r;
    -- Streams of events have no marks.
    select array_agg(k.at) filter (where k.at is not null), (p_class <> 'chat' or count(*) = count(k.at)) and coalesce(cardinality(v_rows), 0) = v_count
      into v_marks, v_held
      from (select distinct x.chat from unnest(v_chats[:v_count]) x (chat)) u
      left join lateral (
        select x.ctid as at from marks x where x.chat_id = u.chat and x.user_id = p_user order by x.step desc limit 1 for no key update skip locked) k on true;
  end if;
  if v_held then
    update message_status s set seq = v_last + u.n from unnest(v_rows) with ordinality u (at, n) where s.ctid = u.at;
    insert into inbox_gaps (user_id, class, seq, reason) select p_user, p_class, u.seq, 'requeued' from unnest(v_seqs[:v_count]) u (seq);
    -- The new numbers lie behind all others: a session that has not read these rows yet finds them there.
    update marks k set has_hole = true, moves = k.moves + 1, step = (k.moves + 1) >> 4 from unnest(v_marks) u (at) where k.ctid = u.at and not k.has_hole;
    v_last := v_last + v_count;
  end if;
  -- 50,000 numbers at most: sessions that write to this inbox wait meanwhile.
  v_settled := coalesce(
    (select s.seq - 1 from message_status s
      where s.user_id = p_user and s.class = p_class and s.seq > v_before and s.seq <= v_before + 50000 and s.status = 'sent' order by s.seq limit 1),
    least(v_last, v_before + 50000));
  if v_settled > v_before or v_held then
    update inboxes i set settled_seq = v_settled, last_seq = v_last, step = v_last >> 4 where i.ctid = v_at;
  end if;
  return v_settled;
end $$;

COMMENT ON FUNCTION restante_advance_settled(p_user bigint, p_class inbox_class) IS 'Moves settled_seq up to the row before the first that waits, 50,000 numbers at most, and returns it. Rows that wait below a thousand that have ended, while no later one of their chats waits above them, get new numbers at the end of the inbox (restante_overtaken), their old ones are named in inbox_gaps; where more than 50 wait, or 200,000 numbers are not settled, none does. Never waits for a lock: where one is held it returns the value as it is.';

CREATE FUNCTION restante_are_contacts(p_one bigint, p_other bigint) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return exists (select from contacts c where c.user_id = p_one and c.other_id = p_other)
     and exists (select from contacts c where c.user_id = p_other and c.other_id = p_one);
end $$;

COMMENT ON FUNCTION restante_are_contacts(p_one bigint, p_other bigint) IS 'True where these two users are contacts: each wants the other.';

CREATE FUNCTION restante_arrive(p_node uuid, p_users bigint[]) RETURNS TABLE(user_id bigint, external_id text, at timestamp with time zone)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_arrive(p_node uuid, p_users bigint[]) IS 'These users are connected to this node. Returns those who were online nowhere before.';

CREATE FUNCTION restante_ask_may_send(p_sender bigint, p_chat uuid, p_other text) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $_$
declare
  v_sender text := (select u.external_id from users u where u.id = p_sender);
  v_other  text := p_other;
  v_may    boolean;
begin
  if p_chat is not null then
    select u.external_id into v_other
      from chats c
      cross join lateral (select split_part(c.direct_key, ':', 1)::bigint as one, split_part(c.direct_key, ':', 2)::bigint as two) p
      join users u on u.id = case when p.one = p_sender then p.two else p.one end
     where c.id = p_chat and c.kind = 'direct';
  end if;
  if v_sender is null or v_other is null or to_regprocedure('restante_may_send(text, text)') is null then
    return null;
  end if;
  -- The planner knows it only when it is called: it may not have been there when this was made.
  execute 'select restante_may_send($1, $2)' into v_may using v_sender, v_other;
  return v_may;
exception
  when query_canceled or others then
    return null;
end $_$;

COMMENT ON FUNCTION restante_ask_may_send(p_sender bigint, p_chat uuid, p_other text) IS 'The answer of restante_may_send(sender, recipient), which the application defines, for a sender and the other member of a direct chat, or the user of a name. Null: there is no such function, it has failed, or has taken longer than the statement may.';

CREATE FUNCTION restante_attempt(p_users bigint[], p_classes inbox_class[], p_seqs bigint[], p_reasons text[], p_final boolean[], p_attempts_max integer) RETURNS TABLE(ord integer, attempts integer, failed boolean, counted_at timestamp with time zone)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now      timestamptz := clock_timestamp();
  v_ord      integer[];
  v_attempts integer[];
  v_failed   boolean[];
  v_users    bigint[];
  v_chats    uuid[];
begin
  perform restante_needs_read_committed();
  with counted as (
    update message_status s
       set attempts = s.attempts + 1, reason = u.reason,
           status = case when u.final or s.attempts + 1 >= p_attempts_max then 'failed'::delivery_status else s.status end,
           ended = case when u.final or s.attempts + 1 >= p_attempts_max then 'failed'::ended_reason end
      from (select * from unnest(p_users, p_classes, p_seqs, p_reasons, p_final) with ordinality x (user_id, class, seq, reason, final, ord)
             order by x.user_id, x.class, x.seq) u
     where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status = 'sent'
    returning u.ord::integer as ord, s.attempts::integer as attempts, s.status = 'failed' as failed, s.user_id, s.message_id
  )
  select array_agg(k.ord), array_agg(k.attempts), array_agg(k.failed),
         array_agg(k.user_id) filter (where k.failed), array_agg(m.chat_id) filter (where k.failed)
    into v_ord, v_attempts, v_failed, v_users, v_chats
    from counted k join messages m on m.id = k.message_id;

  -- A failed row counts as passed, so the mark may move.
  if v_users is not null then
    perform restante_exact_marks(v_chats, v_users, true);
  end if;
  return query select q.ord, q.attempts, q.failed, v_now from unnest(v_ord, v_attempts, v_failed) q (ord, attempts, failed);
end $$;

COMMENT ON FUNCTION restante_attempt(p_users bigint[], p_classes inbox_class[], p_seqs bigint[], p_reasons text[], p_final boolean[], p_attempts_max integer) IS 'Counts an attempt against rows that still wait; the last one, or a final one, fails the row. Rows that do not wait are passed over. A row may stand in a call once.';

CREATE FUNCTION restante_audit(p_action text, p_target jsonb, p_outcome text, p_actor text DEFAULT NULL::text, p_node uuid DEFAULT NULL::uuid) RETURNS void
    LANGUAGE sql
    SET search_path TO 'public', 'pg_temp'
    AS $$
  insert into audit (actor, action, target, outcome, node_id) values (coalesce(p_actor, session_user), p_action, p_target, p_outcome, p_node);
$$;

COMMENT ON FUNCTION restante_audit(p_action text, p_target jsonb, p_outcome text, p_actor text, p_node uuid) IS 'Notes an act of an operator, in the transaction of the act. p_actor: null stands for the role that is logged in. p_node: the node through which it was asked for. p_target has ids only.';

CREATE FUNCTION restante_beat(p_node uuid, p_lives_ms integer) RETURNS TABLE(came boolean, boot uuid, live uuid[], boots uuid[], key_numbers bigint[], secrets bytea[], sealing bigint)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_beat(p_node uuid, p_lives_ms integer) IS 'The heartbeat of a node, good for so many milliseconds: was it listed before, which nodes live under which boots, and with which secrets do they speak?';

CREATE FUNCTION restante_block(p_user text, p_other text) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_both  record;
  v_block record;
begin
  select * into v_both from restante_two_users(p_user, p_other, 'block itself');
  select b.outcome, b.chat_id into v_block from restante_put_block(v_both.user_id, v_both.other_id, 10000) b limit 1;
  if v_block.outcome = 'too_many' then
    raise exception 'user % has blocked 10000 users, the most that are allowed', p_user using errcode = 'program_limit_exceeded';
  end if;
  perform restante_people_changed(array[v_both.user_id, v_both.other_id], v_block.chat_id);
  return v_block.outcome = 'done';
end $$;

COMMENT ON FUNCTION restante_block(p_user text, p_other text) IS 'One user blocks another, inside your own transaction, with the same effect as over HTTP. True: from your commit on; false: it had blocked it before.';

CREATE FUNCTION restante_bus_keys(OUT key_numbers bigint[], OUT secrets bytea[], OUT sealing bigint) RETURNS record
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_bus_keys(OUT key_numbers bigint[], OUT secrets bytea[], OUT sealing bigint) IS 'The secrets of nodes that are valid now, and the number of the one to seal with. Makes one where none is there, or the newest is a day old.';

CREATE FUNCTION restante_cap(p_user bigint, p_class inbox_class, p_settled bigint, p_last bigint, p_looked_max integer, p_rows_max bigint) RETURNS integer
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_seqs  bigint[];
  v_ended integer;
begin
  -- A row that somebody holds is being acked, or ends already.
  select array_agg(q.seq order by q.seq) into v_seqs
    from (select r.seq
            from (select l.seq from restante_living_rows(p_user, p_class, p_settled, p_last, p_looked_max) l order by l.seq limit p_rows_max) r
            cross join lateral (
              select from message_status x where x.user_id = p_user and x.class = p_class and x.seq = r.seq and x.status = 'sent' limit 1
                for no key update skip locked) k) q;
  update message_status s set status = 'expired', ended = 'capped', reason = 'too many events waited'
    from (select unnest(v_seqs) as seq) u
   where s.user_id = p_user and s.class = p_class and s.seq = u.seq and s.status = 'sent';
  get diagnostics v_ended = row_count;
  if v_ended > 0 then
    perform restante_check_marks(array[p_user]);
  end if;
  return v_ended;
end $$;

COMMENT ON FUNCTION restante_cap(p_user bigint, p_class inbox_class, p_settled bigint, p_last bigint, p_looked_max integer, p_rows_max bigint) IS 'Ends the first rows that live in an inbox (restante_living_rows, which looks at p_looked_max), p_rows_max at most: too many wait (capped). Called while the inbox is locked. Waits for no row. Returns how many it has ended.';

CREATE FUNCTION restante_cap_events(p_before bigint, p_counted bigint, p_events_max bigint, p_page_max integer, p_rows_max integer, OUT counted bigint, OUT events_capped integer, OUT rows_capped integer, OUT is_ending boolean, OUT next_before bigint) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now    timestamptz := clock_timestamp();
  v_event  record;
  v_looked integer := 0;
  v_left   integer := p_rows_max; -- rows that may still be looked at
  v_walk   record;
  v_after  bigint;  -- the walk goes on behind this recipient
  v_is_settled boolean; -- will no row be made any more?
  v_is_final   boolean; -- is this walk the last?
  v_has_held   boolean;
  v_is_cut boolean := false; -- is the last event for the next page, too?
  v_gone   bigint[];  -- numbers that live no more
  v_chats  uuid[];    -- streams of which something is too much,
  v_seqs   bigint[];  -- … and its number
  v_users  bigint[];  -- users of whom something ended
begin
  perform restante_needs_read_committed();
  counted := p_counted;
  events_capped := 0;
  rows_capped := 0;
  is_ending := false;
  next_before := p_before;
  -- One page at a time: a second job leaves at once, and comes again. Nobody else locks this row.
  perform from feeds s where s.feed_id = '00000000-0000-0000-0000-000000000001' and s.class = 'event' for no key update skip locked;
  if not found then
    return;
  end if;
  -- A statement after the lock.
  for v_event in
    select e.number, e.message_id, e.chat_id, e.seq, e.passed_user, e.has_held, e.is_final, e.is_walked, e.ended_xid, e.expires_at <= v_now as has_expired,
           e.seq <= s.floor_seq as is_capped, s.feed_id = '00000000-0000-0000-0000-000000000002' as is_listed
      from (select x.* from living_events x where x.number < p_before order by x.number desc limit p_page_max) e
      cross join lateral (select x.feed_id, x.floor_seq from feeds x where x.chat_id = e.chat_id limit 1) s
     order by e.number desc
  loop
    v_looked := v_looked + 1;
    next_before := v_event.number;
    -- The job expire ends what waits of it.
    if v_event.has_expired then
      v_gone := v_gone || v_event.number;
      continue;
    end if;
    if v_event.is_capped then
      is_ending := true;
      -- A transaction that has read the lower floor has a lower number than the one that first saw the higher one here. A walk that begins
      -- after all of these have ended is the last.
      v_is_settled := coalesce(v_event.ended_xid < pg_snapshot_xmin(pg_current_snapshot()), false);
      if v_event.is_walked and not v_is_settled then
        continue;
      end if;
      v_after := case when v_event.ended_xid is null then 0 else v_event.passed_user end;
      v_is_final := case when v_after = 0 then v_is_settled else v_event.is_final end;
      select * into v_walk from restante_cap_rows(v_event.message_id, v_after, v_left);
      v_users := v_users || v_walk.users;
      rows_capped := rows_capped + coalesce(cardinality(v_walk.users), 0);
      v_left := v_left - v_walk.looked;
      v_is_cut := not v_walk.is_last;
      v_has_held := v_walk.has_held or v_after > 0 and v_event.has_held;
      if v_walk.is_last and v_is_final and not v_has_held then
        v_gone := v_gone || v_event.number;
        events_capped := events_capped + 1;
      else
        update living_events e
           set passed_user = case when v_is_cut then v_walk.last_user else 0 end, has_held = v_is_cut and v_has_held,
               is_final = v_is_cut and v_is_final, is_walked = not v_is_cut and not v_has_held,
               ended_xid = coalesce(v_event.ended_xid, pg_current_xact_id())
         where e.number = v_event.number;
      end if;
    elsif v_event.is_listed and not exists (select from fan_outs f where f.message_id = v_event.message_id and f.waiting > 0) then
      select * into v_walk from restante_first_waiting(v_event.message_id, v_event.passed_user, v_left);
      v_left := v_left - v_walk.looked;
      if v_walk.is_last and v_walk.waiting_user is null then
        v_gone := v_gone || v_event.number;
      else
        if v_walk.passed_user > v_event.passed_user then
          update living_events e set passed_user = v_walk.passed_user where e.number = v_event.number;
        end if;
        v_is_cut := v_walk.waiting_user is null;
        counted := counted + (not v_is_cut)::integer;
      end if;
    else
      counted := counted + 1;
    end if;
    if counted > p_events_max then
      is_ending := true;
      -- One too many. What is older in its stream is too much, too.
      counted := p_events_max;
      v_chats := v_chats || v_event.chat_id;
      v_seqs := v_seqs || v_event.seq;
    end if;
    if v_is_cut then
      next_before := v_event.number + 1;
    end if;
    exit when v_is_cut or v_left <= 0;
  end loop;
  if v_looked < p_page_max and v_left > 0 and not v_is_cut then
    next_before := null;
  end if;
  update feeds s set floor_seq = greatest(s.floor_seq, u.seq)
    from (select q.chat_id, max(q.seq) as seq from unnest(v_chats, v_seqs) q (chat_id, seq) group by q.chat_id) u
   where s.chat_id = u.chat_id;
  delete from living_events e using unnest(v_gone) u (number) where e.number = u.number;
  if v_users is not null then
    perform restante_check_marks(v_users);
  end if;
end $$;

COMMENT ON FUNCTION restante_cap_events(p_before bigint, p_counted bigint, p_events_max bigint, p_page_max integer, p_rows_max integer, OUT counted bigint, OUT events_capped integer, OUT rows_capped integer, OUT is_ending boolean, OUT next_before bigint) IS 'Counts living events, from the newest down, a page of at most p_page_max events and p_rows_max rows at a time, and takes out what lives no more. Where more than p_events_max live, the floor of their streams is raised to the older ones, so that followers pass them, and their rows that wait end (capped). Waits for nobody: what is held is left for the next sweep. To be called again with what it returns, until there is no next page.';

CREATE FUNCTION restante_cap_rows(p_message uuid, p_after bigint, p_rows_max integer, OUT users bigint[], OUT last_user bigint, OUT looked integer, OUT has_held boolean, OUT is_last boolean) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_waiting bigint[];
begin
  select array_agg(q.user_id order by q.user_id) filter (where q.status = 'sent'), coalesce(max(q.user_id), p_after), count(*)
    into v_waiting, last_user, looked
    from (select s.user_id, s.status from message_status s
           where s.message_id = p_message and s.user_id > p_after order by s.user_id limit p_rows_max) q;
  select array_agg(u.id order by u.id) into users
    from (select unnest(v_waiting) as id) u
    cross join lateral (
      select from message_status x where x.message_id = p_message and x.user_id = u.id and x.status = 'sent' limit 1
        for no key update skip locked) k;
  update message_status s set status = 'expired', ended = 'capped', reason = 'too many events lived'
    from (select unnest(users) as id) u
   where s.message_id = p_message and s.user_id = u.id and s.status = 'sent';
  has_held := coalesce(cardinality(v_waiting), 0) > coalesce(cardinality(users), 0);
  is_last := looked < p_rows_max;
end $$;

COMMENT ON FUNCTION restante_cap_rows(p_message uuid, p_after bigint, p_rows_max integer, OUT users bigint[], OUT last_user bigint, OUT looked integer, OUT has_held boolean, OUT is_last boolean) IS 'Ends what waits of an event for recipients behind p_after, by their numbers, among p_rows_max rows (capped). Returns those for whom it has ended, the last one that was looked at, whether something was left that somebody holds, and whether there are no other rows.';

CREATE FUNCTION restante_catch_up_marks(p_members_max integer) RETURNS boolean
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_chats uuid[];
  v_users bigint[];
begin
  perform restante_needs_read_committed();
  with taken as (
    -- Its rows are locked, so they stay where they are. Joined by key, a planner might walk the table for each of them.
    delete from marks_behind b
     using (select x.ctid as at from marks_behind x where x.chat_id >= '00000000-0000-0000-0000-000000000000'
             order by x.chat_id, x.user_id limit p_members_max for update skip locked) t
     where b.ctid = t.at
    returning b.chat_id, b.user_id
  ) select array_agg(t.chat_id), array_agg(t.user_id) into v_chats, v_users from taken t;
  if v_users is null then
    return false;
  end if;
  perform restante_exact_marks(v_chats, v_users);
  return true;
end $$;

COMMENT ON FUNCTION restante_catch_up_marks(p_members_max integer) IS 'Moves on the marks of some members that have further to go (marks_behind), a part each. False: there are none.';

CREATE FUNCTION restante_change_contact(p_user text, p_other text, p_change text) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_user    bigint;
  v_other   bigint;
  v_outcome text;
begin
  select b.user_id, b.other_id into v_user, v_other from restante_two_users(p_user, p_other, 'be its own contact') b;
  case p_change
    when 'request' then select c.outcome into v_outcome from restante_put_contact(v_user, v_other, false, 10000) c;
    when 'accept' then select c.outcome into v_outcome from restante_put_contact(v_user, v_other, true, 10000) c;
    else select c.outcome into v_outcome from restante_drop_contact(v_user, v_other, p_change = 'decline') c;
  end case;
  case v_outcome
    when 'not_found' then
      raise exception 'user % has not requested user % as a contact', p_other, p_user using errcode = 'no_data_found';
    when 'blocked' then
      raise exception 'user % has blocked user %', p_user, p_other using errcode = 'object_not_in_prerequisite_state';
    when 'too_many' then
      raise exception 'user % has 10000 contacts and requests, the most that are allowed', p_user using errcode = 'program_limit_exceeded';
    else
      perform restante_people_changed(array[v_user, v_other], null);
      return v_outcome;
  end case;
end $$;

COMMENT ON FUNCTION restante_change_contact(p_user text, p_other text, p_change text) IS 'Does what restante_request_contact() and the three like it say.';

CREATE FUNCTION restante_change_password(p_name text, p_verified text, p_new_hash text, p_kept uuid, p_access interval, OUT is_done boolean, OUT ended uuid[]) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  ended := '{}';
  update accounts a set password_hash = p_new_hash, password_changed_at = clock_timestamp() where a.name = p_name and a.password_hash = p_verified;
  is_done := found;
  if is_done then
    with gone as (
      delete from account_logins l where l.name = p_name and l.id is distinct from p_kept returning l.id
    )
    select coalesce(array_agg(g.id), '{}') into ended from gone g;
    perform restante_revoke_logins(p_name, ended, p_access);
  end if;
end $$;

COMMENT ON FUNCTION restante_change_password(p_name text, p_verified text, p_new_hash text, p_kept uuid, p_access interval, OUT is_done boolean, OUT ended uuid[]) IS 'Changes the password of an account, which was verified against the hash p_verified, and ends its logins but p_kept. Where that is its hash no more, nothing is done.';

CREATE FUNCTION restante_check_marks(p_users bigint[]) RETURNS void
    LANGUAGE sql
    SET search_path TO 'public', 'pg_temp'
    AS $$
  -- As restante_wake(): 300 numbers stay under NOTIFY's 8,000 bytes.
  select pg_notify(restante_wake_channel(), string_agg('m' || u.user_id, ','))
    from (select x.user_id, row_number() over () / 300 as part from (select distinct unnest(p_users) as user_id) x) u
   group by u.part;
$$;

COMMENT ON FUNCTION restante_check_marks(p_users bigint[]) IS 'Tells every node that marks moved for these users, or that something which waited for them has ended (users.id with an m before it, comma separated, on restante_wake_channel()). A hint: nothing is lost without it.';

CREATE FUNCTION restante_check_merge(p_merge jsonb, p_collapse_key text, p_data jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_check_merge(p_merge jsonb, p_collapse_key text, p_data jsonb) IS 'Raises unless an event of this collapse key and data can be published with this merge; null: it is not merged. The limits that the service has for clients.';

CREATE FUNCTION restante_check_sender(p_function regproc, p_sender text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  -- With the caller's rights these decide. A member of the owner could write the tables itself.
  if not (select p.prosecdef from pg_proc p where p.oid = p_function) or pg_has_role(session_user, current_user, 'member') then
    return;
  end if;
  perform from application_senders a where a.role_name = session_user::text and a.sender = any (array['', p_sender]);
  if not found then
    raise exception 'role % may not send as user %', session_user, p_sender
      using errcode = 'insufficient_privilege', hint = 'The owner of the tables lists the users of a role in application_senders.';
  end if;
end $$;

COMMENT ON FUNCTION restante_check_sender(p_function regproc, p_sender text) IS 'Raises where p_function, which calls it, runs with the rights of its owner and the role that has logged in may not send as this user. A role that is a member of the owner, and a superuser, may send as anybody.';

CREATE FUNCTION restante_collapse(p_users bigint[], p_classes inbox_class[], p_keys uuid[], p_seqs bigint[], p_newest bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_now     timestamptz := clock_timestamp();
  v_at      tid[];     -- rows that end: where they are, as they are locked,
  v_users   bigint[];  -- … their users,
  v_of      integer[]; -- … for which of the ids each does,
  v_from    bigint[];  -- … and where that begins what it stands for
  v_afters  bigint[] := array_fill(null::bigint, array[cardinality(p_users)]); -- per id: the first of these
begin
  if p_users is null then
    return null;
  end if;
  -- All but the newest ones of a key have ended, save a row that somebody held then: it was being acked.
  select array_agg(q.at order by q.user_id, q.class, q.seq), array_agg(q.user_id order by q.user_id, q.class, q.seq),
         array_agg(q.ord order by q.user_id, q.class, q.seq), array_agg(q.after order by q.user_id, q.class, q.seq)
    into v_at, v_users, v_of, v_from
    from (select n.user_id, n.class, n.ord, o.seq, k.at, coalesce(o.merged_after, m.seq - 1) as after
            from (select unnest(p_users) as user_id, unnest(p_classes) as class, unnest(p_keys) as key, unnest(p_seqs) as seq,
                         generate_subscripts(p_users, 1) as ord) n
            cross join lateral (
              select x.seq, x.message_id, x.status, x.merged_after from message_status x
               where x.user_id = n.user_id and x.class = n.class and x.collapse_id = n.key and x.seq < n.seq order by x.seq desc limit 10) o
            cross join lateral (select x.expires_at, x.chat_id, x.seq from messages x where o.status = 'sent' and x.id = o.message_id limit 1) m
            cross join lateral (
              select x.ctid as at from message_status x
               -- Events are not recalled.
               where restante_ended_unwritten(o.status, exists (select from restante_departed(n.user_id, m.chat_id, m.seq)), null, m.expires_at, v_now) is null
                 and x.user_id = n.user_id and x.class = n.class and x.seq = o.seq and x.status = 'sent'
               limit 1 for no key update skip locked) k) q;
  for n in 1 .. coalesce(cardinality(v_at), 0) loop
    v_afters[v_of[n]] := least(v_afters[v_of[n]], v_from[n]);
  end loop;
  perform restante_note_merged(p_users, p_classes, p_keys, p_seqs, p_newest, v_afters);
  if v_at is null then
    return null;
  end if;
  update message_status s set status = 'expired', ended = 'superseded', reason = 'a newer event of its key came'
    from (select unnest(v_at) as at) u where s.ctid = u.at;
  return array(select distinct u.user_id from (select unnest(v_users) as user_id) u order by 1);
end $$;

COMMENT ON FUNCTION restante_collapse(p_users bigint[], p_classes inbox_class[], p_keys uuid[], p_seqs bigint[], p_newest bigint[]) IS 'Ends what waits in these inboxes of the same collapse id below these numbers (superseded), and returns the users of whom something has ended, or null. Called while the inboxes are locked, in which events of these ids have just become rows: p_seqs are the numbers of the first of each id, and p_newest those of the last, which takes the place of them all and notes what it stands for where it merges. What somebody holds is being acked, and stays; what has expired, or was left, ends as that. It looks at the ten newest rows of a key.';

CREATE FUNCTION restante_collapse_id(p_feed uuid, p_key text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT
    SET search_path TO 'public', 'pg_temp'
    AS $$
  select encode(substr(sha256(uuid_send(p_feed) || convert_to(p_key, 'UTF8')), 1, 16), 'hex')::uuid;
$$;

COMMENT ON FUNCTION restante_collapse_id(p_feed uuid, p_key text) IS 'A value for a feed and a collapse key: two different pairs never have the same, but by a collision of 128 bits. The class is no part of it: it stands beside it in the key of an inbox.';

CREATE FUNCTION restante_count_journal(p_after timestamp with time zone, p_lines_max integer, p_messages_max integer, p_types_max integer, OUT lines integer, OUT moves integer, OUT lost integer, OUT last_at timestamp with time zone, OUT oldest_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_at tid[];  -- lines that are locked here
begin
  perform restante_needs_read_committed();
  -- Lines that another session works on are left to it.
  select array_agg(k.at) into v_at
    from (select q.place
            from (select x.place, x.size, sum(x.size) over (order by x.at, x.place) as so_far
                    from (select j.ctid as place, j.at, coalesce(cardinality(j.messages), 1) as size from statistics_journal j
                           where j.at > p_after order by j.at limit p_lines_max) x) q
           where q.so_far - q.size < p_messages_max) u
    cross join lateral (select j.ctid as at from statistics_journal j where j.ctid = u.place for update skip locked) k;
  lines := coalesce(cardinality(v_at), 0);
  moves := 0;
  lost := 0;
  if v_at is not null then
    with taken as (
      delete from statistics_journal j where j.ctid = any (v_at)
      returning j.at, date_trunc('hour', j.at, 'UTC') as hour, j.kind, array_position(enum_range(null::ended_reason), j.ended) as reason,
                j.messages, j.recipients, j.class, j.message_type, j.accepted
    ), located as materialized (
      select t.at, t.hour, t.kind, t.reason, t.id, coalesce(t.rows, 1) as rows, m.id is not null as is_there, coalesce(t.class, h.class) as class,
             m.message_type, m.created_at, m.expires_at
        from (select x.at, x.hour, x.kind, x.reason, x.class, unnest(x.messages) as id, unnest(x.recipients) as rows from taken x where x.messages is not null) t
        left join messages m on m.id = t.id
        left join lateral (select x.class from chat_heads x where t.class is null and x.chat_id = m.chat_id order by x.step desc limit 1) h on true
    ), moved as materialized (
      select l.at, l.hour, l.kind, l.reason, l.id, l.rows, l.class, l.message_type, l.expires_at,
             -- The place in statistics.delays.
             case when l.kind in ('delivered', 'read_at_once') then
               least(greatest(floor(ln(greatest(extract(epoch from l.at - l.created_at)::float8 * 1000, 0.5)) / ln(1.1::float8)), -1)::integer + 2, 251) end as delay
        from located l where l.is_there
    ), counted as materialized (
      select m.hour, m.class, m.message_type, m.reason, m.delay, count(*) filter (where m.kind = 'accepted') as accepted,
             coalesce(sum(m.rows) filter (where m.kind in ('accepted', 'queued')), 0) as recipients,
             count(*) filter (where m.kind in ('delivered', 'read_at_once')) as delivered,
             count(*) filter (where m.kind in ('read', 'read_at_once')) as read, count(*) as rows, min(m.at) as first_at
        from moved m group by m.hour, m.class, m.message_type, m.reason, m.delay
       union all
      select t.hour, t.class, t.message_type, null, null, sum(t.accepted), sum(t.recipients[1]), 0, 0, 0, min(t.at)
        from taken t where t.messages is null group by t.hour, t.class, t.message_type
    ), fresh as (
      -- Anybody may invent types: an hour has p_types_max, the first ones.
      select q.hour, q.message_type, k.types + row_number() over (partition by q.hour order by q.first_at, q.message_type) as nth
        from (select c.hour, c.message_type, min(c.first_at) as first_at from counted c group by c.hour, c.message_type) q
        cross join lateral (
          select count(distinct s.message_type) as types from statistics s where s.hour = q.hour and s.message_type <> 'restante:other') k
       where not exists (
         select from statistics s where s.hour = q.hour and s.class = any (enum_range(null::inbox_class)) and s.message_type = q.message_type)
    ), added as (
      insert into statistics as s (hour, class, message_type, accepted, recipients, delivered, read, ended, delays)
        select q.hour, q.class, q.shown, sum(q.accepted), sum(q.recipients), sum(q.delivered), sum(q.read),
               restante_spread(array_agg(q.reason), array_agg(q.rows), cardinality(enum_range(null::ended_reason))),
               restante_spread(array_agg(q.delay), array_agg(q.rows), 0)
          from (select c.*,
                       case when exists (select from fresh f where f.hour = c.hour and f.message_type = c.message_type and f.nth > p_types_max)
                            then 'restante:other' else c.message_type end as shown
                  from counted c) q
         group by q.hour, q.class, q.shown
         -- In one order: another node may still be at it.
         order by q.hour, q.class, q.shown
      on conflict on constraint figures_of_an_hour_stand_once do update
         set accepted = s.accepted + excluded.accepted, recipients = s.recipients + excluded.recipients, delivered = s.delivered + excluded.delivered,
             read = s.read + excluded.read, ended = restante_add_counts(s.ended, excluded.ended), delays = restante_add_counts(s.delays, excluded.delays)
    ), added_to_events as (
      insert into event_statistics as s (message_id, expires_at, recipients, delivered, read, ended, delays, first_delivered_at, last_delivered_at)
        select q.id, min(q.expires_at), sum(q.recipients), sum(q.delivered), sum(q.read),
               restante_spread(array_agg(q.reason), array_agg(q.rows), cardinality(enum_range(null::ended_reason))),
               restante_spread(array_agg(q.delay), array_agg(q.rows), 0), min(q.first_at), max(q.last_at)
          from (select m.id, m.reason, m.delay, min(m.expires_at) as expires_at,
                       coalesce(sum(m.rows) filter (where m.kind in ('accepted', 'queued')), 0) as recipients,
                       count(*) filter (where m.kind in ('delivered', 'read_at_once')) as delivered,
                       count(*) filter (where m.kind in ('read', 'read_at_once')) as read, count(*) as rows,
                       min(m.at) filter (where m.delay is not null) as first_at, max(m.at) filter (where m.delay is not null) as last_at
                  from moved m
                 -- Where its figures have gone they do not begin anew.
                 where m.class <> 'chat' and m.expires_at > clock_timestamp() - interval '1 day'
                 group by m.id, m.reason, m.delay) q
         group by q.id order by q.id
      on conflict on constraint figures_of_an_event_stand_once do update
         set recipients = s.recipients + excluded.recipients, delivered = s.delivered + excluded.delivered, read = s.read + excluded.read,
             ended = restante_add_counts(s.ended, excluded.ended), delays = restante_add_counts(s.delays, excluded.delays),
             first_delivered_at = least(s.first_delivered_at, excluded.first_delivered_at),
             last_delivered_at = greatest(s.last_delivered_at, excluded.last_delivered_at)
    )
    select (select max(t.at) from taken t), q.moves + (select coalesce(sum(t.accepted), 0) from taken t), q.lost into last_at, moves, lost
      from (select count(*) as moves, count(*) filter (where not l.is_there) as lost from located l) q;
  end if;
  select j.at into oldest_at from statistics_journal j where j.at > p_after order by j.at limit 1;
end $$;

COMMENT ON FUNCTION restante_count_journal(p_after timestamp with time zone, p_lines_max integer, p_messages_max integer, p_types_max integer, OUT lines integer, OUT moves integer, OUT lost integer, OUT last_at timestamp with time zone, OUT oldest_at timestamp with time zone) IS 'Takes lines out of the journal, the oldest behind p_after, at most p_lines_max, and no more than have p_messages_max messages together (one line in any case), and adds them to the figures, in one transaction. Messages that were removed meanwhile are in no figure: they are counted as lost. An hour gets p_types_max types, and restante:other beside them. A transaction that began before the last line and commits after this call appends a line with an older time: so p_after must go back now and then. Waits for no line; of two calls at once each has its own lines.';

CREATE FUNCTION restante_count_untaken(p_user bigint, p_class inbox_class, p_count_max integer) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_now   timestamptz := clock_timestamp();
  v_muted text[] := (select p.muted_types from preferences p where p.user_id = p_user);
begin
  return (
    with streams as materialized (
      select s.chat_id, h.last_seq, greatest(f.cursor_seq, c.purged_seq, s.floor_seq) as after, greatest(2 * p_count_max / count(*) over (), 4)::bigint as each
        from followers f
        cross join lateral (select x.chat_id, x.floor_seq from feeds x where x.feed_id = f.feed_id and x.class = f.class limit 1) s
        cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
        cross join lateral (select x.purged_seq from chats x where x.id = s.chat_id limit 1) c
       where f.user_id = p_user and f.class = p_class and h.last_seq > f.cursor_seq
    )
    select least(p_count_max, coalesce(sum(i.coming + greatest(t.last_seq - t.after - t.each, 0)), 0))
      from streams t
      cross join lateral (
        select count(*) as coming
          from (select m.id, m.sender_id, m.expires_at, m.collapse_key, m.message_type, m.seq from messages m
                 where m.chat_id = t.chat_id and m.seq > t.after and m.seq <= t.last_seq order by m.seq desc limit t.each) m
          cross join lateral restante_event_becomes(p_user, m.id, m.sender_id, m.expires_at, v_now, m.message_type, v_muted) b
         where b.becomes = 'coming'
           and (m.collapse_key is null or not restante_is_superseded(p_user, t.chat_id, m.collapse_key, m.seq, t.last_seq))) i);
end $$;

COMMENT ON FUNCTION restante_count_untaken(p_user bigint, p_class inbox_class, p_count_max integer) IS 'The number of events of followed feeds that are still to become rows, counted up to p_count_max: those that have not expired, are for this user, and of no type that it has muted. It looks at twice as many at most; what lies before them in a feed counts without a look.';

CREATE FUNCTION restante_create_group(p_chat uuid, p_creator bigint, p_title text, p_members bigint[], p_contacts_only boolean DEFAULT false, OUT outcome text, OUT invited bigint[]) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_create_group(p_chat uuid, p_creator bigint, p_title text, p_members bigint[], p_contacts_only boolean, OUT outcome text, OUT invited bigint[]) IS 'Makes a group with these members; its creator is its admin. With p_contacts_only those who are no contacts of it are invited instead. Nobody else can see the chat before the commit, so it is not locked. Outcome: done, with those who were invited. Else nothing was done: not_accepted (one of them has blocked the creator, or cannot be invited by it), too_many_invitations.';

CREATE FUNCTION restante_dead_letters(p_sender text, p_recipient text, p_message uuid, p_since timestamp with time zone, p_reason text, p_before_at timestamp with time zone, p_before_message uuid, p_before_user bigint, p_rows_max integer) RETURNS TABLE(message_id uuid, user_id bigint, recipient text, sender text, chat_id uuid, chat_seq bigint, message_type text, reason text, last_error text, attempts smallint, accepted_at timestamp with time zone, failed_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_sender    bigint;
  v_recipient bigint;
  v_messages  uuid[];
  v_users     bigint[];
begin
  select u.id into v_sender from users u where u.is_current and u.external_id = p_sender;
  select u.id into v_recipient from users u where u.is_current and u.external_id = p_recipient;
  -- No user has this name, so nothing of that user failed.
  if (p_sender is not null and v_sender is null) or (p_recipient is not null and v_recipient is null) then
    return;
  end if;
  -- The same filter each time; which index leads depends on what was asked for.
  if p_message is not null then
    select array_agg(q.message_id), array_agg(q.user_id) into v_messages, v_users from (
      select e.message_id, e.user_id from endings e
       where e.status = 'failed' and e.discarded_at is null and e.message_id = p_message
         and (v_sender is null or e.sender_id = v_sender) and (v_recipient is null or e.user_id = v_recipient)
         and e.ended_at >= p_since and (p_reason is null or starts_with(e.reason, p_reason))
         and (e.ended_at, e.message_id, e.user_id) < (p_before_at, p_before_message, p_before_user)
       order by e.ended_at desc, e.message_id desc, e.user_id desc limit p_rows_max) q;
  elsif v_recipient is not null then
    select array_agg(q.message_id), array_agg(q.user_id) into v_messages, v_users from (
      select e.message_id, e.user_id from endings e
       where e.status = 'failed' and e.discarded_at is null and e.user_id = v_recipient
         and (v_sender is null or e.sender_id = v_sender)
         and e.ended_at >= p_since and (p_reason is null or starts_with(e.reason, p_reason))
         and (e.ended_at, e.message_id) < (p_before_at, p_before_message)
       order by e.ended_at desc, e.message_id desc limit p_rows_max) q;
  elsif v_sender is not null then
    select array_agg(q.message_id), array_agg(q.user_id) into v_messages, v_users from (
      select e.message_id, e.user_id from endings e
       where e.status = 'failed' and e.discarded_at is null and e.sender_id = v_sender
         and e.ended_at >= p_since and (p_reason is null or starts_with(e.reason, p_reason))
         and (e.ended_at, e.message_id, e.user_id) < (p_before_at, p_before_message, p_before_user)
       order by e.ended_at desc, e.message_id desc, e.user_id desc limit p_rows_max) q;
  else
    select array_agg(q.message_id), array_agg(q.user_id) into v_messages, v_users from (
      select e.message_id, e.user_id from endings e
       where e.status = 'failed' and e.discarded_at is null
         and e.ended_at >= p_since and (p_reason is null or starts_with(e.reason, p_reason))
         and (e.ended_at, e.message_id, e.user_id) < (p_before_at, p_before_message, p_before_user)
       order by e.ended_at desc, e.message_id desc, e.user_id desc limit p_rows_max) q;
  end if;
  return query
    select e.message_id, e.user_id,
           (select u.external_id from users u where u.id = e.user_id), (select u.external_id from users u where u.id = e.sender_id),
           e.chat_id, e.chat_seq, m.message_type::text, e.reason, e.last_error, e.attempts, m.created_at, e.ended_at
      from unnest(v_messages, v_users) k (message_id, user_id)
      join endings e on e.message_id = k.message_id and e.user_id = k.user_id
      join messages m on m.id = k.message_id
     order by e.ended_at desc, e.message_id desc, e.user_id desc;
end $$;

COMMENT ON FUNCTION restante_dead_letters(p_sender text, p_recipient text, p_message uuid, p_since timestamp with time zone, p_reason text, p_before_at timestamp with time zone, p_before_message uuid, p_before_user bigint, p_rows_max integer) IS 'Dead letters, newest first, a page at a time: those before (p_before_at, p_before_message, p_before_user), since p_since, and of this sender, recipient, message, with a reason that begins like this, where these are not null.';

CREATE FUNCTION restante_decline_contact(p_user text, p_other text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return restante_change_contact(p_user, p_other, 'decline');
end $$;

COMMENT ON FUNCTION restante_decline_contact(p_user text, p_other text) IS 'One user declines the request of another, inside your own transaction. Returns none; raises where there is no request.';

CREATE FUNCTION restante_decline_invitation(p_user text, p_chat uuid) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_outcome text := restante_turn_down_invitation((select u.id from users u where u.is_current and u.external_id = p_user), p_chat);
begin
  if v_outcome = 'not_found' then
    raise exception 'user % is not invited to chat %', p_user, p_chat using errcode = 'no_data_found';
  end if;
  return v_outcome = 'done';
end $$;

COMMENT ON FUNCTION restante_decline_invitation(p_user text, p_chat uuid) IS 'A user declines an invitation, inside your own transaction. False: it had declined it; raises where it has none.';

CREATE FUNCTION restante_depart(p_node uuid, p_users bigint[], p_ages_ms bigint[]) RETURNS TABLE(user_id bigint, external_id text, at timestamp with time zone)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_depart(p_node uuid, p_users bigint[], p_ages_ms bigint[]) IS 'These users left this node so many milliseconds ago. Notes when, and returns those who are online nowhere now.';

CREATE TABLE departures (
    user_id bigint NOT NULL,
    chat_id uuid NOT NULL,
    after_seq bigint NOT NULL,
    up_to_seq bigint NOT NULL,
    ended ended_reason DEFAULT 'left'::ended_reason NOT NULL
);

COMMENT ON TABLE departures IS 'Members that left a chat while more waited for them than one transaction should end, followers that left a feed, and users that have blocked the other member of a direct chat. No page shows them the rest, and a job ends it a part at a time (restante_end_departures). Empty, as a rule.';

COMMENT ON COLUMN departures.user_id IS 'The member that left.';

COMMENT ON COLUMN departures.chat_id IS 'The chat.';

COMMENT ON COLUMN departures.after_seq IS 'Rows that waited have ended up to this number of the chat.';

COMMENT ON COLUMN departures.up_to_seq IS 'The last number of the chat that it could have got.';

COMMENT ON COLUMN departures.ended IS 'The reason for which what waits has ended: left, or blocked.';

CREATE FUNCTION restante_departed(p_user bigint, p_chat uuid, p_chat_seq bigint) RETURNS TABLE(has_left boolean, ended ended_reason)
    LANGUAGE sql STABLE ROWS 1
    BEGIN ATOMIC
 SELECT true,
     d.ended
    FROM departures d
   WHERE (( SELECT (EXISTS ( SELECT
                    FROM departures e
                   WHERE (e.user_id = restante_departed.p_user))) AS "exists") AND (d.user_id = restante_departed.p_user) AND (d.chat_id = restante_departed.p_chat) AND (d.after_seq < restante_departed.p_chat_seq) AND (d.up_to_seq >= restante_departed.p_chat_seq))
  LIMIT 1;
END;

COMMENT ON FUNCTION restante_departed(p_user bigint, p_chat uuid, p_chat_seq bigint) IS 'One row where a user has left the chat, or the feed, or has blocked the other member, since it got this number of it, and a job has not ended what waited (departures); with the reason. Else none.';

CREATE FUNCTION restante_direct_chat(p_user bigint, p_other bigint) RETURNS uuid
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return (select d.chats[1]
            from restante_direct_chats(array[p_user], array[(select u.external_id from users u where u.id = p_other)], array[true]) d);
end $$;

COMMENT ON FUNCTION restante_direct_chat(p_user bigint, p_other bigint) IS 'The direct chat of two users (or of one with itself), made with its members if it is missing.';

CREATE FUNCTION restante_direct_chats(p_users bigint[], p_others text[], p_make boolean[], p_contacts_only boolean DEFAULT false, OUT chats uuid[], OUT made boolean[], OUT is_known boolean[]) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_direct_chats(p_users bigint[], p_others text[], p_make boolean[], p_contacts_only boolean, OUT chats uuid[], OUT made boolean[], OUT is_known boolean[]) IS 'The direct chats of these users with those of these names, all in one statement. A missing chat is made where it may be, with its members and the other user; never between two users of whom one has blocked the other, nor, with p_contacts_only, between two that are no contacts.';

CREATE FUNCTION restante_discard(p_message uuid, p_user text, p_reason text DEFAULT 'discarded by an operator'::text, p_actor text DEFAULT NULL::text, p_node uuid DEFAULT NULL::uuid) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_is_done boolean := restante_give_up(p_message, p_user, p_reason);
begin
  perform restante_audit('dead_letter.discard', jsonb_build_object('messageId', p_message, 'userId', left(p_user, 128)),
                         case when v_is_done then 'discarded' else 'not_failed' end, p_actor, p_node);
  return v_is_done;
end $$;

COMMENT ON FUNCTION restante_discard(p_message uuid, p_user text, p_reason text, p_actor text, p_node uuid) IS 'Gives up a message that still waits, or a dead letter (restante_give_up), and notes it in the audit, without the reason. False when it is neither. For a message that crashes its client, and for clearing the list.';

CREATE FUNCTION restante_drop_contact(p_user bigint, p_other bigint, p_declines boolean, OUT outcome text, OUT has_changed boolean, OUT is_told boolean) RETURNS record
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_wants     boolean;
  v_is_wanted boolean;
begin
  perform restante_needs_read_committed();
  perform from users u where u.id = any (array[p_user, p_other]) order by u.id for no key update;
  v_wants := exists (select from contacts c where c.user_id = p_user and c.other_id = p_other);
  -- A request by one that the user has blocked is seen by nobody before the block is taken back.
  v_is_wanted := exists (select from contacts c where c.user_id = p_other and c.other_id = p_user) and not restante_has_blocked(array[p_user], p_other);
  has_changed := v_wants or v_is_wanted;
  is_told := false;
  if p_declines and (v_wants or not v_is_wanted) then
    outcome := 'not_found';
    has_changed := false;
    return;
  end if;
  outcome := 'none';
  if has_changed then
    delete from contacts c where c.user_id = p_user and c.other_id = p_other;
    delete from contacts c where c.user_id = p_other and c.other_id = p_user;
    is_told := not restante_has_blocked(array[p_other], p_user);
  end if;
end $$;

COMMENT ON FUNCTION restante_drop_contact(p_user bigint, p_other bigint, p_declines boolean, OUT outcome text, OUT has_changed boolean, OUT is_told boolean) IS 'A user removes a contact, takes its request back, or declines the other one''s; with p_declines it does the last alone. Outcome: none (they are no contacts, and none has requested the other), not_found (there is no request to decline, or one by a user that it has blocked). has_changed and is_told as in restante_put_contact().';

CREATE FUNCTION restante_end_all_logins(p_name text) RETURNS integer
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_ended integer;
begin
  -- No access token lives for longer than a day.
  v_ended := cardinality(restante_log_out(p_name, null, '1 day'));
  perform restante_audit('logins.end', jsonb_build_object('userId', left(p_name, 128)), case when v_ended > 0 then 'ended' else 'none' end);
  return v_ended;
end $$;

COMMENT ON FUNCTION restante_end_all_logins(p_name text) IS 'Ends all logins of an account on every node, and notes it in the audit. Tokens from elsewhere go on: to end these too, revoke the user (restante_revoke). Returns how many have ended. May be repeated.';

CREATE FUNCTION restante_end_departures(p_messages_max integer) RETURNS TABLE(user_id bigint, member text, chat_id uuid, class inbox_class, seq bigint, message_id uuid, chat_seq bigint, sender_id bigint, ended_at timestamp with time zone, ended ended_reason)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_end_departures(p_messages_max integer) IS 'Ends a part of what waits for one member that has left, or has blocked the other one (departures), so many messages of the chat at most. One row per row that ended, and one without a message in any case; nothing at all when there is no departure that nobody else works on.';

CREATE FUNCTION restante_end_erasure_round(p_user bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_end_erasure_round(p_user bigint) IS 'Ends a round of an erasure: the profile goes again, and publishing, invitations and devices, in the second round also that the user follows everyone. True: this was the second one, and the erasure is done.';

CREATE FUNCTION restante_end_invitations(p_chat uuid, p_users bigint[], p_inviter bigint DEFAULT NULL::bigint) RETURNS bigint[]
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_ended bigint[];
begin
  if p_inviter is null then
    with ended as (delete from invitations i where i.chat_id = p_chat and i.user_id = any (p_users) and i.declined_at is null returning i.user_id)
    select array_agg(e.user_id order by e.user_id) into v_ended from ended e;
  else
    with ended as (delete from invitations i where i.inviter_id = p_inviter and i.user_id = any (p_users) and i.declined_at is null returning i.user_id)
    select array_agg(e.user_id order by e.user_id) into v_ended from ended e;
  end if;
  if v_ended is not null then
    -- Sessions of theirs at every node look for what waits for them.
    perform restante_check_marks(v_ended);
  end if;
  return coalesce(v_ended, '{}');
end $$;

COMMENT ON FUNCTION restante_end_invitations(p_chat uuid, p_users bigint[], p_inviter bigint) IS 'Ends the invitations of these users that are not declined: those to a group, or those that p_inviter has made. One that was declined stays, or it could be made again. Returns whose have ended.';

CREATE FUNCTION restante_end_logins(p_name text, p_login text) RETURNS boolean
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $_$
begin
  perform restante_needs_read_committed();
  if p_name is not null then
    -- A login that begins meanwhile has the row, and is ended too, or comes later.
    perform from accounts a where a.name = p_name for no key update;
    delete from account_logins l where l.name = p_name;
  elsif p_login ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    delete from account_logins l where l.id = p_login::uuid;
  else
    return false;
  end if;
  return found;
end $_$;

COMMENT ON FUNCTION restante_end_logins(p_name text, p_login text) IS 'Ends the logins of an account, or the login whose id (sid) this is. Returns whether there was one. Their access tokens are revoked by the caller (restante_revoke).';

CREATE FUNCTION restante_ended_unwritten(p_status delivery_status, p_has_left boolean, p_recalled_at timestamp with time zone, p_expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, p_now timestamp with time zone DEFAULT NULL::timestamp with time zone, p_shows_acked boolean DEFAULT false) RETURNS ended_reason
    LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN (p_status = 'sent'::delivery_status) THEN CASE WHEN p_has_left THEN 'left'::ended_reason WHEN (p_recalled_at IS NOT NULL) THEN 'recalled'::ended_reason WHEN (p_expires_at <= p_now) THEN 'expired'::ended_reason ELSE NULL::ended_reason END WHEN (p_shows_acked AND (p_status = ANY (ARRAY['delivered'::delivery_status, 'read'::delivery_status])) AND (p_recalled_at IS NOT NULL)) THEN 'recalled'::ended_reason ELSE NULL::ended_reason END;

COMMENT ON FUNCTION restante_ended_unwritten(p_status delivery_status, p_has_left boolean, p_recalled_at timestamp with time zone, p_expires_at timestamp with time zone, p_now timestamp with time zone, p_shows_acked boolean) IS 'The reason for which a row that still waits has ended, although no job has written it yet: its user has left (restante_departed), its message was recalled, or has expired by p_now. With p_shows_acked a row that was acked has ended too where its message was recalled: it has nothing to show. Null: it waits, or its status says what became of it. Each statement that reads rows that wait with their messages asks this, and says what it leaves out of the question.';

CREATE FUNCTION restante_erase_events(p_user bigint, p_events_max integer) RETURNS boolean
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_erase_events(p_user bigint, p_events_max integer) IS 'Empties the next events of a user that is erased, of all streams: it looks at p_events_max events. An event that is emptied has expired. Moves the place of the erasure. True: these were the last.';

CREATE FUNCTION restante_erase_inbox(p_user bigint, p_rows_max integer) RETURNS TABLE(class inbox_class, seq bigint, message_id uuid, chat_id uuid, chat_seq bigint, sender_id bigint, ended_at timestamp with time zone, is_held boolean)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_erase_inbox(p_user bigint, p_rows_max integer) IS 'Ends what waits for a user that is erased (left): the next p_rows_max rows of the inbox that the job is at. Moves the place of the erasure, unless something is held (is_held). The words with which clients of the user have rejected messages go. One row per row that ended, and one without a message; nothing at all: the job is not at an inbox.';

CREATE FUNCTION restante_erase_messages(p_user bigint, p_chat uuid, p_messages_max integer) RETURNS integer
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_erase_messages(p_user bigint, p_chat uuid, p_messages_max integer) IS 'Recalls the next messages of a user that is erased in the chat that the job is at: at most p_messages_max, among the next 1,000 numbers. Moves the place of the erasure, and returns how many. What clients have written of them goes, too.';

CREATE FUNCTION restante_erase_user(p_user text, p_empties boolean, p_actor text DEFAULT NULL::text, p_node uuid DEFAULT NULL::uuid, OUT outcome text, OUT number bigint, OUT revoked_at timestamp with time zone, OUT expires_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_erase_user(p_user text, p_empties boolean, p_actor text, p_node uuid, OUT outcome text, OUT number bigint, OUT revoked_at timestamp with time zone, OUT expires_at timestamp with time zone) IS 'Erases a user, and notes it in the audit. Its profile is gone and its tokens are revoked (restante_revoke) with the commit. The job erase does the rest: memberships, contacts, blocks, follows and devices go, what waits for the user ends (left), and with p_empties each of its messages is recalled and each of its events emptied. Outcome: begun; running (it is under way already, and goes on); not_found. Repeated after the name has passed on, it erases the user that has it now.';

CREATE TABLE event_exceptions (
    message_id uuid NOT NULL,
    user_id bigint NOT NULL
);

COMMENT ON TABLE event_exceptions IS 'Followers that an event is not for, at most 500 an event. They pass it without a number. Rows go with the event (restante_purge_chats).';

COMMENT ON COLUMN event_exceptions.message_id IS 'The event (messages.id).';

COMMENT ON COLUMN event_exceptions.user_id IS 'The user.';

CREATE FUNCTION restante_event_becomes(p_user bigint, p_event uuid, p_sender bigint, p_expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, p_now timestamp with time zone DEFAULT NULL::timestamp with time zone, p_type text DEFAULT NULL::text, p_muted text[] DEFAULT NULL::text[]) RETURNS TABLE(becomes text)
    LANGUAGE sql STABLE ROWS 1
    BEGIN ATOMIC
 SELECT
         CASE
             WHEN ((p_sender = p_user) OR (EXISTS ( SELECT
                FROM event_exceptions e
               WHERE ((e.message_id = restante_event_becomes.p_event) AND (e.user_id = restante_event_becomes.p_user))))) THEN 'passed'::text
             WHEN (p_expires_at <= p_now) THEN 'expired'::text
             WHEN (p_type = ANY (p_muted)) THEN 'muted'::text
             ELSE 'coming'::text
         END AS "case";
END;

COMMENT ON FUNCTION restante_event_becomes(p_user bigint, p_event uuid, p_sender bigint, p_expires_at timestamp with time zone, p_now timestamp with time zone, p_type text, p_muted text[]) IS 'The state that an event of a feed gets for a follower: passed (the user has published it, or is excepted), expired by p_now, muted, or coming: it becomes a row, unless it is superseded or capped. Each function that looks at events of a feed for a user asks this, and leaves out what does not concern it.';

CREATE FUNCTION restante_exact_marks(p_chats uuid[], p_users bigint[], p_always boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  -- The messages of each that are read: 5,000 of all together, which take some 20 ms from memory. Others wait for the locks meanwhile.
  v_each  integer := greatest(5000 / greatest(cardinality(p_users), 1), 1);
  v_chats uuid[];
  v_users bigint[];
begin
  perform restante_lock_marks(p_chats, p_users);
  -- A later statement, so a later snapshot; one for the chat's counter and the rows: whatever is numbered up to it is visible here.
  with exact as materialized (
    select k.at, k.moves, u.chat, u.user_id,
           greatest(k.delivered_seq, coalesce(w.seq - 1, least(h.last_seq, k.delivered_seq + v_each))) as delivered,
           -- Rows that were removed do not tell whether they were read: then the mark moves by a read only.
           case when k.purged_seq > k.read_seq then k.read_seq else greatest(k.read_seq, coalesce(r.seq - 1, least(h.last_seq, k.read_seq + v_each))) end as read,
           w.seq is not null or h.last_seq > k.delivered_seq + v_each as has_hole,
           w.seq is null and h.last_seq > k.delivered_seq + v_each
             or r.seq is null and h.last_seq > k.read_seq + v_each and k.purged_seq <= k.read_seq as is_behind,
           k.delivered_seq as delivered_before, k.read_seq as read_before, k.has_hole as hole_before
      from (select distinct x.chat, x.user_id from unnest(p_chats, p_users) x (chat, user_id)) u
      cross join lateral (
        select x.ctid as at, x.moves, x.delivered_seq, x.read_seq, x.has_hole, x.purged_seq
          from marks x where x.chat_id = u.chat and x.user_id = u.user_id order by x.step desc limit 1) k
      cross join lateral (select x.last_seq from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1) h
      left join lateral (
        select x.seq
          from (select y.id, y.seq from messages y
                 where y.chat_id = u.chat and y.seq > k.delivered_seq and y.seq <= k.delivered_seq + v_each order by y.seq limit v_each) x
          cross join lateral (select from message_status s where s.message_id = x.id and s.user_id = u.user_id and s.status = 'sent' limit 1) s
         order by x.seq limit 1) w on true
      left join lateral (
        select x.seq
          from (select y.id, y.seq from messages y
                 where y.chat_id = u.chat and y.seq > k.read_seq and y.seq <= k.read_seq + v_each order by y.seq limit v_each) x
          cross join lateral (
            select from message_status s where s.message_id = x.id and s.user_id = u.user_id and s.status in ('sent', 'delivered') limit 1) s
         order by x.seq limit 1) r on true
  ), moved as (
    update marks m
       set delivered_seq = e.delivered, read_seq = e.read, has_hole = e.has_hole, moves = e.moves + 1, step = (e.moves + 1) >> 4,
           marked_xid = pg_current_xact_id()
      from exact e
     where m.ctid = e.at and (p_always or e.delivered > e.delivered_before or e.read > e.read_before or e.has_hole <> e.hole_before)
    returning 1
  )
  select array_agg(e.chat) filter (where e.is_behind), array_agg(e.user_id) filter (where e.is_behind) into v_chats, v_users from exact e;
  if v_users is not null then
    insert into marks_behind (chat_id, user_id) select u.chat, u.user_id from unnest(v_chats, v_users) u (chat, user_id) order by 1, 2
      on conflict do nothing;
  end if;
end $$;

COMMENT ON FUNCTION restante_exact_marks(p_chats uuid[], p_users bigint[], p_always boolean) IS 'Moves the marks of these members to where their rows say, past 5,000 messages of all together at most; those who have further to go are noted in marks_behind. While something waits above them, has_hole keeps them exact. read_seq stays where rows above it were removed (purged_seq). With p_always they count as moved in any case: a sender that was away learns of a row that ended otherwise by its chat''s mark. Locks the marks, in an earlier statement than it reads.';

CREATE FUNCTION restante_excess(p_user bigint, p_class inbox_class, p_settled bigint, p_last bigint, p_waiting_max integer, OUT excess bigint, OUT rows_first bigint) RETURNS record
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now   timestamptz := clock_timestamp();
  v_muted text[] := coalesce((select p.muted_types from preferences p where p.user_id = p_user), '{}');
begin
  with streams as materialized (
    select s.chat_id, h.last_seq as head,
           greatest(f.cursor_seq, c.purged_seq, s.floor_seq,
                    h.last_seq - case when v_muted = '{}' then p_waiting_max else greatest(p_waiting_max, 10000 / count(*) over ()) end) as after
      from followers f
      cross join lateral (select x.chat_id, x.floor_seq from feeds x where x.feed_id = f.feed_id and x.class = f.class limit 1) s
      cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
      cross join lateral (select x.purged_seq from chats x where x.id = s.chat_id limit 1) c
     where f.user_id = p_user and f.class = p_class and h.last_seq > f.cursor_seq
  ), looked as materialized (
    select t.chat_id, t.head, t.after, greatest(10000 / count(*) over (), 1)::bigint as each from streams t
     -- As a rule it is plain that not too many wait.
     where p_last - p_settled + (select sum(x.head - x.after) from streams x) > p_waiting_max
  ), coming as materialized (
    select m.created_at as at
      from looked t
      cross join lateral (
        select x.id, x.sender_id, x.expires_at, x.created_at, x.collapse_key, x.message_type, x.seq from messages x
         where x.chat_id = t.chat_id and x.seq > t.after and x.seq <= t.head order by x.seq limit t.each) m
      cross join lateral restante_event_becomes(p_user, m.id, m.sender_id, m.expires_at, v_now, m.message_type, v_muted) b
     where b.becomes = 'coming'
       and (m.collapse_key is null or not restante_is_superseded(p_user, t.chat_id, m.collapse_key, m.seq, t.head))
  ), waiting as materialized (
    select l.at from restante_living_rows(p_user, p_class, p_settled, p_last, 2 * p_waiting_max) l where exists (select from looked)
  ), total as (
    select (select sum(greatest(t.head - t.after - t.each, 0)) from looked t) + (select count(*) from coming) + (select count(*) from waiting)
             - p_waiting_max as excess
  )
  select coalesce(t.excess, 0), coalesce(o.rows_first, 0) into excess, rows_first
    from total t
    cross join lateral (
      select count(*) filter (where q.is_row) as rows_first
        from (select x.is_row from (select w.at, true as is_row from waiting w union all select c.at, false from coming c) x
               order by x.at, x.is_row desc limit greatest(t.excess, 0)) q) o;
end $$;

COMMENT ON FUNCTION restante_excess(p_user bigint, p_class inbox_class, p_settled bigint, p_last bigint, p_waiting_max integer, OUT excess bigint, OUT rows_first bigint) IS 'By how many events those that wait for a user in a class are more than allowed, rows (restante_living_rows, which looks at 2 * p_waiting_max) and those that are still to become rows together; and how many of so many oldest ones are rows. 0 or less: none are too many. Of one feed the newest p_waiting_max are looked at, more for a user that has muted types, since what it has muted takes no place; of all together 10,000. More count without a look.';

CREATE FUNCTION restante_expire(p_after timestamp with time zone, p_after_id uuid, p_horizon timestamp with time zone, p_messages_max integer, p_rows_max integer, p_after_user bigint DEFAULT NULL::bigint) RETURNS TABLE(message_id uuid, expires_at timestamp with time zone, user_id bigint, member text, class inbox_class, seq bigint, chat_id uuid, chat_seq bigint, sender_id bigint, expired_at timestamp with time zone, after_user bigint)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now     timestamptz := clock_timestamp();
  v_message record;
  v_ids     uuid[];        -- the messages of the page,
  v_counts  bigint[];      -- … and how many rows of each wait
  v_count   bigint;
  v_users   bigint[];
  v_last    bigint;        -- the last recipient of a message that was looked at
  v_cut     bigint;        -- the same, where the last message of the page may have other rows
  v_rows    bigint := 0;   -- rows that were looked at,
  v_waiting bigint := 0;   -- … and those of them that wait:
  v_of      uuid[];        -- … their messages,
  v_members bigint[];      -- … and recipients
  v_places  tid[];         -- … and places
  v_chats   uuid[];
  v_ended   uuid[];
  v_classes inbox_class[];
  v_seqs    bigint[];
begin
  perform restante_needs_read_committed();
  -- A message of a large group has thousands of rows, an event perhaps a million, whether they wait or not: the page is full after 20,000
  -- of them too, in the middle of a message.
  for v_message in
    select m.id, case when p_after_user is not null and (m.expires_at, m.id) = (p_after, p_after_id) then p_after_user else 0 end as passed_user
      from messages m
     where m.expires_at is not null and (m.expires_at, m.id) >= (p_after, p_after_id) and m.expires_at <= p_horizon
       and (p_after_user is not null or (m.expires_at, m.id) > (p_after, p_after_id))
     order by m.expires_at, m.id limit p_messages_max
  loop
    select count(*), max(s.user_id), array_agg(s.user_id order by s.user_id) filter (where s.status = 'sent') into v_count, v_last, v_users
      from (select x.user_id, x.status from message_status x
             where x.message_id = v_message.id and x.user_id > v_message.passed_user order by x.user_id limit 20000 - v_rows) s;
    v_cut := case when v_count >= 20000 - v_rows then v_last end;
    if v_waiting + cardinality(v_users) > p_rows_max then
      v_users := v_users[1 : p_rows_max - v_waiting];
      v_cut := v_users[cardinality(v_users)];
    end if;
    v_ids := v_ids || v_message.id;
    v_counts := v_counts || coalesce(cardinality(v_users), 0)::bigint;
    v_members := v_members || v_users;
    v_of := v_of || array_fill(v_message.id, array[coalesce(cardinality(v_users), 0)]);
    v_rows := v_rows + v_count;
    v_waiting := coalesce(cardinality(v_members), 0);
    exit when v_waiting >= p_rows_max or v_rows >= 20000 or v_cut is not null;
  end loop;
  -- A row ends together with its mark, or not now: what somebody holds is left for a later pass.
  select array_agg(q.id), array_agg(q.user_id), array_agg(q.at) into v_of, v_members, v_places
    from (select f.id, f.user_id, l.at
            from (select unnest(v_of) as id, unnest(v_members) as user_id) f
            cross join lateral (select x.chat_id from messages x where x.id = f.id limit 1) m
            cross join lateral (
              select x.class from message_status x where x.message_id = f.id and x.user_id = f.user_id and x.status = 'sent' limit 1) s
            left join lateral (
              select true as is_held from marks x where x.chat_id = m.chat_id and x.user_id = f.user_id order by x.step desc limit 1
                for no key update skip locked) k on s.class = 'chat'
            cross join lateral (
              select x.ctid as at from message_status x
               -- Events have no marks.
               where x.message_id = f.id and x.user_id = f.user_id and x.status = 'sent' and (k.is_held or s.class <> 'chat') limit 1
                for no key update skip locked) l
           limit p_rows_max) q;
  if v_of is not null then
    -- These rows are locked, so they stay where they are.
    with ended as (
      update message_status s set status = 'expired', ended = 'expired', reason = 'its time had come'
       where s.ctid = any (v_places) and s.status = 'sent'
      returning s.message_id, s.user_id, s.class, s.seq
    )
    select array_agg(e.message_id), array_agg(e.user_id), array_agg(e.class), array_agg(e.seq)
      into v_ended, v_members, v_classes, v_seqs from ended e;
    select array_agg(q.chat_id), array_agg(q.user_id) into v_chats, v_users
      from (select distinct m.chat_id, e.user_id
              from (select unnest(v_ended) as id, unnest(v_members) as user_id) e
              cross join lateral (select x.chat_id from messages x where x.id = e.id limit 1) m) q;
    perform restante_exact_marks(v_chats, v_users, true);
  end if;
  return query
    select m.id, m.expires_at, e.user_id, u.external_id, e.class, e.seq, m.chat_id, m.seq, m.sender_id, v_now, null::bigint
      from unnest(v_ended, v_members, v_classes, v_seqs) e (id, user_id, class, seq)
      cross join lateral (select x.id, x.expires_at, x.chat_id, x.seq, x.sender_id from messages x where x.id = e.id limit 1) m
      cross join lateral (select x.external_id from users x where x.id = e.user_id limit 1) u
    union all
    select m.id, m.expires_at, null, null, null, null, m.chat_id, m.seq, m.sender_id, case when i.waiting = coalesce(n.ended, 0) then v_now end,
           case when i.n = cardinality(v_ids) then v_cut end
      from unnest(v_ids, v_counts) with ordinality i (id, waiting, n)
      cross join lateral (select x.id, x.expires_at, x.chat_id, x.seq, x.sender_id from messages x where x.id = i.id limit 1) m
      left join (select e.id, count(*) as ended from unnest(v_ended) e (id) group by e.id) n on n.id = i.id
     order by 2, 1;
end $$;

COMMENT ON FUNCTION restante_expire(p_after timestamp with time zone, p_after_id uuid, p_horizon timestamp with time zone, p_messages_max integer, p_rows_max integer, p_after_user bigint) IS 'Ends what still waits of messages that expired up to the horizon, a page of messages at a time in the order of (expires_at, id), at most p_rows_max rows, and looks at 20,000 rows. Waits for no lock: what somebody holds waits on. Returns the rows that ended, and each message of the page without one (and without a time where rows of it are held): the next page begins behind the last of these, or, where that has after_user, in it behind this recipient. Nothing at all: the page was empty.';

CREATE FUNCTION restante_fan_out(p_after_user bigint, p_after_class inbox_class, p_rows_max integer, p_waiting_max integer, OUT users bigint[], OUT classes inbox_class[], OUT rows_done integer, OUT superseded bigint[], OUT next_user bigint, OUT next_class inbox_class) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now     timestamptz := clock_timestamp();
  v_users   bigint[];      -- inboxes of the page,
  v_classes inbox_class[];
  v_looked  bigint;
  v_at      tid[];         -- … where they are, those that are locked here,
  v_last    bigint[];
  v_settled bigint[];
  v_of      integer[];     -- per row that is written: its inbox among these,
  v_seqs    bigint[];      -- … the number of its event in the stream,
  v_events  uuid[];        -- … the event; null: it was removed
  v_ids     uuid[];        -- … the same; null: it makes no row, since the recipient has muted its type, too
  v_numbers bigint[];      -- … the number in the inbox,
  v_ends    text[];        -- … the reason for which it has ended meanwhile; null: it waits,
  v_keys    uuid[];        -- … and its collapse id; null: it has none, or makes no row
  v_count   bigint;
begin
  perform restante_needs_read_committed();
  rows_done := 0;
  select array_agg(q.user_id order by q.user_id, q.class), array_agg(q.class order by q.user_id, q.class), sum(q.rows) into v_users, v_classes, v_looked
    from (select r.user_id, r.class, count(*) as rows
            from (select x.user_id, x.class from fan_out_recipients x where (x.user_id, x.class) > (p_after_user, p_after_class)
                   order by x.user_id, x.class, x.seq limit p_rows_max) r
           group by r.user_id, r.class) q;
  if v_looked >= p_rows_max then
    next_user := v_users[cardinality(v_users)];
    next_class := v_classes[cardinality(v_classes)];
  end if;
  -- An inbox that somebody holds is left for the next time.
  select array_agg(q.user_id order by q.n), array_agg(q.class order by q.n), array_agg(q.at order by q.n), array_agg(q.last_seq order by q.n),
         array_agg(q.settled_seq order by q.n)
    into v_users, v_classes, v_at, v_last, v_settled
    from (select u.user_id, u.class, u.n, i.at, i.last_seq, i.settled_seq
            from (select * from unnest(v_users, v_classes) with ordinality x (user_id, class, n) order by x.n) u
            cross join lateral (
              select x.ctid as at, x.last_seq, x.settled_seq from inboxes x where x.user_id = u.user_id and x.class = u.class
               order by x.step desc limit 1 for no key update skip locked) i) q;

  -- A later statement, so a later snapshot: who has written some of these meanwhile has let go of the inbox.
  with rows as materialized (
    select u.n, r.seq, m.id, m.collapse_key, coalesce(m.expires_at <= v_now or r.seq <= s.floor_seq, false) as is_over, r.seq <= s.floor_seq as is_capped,
           case when k.is_muted is null then m.id end as row_id,
           case when m.id is not null and k.is_muted is null
                then v_last[u.n] + count(m.id) filter (where k.is_muted is null) over (partition by u.n order by r.seq) end as number
      from (select generate_subscripts(v_users, 1) as n, unnest(v_users) as user_id, unnest(v_classes) as class) u
      cross join lateral (
        select x.floor_seq from feeds x where x.feed_id = '00000000-0000-0000-0000-000000000002' and x.class = u.class limit 1) s
      cross join lateral (
        select x.seq, x.message_id from fan_out_recipients x where x.user_id = u.user_id and x.class = u.class
         order by x.seq limit greatest(2 * p_rows_max / cardinality(v_users), 1)) r
      left join lateral (select x.id, x.expires_at, x.message_type, x.collapse_key from messages x where x.id = r.message_id limit 1) m on true
      left join lateral (
        select true as is_muted from preferences p where p.user_id = v_users[u.n] and m.message_type = any (p.muted_types) limit 1) k on true
  ), judged as (
    -- Of those with one key the last one stays. One that the user has muted takes no place.
    select q.*, case when q.is_capped then 'capped' when q.is_over then 'expired'
                     when q.collapse_key is not null
                      and q.seq < max(q.seq) filter (where q.row_id is not null and not q.is_over) over (partition by q.n, q.collapse_key) then 'superseded'
                end as ends
      from rows q
  )
  select array_agg(r.n order by r.n, r.seq), array_agg(v_users[r.n] order by r.n, r.seq), array_agg(v_classes[r.n] order by r.n, r.seq), array_agg(r.seq order by r.n, r.seq),
         array_agg(r.id order by r.n, r.seq), array_agg(r.row_id order by r.n, r.seq), array_agg(r.number order by r.n, r.seq), array_agg(r.ends order by r.n, r.seq),
         array_agg(case when r.row_id is not null and r.collapse_key is not null
                        then restante_collapse_id('00000000-0000-0000-0000-000000000002', r.collapse_key) end order by r.n, r.seq)
    into v_of, users, classes, v_seqs, v_events, v_ids, v_numbers, v_ends, v_keys
    from judged r;
  if users is null then
    return;
  end if;

  with written as (
    insert into message_status (user_id, class, seq, message_id, collapse_id, status, ended, reason)
      select u.user_id, u.class, u.number, u.id, u.key, case when u.ends is null then 'sent'::delivery_status else 'expired' end, u.ends::ended_reason,
             case u.ends when 'expired' then 'its time had come' when 'capped' then 'too many events lived' when 'superseded' then 'a newer event of its key came' end
        from unnest(users, classes, v_numbers, v_ids, v_ends, v_keys) u (user_id, class, number, id, ends, key) where u.id is not null
      returning 1
  ), noted as (
    insert into statistics_journal (at, kind, messages)
      select v_now, 'queued', array_agg(u.id) from (select unnest(v_ids) as id) u where u.id is not null having count(*) > 0
  ), noted_ends as (
    insert into statistics_journal (at, kind, ended, messages)
      select v_now, 'ended', u.ends::ended_reason, array_agg(u.id)
        from (select unnest(v_ids) as id, unnest(v_ends) as ends) u where u.id is not null and u.ends is not null group by u.ends
  ), moved as (
    update inboxes i set last_seq = n.seq, step = n.seq >> 4
      from (select v_at[u.n] as at, max(u.number) as seq from (select unnest(v_of) as n, unnest(v_numbers) as number) u
             where u.number is not null group by u.n) n
     where i.ctid = n.at
    returning 1
  ), gone as (
    delete from fan_out_recipients r using (select unnest(users) as user_id, unnest(classes) as class, unnest(v_seqs) as seq) u
     where r.user_id = u.user_id and r.class = u.class and r.seq = u.seq
    returning 1
  ) select count(*) into v_count from gone;
  if v_count <> cardinality(users) then
    raise exception 'a fan-out should have ended % waiting rows and ended %', cardinality(users), v_count using errcode = 'data_corrupted';
  end if;
  rows_done := v_count;
  perform from (select distinct unnest(v_events) as id order by 1) u
    cross join lateral (select from fan_outs x where x.message_id = u.id limit 1 for no key update) f;
  update fan_outs f set waiting = f.waiting - u.rows, muted = f.muted + u.muted
    from (select x.id, count(*) as rows, count(*) filter (where x.row_id is null) as muted
            from (select unnest(v_events) as id, unnest(v_ids) as row_id) x where x.id is not null group by x.id) u
   where f.message_id = any (array[u.id]);

  if num_nonnulls(variadic v_keys) > 0 then
    select restante_collapse(array_agg(r.user_id), array_agg(r.class), array_agg(r.key), array_agg(r.first), array_agg(r.newest)) into superseded
      from (select u.user_id, u.class, u.key, min(u.number) as first, max(u.number) as newest
              from unnest(users, classes, v_numbers, v_ends, v_keys) u (user_id, class, number, ends, key)
             where u.key is not null and coalesce(u.ends, 'superseded') = 'superseded' group by u.user_id, u.class, u.key) r;
  end if;
  -- The oldest ones end where more wait than may, and the inbox begins behind them.
  for n in 1 .. cardinality(v_users) loop
    perform restante_make_room(v_users[n], v_classes[n], p_waiting_max);
  end loop;
  select array_agg(u.user_id), array_agg(u.class) into users, classes
    from (select distinct x.user_id, x.class from unnest(users, classes, v_ids, v_ends) x (user_id, class, id, ends) where x.id is not null and x.ends is null) u;
end $$;

COMMENT ON FUNCTION restante_fan_out(p_after_user bigint, p_after_class inbox_class, p_rows_max integer, p_waiting_max integer, OUT users bigint[], OUT classes inbox_class[], OUT rows_done integer, OUT superseded bigint[], OUT next_user bigint, OUT next_class inbox_class) IS 'Writes rows of listed users that could not be written when their events were published, in their order for each user: those of a page of inboxes behind (p_after_user, p_after_class), about p_rows_max. An event that has expired meanwhile, or was capped, is written as ended, one whose type the user has muted is not written, and one of whose collapse key a newer one is written as superseded; what waited of that key ends (restante_collapse). Where more than p_waiting_max wait then, the oldest ones end (capped). Waits for no inbox: what is held is left. Returns the inboxes to be woken, the users of whom something was superseded, and the place from which to call it again.';

CREATE TABLE message_status (
    user_id bigint NOT NULL,
    class inbox_class NOT NULL,
    seq bigint NOT NULL,
    message_id uuid NOT NULL,
    status delivery_status DEFAULT 'sent'::delivery_status NOT NULL,
    attempts smallint DEFAULT 0 NOT NULL,
    ended ended_reason,
    delivered_at timestamp with time zone,
    read_at timestamp with time zone,
    reason text,
    collapse_id uuid,
    merged_after bigint
)
WITH (fillfactor='70');

COMMENT ON TABLE message_status IS 'THE QUEUE: one row per recipient. What waits is "status = sent and seq > inboxes.settled_seq" on the primary key. No index holds a column that changes, so acks are heap-only updates: keep it so. What a row may become is guarded by the trigger a_status_only_moves_forward.';

COMMENT ON COLUMN message_status.user_id IS 'The recipient (users.id).';

COMMENT ON COLUMN message_status.class IS 'The inbox the row lies in.';

COMMENT ON COLUMN message_status.seq IS 'Number in that inbox, 1, 2, 3, ... in commit order without a hole; a number above inboxes.purged_seq whose row is gone is in inbox_gaps.';

COMMENT ON COLUMN message_status.message_id IS 'The message (messages.id).';

COMMENT ON COLUMN message_status.status IS 'sent, delivered, read, failed or expired.';

COMMENT ON COLUMN message_status.attempts IS 'Emissions that the client did not ack in time while it acked later ones, plus rejects. A lost connection counts none.';

COMMENT ON COLUMN message_status.ended IS 'Why it failed or expired, of the closed list; null: it did not.';

COMMENT ON COLUMN message_status.delivered_at IS 'When the recipient''s ack was committed. Set once.';

COMMENT ON COLUMN message_status.read_at IS 'When the recipient''s read was committed. Set once.';

COMMENT ON COLUMN message_status.reason IS 'Why it failed or expired, in words, or what the client said when it last rejected it.';

COMMENT ON COLUMN message_status.collapse_id IS 'Stands for the feed and the collapse key of an event (restante_collapse_id). Never changes. Null: it has no key, or is no event.';

COMMENT ON COLUMN message_status.merged_after IS 'The row stands for the events of its collapse key and stream above this number too, up to its own: the node merges their data into its own (messages.merge). Null: for itself alone.';

CREATE FUNCTION restante_finished_at(p_row message_status, p_horizon timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_finished timestamptz;
begin
  if p_row.status = 'sent' then
    return null;
  end if;
  v_finished := case when p_row.status in ('delivered', 'read') then p_row.delivered_at
                     else (select e.ended_at from endings e where e.message_id = p_row.message_id and e.user_id = p_row.user_id) end;
  if p_row.class = 'chat' or v_finished < p_horizon then
    return coalesce(v_finished, '-infinity');
  end if;
  -- Nobody gets an event that has expired, on no device. A dead letter stays.
  if p_row.status = 'failed' or exists (
       select from messages m where m.id = p_row.message_id and (m.expires_at is null or m.expires_at > clock_timestamp() - interval '1 day')) then
    return coalesce(v_finished, 'infinity');
  end if;
  return '-infinity';
end $$;

COMMENT ON FUNCTION restante_finished_at(p_row message_status, p_horizon timestamp with time zone) IS 'When this row was finished, which says whether it is old; null: it waits. A row of an event that has expired a day ago is older than anything, unless it has failed. One that ended otherwise and has no ending stays until then.';

CREATE FUNCTION restante_first_id(p_at timestamp with time zone) RETURNS uuid
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return (lpad(to_hex(greatest(floor(extract(epoch from p_at) * 1000), 0)::bigint), 12, '0') || '00000000000000000000')::uuid;
end $$;

COMMENT ON FUNCTION restante_first_id(p_at timestamp with time zone) IS 'The lowest UUIDv7 of a moment: UUIDv7s that are lower were made before it.';

CREATE FUNCTION restante_first_waiting(p_message uuid, p_after bigint, p_rows_max integer, OUT waiting_user bigint, OUT passed_user bigint, OUT looked integer, OUT is_last boolean) RETURNS record
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  select q.user_id into waiting_user
    from (select s.user_id, s.status from message_status s
           where s.message_id = p_message and s.user_id > p_after order by s.user_id limit p_rows_max) q
   where q.status = 'sent' limit 1;
  select count(*), coalesce(max(q.user_id), p_after) into looked, passed_user
    from (select s.user_id from message_status s
           where s.message_id = p_message and s.user_id > p_after and (waiting_user is null or s.user_id < waiting_user)
           order by s.user_id limit p_rows_max) q;
  is_last := waiting_user is null and looked < p_rows_max;
end $$;

COMMENT ON FUNCTION restante_first_waiting(p_message uuid, p_after bigint, p_rows_max integer, OUT waiting_user bigint, OUT passed_user bigint, OUT looked integer, OUT is_last boolean) IS 'The first recipient behind p_after, by its number, for whom an event waits, among p_rows_max rows; the last one before it, up to which nothing waits; how many rows that were, and whether there are no others.';

CREATE FUNCTION restante_follow(p_feed uuid, p_users text[]) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  case restante_add_followers(p_feed, array(select u.id from restante_users(p_users) u), 500)
    when 'done' then null;
    when 'too_many' then raise exception 'a user may follow at most 500 feeds' using errcode = 'program_limit_exceeded';
    else raise exception 'there is no feed %', p_feed using errcode = 'no_data_found';
  end case;
end $$;

COMMENT ON FUNCTION restante_follow(p_feed uuid, p_users text[]) IS 'These users follow the feed: they get what is published after this. Inside your own transaction, which locks them until it ends.';

CREATE FUNCTION restante_forget_errors(p_messages uuid[], p_user bigint) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  update endings e set last_error = null, reason = case e.status when 'failed' then 'failed' else e.reason end
    from (select unnest(p_messages) as id) u
   where e.message_id = any (array[u.id]) and (p_user is null or e.user_id = p_user) and (e.last_error is not null or e.status = 'failed');
end $$;

COMMENT ON FUNCTION restante_forget_errors(p_messages uuid[], p_user bigint) IS 'Removes the words with which clients have rejected these messages from the endings: those of one recipient, or of all (null).';

CREATE FUNCTION restante_forget_profile(p_user bigint) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  update users u set display_name = null, avatar_url = null, came_at = null where u.id = p_user;
  delete from preferences p where p.user_id = p_user;
  delete from last_seen l where l.user_id = p_user;
  delete from user_limits l where l.user_id = p_user;
  -- One that has passed on its name has no account.
  delete from accounts a where a.name = (select u.external_id from users u where u.id = p_user and u.is_current);
end $$;

COMMENT ON FUNCTION restante_forget_profile(p_user bigint) IS 'Removes what is stored of a user beside its id: name, picture, preferences, when it came and was seen, its account and raised limits. Repeated, it does nothing.';

CREATE FUNCTION restante_give_up(p_message uuid, p_user text, p_reason text) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_user   bigint;
  v_chat   uuid;
  v_sender bigint;
begin
  perform restante_needs_read_committed();
  v_user := restante_recipient(p_message, p_user);
  -- A row that waits ends; a dead letter has ended already and only gets the last word.
  update message_status s set status = 'failed', ended = 'discarded', reason = p_reason
   where s.message_id = p_message and s.user_id = v_user
     and (s.status = 'sent'
          or s.status = 'failed' and exists (select 1 from endings e where e.message_id = p_message and e.user_id = v_user and e.discarded_at is null));
  if not found then
    return false;
  end if;
  select m.chat_id, m.sender_id into v_chat, v_sender from messages m where m.id = p_message;
  perform restante_exact_marks(array[v_chat], array[v_user], true);
  update endings e set ended = 'discarded', reason = p_reason, discarded_at = clock_timestamp(), ended_xid = pg_current_xact_id()
   where e.message_id = p_message and e.user_id = v_user;
  -- The recipient too: what its sessions hold of it is not to be emitted any more.
  perform restante_check_marks(array[v_sender, v_user]);
  raise log 'restante: message % for user % was discarded by %', p_message, p_user, session_user;
  return true;
end $$;

COMMENT ON FUNCTION restante_give_up(p_message uuid, p_user text, p_reason text) IS 'Gives up a message that still waits, or a dead letter: the row is failed with this reason, is listed no more, and the sender sees it. False when it is neither. restante_discard() notes it in the audit too.';

CREATE FUNCTION restante_has_blocked(p_users bigint[], p_other bigint) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return exists (
    select from (select unnest(p_users) as id) u
    cross join lateral (select from blocks b where b.user_id = u.id and b.other_id = p_other limit 1) b);
end $$;

COMMENT ON FUNCTION restante_has_blocked(p_users bigint[], p_other bigint) IS 'True where one of these users has blocked that one. Users that it has blocked itself do not count.';

CREATE FUNCTION restante_has_untaken(p_user bigint, p_class inbox_class) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return exists (
    select from followers f
      cross join lateral (select x.chat_id from feeds x where x.feed_id = f.feed_id and x.class = f.class limit 1) s
      cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
     where f.user_id = p_user and f.class = p_class and h.last_seq > f.cursor_seq);
end $$;

COMMENT ON FUNCTION restante_has_untaken(p_user bigint, p_class inbox_class) IS 'Returns whether there is an event in a followed feed that the user has not taken yet. It looks at one number of each stream.';

CREATE FUNCTION restante_history(p_user bigint, p_chat uuid, p_after bigint, p_before bigint, p_limit integer) RETURNS TABLE(message_id uuid, chat_seq bigint, message_type text, content text, metadata jsonb, created_at timestamp with time zone, expires_at timestamp with time zone, sender_id bigint, sender text, sender_name text, sender_picture text, recalled_at timestamp with time zone, sealed bytea, key_id text)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_sort TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  if p_after is not null then
    return query
      select m.id, m.seq, m.message_type::text, m.content, m.metadata, m.created_at, m.expires_at, u.id, u.external_id, u.display_name, u.avatar_url,
             m.recalled_at, m.sealed, m.key_id
        from chat_members me
        left join lateral (
          select x.* from messages x
           where x.chat_id = p_chat and x.seq > greatest(p_after, me.joined_seq)
           order by x.seq limit p_limit) m on true
        left join users u on u.id = m.sender_id
       where me.chat_id = p_chat and me.user_id = p_user and me.left_seq is null;
  else
    return query
      select m.id, m.seq, m.message_type::text, m.content, m.metadata, m.created_at, m.expires_at, u.id, u.external_id, u.display_name, u.avatar_url,
             m.recalled_at, m.sealed, m.key_id
        from chat_members me
        left join lateral (
          select x.* from messages x
           where x.chat_id = p_chat and x.seq > me.joined_seq and x.seq < p_before
           order by x.seq desc limit p_limit) m on true
        left join users u on u.id = m.sender_id
       where me.chat_id = p_chat and me.user_id = p_user and me.left_seq is null;
  end if;
end $$;

COMMENT ON FUNCTION restante_history(p_user bigint, p_chat uuid, p_after bigint, p_before bigint, p_limit integer) IS 'A page of a chat for one of its members, from its joining on: the oldest messages above p_after, else the newest below p_before. A member gets a row in any case, with nulls where there is no message; somebody else gets none. A message that was recalled has no content and no metadata.';

CREATE FUNCTION restante_invitations_left(p_inviter bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  -- One that was declined counts too: its row is there.
  return 500 - (select count(*) from (select from invitations i where i.inviter_id = p_inviter limit 500) x);
end $$;

COMMENT ON FUNCTION restante_invitations_left(p_inviter bigint) IS 'The number of users that this one may still invite, until some of its invitations are accepted or have ended.';

CREATE FUNCTION restante_invite(p_chat uuid, p_inviter text, p_users text[]) RETURNS text[]
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_outcome text;
  v_invited text[];
begin
  select min(a.outcome) filter (where a.outcome not in ('done', 'invited')), array_agg(a.external_id order by a.external_id collate "C") filter (where a.outcome = 'invited')
    into v_outcome, v_invited
    from restante_add_named_members(p_chat, (select u.id from users u where u.is_current and u.external_id = p_inviter), p_users, true, 5000, true) a;
  if v_outcome is not null then
    raise exception 'user % cannot invite these users to chat %: %', p_inviter, p_chat, v_outcome using errcode =
      case v_outcome when 'too_many_members' then 'program_limit_exceeded' when 'too_many_invitations' then 'program_limit_exceeded' else 'insufficient_privilege' end;
  end if;
  return coalesce(v_invited, '{}');
end $$;

COMMENT ON FUNCTION restante_invite(p_chat uuid, p_inviter text, p_users text[]) IS 'An admin of a group brings users into it, inside your own transaction, as over HTTP where only contacts write to one another: its contacts are members from your commit on, everybody else is invited. Returns who is invited now. Raises where nothing is done.';

CREATE FUNCTION restante_invited_beside(p_chat uuid, p_users bigint[], p_max integer) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return (
    select count(*) from (
      select from invitations i
       where i.chat_id = p_chat and i.declined_at is null and i.expires_at > clock_timestamp() and i.user_id <> all (p_users) limit p_max) x);
end $$;

COMMENT ON FUNCTION restante_invited_beside(p_chat uuid, p_users bigint[], p_max integer) IS 'The number of users who are invited to a group beside these, counted up to p_max.';

CREATE TABLE nodes (
    node_id uuid NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    gone_at timestamp with time zone NOT NULL,
    lives interval NOT NULL,
    is_leaving boolean DEFAULT false NOT NULL,
    boot uuid DEFAULT gen_random_uuid() NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE nodes IS 'Nodes of the service that run now. Each renews its row every few seconds; one that does not is taken out by another, with its leases.';

COMMENT ON COLUMN nodes.node_id IS 'Drawn at the start of the node. It listens on the channel restante_node_<id without dashes>.';

COMMENT ON COLUMN nodes.started_at IS 'When it was first listed.';

COMMENT ON COLUMN nodes.seen_at IS 'Its last heartbeat: last_seen of its users, should it die.';

COMMENT ON COLUMN nodes.gone_at IS 'From then on it counts as gone, unless another heartbeat comes before.';

COMMENT ON COLUMN nodes.lives IS 'How long a heartbeat is good for. A gone_at further ahead than that was written before the clock was set back: it is not believed.';

COMMENT ON COLUMN nodes.is_leaving IS 'It ends as planned: nothing is told to it any more, and its users count until gone_at, so that they may come to other nodes unnoticed.';

COMMENT ON COLUMN nodes.boot IS 'Drawn each time that the node is listed. Nodes believe what another one tells only under the boot that is listed: what it told under an earlier one cannot be told again.';

CREATE FUNCTION restante_is_alive(p_node nodes, p_at timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return p_node.gone_at > p_at and p_node.gone_at <= p_at + p_node.lives;
end $$;

COMMENT ON FUNCTION restante_is_alive(p_node nodes, p_at timestamp with time zone) IS 'Does this node live? A gone_at further ahead than a heartbeat is good for was written before the clock was set back, and is not believed.';

CREATE TABLE jobs (
    name text NOT NULL COLLATE pg_catalog."C",
    cursor text DEFAULT ''::text NOT NULL,
    passed_at timestamp with time zone,
    holder uuid,
    lease_no bigint DEFAULT 0 NOT NULL,
    renewed_at timestamp with time zone,
    leased_until timestamp with time zone,
    CONSTRAINT a_cursor_has_at_most_1000_characters CHECK ((char_length(cursor) <= 1000)),
    CONSTRAINT a_lease_ends_after_it_was_renewed CHECK ((leased_until > renewed_at)),
    CONSTRAINT a_lease_has_a_holder_a_beginning_and_an_end CHECK ((num_nulls(holder, renewed_at, leased_until) = ANY (ARRAY[0, 3]))),
    CONSTRAINT a_lease_number_is_never_negative CHECK ((lease_no >= 0))
)
WITH (fillfactor='50');

COMMENT ON TABLE jobs IS 'Jobs that one node does for all: how far each has got, and which node does it. A node takes a job with a lease, and another takes it over when the lease has run out. Only the database''s clock counts.';

COMMENT ON COLUMN jobs.name IS 'cap: ends events where too many live. seal: encrypts what is plain, or under an old key. devices: removes devices that were not seen for 90 days. erase: goes on with users that are erased. expire: ends messages whose time has come. invitations: removes invitations that have expired. logins: removes logins that have ended. fan_out: writes rows of events with many listed users. recall: goes on with recalls. reap: takes out nodes that have gone, with their leases. retention: removes what is finished and old. revocations: removes revocations whose tokens have expired. statistics: counts what has happened. presence: no job; it is locked by each transaction that changes who is online.';

COMMENT ON COLUMN jobs.cursor IS 'The place that the job has got to, in a form of its own; the next holder goes on from there. devices: the device that was looked at last. expire: everything that expired up to this instant has ended. retention: the table and the place in it behind which its next page begins. fan_out: the inbox behind which its next page begins. recall: the message behind which it looks for the next recall. cap: the number of living_events below which its next page begins, and how many it has counted. Empty: from the beginning.';

COMMENT ON COLUMN jobs.passed_at IS 'When a pass last succeeded, at whatever node.';

COMMENT ON COLUMN jobs.holder IS 'The node that does the job (nodes.node_id). Null: no node does; the next one that asks gets it.';

COMMENT ON COLUMN jobs.lease_no IS 'Grows by one with each new holder. A pass stores its cursor only under the number that it began with: a holder whose lease ran out in the middle of a pass changes nothing of its successor''s.';

COMMENT ON COLUMN jobs.renewed_at IS 'When the holder last said that it goes on.';

COMMENT ON COLUMN jobs.leased_until IS 'From then on any node may take the job, unless the holder renews the lease before.';

COMMENT ON CONSTRAINT a_cursor_has_at_most_1000_characters ON jobs IS 'A cursor is a place, and no list.';

COMMENT ON CONSTRAINT a_lease_ends_after_it_was_renewed ON jobs IS 'Each renewal gives it time.';

COMMENT ON CONSTRAINT a_lease_has_a_holder_a_beginning_and_an_end ON jobs IS 'All of it, or none.';

COMMENT ON CONSTRAINT a_lease_number_is_never_negative ON jobs IS 'It counts holders.';

CREATE FUNCTION restante_is_leased(p_job jobs, p_at timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return coalesce(p_job.renewed_at <= p_at and p_job.leased_until > p_at, false);
end $$;

COMMENT ON FUNCTION restante_is_leased(p_job jobs, p_at timestamp with time zone) IS 'Does a node hold this job? A lease that was renewed later than now was written before the clock was set back, and is not believed.';

CREATE FUNCTION restante_is_superseded(p_user bigint, p_stream uuid, p_key text, p_after bigint, p_head bigint) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_now   timestamptz := clock_timestamp();
  v_muted text[] := (select p.muted_types from preferences p where p.user_id = p_user);
begin
  return exists (
    select from (select x.id, x.sender_id, x.expires_at, x.message_type from messages x
                  where x.chat_id = p_stream and x.collapse_key = p_key and x.seq > p_after and x.seq <= p_head order by x.seq desc limit 10) m
      cross join lateral restante_event_becomes(p_user, m.id, m.sender_id, m.expires_at, v_now, m.message_type, v_muted) b
     where b.becomes = 'coming');
end $$;

COMMENT ON FUNCTION restante_is_superseded(p_user bigint, p_stream uuid, p_key text, p_after bigint, p_head bigint) IS 'Returns whether one of the ten newest events of this collapse key, in a part of a stream, is newer and still to come to this user.';

CREATE FUNCTION restante_leave(p_node uuid, p_grace_ms integer) RETURNS void
    LANGUAGE sql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
  update nodes n set seen_at = clock_timestamp(), gone_at = clock_timestamp() + p_grace_ms * interval '1 millisecond', lives = p_grace_ms * interval '1 millisecond', is_leaving = true where n.node_id = p_node;
$$;

COMMENT ON FUNCTION restante_leave(p_node uuid, p_grace_ms integer) IS 'A node ends as planned: it counts as gone after a grace, in which its users may come to other nodes. Another node takes it out.';

CREATE FUNCTION restante_leave_direct(p_user bigint, p_chat uuid) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_leave_direct(p_user bigint, p_chat uuid) IS 'A user that was erased leaves a direct chat. The other member, which is returned, keeps it, and nothing is accepted in it any more. Nobody else leaves one: the two of a direct chat are its members for good. Null: there is no other.';

CREATE FUNCTION restante_living_rows(p_user bigint, p_class inbox_class, p_settled bigint, p_last bigint, p_looked_max integer) RETURNS TABLE(seq bigint, at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
begin
  return query
    select w.seq, m.created_at
      from (select s.seq, s.message_id from message_status s
             where s.user_id = p_user and s.class = p_class and s.seq > p_settled and s.seq <= least(p_last, p_settled + 50000) and s.status = 'sent'
             order by s.seq limit p_looked_max) w
      cross join lateral (select x.chat_id, x.seq, x.created_at, x.expires_at from messages x where x.id = w.message_id limit 1) m
     -- Events are not recalled.
     where restante_ended_unwritten('sent', exists (select from restante_departed(p_user, m.chat_id, m.seq)), null, m.expires_at, v_now) is null
     order by w.seq;
end $$;

COMMENT ON FUNCTION restante_living_rows(p_user bigint, p_class inbox_class, p_settled bigint, p_last bigint, p_looked_max integer) IS 'The rows that wait in an inbox and have not ended, in their order, with the times of their events. It looks at the first p_looked_max that wait by their status, in 50,000 numbers. One that has expired, or whose feed was left, takes no place of one that lives, also where no job has written it yet.';

CREATE FUNCTION restante_lock_marks(p_chats uuid[], p_users bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform 1
    from (select distinct u.chat, u.user_id from unnest(p_chats, p_users) u (chat, user_id) order by 1, 2) u
    cross join lateral (select from marks x where x.chat_id = u.chat and x.user_id = u.user_id order by x.step desc limit 1 for no key update) k;
end $$;

COMMENT ON FUNCTION restante_lock_marks(p_chats uuid[], p_users bigint[]) IS 'Locks the marks of these members, in the one order.';

CREATE FUNCTION restante_lock_users(p_users bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  perform from users u where u.id = any (p_users) order by u.id for no key update;
end $$;

COMMENT ON FUNCTION restante_lock_users(p_users bigint[]) IS 'Locks the rows of these users in the order of their numbers, as those do that block. One who blocks, or takes a block back, waits for it, or is waited for.';

CREATE FUNCTION restante_log_in(p_name text, p_verified text, p_new_hash text, p_login uuid, p_family uuid, p_secret_hash bytea, p_idle interval, p_lifetime interval, p_logins_max integer, p_access interval, OUT is_done boolean, OUT display_name text, OUT ends_at timestamp with time zone, OUT ended uuid[]) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now     timestamptz := clock_timestamp();
  v_account record;
begin
  perform restante_needs_read_committed();
  is_done := false;
  ended := '{}';
  -- A change of the password holds the row, and after it the hash is another one: what was verified before counts no more.
  select a.display_name into v_account from accounts a where a.name = p_name and a.password_hash = p_verified for no key update;
  if not found then
    return;
  end if;
  if p_new_hash is not null then
    update accounts a set password_hash = p_new_hash where a.name = p_name;
  end if;
  with oldest as materialized (
    select l.id from account_logins l where l.name = p_name order by l.renewed_at desc offset p_logins_max - 1
  ), gone as (
    delete from account_logins l where l.id = any (array(select o.id from oldest o)) returning l.id
  )
  select coalesce(array_agg(g.id), '{}') into ended from gone g;
  insert into account_logins (id, name, family, secret_hash, renewed_at, begun_at, ends_at, expires_at)
    values (p_login, p_name, p_family, p_secret_hash, v_now, v_now, v_now + least(p_idle, p_lifetime), v_now + p_lifetime);
  perform restante_revoke_logins(p_name, ended, p_access);
  is_done := true;
  display_name := v_account.display_name;
  ends_at := v_now + least(p_idle, p_lifetime);
end $$;

COMMENT ON FUNCTION restante_log_in(p_name text, p_verified text, p_new_hash text, p_login uuid, p_family uuid, p_secret_hash bytea, p_idle interval, p_lifetime interval, p_logins_max integer, p_access interval, OUT is_done boolean, OUT display_name text, OUT ends_at timestamp with time zone, OUT ended uuid[]) IS 'Begins a login of an account whose password was verified against the hash p_verified. Where that is its hash no more, nothing is done. p_new_hash: a hash of the same password to be kept in its place. Beyond p_logins_max those that were renewed longest ago end.';

CREATE FUNCTION restante_log_out(p_name text, p_family uuid, p_access interval) RETURNS uuid[]
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_name  text := p_name;
  v_ended uuid[];
begin
  perform restante_needs_read_committed();
  if p_family is null then
    -- A login that begins meanwhile has the row, and is ended too, or comes later.
    perform from accounts a where a.name = p_name for no key update;
    with gone as (
      delete from account_logins l where l.name = p_name returning l.id
    )
    select coalesce(array_agg(g.id), '{}') into v_ended from gone g;
  else
    with gone as (
      delete from account_logins l where l.family = p_family returning l.id, l.name
    )
    select coalesce(array_agg(g.id), '{}'), max(g.name) into v_ended, v_name from gone g;
  end if;
  perform restante_revoke_logins(v_name, v_ended, p_access);
  return v_ended;
end $$;

COMMENT ON FUNCTION restante_log_out(p_name text, p_family uuid, p_access interval) IS 'Ends the login of a family of refresh tokens, or all logins of an account (then p_family is null), on every node. Returns those that have ended. May be repeated.';

CREATE FUNCTION restante_make_data_key(p_id text, p_master_id text, p_wrapped bytea, p_newest text) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  perform from encryption e where e.only_row for no key update;
  -- A later statement, so a later snapshot: a key that another node has made meanwhile is seen.
  if (select k.id from data_keys k where k.made_at > '-infinity' order by k.made_at desc, k.id desc limit 1) is distinct from p_newest then
    return false;
  end if;
  insert into data_keys (id, master_id, wrapped) values (p_id, p_master_id, p_wrapped);
  return true;
end $$;

COMMENT ON FUNCTION restante_make_data_key(p_id text, p_master_id text, p_wrapped bytea, p_newest text) IS 'Stores a new data key, unless another one was made since p_newest was the newest (null: there was none). Returns whether it was stored. However many nodes want a new key, one of them makes it.';

CREATE FUNCTION restante_make_feed(p_maker text, p_title text DEFAULT NULL::text, p_publishers text[] DEFAULT NULL::text[], p_feed uuid DEFAULT gen_random_uuid()) RETURNS uuid
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  case restante_new_feed(p_feed, (select u.id from restante_users(array[p_maker]) u), p_title,
                         array(select u.id from restante_users(coalesce(p_publishers, '{}')) u), 500)
    when 'done' then return p_feed;
    when 'too_many' then raise exception 'a feed may have at most 500 publishers' using errcode = 'program_limit_exceeded';
    else raise exception 'the id % belongs to somebody else''s feed or chat', p_feed using errcode = 'unique_violation';
  end case;
end $$;

COMMENT ON FUNCTION restante_make_feed(p_maker text, p_title text, p_publishers text[], p_feed uuid) IS 'Makes a feed inside your own transaction, and returns its id. Its maker is its first publisher. The same id again from the same maker is the same feed.';

CREATE FUNCTION restante_make_room(p_user bigint, p_class inbox_class, p_waiting_max integer) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_last    bigint;
  v_settled bigint;
  v_waiting bigint;
begin
  select i.last_seq, i.settled_seq into v_last, v_settled from inboxes i where i.user_id = p_user and i.class = p_class order by i.step desc limit 1;
  if v_last - v_settled < p_waiting_max then
    return;
  end if;
  v_waiting := (select count(*) from restante_living_rows(p_user, p_class, v_settled, v_last, p_waiting_max + 1000));
  if v_waiting > p_waiting_max then
    perform restante_cap(p_user, p_class, v_settled, v_last, p_waiting_max + 1000, v_waiting - p_waiting_max);
  end if;
  perform restante_advance_settled(p_user, p_class);
end $$;

COMMENT ON FUNCTION restante_make_room(p_user bigint, p_class inbox_class, p_waiting_max integer) IS 'Ends what lives in an inbox beyond p_waiting_max (restante_living_rows), the oldest first, a thousand rows at most, and moves its settled_seq. Called while the inbox is locked.';

CREATE FUNCTION restante_move_blocks(p_from bigint, p_to bigint, p_blockers bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  insert into blocks (user_id, other_id, blocked_at)
    select b.user_id, p_to, b.blocked_at
      from (select unnest(p_blockers) as user_id) u
      cross join lateral (select x.user_id, x.blocked_at from blocks x where x.user_id = u.user_id and x.other_id = p_from limit 1) b
    on conflict on constraint a_user_blocks_another_once do nothing;
  delete from blocks b using (select unnest(p_blockers) as user_id) u where b.user_id = u.user_id and b.other_id = p_from;
end $$;

COMMENT ON FUNCTION restante_move_blocks(p_from bigint, p_to bigint, p_blockers bigint[]) IS 'These users, whose rows are locked (restante_lock_users), block the other one instead where they block the first. Their direct chat with the first stays closed.';

CREATE FUNCTION restante_needs_read_committed() RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'this needs a transaction of the isolation level read committed, this one is %', current_setting('transaction_isolation')
      using errcode = 'invalid_transaction_state';
  end if;
end $$;

COMMENT ON FUNCTION restante_needs_read_committed() IS 'Raises in a transaction of another isolation level. Functions that lock and then read would read what was before the lock: with one snapshot for the whole transaction a later statement sees no more than an earlier one.';

CREATE FUNCTION restante_new_device(p_user bigint, p_device text, p_node uuid, p_devices_max integer) RETURNS bigint
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_more    bigint; -- so many devices have to go
  v_gone    bigint;
  v_session bigint;
begin
  -- New devices of a user come one after the other, each counts those before it. A statement after the lock sees them.
  perform from users u where u.id = p_user for no key update;
  select count(*) - p_devices_max + 1 into v_more from devices d where d.user_id = p_user;
  if v_more > 0 and not exists (select from devices d where d.user_id = p_user and d.device_id = p_device) then
    with oldest as materialized (
      select d.ctid as at, d.session_no, d.last_seen_at from devices d
       where d.user_id = p_user
         and not exists (select from nodes n where n.node_id = d.node_id and restante_is_alive(n, clock_timestamp()))
       order by d.last_seen_at, d.device_id limit least(v_more, 100)
    ), gone as (
      -- A device that has connected meanwhile has another session_no, and stays.
      delete from devices d using oldest o
       where d.ctid = o.at and d.session_no = o.session_no and d.last_seen_at = o.last_seen_at
      returning 1
    ) select count(*) into v_gone from gone;
    if v_gone = 0 then
      return null;
    end if;
  end if;
  insert into devices as d (user_id, device_id, node_id) values (p_user, p_device, p_node)
    on conflict on constraint a_user_names_a_device_once do update
      set session_no = d.session_no + 1, last_seen_at = clock_timestamp(), node_id = p_node
    returning d.session_no into v_session;
  return v_session;
end $$;

COMMENT ON FUNCTION restante_new_device(p_user bigint, p_device text, p_node uuid, p_devices_max integer) IS 'Makes a device of a user, connected to this node, and returns the number of its connection. Where the user has as many as allowed, those go that were not seen for longest and are not connected. Null: all of them are connected, and nothing was made. Locks the user.';

CREATE FUNCTION restante_new_feed(p_feed uuid, p_maker bigint, p_title text, p_publishers bigint[], p_publishers_max integer) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_publishers bigint[] := array(select p_maker union select unnest(p_publishers) order by 1);
  v_alerts     uuid := gen_random_uuid();
begin
  perform restante_needs_read_committed();
  if cardinality(v_publishers) > p_publishers_max then
    return 'too_many';
  end if;
  insert into chats (id, kind, title) values (p_feed, 'feed', p_title) on conflict on constraint chats_are_known_by_their_id do nothing;
  if not found then
    return case when exists (select from feed_publishers p where p.feed_id = p_feed and p.user_id = p_maker and p.role = 'admin') then 'done' else 'forbidden' end;
  end if;
  insert into chats (id, kind, title) values (v_alerts, 'feed', p_title);
  insert into chat_heads (chat_id, class) values (p_feed, 'event'), (v_alerts, 'alert');
  insert into feeds (feed_id, class, chat_id) values (p_feed, 'event', p_feed), (p_feed, 'alert', v_alerts);
  insert into feed_publishers (feed_id, user_id, role)
    select p_feed, u.id, case when u.id = p_maker then 'admin'::member_role else 'member' end from unnest(v_publishers) u (id);
  return 'done';
end $$;

COMMENT ON FUNCTION restante_new_feed(p_feed uuid, p_maker bigint, p_title text, p_publishers bigint[], p_publishers_max integer) IS 'Makes a feed with its two streams; its maker is its first publisher. done, also where the same maker made it before; forbidden: somebody else has an id like this; too_many: it would have more publishers than p_publishers_max.';

CREATE FUNCTION restante_note_merged(p_users bigint[], p_classes inbox_class[], p_keys uuid[], p_seqs bigint[], p_newest bigint[], p_afters bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_at     tid[];    -- rows that stand for others: where they are,
  v_afters bigint[]; -- … and from where on
begin
  select array_agg(q.at order by q.ord), array_agg(q.after order by q.ord) into v_at, v_afters
    from (select n.ord, r.at, coalesce(least(n.after, f.before), w.before) as after
            from (select unnest(p_users) as user_id, unnest(p_classes) as class, unnest(p_keys) as key, unnest(p_seqs) as seq,
                         unnest(p_newest) as newest, unnest(p_afters) as after, generate_subscripts(p_users, 1) as ord) n
            cross join lateral (
              select r.ctid as at, r.message_id from message_status r where r.user_id = n.user_id and r.class = n.class and r.seq = n.newest limit 1) r
            cross join lateral (
              select x.chat_id, x.collapse_key, x.seq from messages x where x.id = r.message_id and x.merge is not null limit 1) m
            -- The first of those that have just become rows: the newest one has taken its place at once.
            left join lateral (
              select x.seq - 1 as before from message_status y cross join lateral (select z.seq from messages z where z.id = y.message_id limit 1) x
               where n.seq < n.newest and y.user_id = n.user_id and y.class = n.class and y.seq = n.seq limit 1) f on true
            -- Nothing waited: of a feed, what was superseded before it was a row, since the last one that was, or since it is followed.
            left join lateral (
              select l.before
                from (select greatest(
                        o.followed_seq,
                        (select max(x.seq)
                           from (select y.message_id from message_status y
                                  where y.user_id = n.user_id and y.class = n.class and y.collapse_id = n.key and y.seq < n.seq order by y.seq desc limit 10) y
                           cross join lateral (select z.seq from messages z where z.id = y.message_id limit 1) x)) as before
                        from (select s.feed_id from feeds s where n.after is null and f.before is null and s.chat_id = m.chat_id limit 1) s
                        cross join lateral (
                          select x.followed_seq from followers x where x.user_id = n.user_id and x.feed_id = s.feed_id and x.class = n.class limit 1) o) l
               where exists (select from messages x where x.chat_id = m.chat_id and x.collapse_key = m.collapse_key and x.seq > l.before and x.seq < m.seq)
            ) w on true) q
   where q.after is not null;
  update message_status s set merged_after = u.after
    -- Nobody else sees them yet: they are where they were written.
    from (select unnest(v_at) as at, unnest(v_afters) as after) u where s.ctid = u.at;
end $$;

COMMENT ON FUNCTION restante_note_merged(p_users bigint[], p_classes inbox_class[], p_keys uuid[], p_seqs bigint[], p_newest bigint[], p_afters bigint[]) IS 'Notes in rows that have just been written, of events that merge, from where on they stand for others (message_status.merged_after). p_afters says it where rows that waited have ended for them. Called while the inboxes are locked.';

CREATE FUNCTION restante_note_plain(p_messages uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  insert into plain_messages (message_id) select distinct u.id from unnest(p_messages) u (id) on conflict do nothing;
end $$;

COMMENT ON FUNCTION restante_note_plain(p_messages uuid[]) IS 'Notes messages that SQL has stored as plain text. The job seal seals them.';

CREATE FUNCTION restante_note_recount(p_chat uuid, p_before bigint, p_after bigint) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  if greatest(p_before, p_after) > 50 then
    update chats c set recount_xid = pg_current_xact_id() where c.id = p_chat;
  end if;
end $$;

COMMENT ON FUNCTION restante_note_recount(p_chat uuid, p_before bigint, p_after bigint) IS 'Notes that a chat has so many members now, and had so many before, where either is more than 50: senders who look for what has moved are then told of it. Called under the lock of the chat''s head.';

CREATE FUNCTION restante_note_truly() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  if new.id is distinct from currval(pg_get_serial_sequence(tg_relid::regclass::text, 'id')) then
    raise exception 'the number of an act is given by its table' using errcode = 'integrity_constraint_violation', constraint = tg_name, table = tg_table_name;
  end if;
  new.at := clock_timestamp();
  new.role_name := session_user;
  new.address := inet_client_addr();
  return new;
end $$;

COMMENT ON FUNCTION restante_note_truly() IS 'Writes when, as which role and from where a row of audit was written, whatever the statement says of it.';

CREATE FUNCTION restante_open(p_external_id text, p_name text, p_picture text, p_device text, p_since bigint[], p_pending_max integer, p_classes inbox_class[], p_node uuid DEFAULT NULL::uuid, p_devices_max integer DEFAULT 50) RETURNS TABLE(user_id bigint, display_name text, avatar_url text, class inbox_class, last_seq bigint, settled_seq bigint, acked_seq bigint, pending bigint, session_no bigint, is_first boolean)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_user    bigint;
  v_name    text;
  v_picture text;
  v_last    bigint[];  -- per class, as all that follow
  v_settled bigint[];
  v_purged  bigint[];
  v_first   bigint[];
  v_pending bigint[];
  v_cursor  bigint[];
  v_acked   bigint[];
  v_behind  bigint  := 0; -- numbers that are not settled, of the inboxes that were advanced
  v_is_held boolean := false; -- one was
  v_session bigint;
  v_is_first boolean;     -- it was named before, and comes now
begin
  select u.id, u.display_name, u.avatar_url, u.came_at is null into v_user, v_name, v_picture, v_is_first
    from users u where u.is_current and u.external_id = p_external_id;
  if not found then
    select u.id into v_user from restante_users(array[p_external_id], true) u;
    v_is_first := false;
  end if;
  if v_is_first or coalesce(p_name, v_name) is distinct from v_name or coalesce(p_picture, v_picture) is distinct from v_picture then
    v_name := coalesce(p_name, v_name);
    v_picture := coalesce(p_picture, v_picture);
    update users u set display_name = v_name, avatar_url = v_picture, came_at = coalesce(u.came_at, clock_timestamp()) where u.id = v_user;
  end if;
  -- Before any inbox is held: a device that is new waits for others that are new.
  if p_device is not null then
    update devices d set session_no = d.session_no + 1, last_seen_at = clock_timestamp(), node_id = p_node
     where d.user_id = v_user and d.device_id = p_device returning d.session_no into v_session;
    if not found then
      v_session := restante_new_device(v_user, p_device, p_node, p_devices_max);
      if v_session is null then
        return;
      end if;
    end if;
  end if;

  -- 50,000 numbers at most are looked at: what lies beyond is not counted.
  select array_agg(q.last_seq), array_agg(q.settled_seq), array_agg(q.pending), array_agg(q.first), array_agg(q.purged_seq)
    into v_last, v_settled, v_pending, v_first, v_purged
    from (
      select i.last_seq, i.settled_seq, i.purged_seq, w.pending, w.first
        from unnest(p_classes) with ordinality u (class, n)
        cross join lateral (
          select x.last_seq, x.settled_seq, x.purged_seq from inboxes x where x.user_id = v_user and x.class = u.class order by x.step desc limit 1) i
        cross join lateral (
          select count(*) as pending, min(x.seq) as first
            from (select s.seq from message_status s
                   where s.user_id = v_user and s.class = u.class and s.seq > i.settled_seq and s.seq <= i.settled_seq + 50000 and s.status = 'sent'
                   order by s.seq limit p_pending_max) x) w
       order by u.n
    ) q;
  for n in 1 .. array_length(p_classes, 1) loop
    -- Seen without a lock, so only hints that there is something to move, or to bring to the end; the function locks, and looks again.
    if coalesce(v_first[n] - 1, v_last[n]) > v_settled[n] or (v_pending[n] <= 50 and v_last[n] - v_first[n] >= 1000) then
      -- It holds an inbox until all of this is committed: a second one is for the next that opens or drains it, where much lies behind.
      v_behind := v_behind + v_last[n] - v_settled[n];
      continue when v_is_held and v_behind > 50000;
      v_is_held := true;
      v_settled[n] := restante_advance_settled(v_user, p_classes[n]);
      v_last[n] := (select i.last_seq from inboxes i where i.user_id = v_user and i.class = p_classes[n] order by i.step desc limit 1);
    end if;
  end loop;

  v_acked := v_settled;
  if p_device is not null then
    -- A device that is new, or a class that is new to it, starts before the oldest waiting row, or where the client says that it has got to:
    -- it may have been removed meanwhile, and what others acked since then is still to come.
    select array_agg(q.acked_seq) into v_acked
      from (
        select c.acked_seq from unnest(p_classes) with ordinality u (class, n)
          left join lateral (
            select x.acked_seq from device_cursors x
             where x.user_id = v_user and x.device_id = p_device and x.class = u.class order by x.step desc limit 1) c on true
         order by u.n
      ) q;
    if array_position(v_acked, null) is not null then
      insert into device_cursors (user_id, device_id, class, step, acked_seq)
        select v_user, p_device, u.class, q.start >> 4, q.start
          from unnest(p_classes, v_settled, v_acked, v_last, p_since) u (class, settled, acked, last, since)
          cross join lateral (select case when u.since between 0 and u.last then least(u.since, u.settled) else u.settled end as start) q
         where u.acked is null;
      select array_agg(coalesce(u.acked, u.settled) order by u.n) into v_acked
        from unnest(v_acked, v_settled) with ordinality u (acked, settled, n);
    end if;
  end if;
  -- A number that was never given says nothing.
  if p_device is not null or p_since is not null and exists (select from unnest(p_since, v_last) u (since, last) where u.since between 0 and u.last) then
    -- It gets every row behind its cursor, whether it waits or not. Numbers that were removed are none of the 50,000.
    select array_agg(greatest(case when u.since between 0 and u.last then u.since else u.acked end, u.purged) order by u.n) into v_cursor
      from unnest(p_since, v_last, v_acked, v_purged) with ordinality u (since, last, acked, purged, n);
    select array_agg(q.pending) into v_pending
      from (
        select w.pending from unnest(p_classes, v_cursor) with ordinality u (class, cursor, n)
          cross join lateral (
            select count(*) as pending
              from (select from message_status s
                     where s.user_id = v_user and s.class = u.class and s.seq > u.cursor and s.seq <= u.cursor + 50000
                       and s.status in ('sent', 'delivered', 'read')
                     order by s.seq limit p_pending_max) x) w
         order by u.n
      ) q;
  end if;

  -- Rows of a chat that the user has left are shown to nobody, so they are not counted: row by row then, 10,000 at most.
  if exists (select from departures d where d.user_id = v_user) then
    select array_agg(q.pending) into v_pending
      from (
        select w.pending from unnest(p_classes, coalesce(v_cursor, v_settled)) with ordinality u (class, cursor, n)
          cross join lateral (
            select count(*) as pending
              from (select
                      from (select s.message_id, s.status from message_status s
                             where s.user_id = v_user and s.class = u.class and s.seq > u.cursor and s.seq <= u.cursor + 50000
                               and (s.status = 'sent' or v_cursor is not null and s.status in ('delivered', 'read'))
                             order by s.seq limit 10000) r
                      left join lateral (select m.chat_id, m.seq from messages m where m.id = r.message_id limit 1) m on true
                     -- A message that was recalled or has expired counts until a job has written it, as above.
                     where restante_ended_unwritten(r.status, exists (select from restante_departed(v_user, m.chat_id, m.seq)), null) is null
                     limit p_pending_max) x) w
         order by u.n
      ) q;
  end if;

  -- Events of feeds that are not rows yet. The first page makes rows of them.
  for n in 1 .. array_length(p_classes, 1) loop
    if p_classes[n] <> 'chat' and v_pending[n] < p_pending_max and restante_has_untaken(v_user, p_classes[n]) then
      v_pending[n] := least(v_pending[n] + restante_count_untaken(v_user, p_classes[n], p_pending_max), p_pending_max);
    end if;
  end loop;

  return query
    select v_user, v_name, v_picture, u.class, u.last_seq, u.settled_seq, u.acked_seq, u.pending, v_session, v_is_first
      from unnest(p_classes, v_last, v_settled, v_acked, v_pending) u (class, last_seq, settled_seq, acked_seq, pending);
end $$;

COMMENT ON FUNCTION restante_open(p_external_id text, p_name text, p_picture text, p_device text, p_since bigint[], p_pending_max integer, p_classes inbox_class[], p_node uuid, p_devices_max integer) IS 'The state that a connection begins with. Nothing at all: the user has p_devices_max devices, all connected, and this one is new. The user is made on first sight (is_first: it was named by others before, and comes for the first time); a name or picture that the token brings is kept where it is news. Per class that is asked for: the inbox''s counters, where a device''s cursor stands, how many rows the connection is to get, counted up to p_pending_max and over 50,000 numbers (those that wait; with a device, or a p_since of any class that was given once, every row behind the cursor; and in any case the events of followed feeds that are still to become rows; p_since is per class, in the order of p_classes, null where nothing is known); for a device its new session_no; it is noted as connected to p_node.';

CREATE FUNCTION restante_overtaken(p_seqs bigint[], p_chats uuid[], p_last bigint) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  if cardinality(p_seqs) > 50 then
    return 0;
  end if;
  return (
    select coalesce(max(q.n), 0)
      from (select u.n, lead(u.seq, 1, p_last + 1) over by_n - u.seq - 1 as ended, max(u.of_its_chat) over by_n as of_their_chats
              from (select x.seq, x.n, max(x.n) over (partition by x.chat) as of_its_chat from unnest(p_seqs, p_chats) with ordinality x (seq, chat, n)) u
            window by_n as (order by u.n)) q
     where q.ended >= 1000 and q.of_their_chats = q.n);
end $$;

COMMENT ON FUNCTION restante_overtaken(p_seqs bigint[], p_chats uuid[], p_last bigint) IS 'The number of rows that wait in an inbox, the first ones, that get new numbers at its end: as many as possible, so that a thousand numbers or more that have ended follow the last of them, and no row of their chats stays behind: its message would be seen before theirs. None where more than 50 wait. Takes all that wait, in order, their chats, and the last number.';

CREATE FUNCTION restante_pass_on_name(p_user bigint, p_blocks_max integer) RETURNS boolean
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_pass_on_name(p_user bigint, p_blocks_max integer) IS 'Passes the name of a user that is erased on to another user, made for it, which has nothing but the blocks by others; its inboxes go on behind the last numbers of the erased one. Tokens that were issued before are revoked. False: p_blocks_max blocks were moved, and there are more; call it again.';

CREATE FUNCTION restante_people_changed(p_users bigint[], p_chat uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_check_marks(p_users);
  if p_chat is not null then
    perform pg_notify(restante_wake_channel(), 'chat ' || p_chat);
  end if;
end $$;

COMMENT ON FUNCTION restante_people_changed(p_users bigint[], p_chat uuid) IS 'Tells every node that these users may know more or less of one another than before, and that the receipts of their direct chat, if there is one, are told in another form (its id with "chat " before it, on restante_wake_channel()). A hint: without it nodes find out within 30 s.';

CREATE FUNCTION restante_presence_lock() RETURNS void
    LANGUAGE sql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
  select from jobs j where j.name = 'presence' for no key update;
$$;

COMMENT ON FUNCTION restante_presence_lock() IS 'Held while presence changes. "Is the user leased elsewhere?" must be asked after whoever is changing that has committed: else one node says offline and another, which saw the old lease, says nothing.';

CREATE FUNCTION restante_publish(p_publisher text, p_type text, p_data jsonb, p_to_users text[] DEFAULT NULL::text[], p_feed uuid DEFAULT NULL::uuid, p_event_id uuid DEFAULT gen_random_uuid(), p_ttl interval DEFAULT '24:00:00'::interval, p_collapse_key text DEFAULT NULL::text, p_urgent boolean DEFAULT false, p_except text[] DEFAULT NULL::text[], p_merge jsonb DEFAULT NULL::jsonb) RETURNS uuid
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $_$
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
end $_$;

COMMENT ON FUNCTION restante_publish(p_publisher text, p_type text, p_data jsonb, p_to_users text[], p_feed uuid, p_event_id uuid, p_ttl interval, p_collapse_key text, p_urgent boolean, p_except text[], p_merge jsonb) IS 'Publishes an event inside your own transaction, with the same effect as over HTTP, and returns its id: to listed users, to a feed, or without either to everyone. It is accepted when you commit (its stream is locked only then) and is gone when you roll back. At most 1,000 events a transaction. The same id again from the same publisher is the same event.';

CREATE FUNCTION restante_publish_batch(p_ids uuid[], p_publishers bigint[], p_types text[], p_data text[], p_ttls_ms bigint[], p_keys text[], p_classes inbox_class[], p_feeds uuid[], p_may_anywhere boolean[], p_places integer[], p_users bigint[], p_excepted_places integer[], p_excepted bigint[], p_rows_max integer, p_waiting_max integer, p_merges text[], p_sealed bytea[] DEFAULT NULL::bytea[], p_key text DEFAULT NULL::text, OUT outcomes text[], OUT first_times timestamp with time zone[], OUT streams uuid[], OUT woken_places integer[], OUT woken bigint[], OUT superseded bigint[], OUT accepted_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_direct  constant uuid := '00000000-0000-0000-0000-000000000002';
  v_streams uuid[];    -- per item: its stream, …
  v_heads   tid[];     -- … where the counter of that is, when it is accepted,
  v_seqs    bigint[];  -- … and its number
  v_of      integer[]; -- per recipient: its item,
  v_to      bigint[];  -- … the user,
  v_muted   integer[]; -- per listed user that has muted the type: the item
  v_numbers bigint[];  -- per recipient: its number in the inbox; null: a job writes it,
  v_is_over boolean[]; -- … and whether a later item takes its place; null: no item has a key
  v_keys    uuid[];    -- per item: the collapse id of its rows
  v_inboxes tid[];     -- inboxes that are written to here,
  v_ends    bigint[];  -- … and their last numbers
  v_written bigint[];
  v_wanted  bigint[];
begin
  perform restante_needs_read_committed();
  -- A publisher without the right locks nothing.
  select array_agg(q.outcome order by q.ord), array_agg(q.chat_id order by q.ord) into outcomes, v_streams
    from (
      select u.ord, s.chat_id,
             case when s.chat_id is null or u.feed = v_direct then 'not_found'
                  when not u.may_anywhere and (u.feed is null or not exists (
                         select from feed_publishers p where p.feed_id = u.feed and p.user_id = u.publisher)) then 'forbidden'
                  when u.ttl_ms <= 0 then 'too_late' end as outcome
        from (select generate_subscripts(p_ids, 1) as ord, unnest(p_feeds) as feed, unnest(p_classes) as class, unnest(p_publishers) as publisher,
                     unnest(p_may_anywhere) as may_anywhere, unnest(p_ttls_ms) as ttl_ms) u
        left join lateral (select x.chat_id from feeds x where x.feed_id = coalesce(u.feed, v_direct) and x.class = u.class limit 1) s on true
    ) q;

  -- Lock the streams, in the order of their ids.
  perform 1
    from (select distinct x.chat from (select unnest(v_streams) as chat, unnest(outcomes) as outcome) x where x.outcome is null order by 1) u
    cross join lateral (select from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1 for no key update) h;

  -- A later statement, so a later snapshot: what is there already, under the lock. What is left is numbered in the order received.
  select array_agg(q.outcome order by q.ord), array_agg(q.first_time order by q.ord), array_agg(q.at order by q.ord), array_agg(q.seq order by q.ord)
    into outcomes, first_times, v_heads, v_seqs
    from (
      select l.ord, l.outcome, l.first_time, case when l.outcome = 'accepted' then l.at end as at,
             case when l.outcome = 'accepted' then l.last_seq + row_number() over (partition by l.at, l.outcome order by l.ord) end as seq
        from (
          select u.ord, h.at, h.last_seq, case when u.outcome is null and m.sender_id = u.publisher then m.created_at end as first_time,
                 case when u.outcome is not null then u.outcome when m.sender_id = u.publisher then 'duplicate'
                      when m.sender_id is not null then 'conflict' else 'accepted' end as outcome
            from (select generate_subscripts(p_ids, 1) as ord, unnest(p_ids) as id, unnest(p_publishers) as publisher, unnest(v_streams) as chat,
                         unnest(outcomes) as outcome) u
            left join lateral (select x.sender_id, x.created_at from messages x where x.id = u.id limit 1) m on true
            left join lateral (select x.ctid as at, x.last_seq from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1) h on true
          offset 0
        ) l
    ) q;
  select array_agg(case when u.outcome = 'accepted' and u.feed is not null then u.chat end order by u.ord) into streams
    from (select generate_subscripts(p_ids, 1) as ord, unnest(outcomes) as outcome, unnest(p_feeds) as feed, unnest(v_streams) as chat) u;

  -- Listed users, each once, in the order in which inboxes are locked.
  select array_agg(q.ord order by q.user_id, q.class, q.ord) filter (where not q.is_muted),
         array_agg(q.user_id order by q.user_id, q.class, q.ord) filter (where not q.is_muted), array_agg(q.ord) filter (where q.is_muted)
    into v_of, v_to, v_muted
    from (select l.ord, l.user_id, l.class,
                 exists (select from preferences p where p.user_id = l.user_id and p_types[l.ord] = any (p.muted_types)) as is_muted
            from (
          select distinct x.ord, x.user_id, p_classes[x.ord] as class from (select unnest(p_places) as ord, unnest(p_users) as user_id) x
           where v_heads[x.ord] is not null and p_feeds[x.ord] is null and x.user_id <> p_publishers[x.ord]
          except all
          select distinct x.ord, x.user_id, p_classes[x.ord] from (select unnest(p_excepted_places) as ord, unnest(p_excepted) as user_id) x) l) q;
  -- Their inboxes, the first ones, as far as nobody holds them and they are not full, and no earlier event waits for its row: what is listed
  -- in fan_out_recipients is written under the lock of the stream, and comes from an earlier statement.
  with locked as materialized (
    select g.user_id, g.class, i.at, i.last_seq, g.items
      from (select p.user_id, p.class, count(*) as items
              from (select unnest(v_to) as user_id, p_classes[unnest(v_of)] as class limit p_rows_max) p
             group by p.user_id, p.class order by p.user_id, p.class) g
      cross join lateral (
        select x.ctid as at, x.last_seq, x.settled_seq from inboxes x where x.user_id = g.user_id and x.class = g.class
         order by x.step desc limit 1 for no key update skip locked) i
     where i.last_seq - i.settled_seq + g.items <= p_waiting_max
       and not exists (select from fan_out_recipients r where r.user_id = g.user_id and r.class = g.class)
  ), numbered as (
    select p.n, l.last_seq + row_number() over (partition by p.user_id, p.class order by p.n) as seq
      from (select x.n, x.user_id, p_classes[x.ord] as class
              from (select generate_subscripts(v_to, 1) as n, unnest(v_to) as user_id, unnest(v_of) as ord limit p_rows_max) x) p
      cross join lateral (select x.last_seq from locked x where x.user_id = p.user_id and x.class = p.class limit 1) l
  )
  select (select array_agg(l.at order by l.user_id, l.class) from locked l), (select array_agg(l.last_seq + l.items order by l.user_id, l.class) from locked l),
         (select array_agg(s.seq order by u.n) from (select generate_subscripts(v_to, 1) as n) u left join numbered s on s.n = u.n)
    into v_inboxes, v_ends, v_numbers;

  -- Of items with one key the last one stays.
  if num_nonnulls(variadic p_keys) > 0 then
    select array_agg(case when u.feed is null then restante_collapse_id(v_direct, u.key) end order by u.ord) into v_keys
      from (select generate_subscripts(p_keys, 1) as ord, unnest(p_keys) as key, unnest(p_feeds) as feed) u;
    select array_agg(r.key is not null and r.seq < r.last order by r.n) into v_is_over
      from (select u.n, u.seq, v_keys[u.ord] as key, max(u.seq) over (partition by u.user_id, p_classes[u.ord], v_keys[u.ord]) as last
              from (select generate_subscripts(v_to, 1) as n, unnest(v_to) as user_id, unnest(v_of) as ord, unnest(v_numbers) as seq) u) r;
  end if;

  -- Write, in one statement. Counters are found where they were locked.
  accepted_at := clock_timestamp();
  with items as materialized (
    select u.* from (
      select generate_subscripts(p_ids, 1) as ord, unnest(v_heads) as at, unnest(p_ids) as id, unnest(v_streams) as chat, unnest(v_seqs) as seq,
             unnest(p_publishers) as publisher, unnest(p_types) as message_type, unnest(p_data) as data, unnest(p_ttls_ms) as ttl_ms,
             unnest(p_keys) as key, unnest(p_merges) as merge, unnest(p_classes) as class, unnest(p_feeds) as feed, unnest(p_sealed) as sealed) u
     where u.at is not null
  ), recipients as materialized (
    select u.ord, u.user_id, u.seq, coalesce(v_is_over[u.n], false) as is_over
      from (select generate_subscripts(v_to, 1) as n, unnest(v_of) as ord, unnest(v_to) as user_id, unnest(v_numbers) as seq) u
  ), ends as materialized (
    select i.at, max(i.seq) as seq from items i group by i.at
  ), moved_streams as (
    update chat_heads h set last_seq = n.seq, step = n.seq >> 4 from ends n where h.ctid = n.at returning 1
  ), moved_inboxes as (
    update inboxes i set last_seq = n.seq, step = n.seq >> 4 from (select unnest(v_inboxes) as at, unnest(v_ends) as seq) n where i.ctid = n.at returning 1
  ), stored as (
    insert into messages (id, chat_id, seq, sender_id, message_type, metadata, sealed, key_id, created_at, expires_at, collapse_key, merge)
      select i.id, i.chat, i.seq, i.publisher, i.message_type, i.data::jsonb, i.sealed, p_key, accepted_at, accepted_at + i.ttl_ms * interval '1 millisecond', i.key, i.merge::jsonb
        from items i
      returning 1
  ), living as (
    insert into living_events (message_id, chat_id, seq, expires_at)
      select i.id, i.chat, i.seq, accepted_at + i.ttl_ms * interval '1 millisecond' from items i order by i.chat, i.seq
      returning 1
  ), excepted as (
    insert into event_exceptions (message_id, user_id)
      select distinct i.id, e.user_id
        from (select unnest(p_excepted_places) as ord, unnest(p_excepted) as user_id) e
        cross join lateral (select x.id from items x where x.ord = e.ord and x.feed is not null limit 1) i
      returning 1
  ), fanned_out as (
    insert into fan_outs (message_id, recipients, waiting, muted)
      select i.id, count(r.ord) + k.muted, count(r.ord) filter (where r.seq is null), k.muted
        from items i
        left join recipients r on r.ord = i.ord
        cross join lateral (select count(*) as muted from unnest(v_muted) u (ord) where u.ord = i.ord) k
       where i.feed is null group by i.id, k.muted
      returning 1
  ), left_over as (
    insert into fan_out_recipients (user_id, class, seq, message_id)
      select r.user_id, p_classes[r.ord], v_seqs[r.ord], p_ids[r.ord] from recipients r where r.seq is null
       order by r.user_id, 2, 3
      returning 1
  ), queued as (
    insert into message_status (user_id, class, seq, message_id, collapse_id, status, ended, reason)
      select r.user_id, p_classes[r.ord], r.seq, p_ids[r.ord], v_keys[r.ord], case when r.is_over then 'expired'::delivery_status else 'sent' end,
             case when r.is_over then 'superseded'::ended_reason end, case when r.is_over then 'a newer event of its key came' end
        from recipients r where r.seq is not null
      returning 1
  ), noted as (
    insert into statistics_journal (at, kind, messages, recipients)
      select accepted_at, 'accepted', array_agg(p_ids[n.ord]), array_agg(n.rows)
        from (select q.ord, sum(q.rows)::integer as rows
                from (select r.ord, 1 as rows from recipients r where r.seq is not null union all select i.ord, 0 from items i) q
               group by q.ord) n
      having count(*) > 0
  ), noted_ends as (
    insert into statistics_journal (at, kind, ended, messages)
      select accepted_at, 'ended', 'superseded', array_agg(p_ids[r.ord]) from recipients r where r.seq is not null and r.is_over having count(*) > 0
  )
  select array[(select count(*) from items), coalesce(cardinality(v_to), 0), (select count(*) from ends), coalesce(cardinality(v_inboxes), 0)],
         array[(select count(*) from stored), (select count(*) from queued) + (select count(*) from left_over),
               (select count(*) from moved_streams), (select count(*) from moved_inboxes)],
         (select array_agg(r.ord) from recipients r where r.seq is not null and not r.is_over),
         (select array_agg(r.user_id) from recipients r where r.seq is not null and not r.is_over)
    into v_wanted, v_written, woken_places, woken;
  if v_written <> v_wanted then
    raise exception 'publishing should have written % rows (events, recipients, streams, inboxes) and wrote %', v_wanted, v_written
      using errcode = 'data_corrupted';
  end if;
  if num_nonnulls(variadic v_keys) > 0 and cardinality(v_inboxes) > 0 then
    select restante_collapse(array_agg(r.user_id), array_agg(r.class), array_agg(r.key), array_agg(r.first), array_agg(r.newest)) into superseded
      from (select u.user_id, p_classes[u.ord] as class, v_keys[u.ord] as key, min(u.seq) as first, max(u.seq) as newest
              from (select unnest(v_to) as user_id, unnest(v_of) as ord, unnest(v_numbers) as seq) u
             where u.seq is not null and v_keys[u.ord] is not null group by 1, 2, 3) r;
  end if;
end $$;

COMMENT ON FUNCTION restante_publish_batch(p_ids uuid[], p_publishers bigint[], p_types text[], p_data text[], p_ttls_ms bigint[], p_keys text[], p_classes inbox_class[], p_feeds uuid[], p_may_anywhere boolean[], p_places integer[], p_users bigint[], p_excepted_places integer[], p_excepted bigint[], p_rows_max integer, p_waiting_max integer, p_merges text[], p_sealed bytea[], p_key text, OUT outcomes text[], OUT first_times timestamp with time zone[], OUT streams uuid[], OUT woken_places integer[], OUT woken bigint[], OUT superseded bigint[], OUT accepted_at timestamp with time zone) IS 'Stores events, each once, numbered in their streams, and returns one row of arrays. Per item outcomes: accepted, duplicate (the same publisher has a message of this id: its time in first_times), conflict (another user''s id), not_found (no such feed), forbidden (no publisher of the feed, and not allowed to publish anywhere), too_late (no time to live). Listed users that have muted the type are counted as muted. Of the others the first p_rows_max get their rows, unless their inbox is held, or has p_waiting_max numbers that are not settled, or an earlier event is still to be written there; the others are left to a job, in fan_out_recipients. Of those that wait for a listed user the newest one of a collapse key stays (restante_collapse); superseded are the users to whom that happened. With p_key the data is stored as p_sealed, and p_data is empty. Waits for streams, and for no inbox. An id must not stand in one call twice.';

CREATE FUNCTION restante_purge_chats(p_days integer, p_after uuid, p_chats_max integer, p_messages_max integer, OUT messages_gone integer, OUT late_ms bigint, OUT next_chat uuid) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now     timestamptz := clock_timestamp();
  v_chat    record;
  v_looked  integer := 0;
  v_left    integer := p_messages_max;
  v_before  uuid := p_after;
  v_horizon timestamptz;
  v_purged  bigint;
  v_ids     uuid[]; -- the messages that go, in order,
  v_rows    tid[];  -- … and their places
  v_to      bigint;
  v_newest  timestamptz;
  v_locked  bigint;
begin
  perform restante_needs_read_committed();
  messages_gone := 0;
  late_ms := 0;
  next_chat := p_after;
  -- One message of each chat is looked at, without a lock: as a rule it stays.
  for v_chat in
    select q.id, q.keep_days, q.is_feed, f.at
      from (select c.id, c.purged_seq, c.kind = 'feed' as is_feed, case when c.keep_days = 0 then null else greatest(p_days, c.keep_days) end as keep_days
              from chats c where c.id > p_after order by c.id limit p_chats_max) q
      left join lateral (
        select case when q.is_feed then coalesce(m.expires_at, 'infinity') else m.created_at end as at, exists (select from message_status s where s.message_id = m.id) as has_rows
          from messages m where m.chat_id = q.id and m.seq > q.purged_seq order by m.seq limit 1) f on not f.has_rows
     order by q.id
  loop
    v_looked := v_looked + 1;
    v_before := next_chat;
    next_chat := v_chat.id;
    -- An event is kept for a day after it has expired.
    v_horizon := v_now - case when v_chat.is_feed then 1 else v_chat.keep_days end * interval '1 day';
    continue when v_chat.at is null or v_horizon is null or v_chat.at >= v_horizon;
    -- A send that repeats an old id waits for this lock, and then sees what has gone.
    select c.purged_seq into v_purged from chats c where c.id = v_chat.id for no key update skip locked;
    continue when not found;
    with items as materialized (
      select m.id, m.seq, m.created_at,
             case when v_chat.is_feed then coalesce(m.expires_at, 'infinity') else m.created_at end >= v_horizon or exists (select from message_status s where s.message_id = m.id)
               or v_chat.is_feed and exists (select from fan_outs f where f.message_id = m.id and f.waiting > 0)
               -- A message that was recalled stays as long as its notice, which has its number negated, has rows.
               or m.recalled_at is not null and (
                    (select true from recalls r where r.message_id = m.id limit 1)
                    or (select true from messages x
                         cross join lateral (select from message_status s where s.message_id = x.id limit 1) s
                         where x.chat_id = v_chat.id and x.seq = -m.seq limit 1)) as stays
        from messages m where m.chat_id = v_chat.id and m.seq > v_purged order by m.seq limit v_left
    )
    select array_agg(i.id order by i.seq), max(i.seq), max(i.created_at) into v_ids, v_to, v_newest
      from items i where i.seq < coalesce((select min(x.seq) from items x where x.stays), 9223372036854775807);
    continue when v_ids is null;
    select count(*), array_agg(m.at) into v_locked, v_rows
      from unnest(v_ids) u (id) cross join lateral (select m.ctid as at from messages m where m.id = u.id limit 1 for update skip locked) m;
    continue when v_locked <> cardinality(v_ids);
    late_ms := greatest(late_ms, (extract(epoch from v_horizon - v_chat.at) * 1000)::bigint);
    delete from messages m where m.ctid = any (v_rows);
    -- The notices of those that were recalled have no rows any more. There are few.
    delete from messages m where m.ctid = any (array(
      select x.ctid from messages x where x.chat_id = v_chat.id and x.seq < 0 and x.seq >= -v_to order by x.seq limit v_left));
    if v_chat.is_feed then
      delete from event_exceptions e using (select unnest(v_ids) as id) u where e.message_id = any (array[u.id]);
      delete from fan_outs f using (select unnest(v_ids) as id) u where f.message_id = any (array[u.id]);
    end if;
    update chats c set purged_seq = v_to, purged_at = greatest(c.purged_at, v_newest) where c.id = v_chat.id;
    messages_gone := messages_gone + cardinality(v_ids);
    v_left := v_left - cardinality(v_ids);
    if v_left <= 0 then
      -- It may have more: the next page begins with this chat again.
      next_chat := v_before;
      return;
    end if;
  end loop;
  if v_looked < p_chats_max then
    next_chat := null;
  end if;
end $$;

COMMENT ON FUNCTION restante_purge_chats(p_days integer, p_after uuid, p_chats_max integer, p_messages_max integer, OUT messages_gone integer, OUT late_ms bigint, OUT next_chat uuid) IS 'Removes messages that were accepted more than p_days days ago, or more than the days that their chat keeps them, and events that have expired a day ago, where no recipient has a row of them or waits for one, and the notices of those that were recalled with them: of at most p_chats_max chats, in order, and p_messages_max messages. Each chat loses a prefix. Waits for no lock. To be called again from the place that it returns, until there is none.';

CREATE FUNCTION restante_purge_devices(p_user bigint, p_device text, p_unseen_s double precision, p_devices_max integer, OUT seen bigint, OUT purged bigint, OUT last_user bigint, OUT last_device text) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_now timestamptz := clock_timestamp();
begin
  perform restante_needs_read_committed();
  with page as materialized (
    select d.user_id, d.device_id, d.last_seen_at from devices d
     where (d.user_id, d.device_id) > (p_user, p_device) order by d.user_id, d.device_id limit p_devices_max
  ), old as materialized (
    select d.at
      from page p
      cross join lateral (
        select x.ctid as at from devices x
         where x.user_id = p.user_id and x.device_id = p.device_id and x.last_seen_at < v_now - make_interval(secs => p_unseen_s)
           and not exists (select from nodes n where n.node_id = x.node_id and restante_is_alive(n, v_now))
         for update skip locked) d
     where p.last_seen_at < v_now - make_interval(secs => p_unseen_s)
  ), gone as (
    delete from devices d using old o where d.ctid = o.at returning 1
  )
  select (select count(*) from page), (select count(*) from gone), l.user_id, l.device_id into seen, purged, last_user, last_device
    from (select 1) one left join (select p.user_id, p.device_id from page p order by p.user_id desc, p.device_id desc limit 1) l on true;
end $$;

COMMENT ON FUNCTION restante_purge_devices(p_user bigint, p_device text, p_unseen_s double precision, p_devices_max integer, OUT seen bigint, OUT purged bigint, OUT last_user bigint, OUT last_device text) IS 'Looks at a page of devices behind (p_user, p_device), and removes those that were not seen for so many seconds and are not connected. Returns how many it looked at, how many went, and the last that it looked at. Waits for no lock.';

CREATE FUNCTION restante_purge_inboxes(p_days integer, p_after_user bigint, p_after_class inbox_class, p_inboxes_max integer, p_rows_max integer, OUT rows_gone integer, OUT late_ms bigint, OUT next_user bigint, OUT next_class inbox_class) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_horizon timestamptz := clock_timestamp() - p_days * interval '1 day';
  v_inbox   record;
  v_looked  integer := 0;
  v_left    integer := p_rows_max;
  v_at      tid;
  v_purged  bigint;
  v_last    bigint;
  v_seqs    bigint[]; -- the rows that go, in order,
  v_ids     uuid[];   -- … and their messages
  v_rows    tid[];    -- … and their places
  v_ended   uuid;
  v_to      bigint;   -- the last number that goes
  v_locked  bigint;
  v_marks   tid[];    -- the marks of the user in the chats of these messages,
  v_numbers bigint[]; -- … and the highest number that goes in each
  v_is_held boolean;
begin
  perform restante_needs_read_committed();
  rows_gone := 0;
  late_ms := 0;
  next_user := p_after_user;
  next_class := p_after_class;
  -- One row of each inbox is looked at, without a lock: as a rule it stays.
  for v_inbox in
    select q.user_id, q.class, case when g.are_many then '-infinity' else f.finished_at end as finished_at
      from (select i.user_id, i.class, i.purged_seq from inboxes i
             where (i.user_id, i.class) > (p_after_user, p_after_class) order by i.user_id, i.class limit p_inboxes_max) q
      left join lateral (
        select s.seq, restante_finished_at(s, v_horizon) as finished_at
          from message_status s where s.user_id = q.user_id and s.class = q.class and s.seq > q.purged_seq order by s.seq limit 1) f on true
      -- No row takes the gaps along of an inbox in which events only ever ended.
      cross join lateral (
        select q.class <> 'chat' and count(*) > 100 as are_many
          from (select from inbox_gaps x
                 where x.user_id = q.user_id and x.class = q.class and x.seq > q.purged_seq and x.seq < coalesce(f.seq, 9223372036854775807)
                 order by x.seq limit 101) x) g
     order by q.user_id, q.class
  loop
    v_looked := v_looked + 1;
    next_user := v_inbox.user_id;
    next_class := v_inbox.class;
    continue when v_inbox.finished_at is null or v_inbox.finished_at >= v_horizon;
    if isfinite(v_inbox.finished_at) then
      late_ms := greatest(late_ms, (extract(epoch from v_horizon - v_inbox.finished_at) * 1000)::bigint);
    end if;
    -- Under this lock nothing is put back, and no other purge is here.
    select i.ctid, i.purged_seq, i.last_seq into v_at, v_purged, v_last
      from inboxes i where i.user_id = v_inbox.user_id and i.class = v_inbox.class order by i.step desc limit 1 for no key update skip locked;
    continue when not found;
    -- A later statement, so a later snapshot. The prefix ends before the first row that stays, whatever stands behind it: one that was
    -- put back has a high number and an old message. A gap goes with the row behind it.
    with items as materialized (
      (select s.seq, s.message_id,
              restante_finished_at(s, v_horizon) as finished_at
         from message_status s
        where s.user_id = v_inbox.user_id and s.class = v_inbox.class and s.seq > v_purged and s.seq <= v_last order by s.seq limit v_left)
      union all
      (select g.seq, null, '-infinity' from inbox_gaps g
        where g.user_id = v_inbox.user_id and g.class = v_inbox.class and g.seq > v_purged and g.seq <= v_last order by g.seq limit v_left)
      order by seq limit v_left
    )
    select array_agg(i.seq order by i.seq) filter (where i.message_id is not null), array_agg(i.message_id order by i.seq) filter (where i.message_id is not null),
           case when count(*) >= v_left or v_inbox.class <> 'chat' and count(*) filter (where i.message_id is null) > 100 then max(i.seq)
                else max(i.seq) filter (where i.message_id is not null) end
      into v_seqs, v_ids, v_to
      from items i
     where i.seq < coalesce((select min(x.seq) from items x where x.finished_at is null or x.finished_at >= v_horizon), 9223372036854775807);
    continue when v_to is null;
    select count(*), array_agg(s.at) into v_locked, v_rows
      from unnest(v_seqs) u (seq)
      cross join lateral (
        select s.ctid as at from message_status s where s.user_id = v_inbox.user_id and s.class = v_inbox.class and s.seq = u.seq limit 1 for update skip locked) s;
    continue when v_locked <> coalesce(cardinality(v_seqs), 0);
    select array_agg(k.at), array_agg(q.seq), coalesce(bool_or(k.at is null), false) into v_marks, v_numbers, v_is_held
      from (select m.chat_id, max(m.seq) as seq
              from unnest(v_ids) u (id) cross join lateral (select x.chat_id, x.seq from messages x where x.id = u.id limit 1) m
             group by m.chat_id order by m.chat_id) q
      left join lateral (
        select x.ctid as at from marks x where x.chat_id = q.chat_id and x.user_id = v_inbox.user_id order by x.step desc limit 1
          for no key update skip locked) k on true
     where exists (select from marks x where x.chat_id = q.chat_id and x.user_id = v_inbox.user_id);
    continue when v_is_held;

    -- These rows are locked, so they stay where they are. Joined by key, a planner might walk the whole inbox for each of them.
    delete from message_status s where s.ctid = any (v_rows);
    -- There are few.
    for v_ended in
      select e.message_id from unnest(v_ids) u (id)
       cross join lateral (select y.message_id from endings y where y.message_id = u.id and y.user_id = v_inbox.user_id limit 1) e
    loop
      delete from endings e where e.message_id = v_ended and e.user_id = v_inbox.user_id;
    end loop;
    delete from inbox_gaps g where g.user_id = v_inbox.user_id and g.class = v_inbox.class and g.seq > v_purged and g.seq <= v_to;
    update inboxes i set purged_seq = v_to, settled_seq = greatest(i.settled_seq, v_to) where i.ctid = v_at;
    update marks k set purged_seq = greatest(k.purged_seq, u.seq), moves = k.moves + 1, step = (k.moves + 1) >> 4
      from unnest(v_marks, v_numbers) u (at, seq) where k.ctid = u.at;
    rows_gone := rows_gone + coalesce(cardinality(v_seqs), 0);
    v_left := v_left - greatest(coalesce(cardinality(v_seqs), 0), 1);
    if v_left <= 0 then
      -- It may have more: the next page begins with this inbox again, behind the place before it.
      next_class := (select max(c.class) from unnest(enum_range(null::inbox_class)) c (class) where c.class < v_inbox.class);
      if next_class is null then
        next_class := 'event';
        next_user := v_inbox.user_id - 1;
      end if;
      return;
    end if;
  end loop;
  if v_looked < p_inboxes_max then
    next_user := null;
    next_class := null;
  end if;
end $$;

COMMENT ON FUNCTION restante_purge_inboxes(p_days integer, p_after_user bigint, p_after_class inbox_class, p_inboxes_max integer, p_rows_max integer, OUT rows_gone integer, OUT late_ms bigint, OUT next_user bigint, OUT next_class inbox_class) IS 'Removes rows of recipients that were delivered, or ended, more than p_days days ago, and rows of events that have expired a day ago, with their endings and gaps: of at most p_inboxes_max inboxes, in order, and p_rows_max rows. Each inbox loses a prefix that ends before the first row that stays; a row that waits stays. Waits for no lock. To be called again from the place that it returns, until there is none.';

CREATE FUNCTION restante_purge_last_seen(p_days integer, p_after bigint, p_rows_max integer, OUT rows_gone integer, OUT next_user bigint) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_horizon timestamptz := clock_timestamp() - p_days * interval '1 day';
  v_users   bigint[];
  v_looked  bigint;
begin
  perform restante_needs_read_committed();
  select array_agg(q.user_id) filter (where q.seen_at < v_horizon), max(q.user_id), count(*) into v_users, next_user, v_looked
    from (select s.user_id, s.seen_at from last_seen s where s.user_id > p_after order by s.user_id limit p_rows_max) q;
  with unlocked as materialized (
    select l.at
      from unnest(v_users) u (id)
      cross join lateral (select s.ctid as at from last_seen s where s.user_id = u.id and s.seen_at < v_horizon limit 1 for update skip locked) l
  ), gone as (
    delete from last_seen s using unlocked u where s.ctid = u.at returning 1
  )
  select count(*) into rows_gone from gone;
  if v_looked < p_rows_max then
    next_user := null;
  end if;
end $$;

COMMENT ON FUNCTION restante_purge_last_seen(p_days integer, p_after bigint, p_rows_max integer, OUT rows_gone integer, OUT next_user bigint) IS 'Forgets when users were last there whose last connection ended more than p_days days ago: looks at p_rows_max users behind p_after. Waits for no lock. Returns the place at which the next page begins; null: this was the last page.';

CREATE FUNCTION restante_purge_listed_events(p_class inbox_class, p_after bigint, p_events_max integer, OUT events_gone integer, OUT late_ms bigint, OUT next_seq bigint) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_horizon timestamptz := clock_timestamp() - interval '1 day';
  v_chat    uuid := case p_class when 'event' then '00000000-0000-0000-0000-000000000002' when 'alert' then '00000000-0000-0000-0000-000000000012' end;
  v_looked  integer;
  v_ids     uuid[]; -- the events that go
  v_rows    tid[];  -- those of them that nobody holds: where they are
begin
  perform restante_needs_read_committed();
  -- A look at a row only where the event is old.
  select count(*), max(q.seq), array_agg(q.id order by q.seq) filter (where q.is_old and not q.stays), coalesce(max(q.late_ms) filter (where q.is_old and not q.stays), 0)
    into v_looked, next_seq, v_ids, late_ms
    from (select e.id, e.seq, e.is_old, (extract(epoch from v_horizon - e.expires_at) * 1000)::bigint as late_ms,
                 e.is_old and (exists (select from message_status s where s.message_id = e.id)
                               or exists (select from fan_outs f where f.message_id = e.id and f.waiting > 0)) as stays
            from (select m.id, m.seq, m.expires_at, coalesce(m.expires_at < v_horizon, false) as is_old
                    from messages m where m.chat_id = v_chat and m.seq > p_after order by m.seq limit p_events_max) e) q;
  select array_agg(m.at), array_agg(u.id) into v_rows, v_ids
    from (select unnest(v_ids) as id) u cross join lateral (select x.ctid as at from messages x where x.id = u.id limit 1 for update skip locked) m;
  delete from messages m where m.ctid = any (v_rows);
  delete from fan_outs f using (select unnest(v_ids) as id) u where f.message_id = any (array[u.id]);
  events_gone := coalesce(cardinality(v_ids), 0);
  if v_looked < p_events_max then
    next_seq := null;
  end if;
end $$;

COMMENT ON FUNCTION restante_purge_listed_events(p_class inbox_class, p_after bigint, p_events_max integer, OUT events_gone integer, OUT late_ms bigint, OUT next_seq bigint) IS 'Removes events to listed users that have expired a day ago, with their fan_outs, where no user has a row of them or waits for one: looks at p_events_max events behind the number p_after of their stream. They go whatever stands before them: nobody follows these streams, so no number of theirs is ever named as a gap. Waits for no lock. To be called again from the place that it returns, until there is none.';

CREATE FUNCTION restante_purge_statistics(p_days integer, p_rows_max integer) RETURNS integer
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_hours  integer;
  v_events integer;
begin
  perform restante_needs_read_committed();
  delete from statistics s where s.ctid = any (array(
    select x.ctid from statistics x where x.hour < clock_timestamp() - p_days * interval '1 day' order by x.hour limit p_rows_max for update skip locked));
  get diagnostics v_hours = row_count;
  delete from event_statistics s where s.ctid = any (array(
    select x.ctid from event_statistics x where x.expires_at < clock_timestamp() - interval '1 day' order by x.expires_at limit p_rows_max for update skip locked));
  get diagnostics v_events = row_count;
  return greatest(v_hours, v_events);
end $$;

COMMENT ON FUNCTION restante_purge_statistics(p_days integer, p_rows_max integer) IS 'Removes figures of hours that began more than p_days days ago, and those of events that have expired a day ago, p_rows_max of each at most. Returns how many went of the one or the other, whichever is more: to be called again while that is p_rows_max. Waits for no lock.';

CREATE FUNCTION restante_put_back(p_message uuid, p_user text, p_actor text DEFAULT NULL::text, p_node uuid DEFAULT NULL::uuid, OUT outcome text, OUT inbox_seq bigint) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  select r.outcome, r.inbox_seq into outcome, inbox_seq from restante_return_to_inbox(p_message, p_user) r;
  perform restante_audit('dead_letter.requeue', jsonb_build_object('messageId', p_message, 'userId', left(p_user, 128)), outcome, p_actor, p_node);
end $$;

COMMENT ON FUNCTION restante_put_back(p_message uuid, p_user text, p_actor text, p_node uuid, OUT outcome text, OUT inbox_seq bigint) IS 'Puts a failed message back for one recipient (restante_return_to_inbox), and notes it in the audit, whatever the outcome.';

CREATE FUNCTION restante_put_block(p_user bigint, p_other bigint, p_blocks_max integer) RETURNS TABLE(outcome text, chat_id uuid, class inbox_class, seq bigint, message_id uuid, chat_seq bigint, sender_id bigint, ended_at timestamp with time zone, were_contacts boolean, is_told boolean)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now   timestamptz;
  v_chat  uuid;
  v_last  bigint;
  v_after bigint;
  v_were  boolean;
  v_told  boolean;
begin
  perform restante_needs_read_committed();
  -- A transaction that makes the direct chat of the two refers to both users, so it is waited for here, or waits for this one.
  -- The same holds for one that makes them contacts.
  perform from users u where u.id = any (array[p_user, p_other]) order by u.id for update;
  if exists (select from blocks b where b.user_id = p_user and b.other_id = p_other) then
    return query select 'again', null::uuid, null::inbox_class, null::bigint, null::uuid, null::bigint, null::bigint, null::timestamptz, false, false;
    return;
  elsif (select count(*) from (select from blocks b where b.user_id = p_user limit p_blocks_max) x) >= p_blocks_max then
    return query select 'too_many', null::uuid, null::inbox_class, null::bigint, null::uuid, null::bigint, null::bigint, null::timestamptz, false, false;
    return;
  end if;
  insert into blocks (user_id, other_id) values (p_user, p_other);
  -- Neither keeps the other as a contact, or a request.
  delete from contacts c where c.user_id = p_user and c.other_id = p_other;
  v_were := found;
  delete from contacts c where c.user_id = p_other and c.other_id = p_user;
  v_were := v_were or found;
  -- Of a request to one that blocks already the other one has never heard.
  v_told := v_were and not restante_has_blocked(array[p_other], p_user);
  -- Nor does it stay invited by the other one. One who invites it has locked its row of users, too.
  perform restante_end_invitations(null, array[p_user], p_other);
  select c.id into v_chat from chats c where c.direct_key = least(p_user, p_other) || ':' || greatest(p_user, p_other);
  if v_chat is not null then
    select h.last_seq into v_last from chat_heads h where h.chat_id = v_chat order by h.step desc limit 1 for no key update;
    -- A statement after the lock: whatever was accepted before it is seen, and nothing is accepted after it.
    v_now := clock_timestamp();
    insert into closed_chats (chat_id, user_id, delivered_seq, read_seq, marked_xid)
      select v_chat, k.user_id, k.delivered_seq, k.read_seq, k.marked_xid
        from (select p_user as id union all select p_other) u
        cross join lateral (
          select x.user_id, x.delivered_seq, x.read_seq, x.marked_xid from marks x where x.chat_id = v_chat and x.user_id = u.id order by x.step desc limit 1) k
      on conflict on constraint a_member_of_a_closed_chat_is_noted_once do nothing;
    -- All that waits here for the one who blocks is from the other: it ends. 1,000 messages of the chat at once, the rest by a job.
    select x.delivered_seq into v_after from marks x where x.chat_id = v_chat and x.user_id = p_user order by x.step desc limit 1;
    if v_last > v_after + 1000 then
      insert into departures (user_id, chat_id, after_seq, up_to_seq, ended) values (p_user, v_chat, v_after + 1000, v_last, 'blocked')
        on conflict on constraint a_departure_is_noted_once do nothing;
    end if;
    return query
      with ended as (
        update message_status s set status = 'expired', ended = 'blocked', reason = 'undelivered'
          from (
            select x.user_id, x.class, x.seq, m.seq as chat_seq, m.sender_id
              from (select y.id, y.seq, y.sender_id from messages y
                     where y.chat_id = v_chat and y.seq > v_after and y.seq <= v_after + 1000 order by y.seq limit 1000) m
              -- By key, each for itself, as in restante_remove_members.
              cross join lateral (
                select y.user_id, y.class, y.seq from message_status y
                 where y.message_id = m.id and y.user_id = p_user and y.status = 'sent' limit 1) x
             order by x.user_id, x.class, x.seq
          ) u
         where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status = 'sent'
        returning s.class, s.seq, s.message_id, u.chat_seq, u.sender_id
      )
      select 'done', v_chat, e.class, e.seq, e.message_id, e.chat_seq, e.sender_id, v_now, v_were, v_told from ended e;
    perform restante_exact_marks(array[v_chat], array[p_user]);
  end if;
  return query select 'done', v_chat, null::inbox_class, null::bigint, null::uuid, null::bigint, null::bigint, coalesce(v_now, clock_timestamp()), v_were, v_told;
end $$;

COMMENT ON FUNCTION restante_put_block(p_user bigint, p_other bigint, p_blocks_max integer) IS 'A user blocks another one, and is no longer invited to groups by it. What waits for it in their direct chat ends as blocked, and the chat is closed; where much waits, the rest is noted in departures, shown to nobody any more, and ended by a job. In groups nothing changes. The sender is shown another word than the reason (undelivered). One row per row that ended and one without, outcome done, with the direct chat if there is one, whether they were contacts or one had requested the other, and whether the other one is told that they are none (is_told). Else one row that says why nothing was done: again (it is blocked), too_many (p_blocks_max are).';

CREATE FUNCTION restante_put_contact(p_user bigint, p_other bigint, p_accepts boolean, p_contacts_max integer, OUT outcome text, OUT has_changed boolean, OUT is_told boolean) RETURNS record
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_wants     boolean;
  v_is_wanted boolean;
begin
  perform restante_needs_read_committed();
  -- Of two that request one another at once, the second sees the first.
  perform from users u where u.id = any (array[p_user, p_other]) order by u.id for no key update;
  v_wants := exists (select from contacts c where c.user_id = p_user and c.other_id = p_other);
  v_is_wanted := exists (select from contacts c where c.user_id = p_other and c.other_id = p_user);
  has_changed := false;
  is_told := false;
  if restante_has_blocked(array[p_user], p_other) then
    outcome := 'blocked';
  elsif p_accepts and not v_is_wanted then
    outcome := 'not_found';
  elsif v_wants then
    outcome := case when v_is_wanted then 'contact' else 'requested' end;
  elsif (select count(*) from (select from contacts c where c.user_id = p_user limit p_contacts_max) x) >= p_contacts_max then
    outcome := 'too_many';
  else
    insert into contacts (user_id, other_id) values (p_user, p_other);
    outcome := case when v_is_wanted then 'contact' else 'requested' end;
    has_changed := true;
    is_told := not restante_has_blocked(array[p_other], p_user);
  end if;
end $$;

COMMENT ON FUNCTION restante_put_contact(p_user bigint, p_other bigint, p_accepts boolean, p_contacts_max integer, OUT outcome text, OUT has_changed boolean, OUT is_told boolean) IS 'A user requests another one as a contact, or accepts its request; with p_accepts it does nothing where there is none. Outcome: requested; contact (the other one had requested it, or they were contacts); not_found (there is no request to accept); blocked (the user has blocked the other one); too_many (the user has p_contacts_max contacts and requests). has_changed: the sessions of the user are told. is_told: the other one is, too. Of a request by a user that it has blocked it learns nothing, and the user sees no difference.';

CREATE FUNCTION restante_put_invitations(p_chat uuid, p_inviter bigint, p_users bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_invited bigint[];
begin
  perform restante_needs_read_committed();
  with made as (
    insert into invitations as i (user_id, chat_id, inviter_id, expires_at)
      select u.id, p_chat, p_inviter, clock_timestamp() + interval '30 days' from unnest(p_users) u (id) order by u.id
      on conflict on constraint a_user_is_invited_to_a_chat_once do update
        set inviter_id = excluded.inviter_id, invited_at = excluded.invited_at, expires_at = excluded.expires_at, declined_at = null
        where i.expires_at <= clock_timestamp()
      returning i.user_id
  )
  select array_agg(m.user_id order by m.user_id) into v_invited from made m;
  if v_invited is not null then
    -- Sessions of theirs at every node look for what waits for them.
    perform restante_check_marks(v_invited);
  end if;
  return coalesce(v_invited, '{}');
end $$;

COMMENT ON FUNCTION restante_put_invitations(p_chat uuid, p_inviter bigint, p_users bigint[]) IS 'Invites these users to a group, for 30 days, and returns those of them who were not invited before. Called after restante_why_not_invite() in the same transaction.';

CREATE FUNCTION restante_put_members(p_chat uuid, p_users bigint[], p_last_seq bigint, p_count bigint) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_put_members(p_chat uuid, p_users bigint[], p_last_seq bigint, p_count bigint) IS 'Makes these users, who are none yet, members of a group that has so many: they get messages above p_last_seq, its highest number, and are invited no more. Called under the lock of the chat''s head, by those who have looked whether they may.';

CREATE FUNCTION restante_put_preferences(p_user bigint, p_types text[], p_chats uuid[]) RETURNS text
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_put_preferences(p_user bigint, p_types text[], p_chats uuid[]) IS 'Sets the types of events and the chats that a user has muted; a list that is null stays as it is. Else nothing is done: invalid (a type has 1 to 64 characters), too_many (100 types, 1,000 chats), not_found: the user never was a member of one of the chats, or there is no such chat.';

CREATE FUNCTION restante_read(p_users bigint[], p_chats uuid[], p_up_to bigint[], p_rows_max integer) RETURNS TABLE(ord integer, message_id uuid, chat_seq bigint, sender_id bigint, read_at timestamp with time zone, ended text, up_to bigint, more boolean, advanced boolean)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now      timestamptz := clock_timestamp();
  v_each     integer := greatest(p_rows_max / array_length(p_users, 1), 1);
  v_far      integer := least(5000, greatest(4 * p_rows_max / array_length(p_users, 1), 50)); -- so many messages of each are looked at
  v_ords     integer[]; -- per row to be read: its request, …
  v_classes  inbox_class[];
  v_seqs     bigint[];
  v_messages uuid[];
  v_numbers  bigint[];
  v_senders  bigint[];
  v_left     boolean[];     -- … and by what it may have ended
  v_recalls  timestamptz[];
  v_expiries timestamptz[];
  v_moved    integer[]; -- those of the rows that moved, …
  v_ended    text[];    -- … why they ended; null: they became read,
  v_at_once  boolean[]; -- … and were these delivered here, too?
  v_of       integer[]; -- per request of a member: its place, …
  v_ends     bigint[];  -- … up to where it is done here,
  v_more     boolean[]; -- … is there more,
  v_advanced boolean[]; -- … and was less read before?
  v_hole_users bigint[];
  v_hole_chats uuid[];
begin
  perform restante_needs_read_committed();
  -- The rows to read, and how far the chat goes, from one snapshot: what commits later has a higher number.
  with wanted as materialized (
    select u.ord::integer as ord, u.user_id, u.chat, b.read_seq, b.up_to, least(b.up_to, b.read_seq + v_far) as far
      from unnest(p_users, p_chats, p_up_to) with ordinality u (user_id, chat, up_to, ord)
      -- One who never was a member has no marks.
      cross join lateral (
        select k.read_seq, least(u.up_to, h.last_seq, l.left_seq) as up_to
          from (select x.read_seq from marks x where x.chat_id = u.chat and x.user_id = u.user_id order by x.step desc limit 1) k
          cross join lateral (select x.last_seq from chat_heads x where x.chat_id = u.chat order by x.step desc limit 1) h
          -- For one that has left, the chat ends where it left.
          cross join lateral (select x.left_seq from chat_members x where x.chat_id = u.chat and x.user_id = u.user_id limit 1) l) b
  ), rows as materialized (
    select w.ord, r.*
      from wanted w
      cross join lateral (
        select s.class, s.seq, m.id, m.seq as chat_seq, m.sender_id, m.expires_at, m.recalled_at,
               exists (select from restante_departed(w.user_id, w.chat, m.seq)) as has_left
          from (select x.id, x.seq, x.sender_id, x.expires_at, x.recalled_at from messages x
                 where x.chat_id = w.chat and x.seq > w.read_seq and x.seq <= w.far order by x.seq limit v_far) m
          cross join lateral (
            select x.class, x.seq from message_status x
             where x.message_id = m.id and x.user_id = w.user_id and x.status in ('sent', 'delivered') limit 1) s
         order by m.seq limit v_each) r
  ), found as (
    select r.ord, count(*) as rows, max(r.chat_seq) as last from rows r group by r.ord
  ), ends as (
    select w.ord, case when f.rows >= v_each then f.last else greatest(w.far, w.read_seq) end as done, w.up_to, w.read_seq
      from wanted w left join lateral (select x.rows, x.last from found x where x.ord = w.ord) f on true
  )
  select a.ords, a.classes, a.seqs, a.messages, a.numbers, a.senders, a.lefts, a.recalls, a.expiries, b.ords, b.ends, b.more, b.advanced
    into v_ords, v_classes, v_seqs, v_messages, v_numbers, v_senders, v_left, v_recalls, v_expiries, v_of, v_ends, v_more, v_advanced
    from (select array_agg(r.ord) as ords, array_agg(r.class) as classes, array_agg(r.seq) as seqs, array_agg(r.id) as messages,
                 array_agg(r.chat_seq) as numbers, array_agg(r.sender_id) as senders, array_agg(r.has_left) as lefts,
                 array_agg(r.recalled_at) as recalls, array_agg(r.expires_at) as expiries from rows r) a,
         (select array_agg(e.ord order by e.ord) as ords, array_agg(least(e.done, e.up_to) order by e.ord) as ends,
                 array_agg(least(e.done, e.up_to) < e.up_to order by e.ord) as more,
                 array_agg(least(e.done, e.up_to) > e.read_seq order by e.ord) as advanced from ends e) b;

  -- Rows in the one order, as restante_settle(); then marks. What no page would show any more has not been read by anybody: its reader was
  -- told a gap, so it ends here as the job would end it. The clock is asked once a row: a subquery that is volatile stays one.
  with moved as (
    update message_status s
       set (status, ended, reason, read_at, delivered_at) = (
         select case when e.ended is null then 'read'::delivery_status else 'expired' end, e.ended,
                case e.ended when 'left' then 'left' when 'recalled' then 'recalled' when 'expired' then 'its time had come' else s.reason end,
                case when e.ended is null then v_now end, case when e.ended is null then coalesce(s.delivered_at, v_now) end
           from (select restante_ended_unwritten(s.status, u.has_left, u.recalled_at, u.expires_at, clock_timestamp()) as ended) e)
      from (select p_users[x.ord] as user_id, x.class, x.seq, x.has_left, x.recalled_at, x.expires_at, x.n
              from unnest(v_ords, v_classes, v_seqs, v_left, v_recalls, v_expiries) with ordinality x (ord, class, seq, has_left, recalled_at, expires_at, n)
             order by 1, x.class, x.seq) u
     where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status in ('sent', 'delivered')
    returning u.n, case when s.status = 'expired' then s.reason end as ended, s.delivered_at = v_now as at_once
  ) select array_agg(k.n::integer), array_agg(k.ended), array_agg(k.at_once) into v_moved, v_ended, v_at_once from moved k;
  insert into statistics_journal (at, kind, class, messages)
    select v_now, case when k.at_once then 'read_at_once'::journal_kind else 'read' end,
           case when v_classes[1] = all (v_classes) then v_classes[1] end, array_agg(v_messages[k.n])
      from (select unnest(v_moved) as n, unnest(v_ended) as ended, unnest(v_at_once) as at_once) k where k.ended is null group by k.at_once;

  with marked as (
    update marks m
       set read_seq = case when m.has_hole then m.read_seq else greatest(m.read_seq, u.seq) end,
           delivered_seq = case when m.has_hole then m.delivered_seq else greatest(m.delivered_seq, u.seq) end,
           moves = m.moves + 1, step = (m.moves + 1) >> 4,
           marked_xid = case when m.has_hole then m.marked_xid else pg_current_xact_id() end
      from (select x.chat, x.user_id, x.seq,
                   (select n.step from marks n where n.chat_id = x.chat and n.user_id = x.user_id order by n.step desc limit 1) as step
              from (select p_chats[y.ord] as chat, p_users[y.ord] as user_id, max(y.seq) as seq from unnest(v_of, v_ends) y (ord, seq) group by 1, 2) x
             order by x.chat, x.user_id) u
     where m.chat_id = any (array[u.chat]) and m.user_id = any (array[u.user_id]) and m.step >= u.step
       and (m.read_seq < u.seq or m.delivered_seq < u.seq or m.has_hole)
    returning m.has_hole, m.user_id, m.chat_id
  ) select array_agg(k.user_id), array_agg(k.chat_id) into v_hole_users, v_hole_chats from marked k where k.has_hole;
  if v_hole_users is not null then
    -- A sender that was away learns of a row that ended by its chat's mark.
    perform restante_exact_marks(v_hole_chats, v_hole_users, num_nonnulls(variadic v_ended) > 0);
  end if;

  return query
    select v_ords[k.n], v_messages[k.n], v_numbers[k.n], v_senders[k.n], v_now, k.ended, null::bigint, null::boolean, null::boolean
      from unnest(v_moved, v_ended) k (n, ended)
    union all
    select r.ord, null, null, null, v_now, null, r.up_to, r.more, r.advanced from unnest(v_of, v_ends, v_more, v_advanced) r (ord, up_to, more, advanced);
end $$;

COMMENT ON FUNCTION restante_read(p_users bigint[], p_chats uuid[], p_up_to bigint[], p_rows_max integer) IS 'Marks what members have read, each up to a number of a chat, and no further than where the chat ends for them: at its last number, or where they left. At most p_rows_max rows a call, for which it looks at 5,000 messages of each at most, and at fewer where p_rows_max is small. Returns the rows that moved, and for each request one row without a message that says up to where it is done here (more = call again; advanced = the member had read less before); none for one who never was a member. delivered_at is set where it was not. A row that waits although its message has expired, or although its reader has left, becomes expired instead, and ended says why.';

CREATE FUNCTION restante_reap(p_users_max integer) RETURNS TABLE(user_id bigint, external_id text, at timestamp with time zone)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_reap(p_users_max integer) IS 'Takes one node out that has gone, with at most so many of its leases; call it until no node has gone. Returns users who are online nowhere now; each is returned to one caller only.';

CREATE FUNCTION restante_recall(p_message uuid, p_sender text, p_window interval DEFAULT '01:00:00'::interval) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_outcome text;
  v_at      timestamptz;
begin
  perform restante_check_sender('restante_recall', p_sender);
  select t.outcome, t.recalled_at into v_outcome, v_at
    from restante_take_back(p_message, coalesce((select u.id from users u where u.is_current and u.external_id = p_sender), 0), p_window) t;
  case v_outcome
    when 'recalled', 'again' then
      return v_at;
    when 'forbidden' then
      raise exception 'message % was not sent by user %', p_message, p_sender using errcode = 'insufficient_privilege';
    when 'off' then
      raise exception 'no message can be recalled within %', p_window using errcode = 'invalid_parameter_value';
    when 'too_late' then
      raise exception 'message % was sent longer ago than %', p_message, p_window using errcode = 'object_not_in_prerequisite_state';
    else
      raise exception 'user % knows no message %', p_sender, p_message using errcode = 'no_data_found';
  end case;
end $$;

COMMENT ON FUNCTION restante_recall(p_message uuid, p_sender text, p_window interval) IS 'Recalls a message for its sender inside your own transaction, with the same effect as a client''s recall, and returns when it was recalled. Nobody sees its content from your commit on; what waits ends, and who has it is told, within moments after it. The message must have been accepted within p_window, whatever the setting RECALL_WINDOW says; null: whenever. A second recall returns the first time.';

CREATE FUNCTION restante_recall_part(p_message uuid, p_after uuid, p_rows_max integer) RETURNS TABLE(message_id uuid, chat_id uuid, chat_seq bigint, sender_id bigint, recalled_at timestamp with time zone, is_first boolean, is_done boolean, goes_on boolean, user_id bigint, member text, class inbox_class, seq bigint, has_ended boolean)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_recall  recalls;
  v_class   inbox_class;
  v_users   bigint[]; -- the recipients of the part, in order: for whom it waits, or who have it and no notice yet,
  v_free    bigint[]; -- … those whose inboxes are locked here,
  v_at      tid[];    -- … where these are,
  v_last    bigint[]; -- … and their last numbers
  v_rows    tid[];    -- rows that wait and that end here,
  v_ended   bigint[]; -- … their recipients,
  v_seqs    bigint[]; -- … and numbers
  v_told    bigint[]; -- recipients that get the notice,
  v_inboxes tid[];    -- … their inboxes,
  v_numbers bigint[]; -- … and the numbers of the notice there
  v_count   bigint;
  v_is_held boolean;
  v_is_last boolean;
begin
  perform restante_needs_read_committed();
  if p_message is not null then
    select r.* into v_recall from recalls r where r.message_id = p_message for update skip locked;
  else
    select r.* into v_recall from recalls r where r.message_id > p_after order by r.message_id limit 1 for update skip locked;
  end if;
  if v_recall.message_id is null then
    return;
  end if;
  select h.class into v_class from chat_heads h where h.chat_id = v_recall.chat_id order by h.step desc limit 1;
  select array_agg(q.user_id order by q.user_id) into v_users
    from (select s.user_id from message_status s
           where s.message_id = v_recall.message_id and s.user_id > v_recall.after_user
             and (s.status = 'sent' or s.status in ('delivered', 'read')
                  and not exists (select from message_status y where y.message_id = v_recall.notice_id and y.user_id = s.user_id)
                  -- One that was erased has no clients.
                  and (select x.is_current from users x where x.id = s.user_id limit 1))
           order by s.user_id limit p_rows_max) q;
  v_is_last := coalesce(cardinality(v_users), 0) < p_rows_max;

  -- Inboxes in order. What somebody holds is left for a later part. Nothing here is waited for, so nobody waits in a circle.
  select array_agg(q.user_id order by q.n), array_agg(q.at order by q.n), array_agg(q.last_seq order by q.n) into v_free, v_at, v_last
    from (select u.user_id, u.n, i.at, i.last_seq
            from (select * from unnest(v_users) with ordinality x (user_id, n) order by x.n) u
            cross join lateral (
              select x.ctid as at, x.last_seq from inboxes x where x.user_id = u.user_id and x.class = v_class
               order by x.step desc limit 1 for no key update skip locked) i) q;

  -- A row that waits ends together with its mark, or not now. One that is being acked is held.
  select array_agg(q.at) into v_rows
    from (select s.at
            from (select unnest(v_free) as user_id) u
            cross join lateral (
              select from message_status x where x.message_id = v_recall.message_id and x.user_id = u.user_id and x.status = 'sent' limit 1) w
            cross join lateral (
              select from marks x where x.chat_id = v_recall.chat_id and x.user_id = u.user_id order by x.step desc limit 1
                for no key update skip locked) k
            cross join lateral (
              select x.ctid as at from message_status x where x.message_id = v_recall.message_id and x.user_id = u.user_id and x.status = 'sent' limit 1
                for no key update skip locked) s) q;
  if v_rows is not null then
    with ended as (
      update message_status s set status = 'expired', ended = 'recalled', reason = 'recalled' where s.ctid = any (v_rows) returning s.user_id, s.seq
    )
    select array_agg(e.user_id), array_agg(e.seq) into v_ended, v_seqs from ended e;
    perform restante_exact_marks(array_fill(v_recall.chat_id, array[cardinality(v_ended)]), v_ended, true);
  end if;

  -- A later statement, so a later snapshot: who has acked meanwhile has the message. Who has the notice already does not get it again.
  select array_agg(q.user_id order by q.n), array_agg(q.at order by q.n), array_agg(q.last_seq + 1 order by q.n) into v_told, v_inboxes, v_numbers
    from (select u.user_id, u.n, u.at, u.last_seq
            from (select unnest(v_free) as user_id, unnest(v_at) as at, unnest(v_last) as last_seq, generate_subscripts(v_free, 1) as n) u
            cross join lateral (
              select from message_status x where x.message_id = v_recall.message_id and x.user_id = u.user_id
                and x.status in ('delivered', 'read') limit 1) s
           where not exists (select from message_status y where y.message_id = v_recall.notice_id and y.user_id = u.user_id)) q;
  -- Each of the part has ended, is told, or is held. Another look at the rows would miss an ack that was committed since the last one.
  v_is_held := coalesce(cardinality(v_ended), 0) + coalesce(cardinality(v_told), 0) < coalesce(cardinality(v_users), 0);
  if v_told is not null then
    with moved as (
      update inboxes i set last_seq = u.seq, step = u.seq >> 4
        from (select unnest(v_inboxes) as at, unnest(v_numbers) as seq) u where i.ctid = u.at returning 1
    ), queued as (
      insert into message_status (user_id, class, seq, message_id)
        select u.user_id, v_class, u.seq, v_recall.notice_id from (select unnest(v_told) as user_id, unnest(v_numbers) as seq) u
      returning 1
    )
    select (select count(*) from moved) + (select count(*) from queued) into v_count;
    -- A number without a row is a hole.
    if v_count <> 2 * cardinality(v_told) then
      raise exception 'recalling should have written % notices and wrote % rows', cardinality(v_told), v_count using errcode = 'data_corrupted';
    end if;
    insert into statistics_journal (at, kind, messages) values (clock_timestamp(), 'queued', array_fill(v_recall.notice_id, array[cardinality(v_told)]));
  end if;

  v_is_held := v_is_held or v_recall.is_held;
  if not v_is_last then
    update recalls r set after_user = v_users[cardinality(v_users)], is_held = v_is_held, is_told = true where r.message_id = v_recall.message_id;
  elsif v_is_held then
    update recalls r set after_user = 0, is_held = false, is_told = true where r.message_id = v_recall.message_id;
  else
    delete from recalls r where r.message_id = v_recall.message_id;
  end if;
  return query
    select v_recall.message_id, v_recall.chat_id, v_recall.chat_seq, v_recall.sender_id, v_recall.recalled_at, not v_recall.is_told,
           v_is_last and not v_is_held, not v_is_last, q.user_id, (select x.external_id from users x where x.id = q.user_id), v_class, q.seq, q.has_ended
      from (select null::bigint as user_id, null::bigint as seq, null::boolean as has_ended
            union all select unnest(v_ended), unnest(v_seqs), true
            union all select unnest(v_told), unnest(v_numbers), false) q;
end $$;

COMMENT ON FUNCTION restante_recall_part(p_message uuid, p_after uuid, p_rows_max integer) IS 'Goes on with a recall, that of p_message or else the first one behind p_after, for its next p_rows_max recipients: rows that wait end (recalled), and recipients to whom it was delivered get the notice, once. Waits for no lock: what somebody holds is looked at again after the last recipient. Returns a row for each recipient, with has_ended, and first one without a recipient: is_first (no part was done before), goes_on (there are recipients behind these), is_done (all are done, and nothing is left of it here). Nothing at all: there is no such recall, or another node is at it.';

CREATE FUNCTION restante_recipient(p_message uuid, p_user text) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_user bigint := (select u.id from users u where u.is_current and u.external_id = p_user);
begin
  if not exists (select from message_status s where s.message_id = p_message and s.user_id = v_user) then
    v_user := coalesce(
      (select u.id from users u
        where not u.is_current and u.external_id = p_user
          and (select true from message_status s where s.message_id = p_message and s.user_id = u.id limit 1)
        order by u.id desc limit 1),
      v_user);
  end if;
  return v_user;
end $$;

COMMENT ON FUNCTION restante_recipient(p_message uuid, p_user text) IS 'The user of this name that is a recipient of the message: the one that has the name now, or else one that had it and was erased. The first where neither is; null: nobody has the name.';

CREATE FUNCTION restante_refresh_login(p_family uuid, p_presented bytea, p_next bytea, p_idle interval, p_grace interval, p_access interval, OUT outcome text, OUT name text, OUT display_name text, OUT login_id uuid, OUT ends_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now   timestamptz;
  v_login record;
begin
  perform restante_needs_read_committed();
  outcome := 'unknown';
  -- Two clients with the same token come one after the other.
  select l.* into v_login from account_logins l where l.family = p_family for update;
  if not found then
    return;
  end if;
  -- Under the lock: one that has waited while the other client was renewed comes after it, and not within a grace of no length.
  v_now := clock_timestamp();
  name := v_login.name;
  login_id := v_login.id;
  if v_login.ends_at <= v_now then
    return;
  end if;
  if p_presented = v_login.secret_hash or (p_presented = v_login.previous_hash and v_now < v_login.renewed_at + p_grace) then
    ends_at := least(v_now + p_idle, v_login.expires_at);
    -- Within the grace the token that nobody may have got gives way. The time at which the grace began stays.
    update account_logins l
       set previous_hash = p_presented, secret_hash = p_next, ends_at = least(v_now + p_idle, v_login.expires_at),
           renewed_at = case when p_presented = v_login.secret_hash then v_now else l.renewed_at end
     where l.id = v_login.id;
    select a.display_name into display_name from accounts a where a.name = v_login.name;
    outcome := 'renewed';
    return;
  end if;
  delete from account_logins l where l.id = v_login.id;
  perform restante_revoke_logins(v_login.name, array[v_login.id], p_access);
  outcome := 'reused';
end $$;

COMMENT ON FUNCTION restante_refresh_login(p_family uuid, p_presented bytea, p_next bytea, p_idle interval, p_grace interval, p_access interval, OUT outcome text, OUT name text, OUT display_name text, OUT login_id uuid, OUT ends_at timestamp with time zone) IS 'Renews a login: its refresh token counts no more, and the next one does. Outcomes: renewed; unknown: it has ended, or there was none; reused: the token was used before, so two have it, and the login has ended. Within p_grace of its use the token before counts as well: its answer may have been lost.';

CREATE FUNCTION restante_refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  raise exception '% is append-only: no row of it is changed or removed', tg_table_name
    using errcode = 'integrity_constraint_violation', constraint = tg_name, table = tg_table_name;
end $$;

COMMENT ON FUNCTION restante_refuse_change() IS 'Raises, whoever asks and whether or not a row would change.';

CREATE FUNCTION restante_release_job(p_name text, p_node uuid, p_lease_no bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  update jobs j set holder = null, renewed_at = null, leased_until = null
   where j.name = p_name and j.holder = p_node and j.lease_no = p_lease_no;
  return found;
end $$;

COMMENT ON FUNCTION restante_release_job(p_name text, p_node uuid, p_lease_no bigint) IS 'A node gives a job back, so that another need not wait for the end of its lease. False: it has lost the job already.';

CREATE FUNCTION restante_remove_contact(p_user text, p_other text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return restante_change_contact(p_user, p_other, 'remove');
end $$;

COMMENT ON FUNCTION restante_remove_contact(p_user text, p_other text) IS 'One user removes another from its contacts, or takes a request back, inside your own transaction. Returns none.';

CREATE FUNCTION restante_remove_followers(p_feed uuid, p_users bigint[]) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  if p_feed = '00000000-0000-0000-0000-000000000001' then
    return 'forbidden';
  elsif not exists (select from feeds s where s.feed_id = p_feed and s.class = 'event') then
    return 'not_found';
  end if;
  -- Under these locks nothing is taken. A statement after them sees all rows that were made.
  perform from (select distinct n.id, c.class from unnest(p_users) n (id) cross join unnest('{alert,event}'::inbox_class[]) c (class) order by 1, 2) u
    cross join lateral (select from inboxes x where x.user_id = u.id and x.class = u.class order by x.step desc limit 1 for no key update) i;
  with gone as (
    delete from followers f
     using (select distinct n.id, c.class from unnest(p_users) n (id) cross join unnest('{alert,event}'::inbox_class[]) c (class)) u
     where f.user_id = u.id and f.feed_id = p_feed and f.class = u.class
    returning f.user_id, f.class, f.cursor_seq
  ), waiting as (
    -- The oldest row that waits. A job ends what is behind it, and no page shows it any more.
    select g.user_id, s.chat_id, w.seq, g.cursor_seq
      from gone g
      cross join lateral (select x.chat_id from feeds x where x.feed_id = p_feed and x.class = g.class limit 1) s
      cross join lateral (select x.settled_seq from inboxes x where x.user_id = g.user_id and x.class = g.class order by x.step desc limit 1) i
      cross join lateral (
        select min(m.seq) as seq
          from (select r.message_id from message_status r
                 where r.user_id = g.user_id and r.class = g.class and r.seq > i.settled_seq and r.status = 'sent' order by r.seq limit 5000) r
          cross join lateral (select x.seq from messages x where x.id = r.message_id and x.chat_id = s.chat_id limit 1) m) w
     where w.seq is not null
  )
  insert into departures (user_id, chat_id, after_seq, up_to_seq)
    select w.user_id, w.chat_id, w.seq - 1, w.cursor_seq from waiting w
    on conflict on constraint a_departure_is_noted_once do nothing;
  -- Their sessions may hold rows of it, which are not to be emitted any more.
  perform restante_check_marks(p_users);
  return 'done';
end $$;

COMMENT ON FUNCTION restante_remove_followers(p_feed uuid, p_users bigint[]) IS 'These users follow the feed no more. What of it waits for them is noted in departures: it is shown to nobody any more, and a job ends it (left). Else nothing is done: not_found, forbidden (nobody leaves the feed of everyone). Waits for the inboxes.';

CREATE FUNCTION restante_remove_members(p_chat uuid, p_caller bigint, p_users bigint[]) RETURNS TABLE(outcome text, user_id bigint, external_id text, left_seq bigint, class inbox_class, seq bigint, message_id uuid, chat_seq bigint, sender_id bigint, ended_at timestamp with time zone)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_remove_members(p_chat uuid, p_caller bigint, p_users bigint[]) IS 'Takes members out of a group; a member may take out itself, an admin anybody. Rows that wait for them in this chat become expired, reason left; where there are many, the rest is noted in departures, shown to nobody any more, and ended by a job. Those of them who are invited are invited no more. One row per member that left (class and what follows null) and one per row that ended, outcome done; a row without a user when nobody left; then one per invitation that was withdrawn, outcome withdrawn. Else one row that says why nothing was done: not_a_member, not_a_group, forbidden. A user that is no member is passed over.';

CREATE FUNCTION restante_reopen_chat(p_chat uuid, p_user bigint, p_other bigint) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  perform restante_needs_read_committed();
  -- Acks that are under way are waited for: they were made while the chat was closed.
  perform restante_lock_marks(array[p_chat, p_chat], array[p_user, p_other]);
  insert into reopened_chats as r (chat_id, user_id, told_delivered_seq, told_read_seq, told_xid, delivered_seq, read_seq)
    select c.chat_id, c.user_id, restante_told_mark(c.delivered_seq, o.delivered_seq, o.told_delivered_seq),
           restante_told_mark(c.read_seq, o.read_seq, o.told_read_seq),
           case when c.delivered_seq <= o.delivered_seq and c.read_seq <= o.read_seq then o.told_xid else c.marked_xid end,
           -- A job may have more to end for the one that had blocked: that moves its mark later.
           greatest(k.delivered_seq, o.delivered_seq, d.up_to_seq), greatest(k.read_seq, o.read_seq)
      from (select unnest(array[p_user, p_other]) as id) u
      cross join lateral (select x.* from closed_chats x where x.chat_id = p_chat and x.user_id = u.id limit 1) c
      cross join lateral (
        select x.delivered_seq, x.read_seq from marks x where x.chat_id = p_chat and x.user_id = u.id order by x.step desc limit 1) k
      left join lateral (select x.* from reopened_chats x where x.chat_id = p_chat and x.user_id = u.id limit 1) o on true
      left join lateral (
        select x.up_to_seq from departures x
         where x.user_id = u.id and x.chat_id = p_chat and x.ended = 'blocked' order by x.up_to_seq desc limit 1) d on true
    on conflict on constraint a_member_of_a_reopened_chat_is_noted_once do update
      set told_delivered_seq = excluded.told_delivered_seq, told_read_seq = excluded.told_read_seq, told_xid = excluded.told_xid,
          delivered_seq = excluded.delivered_seq, read_seq = excluded.read_seq;
  delete from closed_chats c where c.chat_id = p_chat;
end $$;

COMMENT ON FUNCTION restante_reopen_chat(p_chat uuid, p_user bigint, p_other bigint) IS 'Opens the direct chat of two users that neither blocks any more, and notes what is hidden of how far each has got meanwhile. Called under the lock of the chat''s head.';

CREATE FUNCTION restante_replace_password(p_name text, p_spare text) RETURNS boolean
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_hash    text;
  v_is_done boolean := false;
begin
  perform restante_needs_read_committed();
  if p_name <> p_spare then
    -- In the order of their names: of two that replace in opposite directions the second waits, and finds no spare account.
    perform from accounts a where a.name = least(p_name, p_spare) for update;
    perform from accounts a where a.name = greatest(p_name, p_spare) for update;
    if exists (select from accounts a where a.name = p_name) then
      perform restante_log_out(p_spare, null, '1 day');
      delete from accounts a where a.name = p_spare returning a.password_hash into v_hash;
      if found then
        update accounts a set password_hash = v_hash where a.name = p_name;
        perform restante_log_out(p_name, null, '1 day');
        v_is_done := true;
      end if;
    end if;
  end if;
  perform restante_audit('password.replace', jsonb_build_object('userId', left(p_name, 128), 'spareId', left(p_spare, 128)),
                         case when v_is_done then 'replaced' else 'not_found' end);
  return v_is_done;
end $$;

COMMENT ON FUNCTION restante_replace_password(p_name text, p_spare text) IS 'For somebody who has lost the password: the account gets that of another account, which was registered for it and is removed, and the logins of both end. It is noted in the audit. False: one of the two is not there, and nothing is done.';

CREATE FUNCTION restante_request_contact(p_user text, p_other text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return restante_change_contact(p_user, p_other, 'request');
end $$;

COMMENT ON FUNCTION restante_request_contact(p_user text, p_other text) IS 'One user requests another as a contact, inside your own transaction, with the same effect as over HTTP, save that nobody is told as it happens. Returns requested, or contact where the other one had requested it or they are contacts.';

CREATE FUNCTION restante_requeue(p_message uuid, p_user text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_outcome text;
  v_seq     bigint;
begin
  select r.outcome, r.inbox_seq into v_outcome, v_seq from restante_put_back(p_message, p_user) r;
  case v_outcome
    when 'requeued' then return v_seq;
    when 'no_recipient' then
      raise exception 'user % is no recipient of message %', p_user, p_message using errcode = 'no_data_found';
    when 'expired' then
      raise exception 'the time of message % has come, nobody gets it any more', p_message using errcode = 'object_not_in_prerequisite_state';
    when 'recalled' then
      raise exception 'message % was recalled by its sender', p_message using errcode = 'object_not_in_prerequisite_state';
    when 'left' then
      raise exception 'user % has left the chat of message %', p_user, p_message using errcode = 'object_not_in_prerequisite_state';
    when 'blocked' then
      raise exception 'user % has blocked the sender of message %', p_user, p_message using errcode = 'object_not_in_prerequisite_state';
    else
      raise exception 'message % for user % is %, only failed ones can be put back', p_message, p_user,
        (select s.status from message_status s join users u on u.id = s.user_id where s.message_id = p_message and u.id = restante_recipient(p_message, p_user))
        using errcode = 'object_not_in_prerequisite_state';
  end case;
end $$;

COMMENT ON FUNCTION restante_requeue(p_message uuid, p_user text) IS 'restante_put_back() for people: returns the new number, and raises where nothing was done.';

CREATE FUNCTION restante_return_to_inbox(p_message uuid, p_user text, OUT outcome text, OUT inbox_seq bigint) RETURNS record
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_user    bigint;
  v_row     message_status;
  v_chat    uuid;
  v_seq     bigint;
  v_sender  bigint;
  v_expires timestamptz;
  v_recalled timestamptz;
  v_at      tid;
  v_last    bigint;
begin
  perform restante_needs_read_committed();
  v_user := restante_recipient(p_message, p_user);
  -- A recall waits for this lock, and ends what waits after it.
  select m.chat_id, m.seq, m.sender_id, m.expires_at, m.recalled_at into v_chat, v_seq, v_sender, v_expires, v_recalled
    from messages m where m.id = p_message for share;
  select s.* into v_row from message_status s where s.message_id = p_message and s.user_id = v_user;
  if not found then
    outcome := 'no_recipient';
    return;
  end if;
  if v_expires <= clock_timestamp() then
    outcome := 'expired';
    return;
  elsif v_recalled is not null then
    outcome := 'recalled';
    return;
  end if;
  -- chat_heads, inboxes, message_status, marks: the order in which every writer locks. The chat first, so that nobody leaves meanwhile.
  perform 1 from chat_heads h where h.chat_id = v_chat order by h.step desc limit 1 for no key update;
  -- The notice of a recall (a negative number) is for those who have the message, members or not.
  if v_seq > 0 and not exists (select from chat_members cm where cm.chat_id = v_chat and cm.user_id = v_user and cm.left_seq is null)
     -- Of a feed: one that follows it, and of events to listed users anybody.
     and not exists (
       select from feeds s
        where s.chat_id = v_chat
          and (s.feed_id = '00000000-0000-0000-0000-000000000002'
               or exists (select from followers f where f.user_id = v_user and f.feed_id = s.feed_id and f.class = s.class))) then
    outcome := 'left';
    return;
  end if;
  -- One who blocks writes the block before it waits for the lock on the chat, so it is seen here, or it ends what is put back. A block counts in
  -- the direct chat of the two alone: closed_chats has no others. The notice of a recall reaches who has the message.
  if v_seq > 0 and exists (select from closed_chats c where c.chat_id = v_chat and c.user_id = v_user)
     and exists (select from blocks b where b.user_id = v_user and b.other_id = v_sender) then
    outcome := 'blocked';
    return;
  end if;
  select i.ctid, i.last_seq + 1 into v_at, v_last
    from inboxes i where i.user_id = v_user and i.class = v_row.class order by i.step desc limit 1 for no key update;
  select s.* into v_row from message_status s where s.message_id = p_message and s.user_id = v_user for update;
  if not found then
    -- It was removed while the locks were waited for.
    outcome := 'no_recipient';
    return;
  end if;
  if v_row.status <> 'failed' then
    outcome := 'not_failed';
    return;
  end if;
  update inboxes i set last_seq = v_last, step = v_last >> 4 where i.ctid = v_at;
  inbox_seq := v_last;
  update message_status s set seq = inbox_seq, status = 'sent', attempts = 0, ended = null, reason = null
   where s.user_id = v_user and s.class = v_row.class and s.seq = v_row.seq;
  insert into inbox_gaps (user_id, class, seq, reason) values (v_user, v_row.class, v_row.seq, 'requeued');
  -- It waits again below what may have been acked since: the marks go back behind it, and are exact until it is settled. A notice has none.
  select k.ctid into v_at from marks k where k.chat_id = v_chat and k.user_id = v_user order by k.step desc limit 1 for no key update;
  update marks k
     set delivered_seq = least(k.delivered_seq, v_seq - 1), read_seq = least(k.read_seq, v_seq - 1), has_hole = true,
         moves = k.moves + 1, step = (k.moves + 1) >> 4, marked_xid = pg_current_xact_id()
   where k.ctid = v_at and v_seq > 0;
  perform restante_wake(array[v_user]);
  perform restante_check_marks(array[v_sender]);
  raise log 'restante: message % for user % was put back by %', p_message, p_user, session_user;
  outcome := 'requeued';
end $$;

COMMENT ON FUNCTION restante_return_to_inbox(p_message uuid, p_user text, OUT outcome text, OUT inbox_seq bigint) IS 'Puts a failed message back at the end of its recipient''s inbox, under a new number; the old number is named in inbox_gaps. The message keeps its id and its number in the chat; attempts start at 0. Outcome: requeued, with the new number; or why nothing was done: no_recipient, expired (its time has come), recalled (its sender took it back), left (the recipient has left the chat, or the feed), blocked (of their direct chat: the recipient has blocked the sender), not_failed.';

CREATE FUNCTION restante_revoke(p_user text, p_device text DEFAULT NULL::text, p_token text DEFAULT NULL::text, p_reason text DEFAULT NULL::text, p_expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, p_by text DEFAULT SESSION_USER, p_node uuid DEFAULT NULL::uuid, OUT number bigint, OUT revoked_at timestamp with time zone, OUT expires_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now   timestamptz;
  v_end   timestamptz := p_expires_at;
  v_least timestamptz;
  v_row   record;
begin
  perform restante_needs_read_committed();
  if p_device is null and restante_end_logins(p_user, p_token) then
    -- No access token lives for longer: none of a login that has ended counts again.
    v_least := clock_timestamp() + interval '1 day';
  end if;
  -- After the logins: those that had the rows before have committed, and nobody goes on with one.
  v_now := clock_timestamp();
  if v_end is null then
    select v_now + s.lifetime_max into strict v_end from token_settings s where s.only_row;
  end if;
  insert into revocations as r (user_name, device_id, token_id, revoked_at, expires_at, reason, revoked_by)
    values (p_user, p_device, p_token, v_now, greatest(v_end, v_least), p_reason, p_by)
    on conflict on constraint something_is_revoked_once
    do update set revoked_at = greatest(r.revoked_at, excluded.revoked_at), expires_at = greatest(r.expires_at, excluded.expires_at),
                  reason = coalesce(excluded.reason, r.reason), revoked_by = excluded.revoked_by, of_login = false,
                  revoked_xid = pg_current_xact_id()
    returning r.number, r.revoked_at, r.expires_at into v_row;
  perform restante_audit('token.revoke', jsonb_strip_nulls(jsonb_build_object('userId', p_user, 'deviceId', p_device, 'tokenId', p_token)), 'revoked', p_by, p_node);
  perform pg_notify(restante_wake_channel(), 'revoked');
  number := v_row.number;
  revoked_at := v_row.revoked_at;
  expires_at := v_row.expires_at;
end $$;

COMMENT ON FUNCTION restante_revoke(p_user text, p_device text, p_token text, p_reason text, p_expires_at timestamp with time zone, p_by text, p_node uuid, OUT number bigint, OUT revoked_at timestamp with time zone, OUT expires_at timestamp with time zone) IS 'Revokes the tokens of a user that were issued before now, those of one device of a user, or the token of an id (then p_user is null), on every node: connections that live on them are closed, new ones refused. The logins of the user end, or the login whose sid the id is; a device has none of its own, and none ends. It is noted in the audit, with the node p_node through which it was asked for, and kept until p_expires_at, or for token_settings.lifetime_max: the tokens must have expired by then. Where logins end it is kept for a day at least. Repeated, it is later and lasts longer.';

CREATE FUNCTION restante_revoke_logins(p_name text, p_logins uuid[], p_lifetime interval) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_now timestamptz := clock_timestamp();
begin
  perform restante_needs_read_committed();
  if cardinality(p_logins) = 0 then
    return;
  end if;
  -- One that an operator has revoked stays the operator's.
  insert into revocations as r (token_id, of_login, revoked_at, expires_at, revoked_by)
    select l.id::text, true, v_now, v_now + p_lifetime, p_name from unnest(p_logins) l(id)
    on conflict on constraint something_is_revoked_once do update
      set revoked_at = greatest(r.revoked_at, excluded.revoked_at), expires_at = excluded.expires_at, revoked_xid = pg_current_xact_id()
      where excluded.expires_at > r.expires_at;
  perform pg_notify(restante_wake_channel(), 'revoked');
end $$;

COMMENT ON FUNCTION restante_revoke_logins(p_name text, p_logins uuid[], p_lifetime interval) IS 'Revokes the access tokens of these logins on every node, for as long as such a token lives. Part of the functions that end logins.';

CREATE FUNCTION restante_rotate_keys(p_actor text DEFAULT NULL::text, p_node uuid DEFAULT NULL::uuid) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_sweep bigint;
begin
  perform restante_needs_read_committed();
  update encryption e set old_before = clock_timestamp(), sweeps_wanted = e.sweeps_wanted + 1 where e.only_row and e.is_on
  returning e.sweeps_wanted into v_sweep;
  perform restante_audit('keys.rotate', '{}', case when v_sweep is null then 'off' else 'rotated' end, p_actor, p_node);
  return v_sweep;
end $$;

COMMENT ON FUNCTION restante_rotate_keys(p_actor text, p_node uuid) IS 'Asks for a new data key, and for a sweep that seals every message of an older key with it, and notes it in the audit. Returns the number of the sweep (encryption.sweeps_done says when it is done); null: encryption is off. Nodes make the key within seconds, and the sweep begins some minutes later, when no node uses the older ones any more.';

CREATE FUNCTION restante_send(p_chat uuid, p_sender text, p_content text, p_message_type text DEFAULT 'text'::text, p_metadata jsonb DEFAULT NULL::jsonb, p_message_id uuid DEFAULT gen_random_uuid(), p_expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS uuid
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $_$
declare
  v_sender bigint;
  v_before bigint;
  v_place  integer;
begin
  perform restante_needs_read_committed();
  perform restante_check_sender('restante_send', p_sender);
  perform restante_admit_plain_text();
  if p_content is null then
    raise exception 'a message needs content' using errcode = 'null_value_not_allowed';
  elsif octet_length(p_content) > 32768 then
    raise exception 'content has % bytes, at most 32768 are allowed', octet_length(p_content) using errcode = 'program_limit_exceeded';
  elsif octet_length(p_metadata::text) > 8192 then
    raise exception 'metadata has % bytes, at most 8192 are allowed', octet_length(p_metadata::text) using errcode = 'program_limit_exceeded';
  -- The limits that the service has for clients: deeper levels and larger numbers are more than parsers of JSON have to read.
  elsif jsonb_path_exists(p_metadata, 'strict $.**{32 to last} ? (@.type() == "array" || @.type() == "object")', silent => true) then
    raise exception 'metadata is nested more than 32 levels deep' using errcode = 'invalid_parameter_value';
  elsif jsonb_path_exists(p_metadata, 'strict $.** ? (@.type() == "number" && (@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308))', silent => true) then
    raise exception 'metadata holds a number that is no double' using errcode = 'invalid_parameter_value';
  elsif starts_with(p_message_type, 'restante:') then
    raise exception 'message types that begin with restante: are reserved' using errcode = 'invalid_parameter_value';
  elsif p_expires_at <= clock_timestamp() then
    raise exception 'expires_at lies in the past' using errcode = 'invalid_parameter_value';
  elsif p_expires_at >= timestamptz '10000-01-01 00:00:00+00' then
    raise exception 'expires_at lies after the year 9999; leave it out for a message that never expires' using errcode = 'invalid_parameter_value';
  end if;
  select u.id into v_sender
    from users u join chat_members cm on cm.user_id = u.id and cm.chat_id = p_chat and cm.left_seq is null
   where u.is_current and u.external_id = p_sender;
  if not found then
    raise exception 'user % is not a member of chat %', p_sender, p_chat
      using errcode = 'insufficient_privilege', hint = 'Only members may send; the chat may also not exist.';
  elsif exists (select from closed_chats c where c.chat_id = p_chat) then
    raise exception 'user % cannot send to chat %: one of its members has blocked the other', p_sender, p_chat using errcode = 'insufficient_privilege';
  end if;
  -- The same id again is the same message, as it is for a client.
  select o.sender_id into v_before from outgoing o where o.xid = pg_current_xact_id() and o.message_id = p_message_id;
  if found then
    if v_before <> v_sender then
      raise exception 'message id % belongs to another sender', p_message_id using errcode = 'unique_violation';
    end if;
    return p_message_id;
  end if;
  select o.place into v_place from outgoing o where o.xid = pg_current_xact_id() order by o.place desc limit 1;
  if v_place >= 1000 then
    raise exception 'a transaction may send at most 1000 messages'
      using errcode = 'program_limit_exceeded', hint = 'Its commit locks their chats. Commit, and send the rest in another transaction.';
  end if;
  insert into outgoing (place, message_id, chat_id, sender_id, message_type, content, metadata, expires_at)
    values (coalesce(v_place, 0) + 1, p_message_id, p_chat, v_sender, p_message_type, p_content, p_metadata, p_expires_at);
  -- The request has left already where somebody made the constraints immediate: from here to the commit its chat would be locked.
  perform from outgoing o where o.xid = pg_current_xact_id() and o.message_id = p_message_id;
  if not found then
    raise exception 'restante_send() needs the constraint requests_are_accepted_at_commit to be deferred, and this transaction has made it immediate'
      using errcode = 'invalid_transaction_state', hint = 'Run "set constraints requests_are_accepted_at_commit deferred" before it.';
  end if;
  return p_message_id;
end $_$;

COMMENT ON FUNCTION restante_send(p_chat uuid, p_sender text, p_content text, p_message_type text, p_metadata jsonb, p_message_id uuid, p_expires_at timestamp with time zone) IS 'Sends a message inside your own transaction, with the same effect as a client''s send, and returns its id. It is accepted when you commit (chat and inboxes are locked only then) and is gone when you roll back. The sender must be a member, now and at the commit. At most 1,000 messages a transaction. The same id again from the same sender is the same message.';

CREATE FUNCTION restante_set_limit(p_user text, p_factor integer, p_actor text DEFAULT NULL::text, p_node uuid DEFAULT NULL::uuid, p_rows_max integer DEFAULT 10000) RETURNS text
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_set_limit(p_user text, p_factor integer, p_actor text, p_node uuid, p_rows_max integer) IS 'Multiplies all rates of a user by p_factor, 1 to 1000, on every node, and notes it in the audit; 1: they are those of others again. Outcome: set; not_found: there is no such user; too_many: p_rows_max users have a factor already. Repeated, the last one counts.';

CREATE FUNCTION restante_set_preferences(p_user text, p_muted_types text[] DEFAULT NULL::text[], p_muted_chats uuid[] DEFAULT NULL::uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_set_preferences(p_user text, p_muted_types text[], p_muted_chats uuid[]) IS 'Sets what a user has muted, inside your own transaction: types of events that make no rows for it any more, and chats whose messages its clients are not to ring for. A list that is null stays as it is, an empty one mutes nothing. What waits already stays. The sessions of the user learn of it when you commit.';

CREATE FUNCTION restante_set_publishers(p_feed uuid, p_caller bigint, p_may_anywhere boolean, p_add bigint[], p_remove bigint[], p_publishers_max integer) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_count bigint;
begin
  perform restante_needs_read_committed();
  if p_feed in ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002')
     or not exists (select from feeds s where s.feed_id = p_feed and s.class = 'event') then
    return 'not_found';
  elsif not p_may_anywhere and not exists (select from feed_publishers p where p.feed_id = p_feed and p.user_id = p_caller and p.role = 'admin') then
    return 'forbidden';
  end if;
  -- Two changes come one after the other, and each counts what the other has left.
  perform from chats c where c.id = p_feed for no key update;
  select count(*) into v_count
    from (select p.user_id from feed_publishers p where p.feed_id = p_feed and (p.role = 'admin' or p.user_id <> all (p_remove))
          union select unnest(p_add)) q;
  if v_count > p_publishers_max then
    return 'too_many';
  end if;
  delete from feed_publishers p where p.feed_id = p_feed and p.user_id = any (p_remove) and p.user_id <> all (p_add) and p.role <> 'admin';
  insert into feed_publishers (feed_id, user_id) select distinct p_feed, u.id from unnest(p_add) u (id) order by u.id
    on conflict on constraint a_user_is_a_publisher_once do nothing;
  return 'done';
end $$;

COMMENT ON FUNCTION restante_set_publishers(p_feed uuid, p_caller bigint, p_may_anywhere boolean, p_add bigint[], p_remove bigint[], p_publishers_max integer) IS 'Adds publishers to a feed and removes others; who is in both lists is added, and its maker stays. Only its maker may, or who may publish anywhere. Else nothing is done: not_found, forbidden, too_many.';

CREATE FUNCTION restante_settle(p_users bigint[], p_classes inbox_class[], p_seqs bigint[], p_mark_users bigint[], p_mark_chats uuid[], p_mark_seqs bigint[], p_exact_users bigint[], p_exact_chats uuid[], p_device_users bigint[], p_devices text[], p_device_classes inbox_class[], p_device_seqs bigint[], OUT moved integer[], OUT settled_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_exact_users bigint[] := p_exact_users;
  v_exact_chats uuid[]   := p_exact_chats;
  v_hole_users  bigint[];
  v_hole_chats  uuid[];
  v_has_hole    boolean;
  v_messages    uuid[]; -- those of the rows that moved
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform restante_needs_read_committed();
  end if;
  settled_at := clock_timestamp();

  -- An ack alone, of a client without a device: the same with single rows. One row and at most one mark have no order among themselves.
  if array_length(p_users, 1) = 1 and coalesce(array_length(p_mark_users, 1), 0) <= 1 and coalesce(array_length(p_exact_users, 1), 0) = 0
     and coalesce(array_length(p_device_users, 1), 0) <= 1 then
    update message_status s set status = 'delivered', delivered_at = settled_at
     where s.user_id = p_users[1] and s.class = p_classes[1] and s.seq = p_seqs[1] and s.status = 'sent'
    returning array[s.message_id] into v_messages;
    if found then
      moved := '{1}';
      insert into statistics_journal (at, kind, class, messages) values (settled_at, 'delivered', p_classes[1], v_messages);
    end if;
    if array_length(p_mark_users, 1) = 1 then
      update marks m
         set delivered_seq = case when m.has_hole then m.delivered_seq else p_mark_seqs[1] end, moves = m.moves + 1, step = (m.moves + 1) >> 4,
             marked_xid = case when m.has_hole then m.marked_xid else pg_current_xact_id() end
       where m.chat_id = p_mark_chats[1] and m.user_id = p_mark_users[1] and (m.delivered_seq < p_mark_seqs[1] or m.has_hole)
         -- Another transaction that moves it meanwhile moves the step up.
         and m.step >= (select x.step from marks x where x.chat_id = p_mark_chats[1] and x.user_id = p_mark_users[1] order by x.step desc limit 1)
      returning m.has_hole into v_has_hole;
      if v_has_hole then
        perform restante_exact_marks(p_mark_chats, p_mark_users);
      end if;
    end if;
    if array_length(p_device_users, 1) = 1 then
      update device_cursors d set acked_seq = p_device_seqs[1], step = p_device_seqs[1] >> 4
       where d.user_id = p_device_users[1] and d.device_id = p_devices[1] and d.class = p_device_classes[1] and d.acked_seq < p_device_seqs[1]
         and d.step >= (select x.step from device_cursors x
                         where x.user_id = p_device_users[1] and x.device_id = p_devices[1] and x.class = p_device_classes[1] order by x.step desc limit 1);
    end if;
    return;
  end if;

  -- An update locks its rows in the order in which its join comes by them: that of the sorted unnest, as long as that is
  -- the outer side of a nested loop. "= any (array[…])" leaves no other plan: it is no equality by which the sides could be
  -- sorted alike, so there is no reason to walk the index as a whole, and the table is only ever looked up by key.
  with settled as (
    update message_status s set status = 'delivered', delivered_at = settled_at
      from (select * from unnest(p_users, p_classes, p_seqs) with ordinality x (user_id, class, seq, ord)
             order by x.user_id, x.class, x.seq) u
     where s.user_id = any (array[u.user_id]) and s.class = u.class and s.seq = u.seq and s.status = 'sent'
    returning u.ord, s.message_id
  ) select array_agg(k.ord::integer), array_agg(k.message_id) into moved, v_messages from settled k;
  if moved is not null then
    insert into statistics_journal (at, kind, class, messages)
      values (settled_at, 'delivered', case when p_classes[1] = all (p_classes) then p_classes[1] end, v_messages);
  end if;

  if array_length(p_exact_users, 1) > 0 then
    -- Some marks are to be computed: all members are locked first, in one order.
    perform restante_lock_marks(p_mark_chats || p_exact_chats, p_mark_users || p_exact_users);
  end if;
  if array_length(p_mark_users, 1) > 0 then
    -- A session's proposal holds unless the member has a hole; then the update only locks it and gives it back.
    with marked as (
      update marks m
         set delivered_seq = case when m.has_hole then m.delivered_seq else u.seq end, moves = m.moves + 1, step = (m.moves + 1) >> 4,
             marked_xid = case when m.has_hole then m.marked_xid else pg_current_xact_id() end
        from (select x.chat, x.user_id, x.seq,
                     (select n.step from marks n where n.chat_id = x.chat and n.user_id = x.user_id order by n.step desc limit 1) as step
                from unnest(p_mark_chats, p_mark_users, p_mark_seqs) x (chat, user_id, seq) order by x.chat, x.user_id) u
       where m.chat_id = any (array[u.chat]) and m.user_id = any (array[u.user_id]) and m.step >= u.step and (m.delivered_seq < u.seq or m.has_hole)
      returning m.has_hole, m.user_id, m.chat_id
    ) select array_agg(k.user_id), array_agg(k.chat_id) into v_hole_users, v_hole_chats from marked k where k.has_hole;
    v_exact_users := v_exact_users || v_hole_users;
    v_exact_chats := v_exact_chats || v_hole_chats;
  end if;
  if array_length(v_exact_users, 1) > 0 then
    perform restante_exact_marks(v_exact_chats, v_exact_users);
  end if;

  if array_length(p_device_users, 1) > 0 then
    update device_cursors d set acked_seq = u.seq, step = u.seq >> 4
      from (select x.user_id, x.device_id, x.class, x.seq,
                   (select n.step from device_cursors n
                     where n.user_id = x.user_id and n.device_id = x.device_id and n.class = x.class order by n.step desc limit 1) as step
              from unnest(p_device_users, p_devices, p_device_classes, p_device_seqs) x (user_id, device_id, class, seq)
             order by x.user_id, x.device_id, x.class) u
     where d.user_id = any (array[u.user_id]) and d.device_id = u.device_id and d.class = u.class and d.step >= u.step and d.acked_seq < u.seq;
  end if;
end $$;

COMMENT ON FUNCTION restante_settle(p_users bigint[], p_classes inbox_class[], p_seqs bigint[], p_mark_users bigint[], p_mark_chats uuid[], p_mark_seqs bigint[], p_exact_users bigint[], p_exact_chats uuid[], p_device_users bigint[], p_devices text[], p_device_classes inbox_class[], p_device_seqs bigint[], OUT moved integer[], OUT settled_at timestamp with time zone) IS 'Makes acks true in one transaction: rows sent -> delivered, members'' marks, devices'' cursors. Marks come proposed (p_mark_*) or are to be computed from the rows (p_exact_*). Returns the places in p_users of the rows that moved (null: none); rows that do not wait any more are passed over, so it may be repeated. One call names a row, a (chat, member) among the proposals and a (device, class) once.';

CREATE FUNCTION restante_spread(p_places integer[], p_counts bigint[], p_length integer) RETURNS bigint[]
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
  v_counts bigint[] := array_fill(0::bigint, array[greatest(p_length, coalesce((select max(u.place) from unnest(p_places) u (place)), 0))]);
begin
  for n in 1 .. coalesce(cardinality(p_places), 0) loop
    if p_places[n] is not null then
      v_counts[p_places[n]] := v_counts[p_places[n]] + p_counts[n];
    end if;
  end loop;
  return v_counts;
end $$;

COMMENT ON FUNCTION restante_spread(p_places integer[], p_counts bigint[], p_length integer) IS 'A row of counts that has each of p_counts added at its place, from 1, and 0 elsewhere. It has p_length places, and more where a place is beyond. Places that are null are left out.';

CREATE FUNCTION restante_strangers(p_users bigint[], p_caller bigint) RETURNS bigint[]
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return array(select u.id from (select unnest(p_users) as id) u where u.id <> p_caller and not restante_are_contacts(u.id, p_caller) order by u.id);
end $$;

COMMENT ON FUNCTION restante_strangers(p_users bigint[], p_caller bigint) IS 'Those of these users that are no contacts of the caller, without the caller itself.';

CREATE FUNCTION restante_take(p_user bigint, p_class inbox_class, p_rows_max integer, p_waiting_max integer, OUT numbers integer, OUT more boolean, OUT superseded boolean) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now     timestamptz;
  v_at      tid;
  v_last    bigint;
  v_settled bigint;
  v_muted   text[]; -- types that the user has muted
  v_excess  bigint;
  v_first   bigint;
  v_ids     uuid[];   -- per number that is given: the event; null: a gap,
  v_feeds   uuid[];   -- … its feed,
  v_from    bigint[]; -- … for a gap its range there,
  v_to      bigint[];
  v_counts  bigint[]; -- … how many events it stands for,
  v_reasons text[];   -- … and why
  v_keys    text[];   -- … of an event: its collapse key
  v_moved   uuid[];   -- feeds of which something was taken,
  v_cursors bigint[]; -- … and up to where
  v_written bigint[];
begin
  perform restante_needs_read_committed();
  numbers := 0;
  more := false;
  superseded := false;
  -- Nothing is locked where nothing is new, as a rule. What commits after this look is told to the user's node.
  if not restante_has_untaken(p_user, p_class) then
    return;
  end if;
  select i.ctid, i.last_seq, i.settled_seq into v_at, v_last, v_settled
    from inboxes i where i.user_id = p_user and i.class = p_class order by i.step desc limit 1 for no key update;
  v_now := clock_timestamp();

  -- Statements after the lock, so snapshots after the lock: cursors stand still from here on, and whatever was published while the
  -- lock was waited for is seen.
  v_muted := coalesce((select p.muted_types from preferences p where p.user_id = p_user), '{}');
  select e.excess, e.rows_first into v_excess, v_first from restante_excess(p_user, p_class, v_settled, v_last, p_waiting_max) e;
  if v_first > 0 then
    -- The oldest of all end, and these are rows by now.
    v_excess := v_excess - restante_cap(p_user, p_class, v_settled, v_last, 2 * p_waiting_max, v_first);
  end if;

  with streams as materialized (
    select f.feed_id, s.chat_id, f.cursor_seq, h.last_seq as head, least(c.purged_seq, h.last_seq) as purged_seq,
           least(s.floor_seq, h.last_seq) as floor_seq, greatest(f.cursor_seq, least(c.purged_seq, h.last_seq), least(s.floor_seq, h.last_seq),
                    h.last_seq - case when v_muted = '{}' then p_waiting_max else greatest(p_waiting_max, 10000 / count(*) over ()) end) as after,
           greatest(2000 / count(*) over (), 1)::bigint as each
      from followers f
      cross join lateral (select x.chat_id, x.floor_seq from feeds x where x.feed_id = f.feed_id and x.class = f.class limit 1) s
      cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
      cross join lateral (select x.purged_seq from chats x where x.id = s.chat_id limit 1) c
     where f.user_id = p_user and f.class = p_class and h.last_seq > f.cursor_seq
  ), looked as materialized (
    -- By the clock's highest value so far, in case that it was set back: then a later number never comes before an earlier one.
    select t.feed_id, t.head, m.id, m.seq, max(m.created_at) over (partition by t.feed_id order by m.seq) as at, m.seq = t.after + t.each and m.seq < t.head as is_cut,
           case when m.collapse_key is not null and b.becomes = 'coming'
                     and restante_is_superseded(p_user, t.chat_id, m.collapse_key, m.seq, t.head) then 'superseded'
                else b.becomes end as becomes, m.collapse_key
      from streams t
      cross join lateral (
        select x.id, x.seq, x.sender_id, x.created_at, x.expires_at, x.collapse_key, x.message_type from messages x
         where x.chat_id = t.chat_id and x.seq > t.after and x.seq <= t.head order by x.seq limit t.each) m
      cross join lateral restante_event_becomes(p_user, m.id, m.sender_id, m.expires_at, v_now, m.message_type, v_muted) b
  ), items as (
    -- Not beyond the last of a feed of which not all was looked at.
    select l.feed_id, l.id, l.seq as from_seq, l.seq, 1::bigint as count, l.becomes, l.at, l.collapse_key
      from looked l
      left join (select c.at, c.feed_id, c.seq from looked c where c.is_cut order by c.at, c.feed_id, c.seq limit 1) c on true
     where c.at is null or (l.at, l.feed_id, l.seq) <= (c.at, c.feed_id, c.seq)
    union all
    -- Events that have been removed had expired long before.
    select t.feed_id, null, t.cursor_seq + 1, t.purged_seq, t.purged_seq - t.cursor_seq, 'expired', '-infinity', null
      from streams t where t.purged_seq > t.cursor_seq
    union all
    -- Newer ones of the same feed are as many as may wait, or these are below its floor. Where the last of the older ones has expired, all have, as a rule.
    select t.feed_id, null, greatest(t.cursor_seq, t.purged_seq) + 1, t.after, t.after - greatest(t.cursor_seq, t.purged_seq),
           case when t.after <= t.floor_seq or m.expires_at > v_now then 'capped' else 'expired' end, '-infinity', null
      from streams t
      left join lateral (select x.expires_at from messages x where x.chat_id = t.chat_id and x.seq = t.after limit 1) m on true
     where t.after > greatest(t.cursor_seq, t.purged_seq)
  ), placed as (
    select i.*, row_number() over by_time as n, count(*) filter (where i.becomes = 'coming') over by_time - greatest(v_excess, 0) as nth
      from items i window by_time as (order by i.at, i.feed_id, i.seq)
  ), ordered as materialized (
    select p.feed_id, p.id, p.from_seq, p.seq, p.count, p.n, p.collapse_key, case when p.becomes = 'coming' and p.nth <= 0 then 'capped' else p.becomes end as becomes
      from placed p where p.nth <= p_rows_max
  ), runs as (
    select o.*, row_number() over (partition by o.feed_id order by o.seq) - row_number() over (partition by o.feed_id, o.becomes order by o.seq) as run
      from ordered o where o.becomes <> 'passed'
  ), entries as (
    select r.n, r.id, r.feed_id, r.seq as from_seq, r.seq as to_seq, 1::bigint as count, null as reason, r.collapse_key from runs r where r.becomes = 'coming'
    union all
    select min(r.n), null, r.feed_id, min(r.from_seq), max(r.seq), sum(r.count)::bigint, r.becomes, null
      from runs r where r.becomes <> 'coming' group by r.feed_id, r.becomes, r.run
  ), taken as (
    select o.feed_id, max(o.seq) as seq from ordered o group by o.feed_id
  )
  select e.ids, e.feeds, e.froms, e.tos, e.counts, e.reasons, e.keys, t.feeds, t.seqs, exists (
           select from streams s left join taken k on k.feed_id = s.feed_id where s.head > coalesce(k.seq, s.cursor_seq))
    into v_ids, v_feeds, v_from, v_to, v_counts, v_reasons, v_keys, v_moved, v_cursors, more
    from (select array_agg(x.id order by x.n) as ids, array_agg(x.feed_id order by x.n) as feeds, array_agg(x.from_seq order by x.n) as froms,
                 array_agg(x.to_seq order by x.n) as tos, array_agg(x.count order by x.n) as counts, array_agg(x.reason order by x.n) as reasons,
                 array_agg(x.collapse_key order by x.n) as keys
            from entries x) e,
         (select array_agg(x.feed_id) as feeds, array_agg(x.seq) as seqs from taken x) t;

  numbers := coalesce(cardinality(v_ids), 0);
  with queued as (
    insert into message_status (user_id, class, seq, message_id, collapse_id)
      select p_user, p_class, v_last + u.n, u.id, case when u.key is not null then restante_collapse_id(u.feed_id, u.key) end
        from unnest(v_ids, v_feeds, v_keys) with ordinality u (id, feed_id, key, n) where u.id is not null
      returning 1
  ), named as (
    insert into inbox_gaps (user_id, class, seq, reason, feed_id, from_feed_seq, to_feed_seq, count)
      select p_user, p_class, v_last + u.n, u.reason::ended_reason, u.feed_id, u.from_seq, u.to_seq, u.count
        from unnest(v_reasons, v_feeds, v_from, v_to, v_counts) with ordinality u (reason, feed_id, from_seq, to_seq, count, n) where u.reason is not null
      returning 1
  ), moved as (
    update followers f set cursor_seq = u.seq
      from (select unnest(v_moved) as feed_id, unnest(v_cursors) as seq) u
     where f.user_id = p_user and f.feed_id = u.feed_id and f.class = p_class returning 1
  ), counted as (
    update inboxes i set last_seq = v_last + numbers, step = (v_last + numbers) >> 4 where i.ctid = v_at and numbers > 0 returning 1
  ), noted as (
    insert into statistics_journal (at, kind, messages)
      select v_now, 'queued', array_agg(u.id) from (select unnest(v_ids) as id) u where u.id is not null having count(*) > 0
  )
  select array[(select count(*) from queued) + (select count(*) from named), (select count(*) from moved), (select count(*) from counted)] into v_written;
  -- A number without a row is a hole, and a cursor that stands still makes its rows twice.
  if v_written <> array[numbers::bigint, coalesce(cardinality(v_moved), 0), least(numbers, 1)] then
    raise exception 'taking should have written % numbers of % feeds and wrote %', numbers, coalesce(cardinality(v_moved), 0), v_written
      using errcode = 'data_corrupted';
  end if;
  if num_nonnulls(variadic v_keys) > 0 then
    superseded := restante_collapse(
      array_fill(p_user, array[numbers]), array_fill(p_class, array[numbers]),
      array(select restante_collapse_id(u.feed_id, u.key) from unnest(v_feeds, v_keys) with ordinality u (feed_id, key, n) order by u.n),
      array(select v_last + n from generate_series(1, numbers) n), array(select v_last + n from generate_series(1, numbers) n)) is not null;
  end if;
end $$;

COMMENT ON FUNCTION restante_take(p_user bigint, p_class inbox_class, p_rows_max integer, p_waiting_max integer, OUT numbers integer, OUT more boolean, OUT superseded boolean) IS 'Makes rows of what is new in the feeds that a user follows, oldest first and p_rows_max at most, and moves its cursors, while its inbox is locked. What ended before takes one number for each run and feed, named in inbox_gaps: expired, muted (the user has muted its type), superseded (a newer one of its collapse key is to come, or has taken the place of its row), or capped where more than p_waiting_max wait, rows and what is still to become a row together, and below the floor of its stream. What the user published itself, and what is not for it, takes none. Returns how many numbers were given, whether more is to be taken, and whether rows that waited were superseded.';

CREATE FUNCTION restante_take_back(p_message uuid, p_sender bigint, p_window interval, OUT outcome text, OUT chat_id uuid, OUT chat_seq bigint, OUT recalled_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_message record;
  v_notice  uuid := gen_random_uuid();
  v_at      timestamptz;
begin
  perform restante_needs_read_committed();
  select m.chat_id, m.seq, m.sender_id, m.created_at, m.recalled_at into v_message
    from messages m where m.id = p_message and m.seq > 0 and not exists (select from feeds f where f.chat_id = m.chat_id);
  if not found then
    outcome := 'not_found';
    return;
  end if;
  if v_message.sender_id <> p_sender then
    -- One that may see the message learns that it is another's.
    outcome := case when exists (
      select from chat_members cm
       where cm.chat_id = v_message.chat_id and cm.user_id = p_sender and cm.left_seq is null and cm.joined_seq < v_message.seq)
      then 'forbidden' else 'not_found' end;
    return;
  end if;
  chat_id := v_message.chat_id;
  chat_seq := v_message.seq;
  if v_message.recalled_at is null and p_window <= interval '0' then
    outcome := 'off';
    return;
  elsif v_message.recalled_at is null and v_message.created_at <= clock_timestamp() - p_window then
    outcome := 'too_late';
    return;
  end if;
  -- Of two recalls the second waits here, and then sees the first. Who puts a dead letter of the message back holds this lock too. One
  -- that sees the first already takes the lock as well: the first may be visible and not on the standby yet, and a transaction that has
  -- locked a row waits for the standby.
  select m.recalled_at into v_message.recalled_at from messages m where m.id = p_message for no key update;
  if not found then
    outcome := 'not_found';
    return;
  elsif v_message.recalled_at is not null then
    outcome := 'again';
    recalled_at := v_message.recalled_at;
    return;
  end if;
  v_at := clock_timestamp();
  update messages m set content = null, metadata = null, sealed = null, key_id = null, recalled_at = v_at where m.id = p_message;
  insert into messages (id, chat_id, seq, sender_id, message_type, content, created_at)
    values (v_notice, v_message.chat_id, -v_message.seq, p_sender, 'restante:recalled', p_message::text, v_at);
  insert into statistics_journal (at, kind, messages, recipients) values (v_at, 'accepted', array[v_notice], '{0}');
  insert into recalls (message_id, notice_id, chat_id, chat_seq, sender_id, recalled_at)
    values (p_message, v_notice, v_message.chat_id, v_message.seq, p_sender, v_at);
  outcome := 'recalled';
  recalled_at := v_at;
end $$;

COMMENT ON FUNCTION restante_take_back(p_message uuid, p_sender bigint, p_window interval, OUT outcome text, OUT chat_id uuid, OUT chat_seq bigint, OUT recalled_at timestamp with time zone) IS 'Recalls a message for its sender: its content and metadata go, and no page shows it from the commit on. Outcome: recalled; again (it had been recalled, recalled_at says when); off (p_window is not more than zero); too_late (it was accepted longer ago than p_window; a p_window of null is never over); forbidden (it is another member''s); not_found. A part at a time, restante_recall_part does the rest.';

CREATE FUNCTION restante_take_block_back(p_user bigint, p_other bigint) RETURNS TABLE(outcome text, chat_id uuid)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_chat uuid;
begin
  perform restante_needs_read_committed();
  perform from users u where u.id = any (array[p_user, p_other]) order by u.id for update;
  delete from blocks b where b.user_id = p_user and b.other_id = p_other;
  if not found then
    return query select 'again', null::uuid;
    return;
  end if;
  select c.id into v_chat from chats c where c.direct_key = least(p_user, p_other) || ':' || greatest(p_user, p_other);
  if v_chat is not null then
    perform from chat_heads h where h.chat_id = v_chat order by h.step desc limit 1 for no key update;
    -- A statement after the lock: the other one may have blocked this one meanwhile.
    if not exists (select from blocks b where b.user_id = p_other and b.other_id = p_user) then
      perform restante_reopen_chat(v_chat, p_user, p_other);
    end if;
  end if;
  return query select 'done', v_chat;
end $$;

COMMENT ON FUNCTION restante_take_block_back(p_user bigint, p_other bigint) IS 'A user blocks another one no more. Their direct chat is open again unless the other one blocks too. What has ended stays ended. Outcome: done, with the direct chat if there is one; again (it was not blocked).';

CREATE FUNCTION restante_take_invitation(p_user bigint, p_chat uuid, p_members_max integer) RETURNS TABLE(outcome text, title text, joined_seq bigint, inviter text)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_last    bigint;
  v_joined  bigint;
  v_inviter bigint;
  v_count   bigint;
begin
  perform restante_needs_read_committed();
  -- Without an invitation nothing is locked: those who send would wait for it.
  if not exists (select from invitations i where i.user_id = p_user and i.chat_id = p_chat) then
    select cm.joined_seq into v_joined from chat_members cm where cm.chat_id = p_chat and cm.user_id = p_user and cm.left_seq is null;
    return query select case when v_joined is null then 'not_found' else 'again' end, null::text, v_joined, null::text;
    return;
  end if;
  select h.last_seq into v_last from chat_heads h where h.chat_id = p_chat order by h.step desc limit 1 for no key update;
  perform from users u where u.id = p_user for no key update;
  -- A statement after the locks: nobody joins, leaves or sends any more, and a block of the inviter is seen.
  select i.inviter_id into v_inviter from invitations i
   where i.user_id = p_user and i.chat_id = p_chat and i.declined_at is null and i.expires_at > clock_timestamp();
  select count(*) into v_count from chat_members cm where cm.chat_id = p_chat and cm.left_seq is null;
  if v_inviter is null or v_count = 0 then
    select cm.joined_seq into v_joined from chat_members cm where cm.chat_id = p_chat and cm.user_id = p_user and cm.left_seq is null;
    return query select case when v_joined is null then 'not_found' else 'again' end, null::text, v_joined, null::text;
    return;
  elsif v_count >= p_members_max then
    return query select 'too_many_members', null::text, null::bigint, null::text;
    return;
  end if;
  perform restante_put_members(p_chat, array[p_user], v_last, v_count);
  return query select 'done', (select c.title from chats c where c.id = p_chat), v_last, (select u.external_id from users u where u.id = v_inviter);
end $$;

COMMENT ON FUNCTION restante_take_invitation(p_user bigint, p_chat uuid, p_members_max integer) IS 'A user accepts an invitation, and is a member from now on: it gets messages above joined_seq, as one who is added. Outcome: done, with the title of the group and who had invited it; again (it is a member already); not_found (no invitation waits for it, or nobody is in the group any more); too_many_members.';

CREATE FUNCTION restante_take_together(p_stream uuid, p_users bigint[], p_events_max integer, p_waiting_max integer, OUT users bigint[], OUT seqs bigint[], OUT events uuid[], OUT others bigint[]) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_now       timestamptz := clock_timestamp();
  v_feed      uuid;
  v_class     inbox_class;
  v_head      bigint;   -- the last number of the stream, …
  v_after     bigint;   -- … and the number behind which none of its events has a key
  v_ids       uuid[];   -- these events, in their order,
  v_senders   bigint[];
  v_types     text[];
  v_expiries  timestamptz[];
  v_followers bigint[]; -- per follower: the user,
  v_at        tid[];    -- … where its inbox is, if it is locked here,
  v_last      bigint[];
  v_settled   bigint[];
  v_inboxes   tid[];    -- inboxes that are written to,
  v_ends      bigint[]; -- … their last numbers,
  v_takers    bigint[]; -- … and their users
  v_written   bigint[];
begin
  perform restante_needs_read_committed();
  select s.feed_id, s.class, h.last_seq, greatest(h.last_seq - p_events_max, s.floor_seq, c.purged_seq) into v_feed, v_class, v_head, v_after
    from (select x.feed_id, x.class, x.floor_seq from feeds x where x.chat_id = p_stream limit 1) s
    cross join lateral (select x.last_seq from chat_heads x where x.chat_id = p_stream order by x.step desc limit 1) h
    cross join lateral (select x.purged_seq from chats x where x.id = p_stream limit 1) c;
  -- An event with a key may supersede a row.
  select greatest(v_after, max(m.seq) filter (where m.collapse_key is not null)) into v_after
    from messages m where m.chat_id = p_stream and m.seq > v_after and m.seq <= v_head;
  select array_agg(m.id order by m.seq), array_agg(m.sender_id order by m.seq), array_agg(m.message_type order by m.seq), array_agg(m.expires_at order by m.seq)
    into v_ids, v_senders, v_types, v_expiries
    from messages m where m.chat_id = p_stream and m.seq > v_after and m.seq <= v_head;
  if v_head - v_after <> coalesce(cardinality(v_ids), 0) then
    v_after := v_head;
  end if;
  -- Their inboxes, in the order of the users. One that is held is left to a page, which waits for it.
  select array_agg(q.id order by q.id), array_agg(q.at order by q.id), array_agg(q.last_seq order by q.id), array_agg(q.settled_seq order by q.id)
    into v_followers, v_at, v_last, v_settled
    from (select u.id, i.at, i.last_seq, i.settled_seq
            from (select distinct x.id from unnest(p_users) x (id) order by x.id) u
            cross join lateral (
              select x.cursor_seq from followers x where x.user_id = u.id and x.feed_id = v_feed and x.class = v_class limit 1) f
            left join lateral (
              select x.ctid as at, x.last_seq, x.settled_seq from inboxes x
               where f.cursor_seq >= v_after and f.cursor_seq < v_head and x.user_id = u.id and x.class = v_class
               order by x.step desc limit 1 for no key update skip locked) i on true) q;

  -- A later statement, so a later snapshot: under the lock a cursor stands still. A user for whom too many would wait, or for whom
  -- one of the events does not become a row, is left to a page.
  with takers as materialized (
    select n.user_id, n.at, n.last_seq, f.cursor_seq
      from (select unnest(v_followers) as user_id, unnest(v_at) as at, unnest(v_last) as last_seq, unnest(v_settled) as settled_seq) n
      cross join lateral (
        select x.cursor_seq from followers x where n.at is not null and x.user_id = n.user_id and x.feed_id = v_feed and x.class = v_class limit 1) f
     where f.cursor_seq >= v_after and f.cursor_seq < v_head and n.last_seq - n.settled_seq + v_head - f.cursor_seq <= p_waiting_max
       and not exists (
         select from (select generate_series(f.cursor_seq - v_after + 1, v_head - v_after) as nth) e
           left join lateral (select p.muted_types from preferences p where p.user_id = n.user_id limit 1) k on true
           cross join lateral restante_event_becomes(
             n.user_id, v_ids[e.nth], v_senders[e.nth], v_expiries[e.nth], v_now, v_types[e.nth], k.muted_types) b
          where b.becomes <> 'coming')
  ), made as materialized (
    select t.user_id, t.last_seq + k.n as seq, v_ids[t.cursor_seq - v_after + k.n] as id
      from takers t cross join lateral generate_series(1, v_head - t.cursor_seq) k (n)
  )
  select t.users, t.inboxes, t.ends, m.users, m.seqs, m.ids into v_takers, v_inboxes, v_ends, users, seqs, events
    from (select array_agg(x.user_id) as users, array_agg(x.at) as inboxes, array_agg(x.last_seq + v_head - x.cursor_seq) as ends from takers x) t,
         (select array_agg(x.user_id order by x.user_id, x.seq) as users, array_agg(x.seq order by x.user_id, x.seq) as seqs,
                 array_agg(x.id order by x.user_id, x.seq) as ids from made x) m;
  select array_agg(f.user_id) into others from unnest(v_followers) f (user_id) where v_takers is null or f.user_id <> all (v_takers);
  if v_takers is null then
    return;
  end if;

  with queued as (
    insert into message_status (user_id, class, seq, message_id)
      select u.user_id, v_class, u.seq, u.id from (select unnest(users) as user_id, unnest(seqs) as seq, unnest(events) as id) u
      returning 1
  ), moved as (
    update followers f set cursor_seq = v_head from (select unnest(v_takers) as user_id) u
     where f.user_id = u.user_id and f.feed_id = v_feed and f.class = v_class returning 1
  ), counted as (
    update inboxes i set last_seq = u.seq, step = u.seq >> 4 from (select unnest(v_inboxes) as at, unnest(v_ends) as seq) u where i.ctid = u.at returning 1
  ), noted as (
    insert into statistics_journal (at, kind, messages) values (v_now, 'queued', events)
  )
  select array[(select count(*) from queued), (select count(*) from moved), (select count(*) from counted)] into v_written;
  -- A number without a row is a hole, and a cursor that stands still makes its rows twice.
  if v_written <> array[cardinality(users), cardinality(v_takers), cardinality(v_takers)]::bigint[] then
    raise exception 'taking should have written % rows of % users and wrote %', cardinality(users), cardinality(v_takers), v_written
      using errcode = 'data_corrupted';
  end if;
end $$;

COMMENT ON FUNCTION restante_take_together(p_stream uuid, p_users bigint[], p_events_max integer, p_waiting_max integer, OUT users bigint[], OUT seqs bigint[], OUT events uuid[], OUT others bigint[]) IS 'Makes rows of the newest events of one stream for many users at once, as restante_take does for one, and moves their cursors. For those among p_users who follow it, lack no more than its last p_events_max events, and need nothing but rows of these: no event of them has a collapse key, each becomes a row for the user (restante_event_becomes), and no more than p_waiting_max numbers are not settled then. The others are returned, and are left to restante_take. It looks at no other feed: its events may get later numbers though they are older. Waits for no lock.';

CREATE FUNCTION restante_told_mark(p_seq bigint, p_reopened bigint, p_told bigint) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  return case when p_seq <= p_reopened then least(p_seq, p_told) else p_seq end;
end $$;

COMMENT ON FUNCTION restante_told_mark(p_seq bigint, p_reopened bigint, p_told bigint) IS 'A mark as the other member may know it: where it is no higher than when the chat was opened again (p_reopened; null: it was never closed) it counts as before.';

CREATE FUNCTION restante_turn_down_invitation(p_user bigint, p_chat uuid) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_declined_at timestamptz;
begin
  perform restante_needs_read_committed();
  perform from users u where u.id = p_user for no key update;
  select i.declined_at into v_declined_at from invitations i where i.user_id = p_user and i.chat_id = p_chat and i.expires_at > clock_timestamp();
  if not found then
    return 'not_found';
  elsif v_declined_at is not null then
    return 'again';
  end if;
  update invitations i set declined_at = clock_timestamp() where i.user_id = p_user and i.chat_id = p_chat;
  perform restante_check_marks(array[p_user]);
  return 'done';
end $$;

COMMENT ON FUNCTION restante_turn_down_invitation(p_user bigint, p_chat uuid) IS 'A user declines an invitation. Until it expires nobody invites the user to this group again; a contact that is an admin can add it. Outcome: done; again (it has declined it); not_found (it has none).';

CREATE FUNCTION restante_two_users(p_user text, p_other text, p_alike text, OUT user_id bigint, OUT other_id bigint) RETURNS record
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  if p_user = p_other then
    raise exception 'user % cannot %', p_user, p_alike using errcode = 'invalid_parameter_value';
  end if;
  select min(u.id) filter (where u.external_id = p_user), min(u.id) filter (where u.external_id = p_other) into user_id, other_id
    from restante_users(array[p_user, p_other]) u;
end $$;

COMMENT ON FUNCTION restante_two_users(p_user text, p_other text, p_alike text, OUT user_id bigint, OUT other_id bigint) IS 'The numbers of two users, who are made where they are new. Raises where both are the same one, which cannot do what p_alike says.';

CREATE FUNCTION restante_unblock(p_user text, p_other text) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_user  bigint := (select u.id from users u where u.is_current and u.external_id = p_user);
  v_other bigint := (select u.id from users u where u.is_current and u.external_id = p_other);
  v_block record;
begin
  select b.outcome, b.chat_id into v_block from restante_take_block_back(v_user, v_other) b;
  if v_block.outcome = 'done' then
    perform restante_people_changed(array[v_user, v_other], v_block.chat_id);
  end if;
  return v_block.outcome = 'done';
end $$;

COMMENT ON FUNCTION restante_unblock(p_user text, p_other text) IS 'One user blocks another no more, inside your own transaction. What has ended stays ended. False: it had not blocked it.';

CREATE FUNCTION restante_unfollow(p_feed uuid, p_users text[]) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  case restante_remove_followers(p_feed, array(select u.id from users u where u.is_current and u.external_id = any (p_users)))
    when 'done' then null;
    when 'forbidden' then raise exception 'every user follows the feed of everyone' using errcode = 'insufficient_privilege';
    else raise exception 'there is no feed %', p_feed using errcode = 'no_data_found';
  end case;
end $$;

COMMENT ON FUNCTION restante_unfollow(p_feed uuid, p_users text[]) IS 'These users follow the feed no more, and what of it waits for them ends. Inside your own transaction, which locks their inboxes of events until it ends.';

CREATE FUNCTION restante_users(p_external_ids text[], p_have_come boolean DEFAULT false) RETURNS TABLE(external_id text, id bigint)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_users(p_external_ids text[], p_have_come boolean) IS 'The numbers of these users; those that are new are made, with their inboxes. p_have_come: they come with tokens of their own, and are not only named.';

CREATE FUNCTION restante_waiting_rows(p_user bigint, p_class inbox_class, p_after bigint, p_up_to bigint, OUT seqs bigint[], OUT chats uuid[]) RETURNS record
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
  select array_agg(w.seq order by w.seq), array_agg(m.chat_id order by w.seq) into seqs, chats
    from (select s.seq, s.message_id from message_status s
           where s.user_id = p_user and s.class = p_class and s.seq > p_after and s.seq <= p_up_to and s.status = 'sent' order by s.seq limit 51) w
    left join lateral (select x.chat_id from messages x where x.id = w.message_id limit 1) m on true;
end $$;

COMMENT ON FUNCTION restante_waiting_rows(p_user bigint, p_class inbox_class, p_after bigint, p_up_to bigint, OUT seqs bigint[], OUT chats uuid[]) IS 'The first 51 rows that wait in a part of an inbox, in order, and their chats. Null: none.';

CREATE FUNCTION restante_wake(p_users bigint[]) RETURNS void
    LANGUAGE sql
    SET search_path TO 'public', 'pg_temp'
    AS $$
  -- 300 numbers of at most 19 digits stay under NOTIFY's 8,000 bytes.
  select pg_notify(restante_wake_channel(), string_agg(u.user_id::text, ','))
    from (select x.user_id, row_number() over () / 300 as part from (select distinct unnest(p_users) as user_id) x) u
   group by u.part;
$$;

COMMENT ON FUNCTION restante_wake(p_users bigint[]) IS 'Tells every node that something waits for these users (users.id, comma separated, on restante_wake_channel()). A hint: nothing is lost without it.';

CREATE FUNCTION restante_wake_channel() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
  select case current_schema() when 'public' then 'restante_wake' else 'restante_wake_' || quote_ident(current_schema())::regnamespace::oid end;
$$;

COMMENT ON FUNCTION restante_wake_channel() IS 'On which channel nodes are woken from SQL: channels belong to a database, and another schema of it may hold another service.';

CREATE FUNCTION restante_wake_followers(p_streams uuid[]) RETURNS void
    LANGUAGE sql
    SET search_path TO 'public', 'pg_temp'
    AS $$
  select pg_notify(restante_wake_channel(), 'feed ' || u.chat) from (select distinct unnest(p_streams) as chat) u where u.chat is not null;
$$;

COMMENT ON FUNCTION restante_wake_followers(p_streams uuid[]) IS 'Tells every node that something was published in these streams (chats.id), as "feed " and the id on restante_wake_channel(). Each wakes those of its users that follow. A hint: nothing is lost without it.';

CREATE FUNCTION restante_why_not_add(p_chat uuid, p_caller bigint, p_users bigint[], p_unknown bigint, p_members_max integer, p_contacts_only boolean) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION restante_why_not_add(p_chat uuid, p_caller bigint, p_users bigint[], p_unknown bigint, p_members_max integer, p_contacts_only boolean) IS 'The outcome with which restante_add_members would refuse these users and so many more who are new, as far as that is seen without a lock; null: it would not.';

CREATE FUNCTION restante_why_not_invite(p_chat uuid, p_inviter bigint, p_users bigint[]) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET jit TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  perform restante_needs_read_committed();
  if cardinality(p_users) = 0 then
    return null;
  end if;
  -- Two that invite the same user, or in the name of the same one, count one after the other. A block is waited for, or waits.
  perform restante_lock_users(p_users || p_inviter);
  -- A statement after the locks.
  if exists (
    select from (select unnest(p_users) as id) u
    cross join lateral (
      select count(*) as stored, count(*) filter (where i.declined_at is null and i.expires_at > clock_timestamp()) as waiting,
             count(*) filter (where i.chat_id = p_chat and i.declined_at is not null and i.expires_at > clock_timestamp()) as declined,
             count(*) filter (where i.chat_id = p_chat and i.declined_at is null and i.expires_at > clock_timestamp()) as invited
        from (select * from invitations x where x.user_id = u.id limit 1000) i
    ) n
    where n.declined > 0 or n.invited = 0 and (n.waiting >= 100 or n.stored >= 1000)
  ) then
    return 'not_accepted';
  end if;
  if cardinality(p_users) - (
    select count(*) from (select unnest(p_users) as id) u
    cross join lateral (select from invitations i where i.user_id = u.id and i.chat_id = p_chat and i.expires_at > clock_timestamp() limit 1) i
  ) > restante_invitations_left(p_inviter) then
    return 'too_many_invitations';
  end if;
  return null;
end $$;

COMMENT ON FUNCTION restante_why_not_invite(p_chat uuid, p_inviter bigint, p_users bigint[]) IS 'The reason why this user does not invite these to a group: not_accepted (one of them has declined an invitation to it that has not expired, or has as many invitations as it may), too_many_invitations (that the inviter has made). Null: they may be, unless one has blocked the inviter. They and the inviter stay locked until the transaction ends. Who is invited already counts for nothing.';

CREATE TABLE account_logins (
    id uuid NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    family uuid NOT NULL,
    secret_hash bytea NOT NULL,
    previous_hash bytea,
    renewed_at timestamp with time zone NOT NULL,
    begun_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT a_login_ends_when_it_expires_at_the_latest CHECK ((ends_at <= expires_at)),
    CONSTRAINT hashes_of_refresh_tokens_are_of_sha256 CHECK (((octet_length(secret_hash) = 32) AND (octet_length(previous_hash) = 32)))
);

COMMENT ON TABLE account_logins IS 'Logins that are open: what one client of an account has from its login to its logout. A bounded number for each account.';

COMMENT ON COLUMN account_logins.id IS 'The login, as its access tokens name it (sid).';

COMMENT ON COLUMN account_logins.name IS 'The account.';

COMMENT ON COLUMN account_logins.family IS 'What all refresh tokens of the login have in common: their first half. It is in no access token.';

COMMENT ON COLUMN account_logins.secret_hash IS 'SHA-256 of the other half of the refresh token that counts now.';

COMMENT ON COLUMN account_logins.previous_hash IS 'The same of the one before, which counts once more for REFRESH_GRACE_SECS; null: there was none.';

COMMENT ON COLUMN account_logins.renewed_at IS 'When the refresh token that counts was given out.';

COMMENT ON COLUMN account_logins.begun_at IS 'When the password was given.';

COMMENT ON COLUMN account_logins.ends_at IS 'From then on the refresh token is worth nothing: it was not used in time, or the login has expired.';

COMMENT ON COLUMN account_logins.expires_at IS 'From then on the login has expired, however often it was renewed.';

COMMENT ON CONSTRAINT a_login_ends_when_it_expires_at_the_latest ON account_logins IS 'Renewing it does not make it last for ever.';

COMMENT ON CONSTRAINT hashes_of_refresh_tokens_are_of_sha256 ON account_logins IS 'No refresh token ever stands here.';

CREATE TABLE accounts (
    name text NOT NULL COLLATE pg_catalog."C",
    display_name text,
    password_hash text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    password_changed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT a_password_is_hashed_with_argon2id CHECK (((password_hash ~~ '$argon2id$%'::text) AND (char_length(password_hash) <= 256))),
    CONSTRAINT an_account_has_a_plain_name CHECK ((name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'::text)),
    CONSTRAINT an_account_is_shown_by_a_short_name CHECK (((char_length(display_name) >= 1) AND (char_length(display_name) <= 256)))
);

COMMENT ON TABLE accounts IS 'Names with passwords, for those without an issuer of tokens. Empty unless ACCOUNTS is on. The name is the external id of a user, whose row is made when it first comes.';

COMMENT ON COLUMN accounts.name IS 'The user, as its tokens name it (sub).';

COMMENT ON COLUMN accounts.display_name IS 'The name that is shown to people: the claim name of its tokens.';

COMMENT ON COLUMN accounts.password_hash IS 'The hash of the password by argon2id, with its salt and its parameters, in the form of PHC strings.';

COMMENT ON COLUMN accounts.created_at IS 'When it was registered.';

COMMENT ON COLUMN accounts.password_changed_at IS 'When its password was changed, the last time. A hash that is made anew of the same password is no change.';

COMMENT ON CONSTRAINT a_password_is_hashed_with_argon2id ON accounts IS 'No password ever stands here.';

COMMENT ON CONSTRAINT an_account_has_a_plain_name ON accounts IS 'Nobody can register a name that looks like that of another account.';

COMMENT ON CONSTRAINT an_account_is_shown_by_a_short_name ON accounts IS 'As a token may carry it.';

CREATE TABLE chats (
    id uuid NOT NULL,
    kind chat_kind NOT NULL,
    title text,
    direct_key text COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    recount_xid xid8,
    keep_days integer,
    purged_seq bigint DEFAULT 0 NOT NULL,
    purged_at timestamp with time zone,
    CONSTRAINT a_chat_keeps_its_messages_for_days CHECK (((keep_days >= 0) AND (keep_days <= 36500))),
    CONSTRAINT a_title_has_at_most_256_characters CHECK ((char_length(title) <= 256)),
    CONSTRAINT direct_chats_and_only_they_have_a_key CHECK (((kind = 'direct'::chat_kind) = (direct_key IS NOT NULL)))
);

COMMENT ON TABLE chats IS 'One row per conversation, with what does not change as messages come. Its counter is in chat_heads.';

COMMENT ON COLUMN chats.id IS 'UUID, made by the service.';

COMMENT ON COLUMN chats.kind IS 'direct, group or feed; never changes.';

COMMENT ON COLUMN chats.title IS 'Shown to members; null for direct chats.';

COMMENT ON COLUMN chats.direct_key IS '"smaller users.id : larger users.id", so that two users have one direct chat. Null for groups and feeds.';

COMMENT ON COLUMN chats.created_at IS 'When it was made.';

COMMENT ON COLUMN chats.recount_xid IS 'Transaction of the last change of members before or after which the chat had more than 50: its senders are told counts anew, or members by name again (restante_note_recount). Null: it never had.';

COMMENT ON COLUMN chats.keep_days IS 'Days for which messages of this chat are kept, where that is longer than RETENTION_DAYS. 0: for ever. Null: RETENTION_DAYS. It counts for messages and their history only: rows of recipients go after RETENTION_DAYS.';

COMMENT ON COLUMN chats.purged_seq IS 'Messages with numbers at or below it have been removed. Only grows.';

COMMENT ON COLUMN chats.purged_at IS 'When the newest message that was removed had been accepted. A message id of that time or before may be that of a message that was removed. Null: none was.';

COMMENT ON CONSTRAINT a_chat_keeps_its_messages_for_days ON chats IS 'A hundred years at most, so that no clock runs over.';

COMMENT ON CONSTRAINT a_title_has_at_most_256_characters ON chats IS 'The service accepts no longer one from clients.';

COMMENT ON CONSTRAINT direct_chats_and_only_they_have_a_key ON chats IS 'Without its key the direct chat of two users would be made a second time.';

CREATE VIEW analyst_chats AS
 SELECT c.id,
    c.kind,
    c.created_at
   FROM chats c;

COMMENT ON VIEW analyst_chats IS 'Chats, and streams of feeds, without their titles.';

COMMENT ON COLUMN analyst_chats.id IS 'chats.id.';

COMMENT ON COLUMN analyst_chats.kind IS 'chats.kind.';

COMMENT ON COLUMN analyst_chats.created_at IS 'chats.created_at.';

CREATE VIEW analyst_deliveries AS
 SELECT s.message_id,
    s.user_id,
    s.class,
    s.seq,
    s.status,
    s.attempts,
    s.ended,
    s.delivered_at,
    s.read_at
   FROM message_status s;

COMMENT ON VIEW analyst_deliveries IS 'What became of each message for each recipient. The reason in words is left out: a client writes it, and may quote the message.';

COMMENT ON COLUMN analyst_deliveries.message_id IS 'message_status.message_id.';

COMMENT ON COLUMN analyst_deliveries.user_id IS 'message_status.user_id.';

COMMENT ON COLUMN analyst_deliveries.class IS 'message_status.class.';

COMMENT ON COLUMN analyst_deliveries.seq IS 'message_status.seq.';

COMMENT ON COLUMN analyst_deliveries.status IS 'message_status.status.';

COMMENT ON COLUMN analyst_deliveries.attempts IS 'message_status.attempts.';

COMMENT ON COLUMN analyst_deliveries.ended IS 'message_status.ended.';

COMMENT ON COLUMN analyst_deliveries.delivered_at IS 'message_status.delivered_at.';

COMMENT ON COLUMN analyst_deliveries.read_at IS 'message_status.read_at.';

CREATE TABLE chat_members (
    chat_id uuid NOT NULL,
    user_id bigint NOT NULL,
    role member_role DEFAULT 'member'::member_role NOT NULL,
    joined_seq bigint DEFAULT 0 NOT NULL,
    left_seq bigint,
    CONSTRAINT nobody_leaves_before_joining CHECK ((left_seq >= joined_seq))
)
WITH (fillfactor='90');

COMMENT ON TABLE chat_members IS 'The members that a chat has, or had. Joining and leaving lock the chat''s head first, so membership at message number n is exact. How far a member has got is in marks.';

COMMENT ON COLUMN chat_members.chat_id IS 'The chat.';

COMMENT ON COLUMN chat_members.user_id IS 'The member.';

COMMENT ON COLUMN chat_members.role IS 'admin may add and remove members.';

COMMENT ON COLUMN chat_members.joined_seq IS 'chat_heads.last_seq when the member joined (the last time): it gets and sees messages above it.';

COMMENT ON COLUMN chat_members.left_seq IS 'chat_heads.last_seq when the member left; null while it is in the chat.';

COMMENT ON CONSTRAINT nobody_leaves_before_joining ON chat_members IS 'A member that joins again has left_seq set to null.';

CREATE VIEW analyst_members AS
 SELECT m.chat_id,
    m.user_id,
    m.role,
    m.joined_seq,
    m.left_seq
   FROM chat_members m;

COMMENT ON VIEW analyst_members IS 'The members that chats have, or had.';

COMMENT ON COLUMN analyst_members.chat_id IS 'chat_members.chat_id.';

COMMENT ON COLUMN analyst_members.user_id IS 'chat_members.user_id.';

COMMENT ON COLUMN analyst_members.role IS 'chat_members.role.';

COMMENT ON COLUMN analyst_members.joined_seq IS 'chat_members.joined_seq.';

COMMENT ON COLUMN analyst_members.left_seq IS 'chat_members.left_seq.';

CREATE TABLE messages (
    id uuid NOT NULL,
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    sender_id bigint NOT NULL,
    message_type message_type_text DEFAULT 'text'::text NOT NULL,
    content text,
    metadata jsonb,
    sealed bytea,
    key_id text COLLATE pg_catalog."C",
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    collapse_key text COLLATE pg_catalog."C",
    recalled_at timestamp with time zone,
    merge jsonb
);

COMMENT ON TABLE messages IS 'Every message once, whatever the number of recipients. Written only by restante_accept() and, those of feeds, by restante_publish_batch(), which check what foreign keys and checks would (they double the cost of accepting), and by restante_take_back(), which empties a message that is recalled and adds a notice of it; removed by restante_purge_chats().';

COMMENT ON COLUMN messages.id IS 'Chosen by the client before it sends, or by the service: sending the same id again returns the first result.';

COMMENT ON COLUMN messages.chat_id IS 'The chat (chats.id).';

COMMENT ON COLUMN messages.seq IS 'Number in the chat, 1, 2, 3, ... in commit order without a hole. The notice that a message was recalled has the number of that message, negated.';

COMMENT ON COLUMN messages.sender_id IS 'The sender (users.id). It has no row in message_status.';

COMMENT ON COLUMN messages.message_type IS 'The type that the client gave it: text, image, action, ... restante:recalled: the notice of a recall; no client may send a type that begins with restante:.';

COMMENT ON COLUMN messages.content IS 'The text, at most 32 KiB; of the notice of a recall the id of the message. Null when it is sealed or was recalled, and for events.';

COMMENT ON COLUMN messages.metadata IS 'The client''s own JSON, at most 8 KiB, and of an event its data; null when it is sealed, or there is none.';

COMMENT ON COLUMN messages.sealed IS 'Content and metadata as ciphertext; null: they are plain.';

COMMENT ON COLUMN messages.key_id IS 'Name of the key of sealed; null: plain.';

COMMENT ON COLUMN messages.created_at IS 'The database''s clock after the locks were taken: grows with seq within a chat.';

COMMENT ON COLUMN messages.expires_at IS 'From then on it is no longer delivered: rows still waiting become expired. Null: never.';

COMMENT ON COLUMN messages.collapse_key IS 'Events of one key replace each other while they wait. Null: none.';

COMMENT ON COLUMN messages.recalled_at IS 'When its sender recalled it: its content and metadata are gone since. Null: it was not recalled.';

COMMENT ON COLUMN messages.merge IS 'The rules for members of an event''s data where it takes the place of others: {"likes": "sum", "actors": "union", "n": "count"}. The node does it, whenever it reads the event for a recipient. Null: it is not merged, or is no event.';

CREATE VIEW analyst_messages AS
 SELECT m.id,
    m.chat_id,
    m.seq,
    m.sender_id,
    m.message_type,
    m.created_at,
    m.expires_at,
    m.recalled_at
   FROM messages m;

COMMENT ON VIEW analyst_messages IS 'Messages and events without what they say: no content, metadata, data or collapse key. Their type is what the sender says it is.';

COMMENT ON COLUMN analyst_messages.id IS 'messages.id.';

COMMENT ON COLUMN analyst_messages.chat_id IS 'messages.chat_id.';

COMMENT ON COLUMN analyst_messages.seq IS 'messages.seq.';

COMMENT ON COLUMN analyst_messages.sender_id IS 'messages.sender_id.';

COMMENT ON COLUMN analyst_messages.message_type IS 'messages.message_type.';

COMMENT ON COLUMN analyst_messages.created_at IS 'messages.created_at.';

COMMENT ON COLUMN analyst_messages.expires_at IS 'messages.expires_at.';

COMMENT ON COLUMN analyst_messages.recalled_at IS 'messages.recalled_at.';

CREATE TABLE users (
    id bigint NOT NULL,
    external_id text NOT NULL COLLATE pg_catalog."C",
    display_name text,
    avatar_url text,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    came_at timestamp with time zone,
    is_current boolean DEFAULT true NOT NULL,
    CONSTRAINT an_external_id_has_1_to_128_characters CHECK (((char_length(external_id) >= 1) AND (char_length(external_id) <= 128)))
);

COMMENT ON TABLE users IS 'One row per person or program that has sent, received or connected. Made on first sight by restante_users(), together with its inboxes. Changes rarely on purpose: nothing that moves often belongs here.';

COMMENT ON COLUMN users.id IS 'Number used inside this schema only. Outside, a user is always its external_id.';

COMMENT ON COLUMN users.external_id IS 'The "sub" of the user''s token, 1 to 128 characters. What every API shows. Compared byte by byte (collation C), so that no upgrade of a collation''s library can hide a user.';

COMMENT ON COLUMN users.display_name IS 'Name shown to recipients beside a message, if known.';

COMMENT ON COLUMN users.avatar_url IS 'Address of the picture shown to recipients, if known.';

COMMENT ON COLUMN users.created_at IS 'When the row was made.';

COMMENT ON COLUMN users.came_at IS 'When the user first came with a token of its own. Null: it was only named by others so far, as a member or a recipient.';

COMMENT ON COLUMN users.is_current IS 'It is the user that its external_id names. False: it was erased, and another user has its external_id now. The row stays for what others have of it, and nobody is it any more.';

COMMENT ON CONSTRAINT an_external_id_has_1_to_128_characters ON users IS 'Longer or empty ones come from no token that the service accepts.';

CREATE VIEW analyst_users AS
 SELECT u.id,
    u.external_id,
    u.created_at,
    u.came_at
   FROM users u;

COMMENT ON VIEW analyst_users IS 'Users without their names and pictures.';

COMMENT ON COLUMN analyst_users.id IS 'users.id.';

COMMENT ON COLUMN analyst_users.external_id IS 'users.external_id.';

COMMENT ON COLUMN analyst_users.created_at IS 'users.created_at.';

COMMENT ON COLUMN analyst_users.came_at IS 'users.came_at.';

CREATE TABLE application_senders (
    role_name text NOT NULL COLLATE pg_catalog."C",
    sender text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT a_role_has_a_name CHECK (((octet_length(role_name) >= 1) AND (octet_length(role_name) <= 63))),
    CONSTRAINT a_sender_has_at_most_128_characters CHECK ((char_length(sender) <= 128))
);

COMMENT ON TABLE application_senders IS 'As which users an application''s role may send, publish and recall from SQL. Asked where restante_send(), restante_publish() and restante_recall() run with the rights of their owner (restante grants). Written by the owner by hand. Remove the rows of a role before it is dropped: another one of its name would have them.';

COMMENT ON COLUMN application_senders.role_name IS 'The role that has logged in (session_user). SET ROLE changes nothing here.';

COMMENT ON COLUMN application_senders.sender IS 'The user (users.external_id) as which it may send. Empty: every user.';

COMMENT ON CONSTRAINT a_role_has_a_name ON application_senders IS 'PostgreSQL has no longer ones.';

COMMENT ON CONSTRAINT a_sender_has_at_most_128_characters ON application_senders IS 'No user has a longer name.';

CREATE TABLE audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    actor text NOT NULL COLLATE pg_catalog."C",
    action text NOT NULL COLLATE pg_catalog."C",
    target jsonb NOT NULL,
    outcome text NOT NULL COLLATE pg_catalog."C",
    node_id uuid,
    role_name text DEFAULT SESSION_USER NOT NULL COLLATE pg_catalog."C",
    address inet DEFAULT inet_client_addr(),
    CONSTRAINT a_target_is_an_object_of_at_most_2048_bytes CHECK (((jsonb_typeof(target) = 'object'::text) AND (octet_length((target)::text) <= 2048))),
    CONSTRAINT an_action_has_1_to_64_characters CHECK (((char_length(action) >= 1) AND (char_length(action) <= 64))),
    CONSTRAINT an_actor_has_1_to_128_characters CHECK (((char_length(actor) >= 1) AND (char_length(actor) <= 128))),
    CONSTRAINT an_outcome_has_1_to_64_characters CHECK (((char_length(outcome) >= 1) AND (char_length(outcome) <= 64)))
);

COMMENT ON TABLE audit IS 'One row for each act of an operator, written in the transaction of the act. Append-only, and kept for ever. Holds no content of messages and no token.';

COMMENT ON COLUMN audit.id IS 'Number of the act. Rows are listed by it, newest first.';

COMMENT ON COLUMN audit.at IS 'When it was done.';

COMMENT ON COLUMN audit.actor IS 'The operator: the "sub" of its token, or the role that was logged in.';

COMMENT ON COLUMN audit.action IS 'The act, such as dead_letter.requeue.';

COMMENT ON COLUMN audit.target IS 'What was acted upon: ids by name, such as {"messageId": …, "userId": …}.';

COMMENT ON COLUMN audit.outcome IS 'What came of it: the word that the operator was answered.';

COMMENT ON COLUMN audit.node_id IS 'The node through which it was asked for. Null: by a command, or by hand in SQL.';

COMMENT ON COLUMN audit.role_name IS 'The role of the database that wrote it: that of the node, or that of whoever was at work in SQL.';

COMMENT ON COLUMN audit.address IS 'The address from which that role was connected. Null: over a socket of the machine itself.';

COMMENT ON CONSTRAINT a_target_is_an_object_of_at_most_2048_bytes ON audit IS 'Ids, and nothing that somebody has written.';

COMMENT ON CONSTRAINT an_action_has_1_to_64_characters ON audit IS 'Acts are words of the service.';

COMMENT ON CONSTRAINT an_actor_has_1_to_128_characters ON audit IS 'As the name of a user.';

COMMENT ON CONSTRAINT an_outcome_has_1_to_64_characters ON audit IS 'Outcomes are words of the service.';

ALTER TABLE audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE blocks (
    user_id bigint NOT NULL,
    other_id bigint NOT NULL,
    blocked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT nobody_blocks_itself CHECK ((user_id <> other_id))
);

COMMENT ON TABLE blocks IS 'The blocks of users. Written by restante_put_block() and restante_take_block_back(), under the locks of the rows of users of both.';

COMMENT ON COLUMN blocks.user_id IS 'The user that blocks.';

COMMENT ON COLUMN blocks.other_id IS 'The user that is blocked, and is told nothing of it.';

COMMENT ON COLUMN blocks.blocked_at IS 'Since when.';

COMMENT ON CONSTRAINT nobody_blocks_itself ON blocks IS 'One''s chat with oneself stays open.';

CREATE TABLE bus_keys (
    key_number bigint NOT NULL,
    secret bytea NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT a_bus_key_has_32_bytes CHECK ((octet_length(secret) = 32))
);

COMMENT ON TABLE bus_keys IS 'The secrets with which nodes encrypt what they tell one another, since anybody who may connect to the database may listen and notify. Only the role of the service may read it. A heartbeat makes the next key when the newest is a day old; two are valid while it changes.';

COMMENT ON COLUMN bus_keys.key_number IS 'Later keys have higher numbers.';

COMMENT ON COLUMN bus_keys.secret IS '32 random bytes. Keys for AES-256-GCM are derived from it, one for each node and boot.';

COMMENT ON COLUMN bus_keys.made_at IS 'When it was made. Nodes seal with it a minute later, when all of them know it; a minute after that its predecessor is removed.';

COMMENT ON CONSTRAINT a_bus_key_has_32_bytes ON bus_keys IS 'The service expects no other.';

CREATE TABLE chat_heads (
    chat_id uuid NOT NULL,
    step bigint DEFAULT 0 NOT NULL,
    class inbox_class DEFAULT 'chat'::inbox_class NOT NULL,
    last_seq bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE chat_heads IS 'The counter of each chat, one row a chat. Its row lock orders everything that happens in the chat: sending, joining, leaving. A stepped row, see inboxes. Written together with the chat by the functions that make chats.';

COMMENT ON COLUMN chat_heads.chat_id IS 'The chat (chats.id).';

COMMENT ON COLUMN chat_heads.step IS 'last_seq / 16. Spreads old row versions over index entries, and means nothing else.';

COMMENT ON COLUMN chat_heads.class IS 'The inbox in which members, or followers, get what is sent here.';

COMMENT ON COLUMN chat_heads.last_seq IS 'Highest message number given in this chat; messages holds chats.purged_seq + 1 to last_seq without a hole.';

CREATE TABLE closed_chats (
    chat_id uuid NOT NULL,
    user_id bigint NOT NULL,
    delivered_seq bigint NOT NULL,
    read_seq bigint NOT NULL,
    marked_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    closed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

COMMENT ON TABLE closed_chats IS 'The direct chats with a block between their two members: a row a member. Nothing is accepted in them, and neither member learns how far the other gets. Changed under the lock of the chat''s head, so that accepting sees it in a statement after that lock.';

COMMENT ON COLUMN closed_chats.chat_id IS 'The chat.';

COMMENT ON COLUMN closed_chats.user_id IS 'The member.';

COMMENT ON COLUMN closed_chats.delivered_seq IS 'Its mark when the chat was closed: the other one is shown this one until it is open again.';

COMMENT ON COLUMN closed_chats.read_seq IS 'Likewise.';

COMMENT ON COLUMN closed_chats.marked_xid IS 'The transaction in which that mark had moved last.';

COMMENT ON COLUMN closed_chats.closed_at IS 'Since when. What the member has acked or read after it is not shown to the other one.';

CREATE TABLE contacts (
    user_id bigint NOT NULL,
    other_id bigint NOT NULL,
    wanted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT nobody_is_its_own_contact CHECK ((user_id <> other_id))
);

COMMENT ON TABLE contacts IS 'The users that want one another as contacts: a request, while there is no row the other way, and with one both are contacts. Written by restante_put_contact(), restante_drop_contact() and restante_put_block(), under the locks of the rows of users of both.';

COMMENT ON COLUMN contacts.user_id IS 'The user that has requested the other one, or has accepted its request.';

COMMENT ON COLUMN contacts.other_id IS 'The other one.';

COMMENT ON COLUMN contacts.wanted_at IS 'Since when.';

COMMENT ON CONSTRAINT nobody_is_its_own_contact ON contacts IS 'A chat with oneself needs none.';

CREATE TABLE data_keys (
    id text NOT NULL COLLATE pg_catalog."C",
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    master_id text NOT NULL COLLATE pg_catalog."C",
    wrapped bytea NOT NULL,
    CONSTRAINT a_data_key_has_a_short_id CHECK (((char_length(id) >= 1) AND (char_length(id) <= 64)))
);

COMMENT ON TABLE data_keys IS 'The keys that messages and events are sealed with, each wrapped by a master key that the database never sees. Without its row here what it has sealed is lost. A new one is made every day; one that no row names is removed.';

COMMENT ON COLUMN data_keys.id IS 'The name that messages.key_id has. Random.';

COMMENT ON COLUMN data_keys.made_at IS 'The database''s clock. A key is used a minute after it, when every node knows it; the first one of all is used at once.';

COMMENT ON COLUMN data_keys.master_id IS 'The id of the master key that it is wrapped with, which is derived from that key.';

COMMENT ON COLUMN data_keys.wrapped IS 'Nonce and ciphertext of the key (AES-256-GCM); its id and that of the master key are authenticated with it.';

COMMENT ON CONSTRAINT a_data_key_has_a_short_id ON data_keys IS 'Each sealed message has it.';

CREATE TABLE device_cursors (
    user_id bigint NOT NULL,
    device_id text NOT NULL COLLATE pg_catalog."C",
    class inbox_class NOT NULL,
    step bigint DEFAULT 0 NOT NULL,
    acked_seq bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE device_cursors IS 'How far a device has acked, one row a class. A stepped row, see inboxes.';

COMMENT ON COLUMN device_cursors.user_id IS 'Whose device.';

COMMENT ON COLUMN device_cursors.device_id IS 'The device.';

COMMENT ON COLUMN device_cursors.class IS 'Which inbox.';

COMMENT ON COLUMN device_cursors.step IS 'acked_seq / 16. Spreads old row versions over index entries, and means nothing else.';

COMMENT ON COLUMN device_cursors.acked_seq IS 'The device has acked every number of this inbox up to here. Only grows; 0 stands before everything.';

CREATE TABLE devices (
    user_id bigint NOT NULL,
    device_id text NOT NULL COLLATE pg_catalog."C",
    session_no bigint DEFAULT 1 NOT NULL,
    last_seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    node_id uuid,
    CONSTRAINT a_device_id_has_1_to_64_characters CHECK (((char_length(device_id) >= 1) AND (char_length(device_id) <= 64)))
)
WITH (fillfactor='70');

COMMENT ON TABLE devices IS 'A named installation of a client (?device=). It has its own cursors (device_cursors): it gets everything behind them, whatever another device of the user has acked. A user has at most 50: a new one takes the place of the one that was not seen for longest and is not connected (restante_new_device).';

COMMENT ON COLUMN devices.user_id IS 'Whose device.';

COMMENT ON COLUMN devices.device_id IS 'The name that the client gave, 1 to 64 characters.';

COMMENT ON COLUMN devices.session_no IS 'Counted up at every connect; of two connections the one with the lower number yields (close code 4509).';

COMMENT ON COLUMN devices.last_seen_at IS 'Last connect or disconnect. A device that is not connected is removed 90 days after it (restante_purge_devices).';

COMMENT ON COLUMN devices.node_id IS 'The node that it is connected to (nodes.node_id), since its last connect. Null: it is not connected. Counts only while that node lives.';

COMMENT ON CONSTRAINT a_device_id_has_1_to_64_characters ON devices IS 'The service accepts no other in ?device=.';

CREATE TABLE encryption (
    only_row boolean DEFAULT true NOT NULL,
    is_on boolean DEFAULT false NOT NULL,
    allows_sql boolean DEFAULT false NOT NULL,
    switched_at timestamp with time zone,
    old_before timestamp with time zone,
    sweeps_wanted bigint DEFAULT 0 NOT NULL,
    sweeps_done bigint DEFAULT 0 NOT NULL,
    settled_sweep bigint,
    CONSTRAINT the_row_of_encryption_is_the_only_one CHECK (only_row)
);

COMMENT ON TABLE encryption IS 'The settings and the sweeps of encryption at rest, in one row. Each node that starts writes its settings here; the last one counts.';

COMMENT ON COLUMN encryption.only_row IS 'Always true.';

COMMENT ON COLUMN encryption.is_on IS 'Nodes seal what they store. Functions for SQL store plain text only where allows_sql says so.';

COMMENT ON COLUMN encryption.allows_sql IS 'ENCRYPTION_ALLOW_SQL: plain text may stand in the tables, in WAL and in backups until the job seal has sealed it.';

COMMENT ON COLUMN encryption.switched_at IS 'When a node last started with other settings than the node before it. Null: none has.';

COMMENT ON COLUMN encryption.old_before IS 'Data keys from before this time are to be replaced in every row (restante_rotate_keys). Null: none is.';

COMMENT ON COLUMN encryption.sweeps_wanted IS 'Sweeps of all messages that were asked for so far: by each change of the settings, by each start of a node that seals while settled_sweep is null, and by each rotation.';

COMMENT ON COLUMN encryption.sweeps_done IS 'The number of the last sweep that has come to its end. Smaller than sweeps_wanted: the job seal is at work.';

COMMENT ON COLUMN encryption.settled_sweep IS 'A sweep that began when every node had started a minute or more after switched_at, so that none stores plain text behind it: a start asks for no other one. Null: there was none.';

COMMENT ON CONSTRAINT the_row_of_encryption_is_the_only_one ON encryption IS 'There is nothing that a second one could say.';

CREATE TABLE endings (
    message_id uuid NOT NULL,
    user_id bigint NOT NULL,
    sender_id bigint NOT NULL,
    chat_id uuid NOT NULL,
    chat_seq bigint NOT NULL,
    class inbox_class DEFAULT 'chat'::inbox_class NOT NULL,
    status delivery_status NOT NULL,
    ended ended_reason NOT NULL,
    reason text NOT NULL,
    attempts smallint DEFAULT 0 NOT NULL,
    last_error text,
    discarded_at timestamp with time zone,
    is_hidden boolean DEFAULT false NOT NULL,
    ended_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    ended_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    CONSTRAINT endings_failed_expired_or_were_put_back CHECK ((status = ANY (ARRAY['failed'::delivery_status, 'expired'::delivery_status, 'sent'::delivery_status])))
);

COMMENT ON TABLE endings IS 'One row per row of message_status that failed or expired, or had failed and was put back, written by a trigger; it goes with that row. Events that expire have none. Few, so they can be indexed: the queue itself must not be.';

COMMENT ON COLUMN endings.message_id IS 'The message.';

COMMENT ON COLUMN endings.user_id IS 'The recipient who did not get it.';

COMMENT ON COLUMN endings.sender_id IS 'Its sender, who is told.';

COMMENT ON COLUMN endings.chat_id IS 'Its chat.';

COMMENT ON COLUMN endings.chat_seq IS 'Its number in the chat.';

COMMENT ON COLUMN endings.class IS 'The inbox of the row. Senders are told of chat only; of events it holds the dead letters.';

COMMENT ON COLUMN endings.status IS 'failed or expired; sent once it was put back, whatever became of it since.';

COMMENT ON COLUMN endings.ended IS 'Why, of the closed list.';

COMMENT ON COLUMN endings.reason IS 'Why, in words.';

COMMENT ON COLUMN endings.attempts IS 'Attempts that were counted against it.';

COMMENT ON COLUMN endings.last_error IS 'The last error before it ended: the client''s words, or ack timeout. Null: nothing ever did.';

COMMENT ON COLUMN endings.discarded_at IS 'When an operator gave it up for good: it is no dead letter any more. Null: it is one, if it has failed.';

COMMENT ON COLUMN endings.is_hidden IS 'True: a block has ended it, or it ended while the chat was closed. Its sender is not told of it by itself, but when a mark passes it.';

COMMENT ON COLUMN endings.ended_at IS 'When it ended, or was put back.';

COMMENT ON COLUMN endings.ended_xid IS 'Transaction that changed it last: a sender asks for what changed in the transactions that its last look did not see.';

COMMENT ON CONSTRAINT endings_failed_expired_or_were_put_back ON endings IS 'sent: an operator put it back, and its sender may have to be told. What is delivered has not ended.';

CREATE TABLE erasures (
    user_id bigint NOT NULL,
    empties boolean NOT NULL,
    asked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    round smallint DEFAULT 1 NOT NULL,
    stage text DEFAULT 'chats'::text NOT NULL COLLATE pg_catalog."C",
    chat_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid NOT NULL,
    class inbox_class DEFAULT 'chat'::inbox_class NOT NULL,
    seq bigint DEFAULT 0 NOT NULL,
    emptied bigint DEFAULT 0 NOT NULL,
    successor_id bigint,
    passed_at timestamp with time zone,
    done_at timestamp with time zone,
    CONSTRAINT an_erasure_has_a_stage CHECK ((stage = ANY (ARRAY['chats'::text, 'events'::text, 'inbox'::text, 'people'::text, 'name'::text]))),
    CONSTRAINT an_erasure_has_two_rounds CHECK ((round = ANY (ARRAY[1, 2])))
);

COMMENT ON TABLE erasures IS 'Users that were erased, and how far that has got. Written by restante_erase_user(), and by the job erase, a part at a time.';

COMMENT ON COLUMN erasures.user_id IS 'The user (users.id). Its row in users stays, since rows of others name it.';

COMMENT ON COLUMN erasures.empties IS 'The messages and events of the user are emptied. False: they stay as they are.';

COMMENT ON COLUMN erasures.asked_at IS 'When it was asked for, the last time.';

COMMENT ON COLUMN erasures.round IS 'The job goes through everything twice, the second time some seconds later. Until then another node may have taken a token that was revoked.';

COMMENT ON COLUMN erasures.stage IS 'The part that the job is at: chats (memberships, messages), events, inbox (what waits for the user), people (contacts, blocks, follows, devices), name (it passes on to the successor; the second round begins with it).';

COMMENT ON COLUMN erasures.chat_id IS 'The chat, or the stream, that the job is at. Those of the user below it are done.';

COMMENT ON COLUMN erasures.class IS 'The inbox that the job is at.';

COMMENT ON COLUMN erasures.seq IS 'Numbers up to this one were looked at, of the chat, stream or inbox. The largest number there is: the chat is done.';

COMMENT ON COLUMN erasures.emptied IS 'Messages and events that were emptied so far.';

COMMENT ON COLUMN erasures.successor_id IS 'The user that has the name of the erased one afterwards (users.id). Made in the stage name; null: it was not made yet.';

COMMENT ON COLUMN erasures.passed_at IS 'When the name passed on to the successor. Null: the erased user has it still.';

COMMENT ON COLUMN erasures.done_at IS 'When the second round came to its end. Null: the job is at work.';

COMMENT ON CONSTRAINT an_erasure_has_a_stage ON erasures IS 'The job knows these.';

COMMENT ON CONSTRAINT an_erasure_has_two_rounds ON erasures IS 'A third one would find nothing.';

CREATE TABLE event_statistics (
    message_id uuid NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    recipients bigint DEFAULT 0 NOT NULL,
    delivered bigint DEFAULT 0 NOT NULL,
    read bigint DEFAULT 0 NOT NULL,
    ended bigint[] NOT NULL,
    delays bigint[] NOT NULL,
    first_delivered_at timestamp with time zone,
    last_delivered_at timestamp with time zone
)
WITH (fillfactor='70');

COMMENT ON TABLE event_statistics IS 'The figures of each event, so that nobody has to count its rows. Written by restante_count_journal() only, until a day after the event has expired; then it goes. Messages of chats have no row here.';

COMMENT ON COLUMN event_statistics.message_id IS 'The event (messages.id).';

COMMENT ON COLUMN event_statistics.expires_at IS 'When it expires.';

COMMENT ON COLUMN event_statistics.recipients IS 'Rows that were made of it.';

COMMENT ON COLUMN event_statistics.delivered IS 'Rows that became delivered, those that were read at once too.';

COMMENT ON COLUMN event_statistics.read IS 'Rows that became read.';

COMMENT ON COLUMN event_statistics.ended IS 'Rows that ended otherwise, by reason, as in statistics.';

COMMENT ON COLUMN event_statistics.delays IS 'Rows that were delivered, by the time from the publishing, as in statistics.';

COMMENT ON COLUMN event_statistics.first_delivered_at IS 'When its first row was delivered. Null: none was.';

COMMENT ON COLUMN event_statistics.last_delivered_at IS 'When the last one of those so far was delivered.';

CREATE TABLE fan_out_recipients (
    user_id bigint NOT NULL,
    class inbox_class NOT NULL,
    seq bigint NOT NULL,
    message_id uuid NOT NULL
);

COMMENT ON TABLE fan_out_recipients IS 'Listed users that have no row of an event yet: more were listed than one transaction should write, or the inbox was held, or is full. A job writes them, in the order of the events for each user (restante_fan_out). As long as one is here, later events to the same user come here too. Empty, as a rule.';

COMMENT ON COLUMN fan_out_recipients.user_id IS 'The recipient.';

COMMENT ON COLUMN fan_out_recipients.class IS 'The inbox that the row will lie in.';

COMMENT ON COLUMN fan_out_recipients.seq IS 'Number of the event in the stream of events to listed users.';

COMMENT ON COLUMN fan_out_recipients.message_id IS 'The event (messages.id).';

CREATE TABLE fan_outs (
    message_id uuid NOT NULL,
    recipients integer NOT NULL,
    waiting integer NOT NULL,
    muted integer DEFAULT 0 NOT NULL,
    CONSTRAINT a_fan_out_has_as_much_left_as_it_has_at_most CHECK (((waiting >= 0) AND (waiting <= recipients))),
    CONSTRAINT a_fan_out_has_muted_at_most_those_that_wait_no_more CHECK (((muted >= 0) AND (muted <= (recipients - waiting))))
)
WITH (fillfactor='70');

COMMENT ON TABLE fan_outs IS 'The progress of each event to listed users. A row goes with its event (restante_purge_chats).';

COMMENT ON COLUMN fan_outs.message_id IS 'The event (messages.id).';

COMMENT ON COLUMN fan_outs.recipients IS 'The users that get it.';

COMMENT ON COLUMN fan_outs.waiting IS 'How many of them have no row in message_status yet. They are in fan_out_recipients.';

COMMENT ON COLUMN fan_outs.muted IS 'How many of them get no row, since they have muted the type.';

COMMENT ON CONSTRAINT a_fan_out_has_as_much_left_as_it_has_at_most ON fan_outs IS 'Each recipient is counted down once.';

COMMENT ON CONSTRAINT a_fan_out_has_muted_at_most_those_that_wait_no_more ON fan_outs IS 'The preferences of a recipient are looked at when its row would be written.';

CREATE TABLE feed_publishers (
    feed_id uuid NOT NULL,
    user_id bigint NOT NULL,
    role member_role DEFAULT 'member'::member_role NOT NULL
);

COMMENT ON TABLE feed_publishers IS 'The users that may publish to a feed. Those whose token allows it may publish to every feed; they are not listed here.';

COMMENT ON COLUMN feed_publishers.feed_id IS 'The feed.';

COMMENT ON COLUMN feed_publishers.user_id IS 'The publisher.';

COMMENT ON COLUMN feed_publishers.role IS 'admin made the feed, and may add and remove publishers; it stays. member publishes.';

CREATE TABLE feeds (
    feed_id uuid NOT NULL,
    class inbox_class NOT NULL,
    chat_id uuid NOT NULL,
    floor_seq bigint DEFAULT 0 NOT NULL,
    CONSTRAINT a_feed_has_no_stream_of_chat CHECK ((class <> 'chat'::inbox_class)),
    CONSTRAINT a_stream_of_events_has_the_id_of_its_feed CHECK (((class = 'event'::inbox_class) = (chat_id = feed_id)))
);

COMMENT ON TABLE feeds IS 'The streams of feeds: each feed has one for each class of events, numbered on its own. Two feeds are always there. 00000000-0000-0000-0000-000000000001 is that of everyone: every user follows it from first sight. In 00000000-0000-0000-0000-000000000002 events to listed users are numbered: nobody follows it.';

COMMENT ON COLUMN feeds.feed_id IS 'The feed.';

COMMENT ON COLUMN feeds.class IS 'event, or alert for urgent events.';

COMMENT ON COLUMN feeds.chat_id IS 'The stream (chats.id). Its title and the time at which it was made are those of the feed.';

COMMENT ON COLUMN feeds.floor_seq IS 'Events of the stream at or below this number have ended, since too many lived in all (capped). Only grows. What of it is not a row yet becomes none, and a job ends the rows that wait (restante_cap_events).';

COMMENT ON CONSTRAINT a_feed_has_no_stream_of_chat ON feeds IS 'An event never lies between messages of people.';

COMMENT ON CONSTRAINT a_stream_of_events_has_the_id_of_its_feed ON feeds IS 'So that a feed is found by the id of a chat, too.';

CREATE TABLE followers (
    user_id bigint NOT NULL,
    feed_id uuid NOT NULL,
    class inbox_class NOT NULL,
    cursor_seq bigint NOT NULL,
    followed_seq bigint NOT NULL,
    CONSTRAINT a_follower_gets_what_came_after_it_followed CHECK ((cursor_seq >= followed_seq))
)
WITH (fillfactor='50');

COMMENT ON TABLE followers IS 'The users that follow a feed, a row for each of its streams, and how far each has taken it. A cursor moves while the user''s inbox of the class is locked, in the transaction that makes the rows (restante_take). No foreign key leads to the feed: every user that is made would lock the feed of everyone.';

COMMENT ON COLUMN followers.user_id IS 'The follower.';

COMMENT ON COLUMN followers.feed_id IS 'The feed.';

COMMENT ON COLUMN followers.class IS 'Which of its streams.';

COMMENT ON COLUMN followers.cursor_seq IS 'Events of the stream at or below this number are rows of the user''s inbox, or have ended before, or are not for it. Only grows; never above the stream''s last number.';

COMMENT ON COLUMN followers.followed_seq IS 'The stream''s last number when the user began to follow: it gets what came after that.';

COMMENT ON CONSTRAINT a_follower_gets_what_came_after_it_followed ON followers IS 'An event from before is not for it.';

CREATE TABLE inbox_gaps (
    user_id bigint NOT NULL,
    class inbox_class NOT NULL,
    seq bigint NOT NULL,
    reason ended_reason NOT NULL,
    feed_id uuid,
    from_feed_seq bigint,
    to_feed_seq bigint,
    count bigint,
    CONSTRAINT a_gap_of_a_feed_has_a_range CHECK ((num_nulls(feed_id, from_feed_seq, to_feed_seq, count) = ANY (ARRAY[0, 4]))),
    CONSTRAINT a_range_of_a_feed_holds_what_it_counts CHECK (((count >= 1) AND (count <= ((to_feed_seq - from_feed_seq) + 1))))
);

COMMENT ON TABLE inbox_gaps IS 'Inbox numbers above inboxes.purged_seq that have no row: moved to a new number (requeued), or given to events of a feed that ended before they became rows (restante_take). Clients are told (queue:gap). A gap goes with the rows around it (restante_purge_inboxes).';

COMMENT ON COLUMN inbox_gaps.user_id IS 'Whose inbox.';

COMMENT ON COLUMN inbox_gaps.class IS 'Which inbox.';

COMMENT ON COLUMN inbox_gaps.seq IS 'The number that will never come.';

COMMENT ON COLUMN inbox_gaps.reason IS 'Why, of the closed list.';

COMMENT ON COLUMN inbox_gaps.feed_id IS 'Events of this feed ended before they became rows, and have this one number together. Null: the number had a row.';

COMMENT ON COLUMN inbox_gaps.from_feed_seq IS 'The first of them, as a number of the feed''s stream of the class.';

COMMENT ON COLUMN inbox_gaps.to_feed_seq IS 'The last of them.';

COMMENT ON COLUMN inbox_gaps.count IS 'How many of them the user would have got. Of events that have been removed it counts all.';

COMMENT ON CONSTRAINT a_gap_of_a_feed_has_a_range ON inbox_gaps IS 'All of it, or none.';

COMMENT ON CONSTRAINT a_range_of_a_feed_holds_what_it_counts ON inbox_gaps IS 'A gap stands for one event at least.';

CREATE TABLE inboxes (
    user_id bigint NOT NULL,
    class inbox_class NOT NULL,
    step bigint DEFAULT 0 NOT NULL,
    last_seq bigint DEFAULT 0 NOT NULL,
    settled_seq bigint DEFAULT 0 NOT NULL,
    purged_seq bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE inboxes IS 'Two counters per user and class, one row each. The row lock is what makes inbox numbers gapless and equal to commit order; who numbers an inbox holds it. A STEPPED row: its key ends in a step that grows by one every 16 numbers, and it is looked up from the newest step down. Updates within a step are heap-only; a new step is a new index entry. So while a dump or a forgotten transaction keeps old row versions, a look-up passes at most 16 of them.';

COMMENT ON COLUMN inboxes.user_id IS 'Whose inbox.';

COMMENT ON COLUMN inboxes.class IS 'chat, alert or event.';

COMMENT ON COLUMN inboxes.step IS 'last_seq / 16. Spreads old row versions over index entries, and means nothing else.';

COMMENT ON COLUMN inboxes.last_seq IS 'Highest number given so far; message_status holds purged_seq + 1 to last_seq without a hole, save for what inbox_gaps names.';

COMMENT ON COLUMN inboxes.settled_seq IS 'Nothing at or below this number waits any more (no row in status sent). A drain starts behind it. Computed only while this row is locked, in a later statement than the lock; may lag, must never lead.';

COMMENT ON COLUMN inboxes.purged_seq IS 'Numbers at or below it have been removed, with their gaps: a device behind it is told one gap (purged) up to here. Only grows, never above settled_seq.';

CREATE TABLE invitations (
    user_id bigint NOT NULL,
    chat_id uuid NOT NULL,
    inviter_id bigint,
    invited_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    declined_at timestamp with time zone,
    CONSTRAINT an_invitation_ends_after_it_was_made CHECK ((expires_at > invited_at)),
    CONSTRAINT an_invitation_that_waits_names_its_inviter CHECK (((inviter_id IS NOT NULL) OR (declined_at IS NOT NULL))),
    CONSTRAINT nobody_invites_itself CHECK ((user_id <> inviter_id))
);

COMMENT ON TABLE invitations IS 'The users who are invited to groups. One waits while it is neither declined nor expired. Written by restante_put_invitations(), ended by those who accept, decline, withdraw and block, and by a job.';

COMMENT ON COLUMN invitations.user_id IS 'The user that is invited.';

COMMENT ON COLUMN invitations.chat_id IS 'The group.';

COMMENT ON COLUMN invitations.inviter_id IS 'The admin that has invited it. Null: the user has declined, and the admin is erased.';

COMMENT ON COLUMN invitations.invited_at IS 'Since when.';

COMMENT ON COLUMN invitations.expires_at IS 'From then on it counts no more, and a job removes the row (invitations).';

COMMENT ON COLUMN invitations.declined_at IS 'The time at which the user has declined it. Until the invitation expires the user is not invited to this group again.';

COMMENT ON CONSTRAINT an_invitation_ends_after_it_was_made ON invitations IS 'It waits for a while.';

COMMENT ON CONSTRAINT an_invitation_that_waits_names_its_inviter ON invitations IS 'One that was declined outlives its inviter.';

COMMENT ON CONSTRAINT nobody_invites_itself ON invitations IS 'An inviter is a member of the group.';

CREATE TABLE last_seen (
    user_id bigint NOT NULL,
    seen_at timestamp with time zone NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE last_seen IS 'When the last connection of a user ended, for RETENTION_DAYS. The nodes know the users that are connected now.';

COMMENT ON COLUMN last_seen.user_id IS 'The user.';

COMMENT ON COLUMN last_seen.seen_at IS 'End of its last connection, by the database''s clock.';

CREATE TABLE living_events (
    number bigint NOT NULL,
    message_id uuid NOT NULL,
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    passed_user bigint DEFAULT 0 NOT NULL,
    has_held boolean DEFAULT false NOT NULL,
    is_final boolean DEFAULT false NOT NULL,
    is_walked boolean DEFAULT false NOT NULL,
    ended_xid xid8
)
WITH (fillfactor='70');

COMMENT ON TABLE living_events IS 'The events that may live: stored, neither expired nor capped, and of those to listed users one recipient at least has not got it. Written with the event; a job takes out what lives no more (restante_cap_events). Messages of chats are never here.';

COMMENT ON COLUMN living_events.number IS 'The order in which events were published, within each stream that of its numbers.';

COMMENT ON COLUMN living_events.message_id IS 'The event (messages.id).';

COMMENT ON COLUMN living_events.chat_id IS 'Its stream.';

COMMENT ON COLUMN living_events.seq IS 'Its number there.';

COMMENT ON COLUMN living_events.expires_at IS 'From then on it does not live.';

COMMENT ON COLUMN living_events.passed_user IS 'How far the job has looked through the recipients: rows of users up to here do not wait, or are held (has_held).';

COMMENT ON COLUMN living_events.has_held IS 'It is capped, and the walk through its rows has met one that somebody holds: there is another walk.';

COMMENT ON COLUMN living_events.is_final IS 'It is capped, and the walk began after every transaction had ended that may make a row of it: the event goes at its end.';

COMMENT ON COLUMN living_events.is_walked IS 'It is capped, and all rows were looked at: what may still come is for the last walk.';

COMMENT ON COLUMN living_events.ended_xid IS 'The transaction in which the job first found that the event is capped. An older one that is still open may make a row of it. Null: it is not capped, or the job has not come here since.';

ALTER TABLE living_events ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME living_events_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE marks (
    chat_id uuid NOT NULL,
    user_id bigint NOT NULL,
    step bigint DEFAULT 0 NOT NULL,
    moves bigint DEFAULT 0 NOT NULL,
    delivered_seq bigint DEFAULT 0 NOT NULL,
    read_seq bigint DEFAULT 0 NOT NULL,
    has_hole boolean DEFAULT false NOT NULL,
    marked_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    purged_seq bigint DEFAULT 0 NOT NULL,
    CONSTRAINT what_is_read_was_delivered CHECK ((read_seq <= delivered_seq))
)
WITH (fillfactor='50');

COMMENT ON TABLE marks IS 'The numbers up to which each member of a chat has got without a hole: one row tells a sender that was away what a thousand rows became. One row a member, made with it. A stepped row, see inboxes; it steps by moves, since a requeue lowers marks.';

COMMENT ON COLUMN marks.chat_id IS 'The chat.';

COMMENT ON COLUMN marks.user_id IS 'The member (chat_members).';

COMMENT ON COLUMN marks.step IS 'moves / 16. Spreads old row versions over index entries, and means nothing else.';

COMMENT ON COLUMN marks.moves IS 'How often this row was changed.';

COMMENT ON COLUMN marks.delivered_seq IS 'No message of the chat at or below this number waits (status sent) for this member. Own messages and numbers it has no row for count as passed. Only a requeue lowers it.';

COMMENT ON COLUMN marks.read_seq IS 'No message of the chat at or below this number is unread by this member. Never above delivered_seq.';

COMMENT ON COLUMN marks.has_hole IS 'A message may wait below what this member has acked since: it was requeued, or skipped, or acked by another way. The marks are then computed from the rows, not taken from what a session proposes. Cleared when nothing waits.';

COMMENT ON COLUMN marks.marked_xid IS 'Transaction that last moved a mark. A sender that was away asks for marks of the transactions that its last look did not see: by transaction, not by clock, so that one that commits late is not missed.';

COMMENT ON COLUMN marks.purged_seq IS 'The rows of this member for messages of the chat at or below this number have been removed, save those that were put back since. Unread messages are counted above it, and no mark is computed from rows below it.';

COMMENT ON CONSTRAINT what_is_read_was_delivered ON marks IS 'A writer that moves read_seq moves delivered_seq at least as far.';

CREATE TABLE marks_behind (
    chat_id uuid NOT NULL,
    user_id bigint NOT NULL
);

COMMENT ON TABLE marks_behind IS 'Members whose marks could not be computed to the end in one go, since too many messages lie in between. A job goes on, a part at a time (restante_catch_up_marks). Empty, as a rule.';

COMMENT ON COLUMN marks_behind.chat_id IS 'The chat.';

COMMENT ON COLUMN marks_behind.user_id IS 'The member.';

CREATE TABLE outgoing (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    place integer NOT NULL,
    message_id uuid NOT NULL,
    chat_id uuid NOT NULL,
    sender_id bigint NOT NULL,
    message_type message_type_text NOT NULL,
    content text NOT NULL,
    metadata jsonb,
    expires_at timestamp with time zone,
    CONSTRAINT a_transaction_sends_at_most_1000_messages CHECK (((place >= 1) AND (place <= 1000)))
);

COMMENT ON TABLE outgoing IS 'Requests of restante_send() inside transactions that have not committed yet. Accepted and emptied at their commit: seen from outside it is always empty.';

COMMENT ON COLUMN outgoing.xid IS 'The transaction that made it.';

COMMENT ON COLUMN outgoing.place IS 'Order of the requests of a transaction, from 1.';

COMMENT ON COLUMN outgoing.message_id IS 'The id the message will have.';

COMMENT ON COLUMN outgoing.chat_id IS 'The chat.';

COMMENT ON COLUMN outgoing.sender_id IS 'The sender (users.id).';

COMMENT ON COLUMN outgoing.message_type IS 'text, image, ...';

COMMENT ON COLUMN outgoing.content IS 'The text.';

COMMENT ON COLUMN outgoing.metadata IS 'The client''s own JSON.';

COMMENT ON COLUMN outgoing.expires_at IS 'From then on it is no longer delivered.';

COMMENT ON CONSTRAINT a_transaction_sends_at_most_1000_messages ON outgoing IS 'The chats are locked for as long as the commit takes.';

CREATE TABLE outgoing_events (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    place integer NOT NULL,
    message_id uuid NOT NULL,
    publisher_id bigint NOT NULL,
    event_type message_type_text NOT NULL,
    data jsonb,
    users bigint[],
    feed_id uuid,
    class inbox_class NOT NULL,
    ttl_ms bigint NOT NULL,
    collapse_key text COLLATE pg_catalog."C",
    excepted bigint[],
    merge jsonb,
    CONSTRAINT a_transaction_publishes_at_most_1000_events CHECK (((place >= 1) AND (place <= 1000))),
    CONSTRAINT an_event_has_listed_users_or_a_feed CHECK ((num_nulls(users, feed_id) = 1))
);

COMMENT ON TABLE outgoing_events IS 'Requests of restante_publish() inside transactions that have not committed yet. Published and emptied at their commit: seen from outside it is always empty.';

COMMENT ON COLUMN outgoing_events.xid IS 'The transaction that made it.';

COMMENT ON COLUMN outgoing_events.place IS 'Order of the requests of a transaction, from 1.';

COMMENT ON COLUMN outgoing_events.message_id IS 'The id the event will have.';

COMMENT ON COLUMN outgoing_events.publisher_id IS 'The publisher (users.id).';

COMMENT ON COLUMN outgoing_events.event_type IS 'post_update, new_comment, ...';

COMMENT ON COLUMN outgoing_events.data IS 'Its data.';

COMMENT ON COLUMN outgoing_events.users IS 'The users that get it. Null: it goes to a feed.';

COMMENT ON COLUMN outgoing_events.feed_id IS 'The feed. Null: it has listed users.';

COMMENT ON COLUMN outgoing_events.class IS 'event, or alert where it is urgent.';

COMMENT ON COLUMN outgoing_events.ttl_ms IS 'Milliseconds from its acceptance on for which it is delivered.';

COMMENT ON COLUMN outgoing_events.collapse_key IS 'The newest event of a key takes the place of one that waits. Null: none.';

COMMENT ON COLUMN outgoing_events.excepted IS 'Users that do not get it.';

COMMENT ON COLUMN outgoing_events.merge IS 'The rules for its data where it takes the place of others (messages.merge). Null: it is not merged.';

COMMENT ON CONSTRAINT a_transaction_publishes_at_most_1000_events ON outgoing_events IS 'The streams are locked for as long as the commit takes.';

COMMENT ON CONSTRAINT an_event_has_listed_users_or_a_feed ON outgoing_events IS 'One of the two.';

CREATE TABLE plain_messages (
    message_id uuid NOT NULL
);

COMMENT ON TABLE plain_messages IS 'Messages and events that SQL has stored as plain text while encryption is on. The job seal seals them, and takes them out.';

COMMENT ON COLUMN plain_messages.message_id IS 'The message (messages.id).';

CREATE TABLE preferences (
    user_id bigint NOT NULL,
    muted_types text[] NOT NULL,
    muted_chats uuid[] NOT NULL,
    CONSTRAINT a_user_mutes_at_most_1000_chats CHECK ((cardinality(muted_chats) <= 1000)),
    CONSTRAINT a_user_mutes_at_most_100_types CHECK ((cardinality(muted_types) <= 100))
);

COMMENT ON TABLE preferences IS 'The users that have muted something, a row each. Most have none, so that a look finds nothing on the first page of the index.';

COMMENT ON COLUMN preferences.user_id IS 'The user.';

COMMENT ON COLUMN preferences.muted_types IS 'Types of events (messages.message_type) that make no row for the user, each once.';

COMMENT ON COLUMN preferences.muted_chats IS 'Chats (chats.id) in which the user is or was a member: what comes from there is delivered and marked as muted. Each once.';

COMMENT ON CONSTRAINT a_user_mutes_at_most_1000_chats ON preferences IS 'Each session of the user remembers them.';

COMMENT ON CONSTRAINT a_user_mutes_at_most_100_types ON preferences IS 'They are compared with each event that comes.';

CREATE TABLE presence_leases (
    user_id bigint NOT NULL,
    node_id uuid NOT NULL
);

COMMENT ON TABLE presence_leases IS 'The users that are online, and their nodes: a row counts while its node does (nodes.gone_at), so that a heartbeat renews all of a node''s with one row. Written in batches, a moment after the fact. A hint: no message depends on it.';

COMMENT ON COLUMN presence_leases.user_id IS 'The user.';

COMMENT ON COLUMN presence_leases.node_id IS 'A node it is connected to.';

CREATE TABLE recalls (
    message_id uuid NOT NULL,
    notice_id uuid NOT NULL,
    chat_id uuid NOT NULL,
    chat_seq bigint NOT NULL,
    sender_id bigint NOT NULL,
    recalled_at timestamp with time zone NOT NULL,
    after_user bigint DEFAULT 0 NOT NULL,
    is_held boolean DEFAULT false NOT NULL,
    is_told boolean DEFAULT false NOT NULL
);

COMMENT ON TABLE recalls IS 'Recalls that have not come to all recipients of their message. A job goes on, a part at a time (restante_recall_part). Empty, as a rule.';

COMMENT ON COLUMN recalls.message_id IS 'The message that was recalled.';

COMMENT ON COLUMN recalls.notice_id IS 'The notice (messages.id) for those that have it.';

COMMENT ON COLUMN recalls.chat_id IS 'The chat of the message.';

COMMENT ON COLUMN recalls.chat_seq IS 'Its number there. The notice has this number, negated.';

COMMENT ON COLUMN recalls.sender_id IS 'Its sender (users.id).';

COMMENT ON COLUMN recalls.recalled_at IS 'When it was recalled.';

COMMENT ON COLUMN recalls.after_user IS 'Recipients with numbers at or below it (users.id) have been looked at.';

COMMENT ON COLUMN recalls.is_held IS 'Something of one of these was held by another transaction: all are looked at again after the last one.';

COMMENT ON COLUMN recalls.is_told IS 'The connections of the sender are told with the first part.';

CREATE TABLE reopened_chats (
    chat_id uuid NOT NULL,
    user_id bigint NOT NULL,
    told_delivered_seq bigint NOT NULL,
    told_read_seq bigint NOT NULL,
    told_xid xid8 NOT NULL,
    delivered_seq bigint NOT NULL,
    read_seq bigint NOT NULL
);

COMMENT ON TABLE reopened_chats IS 'The direct chats that were closed once: a row a member. Its moves while the chat was closed are told to the other one neither then nor later. A mark that is no higher than when the chat was opened again counts as it was before it was closed.';

COMMENT ON COLUMN reopened_chats.chat_id IS 'The chat.';

COMMENT ON COLUMN reopened_chats.user_id IS 'The member.';

COMMENT ON COLUMN reopened_chats.told_delivered_seq IS 'Its mark before the chat was closed, as the other one may know it.';

COMMENT ON COLUMN reopened_chats.told_read_seq IS 'Likewise.';

COMMENT ON COLUMN reopened_chats.told_xid IS 'The transaction in which that mark had moved last.';

COMMENT ON COLUMN reopened_chats.delivered_seq IS 'Its mark when the chat was opened again, and what the block had still to end by then.';

COMMENT ON COLUMN reopened_chats.read_seq IS 'Its mark when the chat was opened again.';

CREATE TABLE revocations (
    number bigint NOT NULL,
    user_name text COLLATE pg_catalog."C",
    device_id text COLLATE pg_catalog."C",
    token_id text COLLATE pg_catalog."C",
    of_login boolean DEFAULT false NOT NULL,
    revoked_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    reason text,
    revoked_by text NOT NULL,
    revoked_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    CONSTRAINT a_revocation_has_a_short_reason CHECK (((char_length(reason) >= 1) AND (char_length(reason) <= 500))),
    CONSTRAINT a_revocation_is_of_a_user_a_device_or_a_token CHECK (((num_nonnulls(user_name, token_id) = 1) AND ((device_id IS NULL) OR (user_name IS NOT NULL)))),
    CONSTRAINT a_revoked_device_has_a_name CHECK (((char_length(device_id) >= 1) AND (char_length(device_id) <= 64))),
    CONSTRAINT a_revoked_token_has_an_id CHECK (((char_length(token_id) >= 1) AND (char_length(token_id) <= 256))),
    CONSTRAINT a_revoked_user_has_a_name CHECK (((char_length(user_name) >= 1) AND (char_length(user_name) <= 128))),
    CONSTRAINT only_a_token_id_is_that_of_a_login CHECK (((token_id IS NOT NULL) OR (NOT of_login)))
);

COMMENT ON TABLE revocations IS 'Tokens that are worth nothing although they have not expired, until they have. A few, written by operators; and one for each login that has ended, until its access tokens have expired.';

COMMENT ON COLUMN revocations.number IS 'Which of two of the same moment comes first.';

COMMENT ON COLUMN revocations.user_name IS 'The user, as its tokens name it (sub): it need not have come yet. Its tokens that were issued before revoked_at are concerned.';

COMMENT ON COLUMN revocations.device_id IS 'The device: then only what this device of the user does with those tokens.';

COMMENT ON COLUMN revocations.token_id IS 'The id of one token (jti), or of the tokens of one login (sid), instead of a user.';

COMMENT ON COLUMN revocations.of_login IS 'The login token_id has ended, and no operator has revoked it. It is counted apart from what operators revoke.';

COMMENT ON COLUMN revocations.revoked_at IS 'When it was revoked, the last time.';

COMMENT ON COLUMN revocations.expires_at IS 'From then on the tokens have expired: a job removes the row (revocations).';

COMMENT ON COLUMN revocations.reason IS 'Why, in the words of the operator.';

COMMENT ON COLUMN revocations.revoked_by IS 'Who did it: the sub of an operator''s token, or the role of a session.';

COMMENT ON COLUMN revocations.revoked_xid IS 'The transaction that wrote the row last. A node reads what transactions have written that were not over when it last read, however long they took.';

COMMENT ON CONSTRAINT a_revocation_has_a_short_reason ON revocations IS 'It is for people.';

COMMENT ON CONSTRAINT a_revocation_is_of_a_user_a_device_or_a_token ON revocations IS 'A token id stands alone: it needs no user.';

COMMENT ON CONSTRAINT a_revoked_device_has_a_name ON revocations IS 'As devices have.';

COMMENT ON CONSTRAINT a_revoked_token_has_an_id ON revocations IS 'Nodes keep it in memory.';

COMMENT ON CONSTRAINT a_revoked_user_has_a_name ON revocations IS 'As users have.';

COMMENT ON CONSTRAINT only_a_token_id_is_that_of_a_login ON revocations IS 'Users and devices are revoked by operators.';

ALTER TABLE revocations ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME revocations_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE statistics (
    hour timestamp with time zone NOT NULL,
    class inbox_class NOT NULL,
    message_type text NOT NULL COLLATE pg_catalog."C",
    accepted bigint DEFAULT 0 NOT NULL,
    recipients bigint DEFAULT 0 NOT NULL,
    delivered bigint DEFAULT 0 NOT NULL,
    read bigint DEFAULT 0 NOT NULL,
    ended bigint[] NOT NULL,
    delays bigint[] NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE statistics IS 'The moves of an hour, by class and type of the messages. Written by restante_count_journal() only. An hour has at most 50 types; what is of another one is counted as restante:other.';

COMMENT ON COLUMN statistics.hour IS 'The beginning of the hour, in UTC, in which it happened. A message that was accepted in one hour may be delivered in a later one.';

COMMENT ON COLUMN statistics.class IS 'The inbox of the rows.';

COMMENT ON COLUMN statistics.message_type IS 'The type of the messages. restante:other: of types beyond the first 50 of the hour.';

COMMENT ON COLUMN statistics.accepted IS 'Messages and events that were stored.';

COMMENT ON COLUMN statistics.recipients IS 'Rows that were made. An event of a feed has one for each follower that has taken it.';

COMMENT ON COLUMN statistics.delivered IS 'Rows that became delivered, those that were read at once too.';

COMMENT ON COLUMN statistics.read IS 'Rows that became read.';

COMMENT ON COLUMN statistics.ended IS 'Rows that ended otherwise, by reason, in the order of the type ended_reason. requeued: rows that had failed and were put back.';

COMMENT ON COLUMN statistics.delays IS 'Rows that were delivered, by the time from created_at of the message: number 1 less than a millisecond, number n + 1 from 1.1 ^ (n - 1) to 1.1 ^ n milliseconds, at most 251. It ends with the last one that is not 0.';

CREATE TABLE statistics_journal (
    at timestamp with time zone NOT NULL,
    kind journal_kind NOT NULL,
    ended ended_reason,
    messages uuid[],
    recipients integer[],
    class inbox_class,
    message_type text COLLATE pg_catalog."C",
    accepted integer,
    CONSTRAINT a_line_names_messages_or_sums_them_up CHECK (((messages IS NOT NULL) OR ((kind = 'accepted'::journal_kind) AND (class IS NOT NULL) AND (message_type IS NOT NULL) AND (accepted IS NOT NULL) AND (cardinality(recipients) = 1))))
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='10000', autovacuum_vacuum_insert_scale_factor='0', vacuum_truncate=off, toast.vacuum_truncate=off, toast.autovacuum_vacuum_scale_factor='0', toast.autovacuum_vacuum_threshold='10000');
ALTER TABLE ONLY statistics_journal ALTER COLUMN messages SET STORAGE EXTERNAL;
ALTER TABLE ONLY statistics_journal ALTER COLUMN recipients SET STORAGE EXTERNAL;

COMMENT ON TABLE statistics_journal IS 'The moves that are not in the figures yet. Rows are only added and removed, never changed: restante_count_journal() takes them out a moment later. If it grows, no node does the job "statistics".';

COMMENT ON COLUMN statistics_journal.at IS 'When it happened, by the clock of the transaction that appended the line. It may commit after later ones.';

COMMENT ON COLUMN statistics_journal.kind IS 'What happened.';

COMMENT ON COLUMN statistics_journal.ended IS 'Why rows ended, of the closed list; requeued: an operator put them back. Null: they did not end.';

COMMENT ON COLUMN statistics_journal.messages IS 'The messages, one for each row that moved; of kind accepted each once. Ids only: what else is known of them is looked up later. Null: messages of chats that were accepted, summed up.';

COMMENT ON COLUMN statistics_journal.recipients IS 'Of kind accepted: for each message the rows that were made at once, or their sum where messages is null. Null: of another kind.';

COMMENT ON COLUMN statistics_journal.class IS 'The inbox of all rows of the line. Null: it is looked up, or the line has rows of several inboxes.';

COMMENT ON COLUMN statistics_journal.message_type IS 'Where messages is null: their type.';

COMMENT ON COLUMN statistics_journal.accepted IS 'Where messages is null: their number.';

COMMENT ON CONSTRAINT a_line_names_messages_or_sums_them_up ON statistics_journal IS 'A line without either is counted nowhere.';

CREATE TABLE token_settings (
    only_row boolean DEFAULT true NOT NULL,
    lifetime_max interval DEFAULT '90 days'::interval NOT NULL,
    CONSTRAINT a_token_may_live_for_a_while CHECK ((lifetime_max > '00:00:00'::interval)),
    CONSTRAINT the_row_of_token_settings_is_the_only_one CHECK (only_row)
);

COMMENT ON TABLE token_settings IS 'The settings of tokens, in one row, for what revokes them in SQL. Each node that starts writes its settings here; the last one counts.';

COMMENT ON COLUMN token_settings.only_row IS 'Always true.';

COMMENT ON COLUMN token_settings.lifetime_max IS 'TOKEN_LIFETIME_MAX: a token is worth nothing so long after it was issued, so a revocation is kept for it.';

COMMENT ON CONSTRAINT a_token_may_live_for_a_while ON token_settings IS 'Or revocations would be over as they are made.';

COMMENT ON CONSTRAINT the_row_of_token_settings_is_the_only_one ON token_settings IS 'There is nothing that a second one could say.';

CREATE TABLE user_limits (
    user_id bigint NOT NULL,
    factor integer NOT NULL,
    set_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT a_factor_lies_between_2_and_1000 CHECK (((factor >= 2) AND (factor <= 1000)))
);

COMMENT ON TABLE user_limits IS 'Users whose rates an operator has raised. Nodes read all of it: for some users, not for many.';

COMMENT ON COLUMN user_limits.user_id IS 'The user.';

COMMENT ON COLUMN user_limits.factor IS 'All rates of the user are multiplied by it.';

COMMENT ON COLUMN user_limits.set_at IS 'When it was set.';

COMMENT ON CONSTRAINT a_factor_lies_between_2_and_1000 ON user_limits IS 'A user with the factor 1 has no row.';

ALTER TABLE users ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME users_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY bus_keys
    ADD CONSTRAINT a_bus_key_is_known_by_its_number PRIMARY KEY (key_number);

ALTER TABLE ONLY chat_heads
    ADD CONSTRAINT a_chat_head_is_found_by_its_newest_step PRIMARY KEY (chat_id, step);

ALTER TABLE ONLY messages
    ADD CONSTRAINT a_chat_number_names_one_message UNIQUE (chat_id, seq);

ALTER TABLE ONLY device_cursors
    ADD CONSTRAINT a_cursor_is_found_by_its_newest_step PRIMARY KEY (user_id, device_id, class, step);

ALTER TABLE ONLY departures
    ADD CONSTRAINT a_departure_is_noted_once PRIMARY KEY (user_id, chat_id, up_to_seq);

ALTER TABLE ONLY feeds
    ADD CONSTRAINT a_feed_has_one_stream_of_a_class PRIMARY KEY (feed_id, class);

ALTER TABLE ONLY inbox_gaps
    ADD CONSTRAINT a_gap_is_named_once PRIMARY KEY (user_id, class, seq);

ALTER TABLE ONLY jobs
    ADD CONSTRAINT a_job_is_listed_once PRIMARY KEY (name);

ALTER TABLE ONLY marks
    ADD CONSTRAINT a_mark_is_found_by_its_newest_step PRIMARY KEY (chat_id, user_id, step);

ALTER TABLE ONLY marks_behind
    ADD CONSTRAINT a_member_is_behind_once PRIMARY KEY (chat_id, user_id);

ALTER TABLE ONLY closed_chats
    ADD CONSTRAINT a_member_of_a_closed_chat_is_noted_once PRIMARY KEY (chat_id, user_id);

ALTER TABLE ONLY reopened_chats
    ADD CONSTRAINT a_member_of_a_reopened_chat_is_noted_once PRIMARY KEY (chat_id, user_id);

ALTER TABLE ONLY presence_leases
    ADD CONSTRAINT a_node_has_one_lease_of_a_user PRIMARY KEY (user_id, node_id);

COMMENT ON CONSTRAINT a_node_has_one_lease_of_a_user ON presence_leases IS 'However many connections it has there.';

ALTER TABLE ONLY nodes
    ADD CONSTRAINT a_node_is_listed_once PRIMARY KEY (node_id);

COMMENT ON CONSTRAINT a_node_is_listed_once ON nodes IS 'A heartbeat finds its row.';

ALTER TABLE ONLY plain_messages
    ADD CONSTRAINT a_plain_message_is_noted_once PRIMARY KEY (message_id);

ALTER TABLE ONLY recalls
    ADD CONSTRAINT a_recall_is_noted_once PRIMARY KEY (message_id);

ALTER TABLE ONLY message_status
    ADD CONSTRAINT a_recipient_gets_a_message_once UNIQUE (message_id, user_id);

ALTER TABLE ONLY fan_out_recipients
    ADD CONSTRAINT a_recipient_waits_for_a_row_once PRIMARY KEY (user_id, class, seq);

ALTER TABLE ONLY application_senders
    ADD CONSTRAINT a_role_is_given_a_sender_once PRIMARY KEY (role_name, sender);

ALTER TABLE ONLY endings
    ADD CONSTRAINT a_row_ends_once PRIMARY KEY (message_id, user_id);

ALTER TABLE ONLY feeds
    ADD CONSTRAINT a_stream_belongs_to_one_feed UNIQUE (chat_id);

ALTER TABLE ONLY outgoing
    ADD CONSTRAINT a_transaction_asks_for_a_message_once PRIMARY KEY (xid, message_id);

ALTER TABLE ONLY outgoing
    ADD CONSTRAINT a_transaction_asks_in_order UNIQUE (xid, place);

ALTER TABLE ONLY outgoing_events
    ADD CONSTRAINT a_transaction_publishes_an_event_once PRIMARY KEY (xid, message_id);

ALTER TABLE ONLY outgoing_events
    ADD CONSTRAINT a_transaction_publishes_in_order UNIQUE (xid, place);

ALTER TABLE ONLY blocks
    ADD CONSTRAINT a_user_blocks_another_once PRIMARY KEY (user_id, other_id);

ALTER TABLE ONLY followers
    ADD CONSTRAINT a_user_follows_a_stream_once PRIMARY KEY (user_id, feed_id, class);

ALTER TABLE ONLY user_limits
    ADD CONSTRAINT a_user_has_one_factor PRIMARY KEY (user_id);

ALTER TABLE ONLY preferences
    ADD CONSTRAINT a_user_has_preferences_once PRIMARY KEY (user_id);

ALTER TABLE ONLY feed_publishers
    ADD CONSTRAINT a_user_is_a_publisher_once PRIMARY KEY (feed_id, user_id);

ALTER TABLE ONLY erasures
    ADD CONSTRAINT a_user_is_erased_once PRIMARY KEY (user_id);

ALTER TABLE ONLY event_exceptions
    ADD CONSTRAINT a_user_is_excepted_once PRIMARY KEY (message_id, user_id);

ALTER TABLE ONLY chat_members
    ADD CONSTRAINT a_user_is_in_a_chat_once PRIMARY KEY (chat_id, user_id);

ALTER TABLE ONLY invitations
    ADD CONSTRAINT a_user_is_invited_to_a_chat_once PRIMARY KEY (user_id, chat_id);

ALTER TABLE ONLY devices
    ADD CONSTRAINT a_user_names_a_device_once PRIMARY KEY (user_id, device_id);

ALTER TABLE ONLY contacts
    ADD CONSTRAINT a_user_wants_another_as_contact_once PRIMARY KEY (user_id, other_id);

ALTER TABLE ONLY last_seen
    ADD CONSTRAINT a_user_was_last_seen_once PRIMARY KEY (user_id);

ALTER TABLE ONLY audit
    ADD CONSTRAINT acts_are_known_by_their_number PRIMARY KEY (id);

ALTER TABLE ONLY fan_outs
    ADD CONSTRAINT an_event_is_fanned_out_once PRIMARY KEY (message_id);

ALTER TABLE ONLY inboxes
    ADD CONSTRAINT an_inbox_is_found_by_its_newest_step PRIMARY KEY (user_id, class, step);

ALTER TABLE ONLY message_status
    ADD CONSTRAINT an_inbox_number_names_one_row PRIMARY KEY (user_id, class, seq);

ALTER TABLE ONLY chats
    ADD CONSTRAINT chats_are_known_by_their_id PRIMARY KEY (id);

ALTER TABLE ONLY data_keys
    ADD CONSTRAINT data_keys_are_known_by_their_id PRIMARY KEY (id);

ALTER TABLE ONLY accounts
    ADD CONSTRAINT each_account_has_a_name_of_its_own PRIMARY KEY (name);

COMMENT ON CONSTRAINT each_account_has_a_name_of_its_own ON accounts IS 'A name that is taken is refused.';

ALTER TABLE ONLY account_logins
    ADD CONSTRAINT each_login_has_a_family_of_refresh_tokens UNIQUE (family);

COMMENT ON CONSTRAINT each_login_has_a_family_of_refresh_tokens ON account_logins IS 'A refresh token names it.';

ALTER TABLE ONLY account_logins
    ADD CONSTRAINT each_login_has_an_id PRIMARY KEY (id);

COMMENT ON CONSTRAINT each_login_has_an_id ON account_logins IS 'Access tokens name it.';

ALTER TABLE ONLY event_statistics
    ADD CONSTRAINT figures_of_an_event_stand_once PRIMARY KEY (message_id);

ALTER TABLE ONLY statistics
    ADD CONSTRAINT figures_of_an_hour_stand_once PRIMARY KEY (hour, class, message_type);

ALTER TABLE ONLY living_events
    ADD CONSTRAINT living_events_are_in_their_order PRIMARY KEY (number);

ALTER TABLE ONLY messages
    ADD CONSTRAINT messages_are_known_by_their_id PRIMARY KEY (id);

ALTER TABLE ONLY revocations
    ADD CONSTRAINT revocations_are_in_their_order PRIMARY KEY (number);

ALTER TABLE ONLY revocations
    ADD CONSTRAINT something_is_revoked_once UNIQUE NULLS NOT DISTINCT (user_name, device_id, token_id);

COMMENT ON CONSTRAINT something_is_revoked_once ON revocations IS 'Revoked again, it is later and lasts longer.';

ALTER TABLE ONLY encryption
    ADD CONSTRAINT there_is_one_row_of_encryption PRIMARY KEY (only_row);

ALTER TABLE ONLY token_settings
    ADD CONSTRAINT there_is_one_row_of_token_settings PRIMARY KEY (only_row);

ALTER TABLE ONLY chats
    ADD CONSTRAINT two_users_share_one_direct_chat UNIQUE (direct_key);

ALTER TABLE ONLY users
    ADD CONSTRAINT users_are_known_by_their_number PRIMARY KEY (id);

COMMENT ON INDEX a_bus_key_is_known_by_its_number IS 'The newest keys.';

COMMENT ON INDEX a_chat_head_is_found_by_its_newest_step IS 'Locks and reads the counter of one chat: order by step desc limit 1.';

COMMENT ON INDEX a_chat_number_names_one_message IS 'History of a chat; proof that a number was given once.';

COMMENT ON INDEX a_cursor_is_found_by_its_newest_step IS 'Reads and moves one cursor: order by step desc limit 1.';

COMMENT ON INDEX a_departure_is_noted_once IS 'Read beside each page of an inbox: does anything there wait for somebody who has left?';

COMMENT ON INDEX a_feed_has_one_stream_of_a_class IS 'Finds the stream of a feed.';

COMMENT ON INDEX a_gap_is_named_once IS 'Read beside a page of the inbox.';

COMMENT ON INDEX a_job_is_listed_once IS 'Finds and locks one job.';

COMMENT ON INDEX a_mark_is_found_by_its_newest_step IS 'Locks and reads the marks of one member: order by step desc limit 1.';

COMMENT ON INDEX a_member_is_behind_once IS 'The job takes the first.';

COMMENT ON INDEX a_member_of_a_closed_chat_is_noted_once IS 'Is this chat closed?';

COMMENT ON INDEX a_member_of_a_reopened_chat_is_noted_once IS 'Was this chat closed once, and what is hidden of the member''s mark?';

COMMENT ON INDEX a_node_has_one_lease_of_a_user IS 'Is this user online, and where else?';

COMMENT ON INDEX a_node_is_listed_once IS 'A heartbeat finds its row; whose lease is it?';

COMMENT ON INDEX a_plain_message_is_noted_once IS 'The job takes them in this order.';

COMMENT ON INDEX a_recall_is_noted_once IS 'The job takes them in turn.';

COMMENT ON INDEX a_recipient_gets_a_message_once IS 'Status of a message for all recipients; acks and reads by message.';

COMMENT ON INDEX a_recipient_waits_for_a_row_once IS 'The job takes the rows of a user in this order.';

COMMENT ON INDEX a_role_is_given_a_sender_once IS 'Looks whether the session''s role may send as a user.';

COMMENT ON INDEX a_row_ends_once IS 'Found by message and recipient when it is put back.';

COMMENT ON INDEX a_stream_belongs_to_one_feed IS 'Finds the feed of an event.';

COMMENT ON INDEX a_transaction_asks_for_a_message_once IS 'A repeated request of a transaction is one. Requests of other transactions are in nobody''s way.';

COMMENT ON INDEX a_transaction_asks_in_order IS 'A commit takes its own requests, in order, whatever others have not committed yet and whatever earlier ones left behind for vacuum.';

COMMENT ON INDEX a_transaction_publishes_an_event_once IS 'A repeated request of a transaction is one.';

COMMENT ON INDEX a_transaction_publishes_in_order IS 'A commit takes its own requests, in order.';

COMMENT ON INDEX a_user_blocks_another_once IS 'Has this user blocked that one? Lists a user''s blocks.';

COMMENT ON INDEX a_user_follows_a_stream_once IS 'The feeds of a user, and how far it has taken each.';

COMMENT ON INDEX a_user_has_one_factor IS 'All factors, in the order of users; that of one user.';

COMMENT ON INDEX a_user_has_preferences_once IS 'Looks up those of a user.';

COMMENT ON INDEX a_user_is_a_publisher_once IS 'May this user publish to this feed?';

COMMENT ON INDEX a_user_is_erased_once IS 'The erasure of a user.';

COMMENT ON INDEX a_user_is_excepted_once IS 'Is this event not for this user?';

COMMENT ON INDEX a_user_is_in_a_chat_once IS 'Members of a chat.';

COMMENT ON INDEX a_user_is_invited_to_a_chat_once IS 'Finds the invitation of a user to a group, and lists a user''s invitations.';

COMMENT ON INDEX a_user_names_a_device_once IS 'Opens a device; counts its session up.';

COMMENT ON INDEX a_user_wants_another_as_contact_once IS 'Are these two contacts? Lists a user''s contacts, and the requests that it has made.';

COMMENT ON INDEX a_user_was_last_seen_once IS 'Answers presence:get.';

CREATE INDEX account_logins_by_end ON account_logins USING btree (ends_at);

COMMENT ON INDEX account_logins_by_end IS 'Finds those that have ended.';

CREATE INDEX account_logins_by_name ON account_logins USING btree (name, renewed_at);

COMMENT ON INDEX account_logins_by_name IS 'Finds the logins of an account, and which of them was renewed longest ago.';

COMMENT ON INDEX acts_are_known_by_their_number IS 'A page of acts.';

COMMENT ON INDEX an_event_is_fanned_out_once IS 'Reads and moves the progress of an event.';

COMMENT ON INDEX an_inbox_is_found_by_its_newest_step IS 'Locks and reads the counters of one inbox: order by step desc limit 1.';

COMMENT ON INDEX an_inbox_number_names_one_row IS 'The drain, the ack, and proof that a number was given once.';

CREATE INDEX blocks_by_other ON blocks USING btree (other_id, user_id);

COMMENT ON INDEX blocks_by_other IS 'Finds who has blocked a user that is erased.';

COMMENT ON INDEX chats_are_known_by_their_id IS 'Reads one chat.';

CREATE INDEX contacts_by_other ON contacts USING btree (other_id, user_id);

COMMENT ON INDEX contacts_by_other IS 'Lists the requests that a user has got.';

COMMENT ON INDEX data_keys_are_known_by_their_id IS 'A key by its name.';

CREATE INDEX data_keys_by_time ON data_keys USING btree (made_at, id);

COMMENT ON INDEX data_keys_by_time IS 'The newest key, and the list of all.';

CREATE INDEX dead_letters_by_recipient ON endings USING btree (user_id, ended_at, message_id) WHERE ((status = 'failed'::delivery_status) AND (discarded_at IS NULL));

COMMENT ON INDEX dead_letters_by_recipient IS 'The dead letters of one recipient.';

CREATE INDEX dead_letters_by_sender ON endings USING btree (sender_id, ended_at, message_id, user_id) WHERE ((status = 'failed'::delivery_status) AND (discarded_at IS NULL));

COMMENT ON INDEX dead_letters_by_sender IS 'The dead letters of one sender.';

CREATE INDEX dead_letters_by_time ON endings USING btree (ended_at, message_id, user_id) WHERE ((status = 'failed'::delivery_status) AND (discarded_at IS NULL));

COMMENT ON INDEX dead_letters_by_time IS 'The list of dead letters, a page at a time.';

COMMENT ON INDEX each_account_has_a_name_of_its_own IS 'Finds an account by its name.';

CREATE UNIQUE INDEX each_external_id_names_one_user ON users USING btree (external_id) WHERE is_current;

COMMENT ON INDEX each_external_id_names_one_user IS 'Finds the user of a token; keeps two nodes from making the same user twice.';

COMMENT ON INDEX each_login_has_a_family_of_refresh_tokens IS 'Finds the login of a refresh token.';

COMMENT ON INDEX each_login_has_an_id IS 'Removes one.';

CREATE INDEX endings_by_sender ON endings USING btree (sender_id, ended_xid, message_id, user_id) WHERE ((class = 'chat'::inbox_class) AND (NOT is_hidden));

COMMENT ON INDEX endings_by_sender IS 'A sender that was away is told of them in this order.';

CREATE INDEX erasures_under_way ON erasures USING btree (user_id) WHERE (done_at IS NULL);

COMMENT ON INDEX erasures_under_way IS 'The job takes them in turn.';

CREATE INDEX event_statistics_by_expiry ON event_statistics USING btree (expires_at);

COMMENT ON INDEX event_statistics_by_expiry IS 'Those whose events have expired.';

COMMENT ON INDEX figures_of_an_event_stand_once IS 'The figures of one event.';

COMMENT ON INDEX figures_of_an_hour_stand_once IS 'Figures of a span of time; the types of an hour.';

CREATE INDEX followers_of_a_feed ON followers USING btree (feed_id, user_id) WHERE (class = 'event'::inbox_class);

COMMENT ON INDEX followers_of_a_feed IS 'The followers of a feed, a page at a time.';

CREATE INDEX hidden_endings_by_chat ON endings USING btree (chat_id, user_id, chat_seq) WHERE is_hidden;

COMMENT ON INDEX hidden_endings_by_chat IS 'Finds those that a mark passes.';

CREATE INDEX invitations_by_chat ON invitations USING btree (chat_id, user_id);

COMMENT ON INDEX invitations_by_chat IS 'Lists the users who are invited to a group.';

CREATE INDEX invitations_by_end ON invitations USING btree (expires_at);

COMMENT ON INDEX invitations_by_end IS 'Finds those that have expired.';

CREATE INDEX invitations_by_inviter ON invitations USING btree (inviter_id, user_id);

COMMENT ON INDEX invitations_by_inviter IS 'Counts what a user has made, and finds those that end when it is blocked or erased.';

CREATE INDEX journal_by_time ON statistics_journal USING btree (at);

COMMENT ON INDEX journal_by_time IS 'The job takes the oldest lines.';

CREATE INDEX leases_of_a_node ON presence_leases USING btree (node_id, user_id);

COMMENT ON INDEX leases_of_a_node IS 'The users of a node that has gone.';

COMMENT ON INDEX living_events_are_in_their_order IS 'Counted from the newest on.';

CREATE INDEX members_by_user ON chat_members USING btree (user_id, chat_id);

COMMENT ON INDEX members_by_user IS 'The chats of a user; the marks of those it shares chats with.';

COMMENT ON INDEX messages_are_known_by_their_id IS 'Finds a message; makes a repeated send a duplicate.';

CREATE INDEX messages_by_collapse_key ON messages USING btree (chat_id, collapse_key, seq) WHERE (collapse_key IS NOT NULL);

COMMENT ON INDEX messages_by_collapse_key IS 'Is there a newer event of this key in the stream? Costs nothing for messages without a key.';

CREATE INDEX messages_that_expire ON messages USING btree (expires_at, id) WHERE (expires_at IS NOT NULL);

COMMENT ON INDEX messages_that_expire IS 'The sweep for messages whose time has come. Costs nothing for messages that never expire.';

CREATE INDEX publishers_by_user ON feed_publishers USING btree (user_id, feed_id);

COMMENT ON INDEX publishers_by_user IS 'The feeds that a user may publish to.';

COMMENT ON INDEX revocations_are_in_their_order IS 'Removes one.';

CREATE INDEX revocations_by_end ON revocations USING btree (expires_at);

COMMENT ON INDEX revocations_by_end IS 'Finds those that are no longer needed.';

CREATE INDEX revocations_by_time ON revocations USING btree (revoked_at, number);

COMMENT ON INDEX revocations_by_time IS 'Lists from the newest on.';

CREATE INDEX revocations_by_transaction ON revocations USING btree (revoked_xid, number);

COMMENT ON INDEX revocations_by_transaction IS 'Reads what is new.';

CREATE INDEX rows_by_collapse_id ON message_status USING btree (user_id, class, collapse_id, seq) WHERE (collapse_id IS NOT NULL);

COMMENT ON INDEX rows_by_collapse_id IS 'The newest rows of a collapse key in an inbox. Costs nothing for rows without a key.';

COMMENT ON INDEX something_is_revoked_once IS 'Finds the one that is revoked again.';

COMMENT ON INDEX there_is_one_row_of_encryption IS 'Finds the row.';

COMMENT ON INDEX there_is_one_row_of_token_settings IS 'Finds the row.';

COMMENT ON INDEX two_users_share_one_direct_chat IS 'Finds the direct chat of two users; lets only one be made.';

COMMENT ON INDEX users_are_known_by_their_number IS 'Joins from every table that names a user.';

CREATE INDEX users_that_were_erased ON users USING btree (external_id, id) WHERE (NOT is_current);

COMMENT ON INDEX users_that_were_erased IS 'Finds those that had an external_id before.';

CREATE TRIGGER a_status_only_moves_forward AFTER UPDATE ON message_status FOR EACH ROW WHEN (((new.status > 'read'::delivery_status) OR (new.status < old.status) OR (new.seq <> old.seq) OR (new.delivered_at <> old.delivered_at) OR ((new.delivered_at IS NULL) <> (new.status = 'sent'::delivery_status)) OR ((new.read_at IS NULL) <> (new.status < 'read'::delivery_status)))) EXECUTE FUNCTION guard_the_status();

COMMENT ON TRIGGER a_status_only_moves_forward ON message_status IS 'sent < delivered < read; failed and expired are final, save for an operator''s requeue, which gives a failed row a new, higher number. delivered_at is set once, and exactly when the status says so. Acks and reads as they should be do not call the function.';

CREATE TRIGGER chat_counters_only_grow AFTER UPDATE OF last_seq ON chat_heads FOR EACH ROW WHEN ((new.last_seq < old.last_seq)) EXECUTE FUNCTION refuse_to_go_back('the counter of a chat only grows');

COMMENT ON TRIGGER chat_counters_only_grow ON chat_heads IS 'A number that was given once is never given again.';

CREATE TRIGGER device_cursors_only_grow AFTER UPDATE ON device_cursors FOR EACH ROW WHEN ((new.acked_seq < old.acked_seq)) EXECUTE FUNCTION refuse_to_go_back('the cursor of a device only grows');

COMMENT ON TRIGGER device_cursors_only_grow ON device_cursors IS 'A cursor that went back would repeat what was acked.';

CREATE TRIGGER device_sessions_only_grow AFTER UPDATE ON devices FOR EACH ROW WHEN ((new.session_no < old.session_no)) EXECUTE FUNCTION refuse_to_go_back('the number of a device''s session only grows');

COMMENT ON TRIGGER device_sessions_only_grow ON devices IS 'Of two connections the one with the lower number yields.';

CREATE CONSTRAINT TRIGGER events_are_published_at_commit AFTER INSERT ON outgoing_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION publish_outgoing();

COMMENT ON TRIGGER events_are_published_at_commit ON outgoing_events IS 'Deferred, so that streams are locked for a commit and not for the time the caller''s transaction stays open.';

CREATE TRIGGER inbox_counters_only_grow AFTER UPDATE OF last_seq ON inboxes FOR EACH ROW WHEN ((new.last_seq < old.last_seq)) EXECUTE FUNCTION refuse_to_go_back('the counter of an inbox only grows');

COMMENT ON TRIGGER inbox_counters_only_grow ON inboxes IS 'A number that was given once is never given again.';

CREATE CONSTRAINT TRIGGER requests_are_accepted_at_commit AFTER INSERT ON outgoing DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION accept_outgoing();

COMMENT ON TRIGGER requests_are_accepted_at_commit ON outgoing IS 'Deferred, so that chats and inboxes are locked for a commit and not for the time the caller''s transaction stays open.';

CREATE TRIGGER users_follow_everyone_from_first_sight AFTER INSERT ON users REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION follow_everyone();

COMMENT ON TRIGGER users_follow_everyone_from_first_sight ON users IS 'However a user is made, it gets what is published to everyone from then on.';

CREATE TRIGGER what_a_chat_has_lost_only_grows AFTER UPDATE OF purged_seq ON chats FOR EACH ROW WHEN ((new.purged_seq < old.purged_seq)) EXECUTE FUNCTION refuse_to_go_back('purged_seq of a chat only grows');

COMMENT ON TRIGGER what_a_chat_has_lost_only_grows ON chats IS 'A message that was removed does not come back.';

CREATE TRIGGER what_is_purged_was_settled AFTER UPDATE OF purged_seq ON inboxes FOR EACH ROW WHEN (((new.purged_seq < old.purged_seq) OR (new.purged_seq > new.settled_seq))) EXECUTE FUNCTION refuse_to_go_back('purged_seq of an inbox only grows, and stays at or below settled_seq');

COMMENT ON TRIGGER what_is_purged_was_settled ON inboxes IS 'A row that waits is never removed.';

CREATE TRIGGER what_is_settled_was_numbered AFTER UPDATE OF settled_seq ON inboxes FOR EACH ROW WHEN (((new.settled_seq < old.settled_seq) OR (new.settled_seq > new.last_seq))) EXECUTE FUNCTION refuse_to_go_back('settled_seq of an inbox only grows, and stays at or below last_seq');

COMMENT ON TRIGGER what_is_settled_was_numbered ON inboxes IS 'With a settled_seq beyond what was ever numbered, what comes next would never be delivered.';

CREATE TRIGGER what_was_capped_stays_capped AFTER UPDATE OF floor_seq ON feeds FOR EACH ROW WHEN ((new.floor_seq < old.floor_seq)) EXECUTE FUNCTION refuse_to_go_back('the floor of a stream only grows');

COMMENT ON TRIGGER what_was_capped_stays_capped ON feeds IS 'Followers have passed what is below it.';

CREATE TRIGGER what_was_done_stays_written BEFORE DELETE OR UPDATE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION restante_refuse_change();

COMMENT ON TRIGGER what_was_done_stays_written ON audit IS 'Keeps the owner from an accident too. It could drop the trigger, which is no accident.';

CREATE TRIGGER what_was_taken_stays_taken AFTER UPDATE OF cursor_seq ON followers FOR EACH ROW WHEN ((new.cursor_seq < old.cursor_seq)) EXECUTE FUNCTION refuse_to_go_back('the cursor of a follower only grows');

COMMENT ON TRIGGER what_was_taken_stays_taken ON followers IS 'A cursor that went back would make rows a second time.';

CREATE TRIGGER who_did_it_is_not_for_the_caller_to_say BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION restante_note_truly();

COMMENT ON TRIGGER who_did_it_is_not_for_the_caller_to_say ON audit IS 'A role that may write rows does not write them in the name of another role, nor with another time. A restore and replication are passed over.';

ALTER TABLE ONLY account_logins
    ADD CONSTRAINT a_login_is_that_of_an_account FOREIGN KEY (name) REFERENCES accounts(name) ON DELETE CASCADE;

COMMENT ON CONSTRAINT a_login_is_that_of_an_account ON account_logins IS 'An account that is removed has no logins.';

ALTER TABLE ONLY blocks
    ADD CONSTRAINT blocks_are_made_by_a_user FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT blocks_are_made_by_a_user ON blocks IS 'Delete a user''s blocks before the user.';

ALTER TABLE ONLY blocks
    ADD CONSTRAINT blocks_are_of_a_user FOREIGN KEY (other_id) REFERENCES users(id);

COMMENT ON CONSTRAINT blocks_are_of_a_user ON blocks IS 'Delete the blocks of a user before the user.';

ALTER TABLE ONLY closed_chats
    ADD CONSTRAINT closed_chats_are_chats FOREIGN KEY (chat_id) REFERENCES chats(id);

COMMENT ON CONSTRAINT closed_chats_are_chats ON closed_chats IS 'Delete them before the chat.';

ALTER TABLE ONLY contacts
    ADD CONSTRAINT contacts_are_wanted_by_a_user FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT contacts_are_wanted_by_a_user ON contacts IS 'Delete a user''s contacts before the user.';

ALTER TABLE ONLY contacts
    ADD CONSTRAINT contacts_are_with_a_user FOREIGN KEY (other_id) REFERENCES users(id);

COMMENT ON CONSTRAINT contacts_are_with_a_user ON contacts IS 'Delete the contacts of a user before the user.';

ALTER TABLE ONLY device_cursors
    ADD CONSTRAINT cursors_belong_to_a_device FOREIGN KEY (user_id, device_id) REFERENCES devices(user_id, device_id) ON DELETE CASCADE;

COMMENT ON CONSTRAINT cursors_belong_to_a_device ON device_cursors IS 'They go with their device.';

ALTER TABLE ONLY departures
    ADD CONSTRAINT departures_are_of_a_user FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT departures_are_of_a_user ON departures IS 'Delete them before the user.';

ALTER TABLE ONLY devices
    ADD CONSTRAINT devices_belong_to_a_user FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT devices_belong_to_a_user ON devices IS 'Delete a user''s devices before the user.';

ALTER TABLE ONLY followers
    ADD CONSTRAINT followers_are_users FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT followers_are_users ON followers IS 'Delete what a user follows before the user.';

ALTER TABLE ONLY inbox_gaps
    ADD CONSTRAINT gaps_belong_to_a_user FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT gaps_belong_to_a_user ON inbox_gaps IS 'Delete a user''s gaps before the user.';

ALTER TABLE ONLY inboxes
    ADD CONSTRAINT inboxes_belong_to_a_user FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT inboxes_belong_to_a_user ON inboxes IS 'Delete a user''s inboxes first, and before them what waits there.';

ALTER TABLE ONLY invitations
    ADD CONSTRAINT invitations_are_made_by_a_user FOREIGN KEY (inviter_id) REFERENCES users(id);

COMMENT ON CONSTRAINT invitations_are_made_by_a_user ON invitations IS 'Delete the invitations that a user has made before the user.';

ALTER TABLE ONLY invitations
    ADD CONSTRAINT invitations_are_of_a_user FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT invitations_are_of_a_user ON invitations IS 'Delete a user''s invitations before the user.';

ALTER TABLE ONLY invitations
    ADD CONSTRAINT invitations_are_to_a_chat FOREIGN KEY (chat_id) REFERENCES chats(id);

COMMENT ON CONSTRAINT invitations_are_to_a_chat ON invitations IS 'Delete them before the chat.';

ALTER TABLE ONLY last_seen
    ADD CONSTRAINT last_seen_belongs_to_a_user FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT last_seen_belongs_to_a_user ON last_seen IS 'Delete it before the user.';

ALTER TABLE ONLY presence_leases
    ADD CONSTRAINT leases_belong_to_a_node FOREIGN KEY (node_id) REFERENCES nodes(node_id);

COMMENT ON CONSTRAINT leases_belong_to_a_node ON presence_leases IS 'A node that was taken out has none; it lists itself again first.';

ALTER TABLE ONLY presence_leases
    ADD CONSTRAINT leases_belong_to_a_user FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT leases_belong_to_a_user ON presence_leases IS 'Delete them before the user.';

ALTER TABLE ONLY chat_members
    ADD CONSTRAINT members_are_members_of_a_chat FOREIGN KEY (chat_id) REFERENCES chats(id);

COMMENT ON CONSTRAINT members_are_members_of_a_chat ON chat_members IS 'Delete a chat''s members before the chat.';

ALTER TABLE ONLY chat_members
    ADD CONSTRAINT members_are_users FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT members_are_users ON chat_members IS 'Delete a user''s memberships before the user.';

ALTER TABLE ONLY erasures
    ADD CONSTRAINT only_users_are_erased FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT only_users_are_erased ON erasures IS 'There is nothing to erase of others.';

ALTER TABLE ONLY preferences
    ADD CONSTRAINT preferences_are_of_a_user FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE;

COMMENT ON CONSTRAINT preferences_are_of_a_user ON preferences IS 'They go with the user.';

ALTER TABLE ONLY feed_publishers
    ADD CONSTRAINT publishers_are_users FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT publishers_are_users ON feed_publishers IS 'Delete what a user may publish to before the user.';

ALTER TABLE ONLY feed_publishers
    ADD CONSTRAINT publishers_publish_to_a_feed FOREIGN KEY (feed_id) REFERENCES chats(id);

COMMENT ON CONSTRAINT publishers_publish_to_a_feed ON feed_publishers IS 'The stream of events has the id of its feed.';

ALTER TABLE ONLY user_limits
    ADD CONSTRAINT raised_limits_are_those_of_users FOREIGN KEY (user_id) REFERENCES users(id);

COMMENT ON CONSTRAINT raised_limits_are_those_of_users ON user_limits IS 'Delete a user''s factor before the user.';

ALTER TABLE ONLY reopened_chats
    ADD CONSTRAINT reopened_chats_are_chats FOREIGN KEY (chat_id) REFERENCES chats(id);

COMMENT ON CONSTRAINT reopened_chats_are_chats ON reopened_chats IS 'Delete them before the chat.';

ALTER TABLE ONLY feeds
    ADD CONSTRAINT streams_are_numbered_as_chats FOREIGN KEY (chat_id) REFERENCES chats(id);

COMMENT ON CONSTRAINT streams_are_numbered_as_chats ON feeds IS 'The counter of a stream is in chat_heads.';

ALTER TABLE ONLY erasures
    ADD CONSTRAINT successors_are_users FOREIGN KEY (successor_id) REFERENCES users(id);

COMMENT ON CONSTRAINT successors_are_users ON erasures IS 'The name leads to it.';
