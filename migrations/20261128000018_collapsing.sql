-- Collapsing: the newest event of a collapse key takes the place of those that wait. A key counts in the stream of a feed, and for events
-- to listed users in the stream of all of them, whoever publishes. A row of an event with a key carries that key with its feed as one
-- value, so that the rows of a key in an inbox are found by index.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

alter table message_status add column collapse_id uuid;
comment on column message_status.collapse_id is
  'Stands for the feed and the collapse key of an event (restante_collapse_id). Never changes. Null: it has no key, or is no event.';

create index rows_by_collapse_id on message_status (user_id, class, collapse_id, seq) where collapse_id is not null;
comment on index rows_by_collapse_id is 'The newest rows of a collapse key in an inbox. Costs nothing for rows without a key.';

create function restante_collapse_id(p_feed uuid, p_key text) returns uuid
language sql immutable strict
set search_path from current
as $$
  select encode(substr(sha256(uuid_send(p_feed) || convert_to(p_key, 'UTF8')), 1, 16), 'hex')::uuid;
$$;
comment on function restante_collapse_id(uuid, text) is
  'A value for a feed and a collapse key: two different pairs never have the same, but by a collision of 128 bits. The class is no part of it: it stands beside it in the key of an inbox.';

create function restante_collapse(p_users bigint[], p_classes inbox_class[], p_keys uuid[], p_seqs bigint[]) returns bigint[]
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_memoize = off set jit = off
set search_path from current
as $$
declare
  v_now     timestamptz := clock_timestamp();
  v_users   bigint[]; -- rows that end
  v_classes inbox_class[];
  v_seqs    bigint[];
begin
  -- All but the newest ones of a key have ended, save a row that somebody held then: it was being acked.
  select array_agg(q.user_id order by q.user_id, q.class, q.seq), array_agg(q.class order by q.user_id, q.class, q.seq),
         array_agg(q.seq order by q.user_id, q.class, q.seq)
    into v_users, v_classes, v_seqs
    from (select n.user_id, n.class, o.seq
            from (select unnest(p_users) as user_id, unnest(p_classes) as class, unnest(p_keys) as key, unnest(p_seqs) as seq) n
            cross join lateral (
              select x.seq, x.message_id, x.status from message_status x
               where x.user_id = n.user_id and x.class = n.class and x.collapse_id = n.key and x.seq < n.seq order by x.seq desc limit 10) o
            cross join lateral (select x.expires_at from messages x where o.status = 'sent' and x.id = o.message_id limit 1) m
            cross join lateral (
              select from message_status x
               where (m.expires_at is null or m.expires_at > v_now) and x.user_id = n.user_id and x.class = n.class and x.seq = o.seq and x.status = 'sent'
               limit 1 for no key update skip locked) k) q;
  if v_seqs is null then
    return null;
  end if;
  update message_status s set status = 'expired', ended = 'superseded', reason = 'a newer event of its key came'
    from (select unnest(v_users) as user_id, unnest(v_classes) as class, unnest(v_seqs) as seq) u
   where s.user_id = u.user_id and s.class = u.class and s.seq = u.seq and s.status = 'sent';
  return array(select distinct u.user_id from (select unnest(v_users) as user_id) u order by 1);
end $$;
comment on function restante_collapse(bigint[], inbox_class[], uuid[], bigint[]) is
  'Ends what waits in these inboxes of the same collapse id below these numbers (superseded), and returns the users of whom something has ended, or null. Called while the inboxes are locked, in which events of these ids have just become rows: the numbers are those of the first of each id. What somebody holds is being acked, and stays; what has expired ends as that. It looks at the ten newest rows of a key.';
