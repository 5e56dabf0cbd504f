-- Accepting messages: the one function that writes messages and message_status.

create function restante_accept(
  p_ids       uuid[],
  p_chats     uuid[],
  p_senders   bigint[],
  p_types     text[],
  p_contents  text[],
  p_metadata  text[],
  p_expires   timestamptz[],
  p_skip_held boolean default false
) returns table (
  ord        integer,
  outcome    text,
  chat_id    uuid,
  seq        bigint,
  created_at timestamptz,
  class      inbox_class,
  recipients bigint[],
  inbox_seqs bigint[]
)
language plpgsql
volatile
-- Every statement joins one unnest with tables by key. The settings keep a plan that was cached while tables
-- were small (or empty) from being anything else once they have grown.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_locked     uuid[];        -- chats that are locked here (only looked at when p_skip_held)
  v_outcome    text[];        -- per item
  v_chat       uuid[];        -- per item: its chat, or that of the first result
  v_seq        bigint[];      -- per item: its number in the chat
  v_created    timestamptz[]; -- per item
  v_class      inbox_class[]; -- per item
  v_pair_ord   integer[];     -- per (item, recipient): the item
  v_pair_user  bigint[];      -- … the recipient
  v_pair_class inbox_class[]; -- … its inbox
  v_pair_seq   bigint[];      -- … the number there
  v_chat_inboxes  bigint[];   -- users whose chat inboxes are locked here (only looked at when p_skip_held)
  v_event_inboxes bigint[];   -- … whose event inboxes
  v_held       uuid[];        -- chats with a member whose inbox somebody else holds
  v_now        timestamptz;
  v_wanted     integer;
  v_done       integer;
begin
  -- 1. Lock the chats, in the order of their ids. From here on their numbers and members stand still.
  if p_skip_held then
    select array_agg(q.id) into v_locked
      from (select c.id from chats c where c.id = any (p_chats) order by c.id for no key update skip locked) q;
  else
    perform 1 from chats c where c.id = any (p_chats) order by c.id for no key update;
  end if;

  -- 2. A later statement, so a later snapshot: what is there already, and who is a member, under the lock.
  select array_agg(q.outcome), array_agg(q.chat), array_agg(q.seq), array_agg(q.created_at), array_agg(q.class)
    into v_outcome, v_chat, v_seq, v_created, v_class
    from (
      select coalesce(m.chat_id, u.chat) as chat, m.seq, m.created_at,
             case c.kind when 'feed' then 'event'::inbox_class else 'chat'::inbox_class end as class,
             case
               when m.sender_id = u.sender then 'duplicate'
               when m.sender_id is not null then 'conflict'
               when c.id is null then 'not_a_member'
               when p_skip_held and not coalesce(c.id = any (v_locked), false) then 'held'
               when cm.user_id is null then 'not_a_member'
               when u.expires_at <= clock_timestamp() then 'too_late'
               else 'accepted'
             end as outcome
        from unnest(p_ids, p_chats, p_senders, p_expires) with ordinality u (id, chat, sender, expires_at, ord)
        left join messages m on m.id = u.id
        left join chats c on c.id = u.chat
        left join chat_members cm on cm.chat_id = u.chat and cm.user_id = u.sender and cm.left_seq is null
       order by u.ord
    ) q;

  -- Who gets what: one pair per accepted item and member, the sender excepted.
  select array_agg(q.ord), array_agg(q.user_id), array_agg(q.class)
    into v_pair_ord, v_pair_user, v_pair_class
    from (
      select u.ord::integer as ord, cm.user_id, u.class
        from unnest(v_outcome, p_chats, p_senders, v_class) with ordinality u (outcome, chat, sender, class, ord)
        join chat_members cm on cm.chat_id = u.chat and cm.left_seq is null and cm.user_id <> u.sender
       where u.outcome = 'accepted'
       order by u.ord, cm.user_id
    ) q;

  -- 3. Lock the inboxes, in order. Their counters stand still from here on.
  if p_skip_held then
    select coalesce(array_agg(q.user_id) filter (where q.class = 'chat'), '{}'), coalesce(array_agg(q.user_id) filter (where q.class = 'event'), '{}')
      into v_chat_inboxes, v_event_inboxes
      from (select i.user_id, i.class from inboxes i
             where i.user_id = any (v_pair_user) and i.class = any (v_pair_class)
             order by i.user_id, i.class for no key update skip locked) q;
    -- A chat with a member whose inbox is held waits as a whole: its order is that of its numbers.
    select array_agg(distinct p_chats[q.ord]) into v_held
      from unnest(v_pair_ord, v_pair_user, v_pair_class) q (ord, user_id, class)
     where q.user_id <> all (case q.class when 'chat' then v_chat_inboxes else v_event_inboxes end);
    if v_held is not null then
      select array_agg(case when u.outcome = 'accepted' and u.chat = any (v_held) then 'held' else u.outcome end order by u.ord)
        into v_outcome
        from unnest(v_outcome, p_chats) with ordinality u (outcome, chat, ord);
      select array_agg(q.ord), array_agg(q.user_id), array_agg(q.class)
        into v_pair_ord, v_pair_user, v_pair_class
        from unnest(v_pair_ord, v_pair_user, v_pair_class) q (ord, user_id, class)
       where v_outcome[q.ord] = 'accepted';
    end if;
  else
    perform 1 from inboxes i
      where i.user_id = any (v_pair_user) and i.class = any (v_pair_class)
      order by i.user_id, i.class for no key update;
  end if;

  -- 4. Number what is left, in the order received. Only what is inserted below gets a number.
  v_now := clock_timestamp();
  select array_agg(q.seq) into v_seq
    from (
      select case when u.outcome = 'accepted'
                  then c.last_seq + count(*) filter (where u.outcome = 'accepted') over (partition by u.chat order by u.ord)
                  else u.seq end as seq
        from unnest(v_outcome, p_chats, v_seq) with ordinality u (outcome, chat, seq, ord)
        left join chats c on c.id = u.chat
       order by u.ord
    ) q;
  update chats c set last_seq = c.last_seq + n.items
    from (select u.chat, count(*) as items from unnest(v_outcome, p_chats) u (outcome, chat) where u.outcome = 'accepted' group by u.chat) n
   where c.id = n.chat;

  select array_agg(q.seq) into v_pair_seq
    from (
      select i.last_seq + row_number() over (partition by p.user_id, p.class order by p.n) as seq
        from unnest(v_pair_user, v_pair_class) with ordinality p (user_id, class, n)
        join inboxes i on i.user_id = p.user_id and i.class = p.class
       order by p.n
    ) q;
  update inboxes i set last_seq = i.last_seq + n.items
    from (select p.user_id, p.class, count(*) as items from unnest(v_pair_user, v_pair_class) p (user_id, class) group by p.user_id, p.class) n
   where i.user_id = n.user_id and i.class = n.class;

  -- 5. Insert. No "on conflict": a number that was given must be used, or all of it is rolled back.
  insert into messages (id, chat_id, seq, sender_id, message_type, content, metadata, created_at, expires_at)
    select u.id, u.chat, u.seq, u.sender, u.message_type, u.content, u.metadata::jsonb, v_now, u.expires_at
      from unnest(v_outcome, p_ids, p_chats, v_seq, p_senders, p_types, p_contents, p_metadata, p_expires)
           u (outcome, id, chat, seq, sender, message_type, content, metadata, expires_at)
     where u.outcome = 'accepted';
  get diagnostics v_done = row_count;
  select count(*) into v_wanted from unnest(v_outcome) u (outcome) where u.outcome = 'accepted';
  if v_done <> v_wanted then
    raise exception 'accepting numbered % messages and stored %', v_wanted, v_done using errcode = 'data_corrupted';
  end if;

  insert into message_status (user_id, class, seq, message_id)
    select p.user_id, p.class, p.seq, p_ids[p.ord]
      from unnest(v_pair_ord, v_pair_user, v_pair_class, v_pair_seq) p (ord, user_id, class, seq);
  get diagnostics v_done = row_count;
  if v_done <> coalesce(array_length(v_pair_ord, 1), 0) then
    raise exception 'accepting numbered % inbox rows and stored %', array_length(v_pair_ord, 1), v_done using errcode = 'data_corrupted';
  end if;

  -- Items and pairs come together in one pass over their union: a join of the two would be quadratic.
  return query
    select q.ord, max(q.outcome), (max(q.chat::text))::uuid, max(q.seq), max(q.created_at), max(q.class),
           array_agg(q.user_id) filter (where q.user_id is not null),
           array_agg(q.inbox_seq) filter (where q.user_id is not null)
      from (
        select u.ord::integer as ord, u.outcome, u.chat, u.seq,
               case when u.outcome = 'accepted' then v_now else u.created_at end as created_at,
               u.class, null::bigint as user_id, null::bigint as inbox_seq
          from unnest(v_outcome, v_chat, v_seq, v_created, v_class) with ordinality u (outcome, chat, seq, created_at, class, ord)
        union all
        select p.ord, null, null, null, null, null, p.user_id, p.seq
          from unnest(v_pair_ord, v_pair_user, v_pair_seq) p (ord, user_id, seq)
      ) q
     group by q.ord
     order by q.ord;
end $$;
comment on function restante_accept(uuid[], uuid[], bigint[], text[], text[], text[], timestamptz[], boolean) is
  'Stores messages and a row per recipient, numbers both without a gap, and returns an outcome per item: accepted, duplicate (same sender: the first result), conflict (another sender''s id), not_a_member, too_late (expires_at has passed), held (only with p_skip_held: somebody else has the chat, or a member''s inbox, locked). The only writer of messages. An id must not stand in one call twice.';
