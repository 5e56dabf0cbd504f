-- Expiry: the sweep for messages whose time has come.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function restante_expire(p_after timestamptz, p_after_id uuid, p_horizon timestamptz, p_messages_max integer, p_rows_max integer)
returns table (
  message_id uuid, expires_at timestamptz, user_id bigint, member text, class inbox_class, seq bigint,
  chat_id uuid, chat_seq bigint, sender_id bigint, expired_at timestamptz
)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now     timestamptz := clock_timestamp();
  v_ids     uuid[];
  v_chats   uuid[];
  v_users   bigint[];
  v_free    uuid[];
  v_ended   uuid[];
  v_of      bigint[];
  v_classes inbox_class[];
  v_seqs    bigint[];
begin
  perform restante_needs_read_committed();
  select array_agg(q.id order by q.expires_at, q.id) into v_ids
    from (select m.id, m.expires_at from messages m
           where m.expires_at is not null and (m.expires_at, m.id) > (p_after, p_after_id) and m.expires_at <= p_horizon
           order by m.expires_at, m.id limit p_messages_max) q;
  -- A row ends together with its mark, or not now. What is held, or one too many, is left for a later pass.
  select array_agg(q.message_id), array_agg(q.user_id) into v_free, v_of
    from (select s.message_id, s.user_id
            from unnest(v_ids) i (id)
            join messages m on m.id = i.id
            join message_status s on s.message_id = m.id and s.status = 'sent'
            cross join lateral (
              select from marks x where x.chat_id = m.chat_id and x.user_id = s.user_id order by x.step desc limit 1 for no key update skip locked) k
           limit p_rows_max for no key update of s skip locked) q;
  if v_free is not null then
    with ended as (
      update message_status s set status = 'expired', ended = 'expired', reason = 'its time had come'
        from unnest(v_free, v_of) f (id, user_id)
       where s.message_id = f.id and s.user_id = f.user_id and s.status = 'sent'
      returning s.message_id, s.user_id, s.class, s.seq
    )
    select array_agg(e.message_id), array_agg(e.user_id), array_agg(e.class), array_agg(e.seq)
      into v_ended, v_of, v_classes, v_seqs from ended e;
    select array_agg(q.chat_id), array_agg(q.user_id) into v_chats, v_users
      from (select distinct m.chat_id, e.user_id from unnest(v_ended, v_of) e (id, user_id) join messages m on m.id = e.id) q;
    perform restante_exact_marks(v_chats, v_users, true);
  end if;
  return query
    select m.id, m.expires_at, e.user_id, u.external_id, e.class, e.seq, m.chat_id, m.seq, m.sender_id, v_now
      from unnest(v_ended, v_of, v_classes, v_seqs) e (id, user_id, class, seq)
      join messages m on m.id = e.id
      join users u on u.id = e.user_id
    union all
    select m.id, m.expires_at, null, null, null, null, m.chat_id, m.seq, m.sender_id,
           case when not exists (select from message_status s where s.message_id = m.id and s.status = 'sent') then v_now end
      from unnest(v_ids) i (id)
      join messages m on m.id = i.id
     order by 2, 1;
end $$;
comment on function restante_expire(timestamptz, uuid, timestamptz, integer, integer) is
  'Ends what still waits of messages that expired up to the horizon, a page of messages at a time in the order of (expires_at, id), and at most p_rows_max rows. Waits for no lock: what somebody holds waits on. Returns the rows that ended, and each message of the page without one, and without a time where rows of it wait on; nothing at all: the page was empty.';
