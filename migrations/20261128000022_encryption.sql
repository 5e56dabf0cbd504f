-- Encryption at rest: the keys that sealed messages name, and what the database has to know of it. Nodes seal and open; no key that could
-- open anything comes here.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table data_keys (
  id        text collate "C" not null,
  made_at   timestamptz not null default clock_timestamp(),
  master_id text collate "C" not null,
  wrapped   bytea not null,
  constraint data_keys_are_known_by_their_id primary key (id),
  constraint a_data_key_has_a_short_id check (char_length(id) between 1 and 64)
);
comment on table data_keys is
  'The keys that messages and events are sealed with, each wrapped by a master key that the database never sees. Without its row here what it has sealed is lost. A new one is made every day; one that no row names is removed.';
comment on column data_keys.id is 'The name that messages.key_id has. Random.';
comment on column data_keys.made_at is 'The database''s clock. A key is used a minute after it, when every node knows it; the first one of all is used at once.';
comment on column data_keys.master_id is 'The id of the master key that it is wrapped with, which is derived from that key.';
comment on column data_keys.wrapped is 'Nonce and ciphertext of the key (AES-256-GCM); its id and that of the master key are authenticated with it.';
comment on constraint a_data_key_has_a_short_id on data_keys is 'Each sealed message has it.';
comment on index data_keys_are_known_by_their_id is 'A key by its name.';

create index data_keys_by_time on data_keys (made_at, id);
comment on index data_keys_by_time is 'The newest key, and the list of all.';

create table encryption (
  only_row      boolean not null default true,
  is_on         boolean not null default false,
  allows_sql    boolean not null default false,
  switched_at   timestamptz,
  old_before    timestamptz,
  sweeps_wanted bigint not null default 0,
  sweeps_done   bigint not null default 0,
  settled_sweep bigint,
  constraint there_is_one_row_of_encryption primary key (only_row),
  constraint the_row_of_encryption_is_the_only_one check (only_row)
);
insert into encryption default values;
comment on table encryption is 'The settings and the sweeps of encryption at rest, in one row. Each node that starts writes its settings here; the last one counts.';
comment on column encryption.only_row is 'Always true.';
comment on column encryption.is_on is 'Nodes seal what they store. Functions for SQL store plain text only where allows_sql says so.';
comment on column encryption.allows_sql is 'ENCRYPTION_ALLOW_SQL: plain text may stand in the tables, in WAL and in backups until the job seal has sealed it.';
comment on column encryption.switched_at is 'When a node last started with other settings than the node before it. Null: none has.';
comment on column encryption.old_before is 'Data keys from before this time are to be replaced in every row (restante_rotate_keys). Null: none is.';
comment on column encryption.sweeps_wanted is 'Sweeps of all messages that were asked for so far: by each change of the settings, by each start of a node that seals while settled_sweep is null, and by each rotation.';
comment on column encryption.sweeps_done is 'The number of the last sweep that has come to its end. Smaller than sweeps_wanted: the job seal is at work.';
comment on column encryption.settled_sweep is 'A sweep that began when every node had started a minute or more after switched_at, so that none stores plain text behind it: a start asks for no other one. Null: there was none.';
comment on constraint the_row_of_encryption_is_the_only_one on encryption is 'There is nothing that a second one could say.';
comment on index there_is_one_row_of_encryption is 'Finds the row.';

create table plain_messages (
  message_id uuid not null,
  constraint a_plain_message_is_noted_once primary key (message_id)
);
comment on table plain_messages is 'Messages and events that SQL has stored as plain text while encryption is on. The job seal seals them, and takes them out.';
comment on column plain_messages.message_id is 'The message (messages.id).';
comment on index a_plain_message_is_noted_once is 'The job takes them in this order.';

create function restante_admit_plain_text() returns boolean
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
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
comment on function restante_admit_plain_text() is
  'Raises where SQL may not store plain text, because nodes encrypt. Returns whether what SQL stores is to be noted, so that it is sealed soon (restante_note_plain).';

create function restante_note_plain(p_messages uuid[]) returns void
language plpgsql volatile
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  insert into plain_messages (message_id) select distinct u.id from unnest(p_messages) u (id) on conflict do nothing;
end $$;
comment on function restante_note_plain(uuid[]) is 'Notes messages that SQL has stored as plain text. The job seal seals them.';

create function restante_make_data_key(p_id text, p_master_id text, p_wrapped bytea, p_newest text) returns boolean
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
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
comment on function restante_make_data_key(text, text, bytea, text) is
  'Stores a new data key, unless another one was made since p_newest was the newest (null: there was none). Returns whether it was stored. However many nodes want a new key, one of them makes it.';

create function restante_rotate_keys(p_actor text default null, p_node uuid default null) returns bigint
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
declare
  v_sweep bigint;
begin
  perform restante_needs_read_committed();
  update encryption e set old_before = clock_timestamp(), sweeps_wanted = e.sweeps_wanted + 1 where e.only_row and e.is_on
  returning e.sweeps_wanted into v_sweep;
  perform restante_audit('keys.rotate', '{}', case when v_sweep is null then 'off' else 'rotated' end, p_actor, p_node);
  return v_sweep;
end $$;
comment on function restante_rotate_keys(text, uuid) is
  'Asks for a new data key, and for a sweep that seals every message of an older key with it, and notes it in the audit. Returns the number of the sweep (encryption.sweeps_done says when it is done); null: encryption is off. Nodes make the key within seconds, and the sweep begins some minutes later, when no node uses the older ones any more.';
