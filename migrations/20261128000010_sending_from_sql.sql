-- Sending from SQL, inside an application's own transaction.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function restante_send(
  p_chat         uuid,
  p_sender       text,
  p_content      text,
  p_message_type text default 'text',
  p_metadata     jsonb default null,
  p_message_id   uuid default gen_random_uuid(),
  p_expires_at   timestamptz default null
) returns uuid
language plpgsql volatile
-- The table is small or empty whenever it is analyzed, and large inside a transaction that sends much.
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
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
end $$;
comment on function restante_send(uuid, text, text, text, jsonb, uuid, timestamptz) is
  'Sends a message inside your own transaction, with the same effect as a client''s send, and returns its id. It is accepted when you commit (chat and inboxes are locked only then) and is gone when you roll back. The sender must be a member, now and at the commit. At most 1,000 messages a transaction. The same id again from the same sender is the same message.';

create function restante_accept_outgoing() returns void
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
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
comment on function restante_accept_outgoing() is 'Accepts what this transaction has asked for with restante_send().';

create function accept_outgoing() returns trigger
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
begin
  -- The first of the transaction's triggers takes all its requests; the others find nothing, by index.
  if exists (select 1 from outgoing o where o.xid = pg_current_xact_id() and o.message_id = new.message_id) then
    perform restante_accept_outgoing();
  end if;
  return null;
end $$;
comment on function accept_outgoing() is 'Runs at the commit of a transaction that called restante_send().';

create constraint trigger requests_are_accepted_at_commit after insert on outgoing
  deferrable initially deferred for each row execute function accept_outgoing();
comment on trigger requests_are_accepted_at_commit on outgoing is
  'Deferred, so that chats and inboxes are locked for a commit and not for the time the caller''s transaction stays open.';
