-- Accounts, for those without an issuer of tokens: names with passwords, and the logins that are open. A login is what one client has from its login
-- to its logout. It has one refresh token at a time, and of that the table has a hash. Ending a login revokes its access tokens, by the id of the login
-- (revocations.token_id; the claim sid), so that every node closes the connections that live on them.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table accounts (
  name                text collate "C",
  display_name        text,
  password_hash       text not null,
  created_at          timestamptz not null default now(),
  password_changed_at timestamptz not null default now(),
  constraint each_account_has_a_name_of_its_own primary key (name),
  constraint an_account_has_a_plain_name check (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
  constraint an_account_is_shown_by_a_short_name check (char_length(display_name) between 1 and 256),
  constraint a_password_is_hashed_with_argon2id check (password_hash like '$argon2id$%' and char_length(password_hash) <= 256)
);
comment on table accounts is 'Names with passwords, for those without an issuer of tokens. Empty unless ACCOUNTS is on. The name is the external id of a user, whose row is made when it first comes.';
comment on column accounts.name is 'The user, as its tokens name it (sub).';
comment on column accounts.display_name is 'The name that is shown to people: the claim name of its tokens.';
comment on column accounts.password_hash is 'The hash of the password by argon2id, with its salt and its parameters, in the form of PHC strings.';
comment on column accounts.created_at is 'When it was registered.';
comment on column accounts.password_changed_at is 'When its password was changed, the last time. A hash that is made anew of the same password is no change.';
comment on constraint each_account_has_a_name_of_its_own on accounts is 'A name that is taken is refused.';
comment on constraint an_account_has_a_plain_name on accounts is 'Nobody can register a name that looks like that of another account.';
comment on constraint an_account_is_shown_by_a_short_name on accounts is 'As a token may carry it.';
comment on constraint a_password_is_hashed_with_argon2id on accounts is 'No password ever stands here.';
comment on index each_account_has_a_name_of_its_own is 'Finds an account by its name.';

create table account_logins (
  id            uuid,
  name          text collate "C" not null,
  family        uuid not null,
  secret_hash   bytea not null,
  previous_hash bytea,
  renewed_at    timestamptz not null,
  begun_at      timestamptz not null,
  ends_at       timestamptz not null,
  expires_at    timestamptz not null,
  constraint each_login_has_an_id primary key (id),
  constraint a_login_is_that_of_an_account foreign key (name) references accounts (name) on delete cascade,
  constraint each_login_has_a_family_of_refresh_tokens unique (family),
  constraint hashes_of_refresh_tokens_are_of_sha256 check (octet_length(secret_hash) = 32 and octet_length(previous_hash) = 32),
  constraint a_login_ends_when_it_expires_at_the_latest check (ends_at <= expires_at)
);
comment on table account_logins is 'Logins that are open: what one client of an account has from its login to its logout. A bounded number for each account.';
comment on column account_logins.id is 'The login, as its access tokens name it (sid).';
comment on column account_logins.name is 'The account.';
comment on column account_logins.family is 'What all refresh tokens of the login have in common: their first half. It is in no access token.';
comment on column account_logins.secret_hash is 'SHA-256 of the other half of the refresh token that counts now.';
comment on column account_logins.previous_hash is 'The same of the one before, which counts once more for REFRESH_GRACE_SECS; null: there was none.';
comment on column account_logins.renewed_at is 'When the refresh token that counts was given out.';
comment on column account_logins.begun_at is 'When the password was given.';
comment on column account_logins.ends_at is 'From then on the refresh token is worth nothing: it was not used in time, or the login has expired.';
comment on column account_logins.expires_at is 'From then on the login has expired, however often it was renewed.';
comment on constraint each_login_has_an_id on account_logins is 'Access tokens name it.';
comment on constraint each_login_has_a_family_of_refresh_tokens on account_logins is 'A refresh token names it.';
comment on constraint hashes_of_refresh_tokens_are_of_sha256 on account_logins is 'No refresh token ever stands here.';
comment on constraint a_login_ends_when_it_expires_at_the_latest on account_logins is 'Renewing it does not make it last for ever.';
comment on constraint a_login_is_that_of_an_account on account_logins is 'An account that is removed has no logins.';
comment on index each_login_has_an_id is 'Removes one.';
comment on index each_login_has_a_family_of_refresh_tokens is 'Finds the login of a refresh token.';
create index account_logins_by_name on account_logins (name, renewed_at);
comment on index account_logins_by_name is 'Finds the logins of an account, and which of them was renewed longest ago.';
create index account_logins_by_end on account_logins (ends_at);
comment on index account_logins_by_end is 'Finds those that have ended.';

-- No act of an operator, so none for the audit: a client must not be able to make rows there.
create function restante_revoke_logins(p_name text, p_logins uuid[], p_lifetime interval) returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set search_path from current
as $$
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
comment on function restante_revoke_logins(text, uuid[], interval) is
  'Revokes the access tokens of these logins on every node, for as long as such a token lives. Part of the functions that end logins.';

create function restante_end_logins(p_name text, p_login text) returns boolean
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set search_path from current
as $$
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
end $$;
comment on function restante_end_logins(text, text) is
  'Ends the logins of an account, or the login whose id (sid) this is. Returns whether there was one. Their access tokens are revoked by the caller (restante_revoke).';

create function restante_log_in(
  p_name text, p_verified text, p_new_hash text, p_login uuid, p_family uuid, p_secret_hash bytea,
  p_idle interval, p_lifetime interval, p_logins_max integer, p_access interval,
  out is_done boolean, out display_name text, out ends_at timestamptz, out ended uuid[]) returns record
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set search_path from current
as $$
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
comment on function restante_log_in(text, text, text, uuid, uuid, bytea, interval, interval, integer, interval) is
  'Begins a login of an account whose password was verified against the hash p_verified. Where that is its hash no more, nothing is done. p_new_hash: a hash of the same password to be kept in its place. Beyond p_logins_max those that were renewed longest ago end.';

create function restante_refresh_login(
  p_family uuid, p_presented bytea, p_next bytea, p_idle interval, p_grace interval, p_access interval,
  out outcome text, out name text, out display_name text, out login_id uuid, out ends_at timestamptz) returns record
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set search_path from current
as $$
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
comment on function restante_refresh_login(uuid, bytea, bytea, interval, interval, interval) is
  'Renews a login: its refresh token counts no more, and the next one does. Outcomes: renewed; unknown: it has ended, or there was none; reused: the token was used before, so two have it, and the login has ended. Within p_grace of its use the token before counts as well: its answer may have been lost.';

create function restante_change_password(
  p_name text, p_verified text, p_new_hash text, p_kept uuid, p_access interval,
  out is_done boolean, out ended uuid[]) returns record
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set search_path from current
as $$
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
comment on function restante_change_password(text, text, text, uuid, interval) is
  'Changes the password of an account, which was verified against the hash p_verified, and ends its logins but p_kept. Where that is its hash no more, nothing is done.';

create function restante_log_out(p_name text, p_family uuid, p_access interval) returns uuid[]
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set search_path from current
as $$
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
comment on function restante_log_out(text, uuid, interval) is
  'Ends the login of a family of refresh tokens, or all logins of an account (then p_family is null), on every node. Returns those that have ended. May be repeated.';

-- The rest is for operators, in SQL.

create function restante_end_all_logins(p_name text) returns integer
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set search_path from current
as $$
declare
  v_ended integer;
begin
  -- No access token lives for longer than a day.
  v_ended := cardinality(restante_log_out(p_name, null, '1 day'));
  perform restante_audit('logins.end', jsonb_build_object('userId', left(p_name, 128)), case when v_ended > 0 then 'ended' else 'none' end);
  return v_ended;
end $$;
comment on function restante_end_all_logins(text) is
  'Ends all logins of an account on every node, and notes it in the audit. Tokens from elsewhere go on: to end these too, revoke the user (restante_revoke). Returns how many have ended. May be repeated.';

create function restante_replace_password(p_name text, p_spare text) returns boolean
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set search_path from current
as $$
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
comment on function restante_replace_password(text, text) is
  'For somebody who has lost the password: the account gets that of another account, which was registered for it and is removed, and the logins of both end. It is noted in the audit. False: one of the two is not there, and nothing is done.';
