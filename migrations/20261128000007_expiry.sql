-- Expiry: the sweep for messages whose time has come, and the rule for all rows that have ended although no job has written it yet.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Both are part of the plan of a statement that calls them, so they have no settings of their own. Their names are bound here.
create function restante_departed(p_user bigint, p_chat uuid, p_chat_seq bigint) returns table (has_left boolean, ended ended_reason)
language sql stable rows 1
begin atomic
  select true, d.ended
    from departures d
   -- Nearly no user has any: one look tells it for a whole page.
   where (select exists (select from departures e where e.user_id = p_user))
     and d.user_id = p_user and d.chat_id = p_chat and d.after_seq < p_chat_seq and d.up_to_seq >= p_chat_seq
   limit 1;
end;
comment on function restante_departed(bigint, uuid, bigint) is
  'One row where a user has left the chat, or the feed, or has blocked the other member, since it got this number of it, and a job has not ended what waited (departures); with the reason. Else none.';

create function restante_ended_unwritten(
  p_status delivery_status, p_has_left boolean, p_recalled_at timestamptz, p_expires_at timestamptz default null, p_now timestamptz default null,
  p_shows_acked boolean default false -- the caller shows rows that were acked, too
) returns ended_reason
language sql immutable
return case when p_status = 'sent' then
  case when p_has_left then 'left'::ended_reason
       when p_recalled_at is not null then 'recalled'::ended_reason
       when p_expires_at <= p_now then 'expired'::ended_reason end
  when p_shows_acked and p_status in ('delivered', 'read') and p_recalled_at is not null then 'recalled'::ended_reason end;
comment on function restante_ended_unwritten(delivery_status, boolean, timestamptz, timestamptz, timestamptz, boolean) is
  'The reason for which a row that still waits has ended, although no job has written it yet: its user has left (restante_departed), its message was recalled, or has expired by p_now. With p_shows_acked a row that was acked has ended too where its message was recalled: it has nothing to show. Null: it waits, or its status says what became of it. Each statement that reads rows that wait with their messages asks this, and says what it leaves out of the question.';

create function restante_expire(
  p_after timestamptz, p_after_id uuid, p_horizon timestamptz, p_messages_max integer, p_rows_max integer,
  p_after_user bigint default null -- go on in the message p_after_id, behind this recipient; null: begin behind the message
)
returns table (
  message_id uuid, expires_at timestamptz, user_id bigint, member text, class inbox_class, seq bigint,
  chat_id uuid, chat_seq bigint, sender_id bigint, expired_at timestamptz, after_user bigint
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
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
comment on function restante_expire(timestamptz, uuid, timestamptz, integer, integer, bigint) is
  'Ends what still waits of messages that expired up to the horizon, a page of messages at a time in the order of (expires_at, id), at most p_rows_max rows, and looks at 20,000 rows. Waits for no lock: what somebody holds waits on. Returns the rows that ended, and each message of the page without one (and without a time where rows of it are held): the next page begins behind the last of these, or, where that has after_user, in it behind this recipient. Nothing at all: the page was empty.';
