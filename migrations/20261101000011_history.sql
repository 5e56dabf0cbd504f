-- The history of a chat.

create function restante_history(p_user bigint, p_chat uuid, p_after bigint, p_before bigint, p_limit integer)
returns table (
  message_id uuid, chat_seq bigint, message_type text, content text, metadata jsonb, created_at timestamptz, expires_at timestamptz,
  sender_id bigint, sender text, sender_name text, sender_picture text
)
language plpgsql stable
-- Chats differ by orders of magnitude. A plan for the average one would sort all of a large one for a page of 50.
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set enable_sort = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
begin
  if p_after is not null then
    return query
      select m.id, m.seq, m.message_type, m.content, m.metadata, m.created_at, m.expires_at, u.id, u.external_id, u.display_name, u.avatar_url
        from chat_members me
        left join lateral (
          select x.* from messages x
           where x.chat_id = p_chat and x.seq > greatest(p_after, me.joined_seq)
           order by x.seq limit p_limit) m on true
        left join users u on u.id = m.sender_id
       where me.chat_id = p_chat and me.user_id = p_user and me.left_seq is null;
  else
    return query
      select m.id, m.seq, m.message_type, m.content, m.metadata, m.created_at, m.expires_at, u.id, u.external_id, u.display_name, u.avatar_url
        from chat_members me
        left join lateral (
          select x.* from messages x
           where x.chat_id = p_chat and x.seq > me.joined_seq and x.seq < p_before
           order by x.seq desc limit p_limit) m on true
        left join users u on u.id = m.sender_id
       where me.chat_id = p_chat and me.user_id = p_user and me.left_seq is null;
  end if;
end $$;
comment on function restante_history(bigint, uuid, bigint, bigint, integer) is
  'A page of a chat for one of its members, from its joining on: the oldest messages above p_after, else the newest below p_before. A member gets a row in any case, with nulls where there is no message; somebody else gets none.';
