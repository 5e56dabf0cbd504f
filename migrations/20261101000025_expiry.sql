-- Expiry: the sweep for messages whose time has come.

create function restante_expire(p_after timestamptz, p_after_id uuid, p_horizon timestamptz, p_messages_max integer)
returns table (
  message_id uuid, expires_at timestamptz, user_id bigint, member text, class inbox_class, seq bigint,
  chat_id uuid, chat_seq bigint, sender_id bigint, expired_at timestamptz
)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_now   timestamptz := clock_timestamp();
  v_ids   uuid[];
  v_users bigint[];
  v_chats uuid[];
begin
  select array_agg(q.id) into v_ids
    from (select m.id from messages m
           where m.expires_at is not null and (m.expires_at, m.id) > (p_after, p_after_id) and m.expires_at <= p_horizon
           order by m.expires_at, m.id limit p_messages_max) q;
  perform 1 from message_status s
    where s.message_id = any (v_ids) and s.status = 'sent'
    order by s.user_id, s.class, s.seq for no key update;
  return query
    with ended as (
      update message_status s set status = 'expired', reason = 'its time had come'
       where s.message_id = any (v_ids) and s.status = 'sent'
      returning s.message_id, s.user_id, s.class, s.seq
    )
    select m.id, m.expires_at, e.user_id, u.external_id, e.class, e.seq, m.chat_id, m.seq, m.sender_id, v_now
      from unnest(v_ids) i (id)
      join messages m on m.id = i.id
      left join ended e on e.message_id = m.id
      left join users u on u.id = e.user_id
     order by m.expires_at, m.id;
  select array_agg(q.user_id), array_agg(q.chat_id) into v_users, v_chats
    from (
      select distinct s.user_id, m.chat_id from message_status s join messages m on m.id = s.message_id
       where s.message_id = any (v_ids) and s.status = 'expired'
    ) q;
  if v_users is not null then
    perform 1 from chat_members cm
      join unnest(v_chats, v_users) u (chat, user_id) on cm.chat_id = u.chat and cm.user_id = u.user_id
     order by cm.chat_id, cm.user_id for no key update of cm;
    perform restante_touch_marks(v_chats, v_users);
  end if;
end $$;
comment on function restante_expire(timestamptz, uuid, timestamptz, integer) is
  'Ends what still waits of messages that expired up to the horizon, a page of messages at a time in the order of (expires_at, id). Returns every message of the page, with the rows that ended; no row at all: the page was empty.';
