-- Opening a session: where a connection starts in each inbox.

create function restante_open(p_user bigint, p_device text)
returns table (class inbox_class, last_seq bigint, settled_seq bigint, acked_seq bigint, session_no bigint)
language plpgsql volatile
set enable_seqscan = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
declare
  v_chat    bigint;
  v_event   bigint;
  v_session bigint;
begin
  v_chat := restante_advance_settled(p_user, 'chat');
  v_event := restante_advance_settled(p_user, 'event');
  if p_device is not null then
    -- A device that is new starts before the oldest waiting row.
    insert into devices as d (user_id, device_id, acked_chat_seq, acked_event_seq)
      values (p_user, p_device, v_chat, v_event)
      on conflict (user_id, device_id) do update set session_no = d.session_no + 1, last_seen_at = clock_timestamp()
      returning d.session_no, d.acked_chat_seq, d.acked_event_seq into v_session, v_chat, v_event;
  end if;
  return query
    select i.class, i.last_seq, i.settled_seq, case i.class when 'chat' then v_chat else v_event end, v_session
      from inboxes i where i.user_id = p_user order by i.class;
end $$;
comment on function restante_open(bigint, text) is
  'What a connection begins with, per class: the inbox''s counters, where the session''s cursor starts, and for a device its new session_no.';
