-- Recall: a sender takes a message back. One short transaction removes what the message says (restante_take_back). What follows is done a
-- part of its recipients at a time (restante_recall_part): rows that wait end, and recipients that have the message get a notice in their
-- inbox. The notice is one more row of messages. It has the number of the recalled message, negated, so it takes no number of the chat:
-- marks, unread counts and histories, which look at positive numbers, do not see it.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

alter table messages add column recalled_at timestamptz;
comment on column messages.recalled_at is 'When its sender recalled it: its content and metadata are gone since. Null: it was not recalled.';

create table recalls (
  message_id  uuid not null,
  notice_id   uuid not null,
  chat_id     uuid not null,
  chat_seq    bigint not null,
  sender_id   bigint not null,
  recalled_at timestamptz not null,
  after_user  bigint not null default 0,
  is_held     boolean not null default false,
  is_told     boolean not null default false,
  constraint a_recall_is_noted_once primary key (message_id)
);
comment on table recalls is
  'Recalls that have not come to all recipients of their message. A job goes on, a part at a time (restante_recall_part). Empty, as a rule.';
comment on column recalls.message_id is 'The message that was recalled.';
comment on column recalls.notice_id is 'The notice (messages.id) for those that have it.';
comment on column recalls.chat_id is 'The chat of the message.';
comment on column recalls.chat_seq is 'Its number there. The notice has this number, negated.';
comment on column recalls.sender_id is 'Its sender (users.id).';
comment on column recalls.recalled_at is 'When it was recalled.';
comment on column recalls.after_user is 'Recipients with numbers at or below it (users.id) have been looked at.';
comment on column recalls.is_held is 'Something of one of these was held by another transaction: all are looked at again after the last one.';
comment on column recalls.is_told is 'The connections of the sender are told with the first part.';
comment on index a_recall_is_noted_once is 'The job takes them in turn.';

create function restante_take_back(
  p_message uuid, p_sender bigint, p_window interval,
  out outcome text, out chat_id uuid, out chat_seq bigint, out recalled_at timestamptz
)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
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
comment on function restante_take_back(uuid, bigint, interval) is
  'Recalls a message for its sender: its content and metadata go, and no page shows it from the commit on. Outcome: recalled; again (it had been recalled, recalled_at says when); off (p_window is not more than zero); too_late (it was accepted longer ago than p_window; a p_window of null is never over); forbidden (it is another member''s); not_found. A part at a time, restante_recall_part does the rest.';

create function restante_recall_part(
  p_message uuid, p_after uuid, p_rows_max integer
) returns table (
  message_id uuid, chat_id uuid, chat_seq bigint, sender_id bigint, recalled_at timestamptz, is_first boolean, is_done boolean, goes_on boolean,
  user_id bigint, member text, class inbox_class, seq bigint, has_ended boolean
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
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
comment on function restante_recall_part(uuid, uuid, integer) is
  'Goes on with a recall, that of p_message or else the first one behind p_after, for its next p_rows_max recipients: rows that wait end (recalled), and recipients to whom it was delivered get the notice, once. Waits for no lock: what somebody holds is looked at again after the last recipient. Returns a row for each recipient, with has_ended, and first one without a recipient: is_first (no part was done before), goes_on (there are recipients behind these), is_done (all are done, and nothing is left of it here). Nothing at all: there is no such recall, or another node is at it.';

create function restante_recall(p_message uuid, p_sender text, p_window interval default '1 hour') returns timestamptz
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
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
comment on function restante_recall(uuid, text, interval) is
  'Recalls a message for its sender inside your own transaction, with the same effect as a client''s recall, and returns when it was recalled. Nobody sees its content from your commit on; what waits ends, and who has it is told, within moments after it. The message must have been accepted within p_window, whatever the setting RECALL_WINDOW says; null: whenever. A second recall returns the first time.';
