-- Sending from SQL, inside an application's own transaction.

create table outgoing (
  message_id   uuid not null,
  place        bigint generated always as identity,
  xid          xid8 not null default pg_current_xact_id(),
  chat_id      uuid not null,
  sender_id    bigint not null,
  message_type text not null,
  content      text not null,
  metadata     jsonb,
  expires_at   timestamptz,
  constraint a_request_is_made_once primary key (message_id)
);
comment on table outgoing is
  'Requests of restante_send() inside transactions that have not committed yet. Accepted and emptied at their commit: seen from outside it is always empty.';
comment on column outgoing.message_id is 'The id the message will have.';
comment on column outgoing.place is 'Order of the requests.';
comment on column outgoing.xid is 'The transaction that made it.';
comment on column outgoing.chat_id is 'The chat.';
comment on column outgoing.sender_id is 'The sender (users.id).';
comment on column outgoing.message_type is 'text, image, ...';
comment on column outgoing.content is 'The text.';
comment on column outgoing.metadata is 'The client''s own JSON.';
comment on column outgoing.expires_at is 'From then on it is no longer delivered.';
comment on index a_request_is_made_once is 'One request per message id and transaction.';

create index requests_by_transaction on outgoing (xid, place);
comment on index requests_by_transaction is 'What a commit takes: its own requests, in order, whatever others have not committed yet and whatever earlier ones left behind for vacuum.';

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
set search_path from current
as $$
declare
  v_sender bigint;
begin
  -- Accepting reads after it has locked. With one snapshot for the whole transaction it would read what was before.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'restante_send() needs a transaction of the isolation level read committed, this one is %',
      current_setting('transaction_isolation') using errcode = 'invalid_transaction_state';
  elsif octet_length(p_content) > 32768 then
    raise exception 'content has % bytes, at most 32768 are allowed', octet_length(p_content) using errcode = 'program_limit_exceeded';
  elsif octet_length(p_metadata::text) > 8192 then
    raise exception 'metadata has % bytes, at most 8192 are allowed', octet_length(p_metadata::text) using errcode = 'program_limit_exceeded';
  elsif p_expires_at <= clock_timestamp() then
    raise exception 'expires_at lies in the past' using errcode = 'invalid_parameter_value';
  end if;
  select u.id into v_sender
    from users u join chat_members cm on cm.user_id = u.id and cm.chat_id = p_chat and cm.left_seq is null
   where u.external_id = p_sender;
  if not found then
    raise exception 'user % is not a member of chat %', p_sender, p_chat
      using errcode = 'insufficient_privilege', hint = 'Only members may send; the chat may also not exist.';
  end if;
  insert into outgoing (message_id, chat_id, sender_id, message_type, content, metadata, expires_at)
    values (p_message_id, p_chat, v_sender, p_message_type, p_content, p_metadata, p_expires_at);
  return p_message_id;
end $$;
comment on function restante_send(uuid, text, text, text, jsonb, uuid, timestamptz) is
  'Sends a message inside your own transaction, with the same effect as a client''s send, and returns its id. It is accepted when you commit (chat and inboxes are locked only then) and is gone when you roll back. The sender must be a member, now and at the commit.';

create function restante_wake(p_users bigint[]) returns void
language sql volatile
set search_path from current
as $$
  -- 300 numbers of at most 19 digits stay under NOTIFY's 8,000 bytes.
  select pg_notify('restante_wake', string_agg(u.user_id::text, ','))
    from (select x.user_id, row_number() over () / 300 as part from (select distinct unnest(p_users) as user_id) x) u
   group by u.part;
$$;
comment on function restante_wake(bigint[]) is 'Tells every node that something waits for these users (users.id, comma separated, channel restante_wake). A hint: nothing is lost without it.';

create function accept_outgoing() returns trigger
language plpgsql volatile
-- The table is small or empty whenever it is analyzed, and large inside a transaction that sends much.
set enable_seqscan = off set jit = off
set search_path from current
as $$
declare
  v_ids uuid[]; v_chats uuid[]; v_senders bigint[]; v_types text[]; v_contents text[]; v_metadata text[]; v_expires timestamptz[];
  v_users bigint[];
  v_item record;
begin
  -- The first of the transaction's triggers takes all its requests; the others find nothing, by index.
  if not exists (select 1 from outgoing o where o.message_id = new.message_id) then
    return null;
  end if;
  with taken as (delete from outgoing o where o.xid = pg_current_xact_id() returning o.*)
  select array_agg(q.message_id), array_agg(q.chat_id), array_agg(q.sender_id), array_agg(q.message_type), array_agg(q.content),
         array_agg(q.metadata::text), array_agg(q.expires_at)
    into v_ids, v_chats, v_senders, v_types, v_contents, v_metadata, v_expires
    from (select * from taken order by place) q;
  if v_ids is null then
    return null;
  end if;
  for v_item in select * from restante_accept(v_ids, v_chats, v_senders, v_types, v_contents, v_metadata, v_expires) loop
    if v_item.outcome = 'conflict' then
      raise exception 'message id % belongs to another sender', v_ids[v_item.ord] using errcode = 'unique_violation';
    elsif v_item.outcome = 'not_a_member' then
      raise exception 'the sender of message % is no longer a member of chat %', v_ids[v_item.ord], v_chats[v_item.ord]
        using errcode = 'insufficient_privilege';
    elsif v_item.outcome = 'too_late' then
      raise exception 'message % expired before its commit', v_ids[v_item.ord] using errcode = 'invalid_parameter_value';
    end if;
    v_users := v_users || v_item.recipients;
  end loop;
  if v_users is not null then
    perform restante_wake(v_users);
  end if;
  return null;
end $$;
comment on function accept_outgoing() is 'Runs at the commit of a transaction that called restante_send().';

create constraint trigger requests_are_accepted_at_commit after insert on outgoing
  deferrable initially deferred for each row execute function accept_outgoing();
comment on trigger requests_are_accepted_at_commit on outgoing is
  'Deferred, so that chats and inboxes are locked for a commit and not for the time the caller''s transaction stays open.';
