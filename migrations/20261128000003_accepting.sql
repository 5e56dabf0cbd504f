-- Accepting messages: the one function that writes messages and message_status.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function restante_needs_read_committed() returns void language plpgsql stable
set search_path from current
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'this needs a transaction of the isolation level read committed, this one is %', current_setting('transaction_isolation')
      using errcode = 'invalid_transaction_state';
  end if;
end $$;
comment on function restante_needs_read_committed() is
  'Raises in a transaction of another isolation level. Functions that lock and then read would read what was before the lock: with one snapshot for the whole transaction a later statement sees no more than an earlier one.';

create function restante_accept(
  p_ids       uuid[],
  p_chats     uuid[],
  p_senders   bigint[],
  p_types     text[],
  p_contents  text[],
  p_metadata  text[],
  p_expires   timestamptz[],
  p_skip_held boolean default false,
  -- Per item, what decides in a direct chat beside blocks: yes, no, unknown, or contacts (they are, or it is no). Null as a whole: yes.
  p_verdicts  text[] default null,
  -- In place of contents and metadata: both sealed, each with this data key; null: they are plain.
  p_sealed    bytea[] default null,
  p_key       text default null,
  -- Per item, in the order of p_ids:
  out outcomes    text[],
  out seqs        bigint[],      -- its number in the chat; that of the first result for a duplicate
  out classes     inbox_class[], -- the inbox its recipients have it in
  out first_chats uuid[],        -- for a duplicate: the chat of the first result
  out first_times timestamptz[], -- … and when that was accepted
  -- Per item accepted and recipient, in the order of the items:
  out places      integer[],     -- the item, from 1
  out recipients  bigint[],
  out inbox_seqs  bigint[],      -- the number in the recipient's inbox
  -- The time for all of it:
  out accepted_at timestamptz
)
language plpgsql
volatile
-- Each statement joins one unnest with tables by key. The settings keep a plan that was made while tables were small
-- (or empty) from being anything else once they have grown, and keep it: to plan a batch takes longer than to store ten.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
set jit = off
set search_path from current
as $$
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
comment on function restante_accept(uuid[], uuid[], bigint[], text[], text[], text[], timestamptz[], boolean, text[], bytea[], text) is
  'Stores messages and a row per recipient, numbers both without a gap, and returns one row of arrays. Per item outcomes: accepted, duplicate (same sender: the first result, in seqs, first_chats and first_times), conflict (another sender''s id), not_a_member, purged (the id is a UUIDv7 from before a message of the chat that was removed, so that its message may have been removed too), not_accepted (one of the two members of a direct chat has blocked the other, or was erased, or p_verdicts says no), undecided (p_verdicts does not know), too_late (expires_at has passed), held (only with p_skip_held: somebody else has the chat, or a member''s inbox, locked). Per recipient of an accepted item its place among the items, the user and the number in the inbox; sorted by inbox. The only writer of messages. An id must not stand in one call twice.';
