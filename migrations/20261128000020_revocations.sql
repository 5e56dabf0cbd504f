-- Revocations: tokens that are worth nothing although they have not expired. Every node keeps those that count in memory, so that no request asks
-- for them. A node learns of a new one by a notification on restante_wake_channel(), and where it has missed that, by a read every few seconds.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table revocations (
  number     bigint generated always as identity,
  user_name  text collate "C",
  device_id  text collate "C",
  token_id   text collate "C",
  of_login   boolean not null default false,
  revoked_at timestamptz not null,
  expires_at timestamptz not null,
  reason     text,
  revoked_by text not null,
  revoked_xid xid8 not null default pg_current_xact_id(),
  constraint revocations_are_in_their_order primary key (number),
  constraint something_is_revoked_once unique nulls not distinct (user_name, device_id, token_id),
  constraint a_revocation_is_of_a_user_a_device_or_a_token check (num_nonnulls(user_name, token_id) = 1 and (device_id is null or user_name is not null)),
  constraint only_a_token_id_is_that_of_a_login check (token_id is not null or not of_login),
  constraint a_revoked_user_has_a_name check (char_length(user_name) between 1 and 128),
  constraint a_revoked_device_has_a_name check (char_length(device_id) between 1 and 64),
  constraint a_revoked_token_has_an_id check (char_length(token_id) between 1 and 256),
  constraint a_revocation_has_a_short_reason check (char_length(reason) between 1 and 500)
);
comment on table revocations is 'Tokens that are worth nothing although they have not expired, until they have. A few, written by operators; and one for each login that has ended, until its access tokens have expired.';
comment on column revocations.number is 'Which of two of the same moment comes first.';
comment on column revocations.user_name is 'The user, as its tokens name it (sub): it need not have come yet. Its tokens that were issued before revoked_at are concerned.';
comment on column revocations.device_id is 'The device: then only what this device of the user does with those tokens.';
comment on column revocations.token_id is 'The id of one token (jti), or of the tokens of one login (sid), instead of a user.';
comment on column revocations.of_login is 'The login token_id has ended, and no operator has revoked it. It is counted apart from what operators revoke.';
comment on column revocations.revoked_at is 'When it was revoked, the last time.';
comment on column revocations.expires_at is 'From then on the tokens have expired: a job removes the row (revocations).';
comment on column revocations.reason is 'Why, in the words of the operator.';
comment on column revocations.revoked_by is 'Who did it: the sub of an operator''s token, or the role of a session.';
comment on column revocations.revoked_xid is 'The transaction that wrote the row last. A node reads what transactions have written that were not over when it last read, however long they took.';
comment on constraint something_is_revoked_once on revocations is 'Revoked again, it is later and lasts longer.';
comment on constraint a_revocation_is_of_a_user_a_device_or_a_token on revocations is 'A token id stands alone: it needs no user.';
comment on constraint only_a_token_id_is_that_of_a_login on revocations is 'Users and devices are revoked by operators.';
comment on constraint a_revoked_user_has_a_name on revocations is 'As users have.';
comment on constraint a_revoked_device_has_a_name on revocations is 'As devices have.';
comment on constraint a_revoked_token_has_an_id on revocations is 'Nodes keep it in memory.';
comment on constraint a_revocation_has_a_short_reason on revocations is 'It is for people.';
comment on index something_is_revoked_once is 'Finds the one that is revoked again.';
comment on index revocations_are_in_their_order is 'Removes one.';
create index revocations_by_transaction on revocations (revoked_xid, number);
comment on index revocations_by_transaction is 'Reads what is new.';
create index revocations_by_time on revocations (revoked_at, number);
comment on index revocations_by_time is 'Lists from the newest on.';
create index revocations_by_end on revocations (expires_at);
comment on index revocations_by_end is 'Finds those that are no longer needed.';

create table token_settings (
  only_row     boolean not null default true,
  lifetime_max interval not null default '90 days',
  constraint there_is_one_row_of_token_settings primary key (only_row),
  constraint the_row_of_token_settings_is_the_only_one check (only_row),
  constraint a_token_may_live_for_a_while check (lifetime_max > '0')
);
insert into token_settings default values;
comment on table token_settings is 'The settings of tokens, in one row, for what revokes them in SQL. Each node that starts writes its settings here; the last one counts.';
comment on column token_settings.only_row is 'Always true.';
comment on column token_settings.lifetime_max is 'TOKEN_LIFETIME_MAX: a token is worth nothing so long after it was issued, so a revocation is kept for it.';
comment on constraint the_row_of_token_settings_is_the_only_one on token_settings is 'There is nothing that a second one could say.';
comment on constraint a_token_may_live_for_a_while on token_settings is 'Or revocations would be over as they are made.';
comment on index there_is_one_row_of_token_settings is 'Finds the row.';

create function restante_revoke(
  p_user text, p_device text default null, p_token text default null, p_reason text default null, p_expires_at timestamptz default null,
  p_by text default session_user, p_node uuid default null,
  out number bigint, out revoked_at timestamptz, out expires_at timestamptz) returns record
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set search_path from current
as $$
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
comment on function restante_revoke(text, text, text, text, timestamptz, text, uuid) is
  'Revokes the tokens of a user that were issued before now, those of one device of a user, or the token of an id (then p_user is null), on every node: connections that live on them are closed, new ones refused. The logins of the user end, or the login whose sid the id is; a device has none of its own, and none ends. It is noted in the audit, with the node p_node through which it was asked for, and kept until p_expires_at, or for token_settings.lifetime_max: the tokens must have expired by then. Where logins end it is kept for a day at least. Repeated, it is later and lasts longer.';
