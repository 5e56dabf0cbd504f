-- overview: a user's inboxes and chats in one snapshot: where each inbox ends, whom it has direct chats with or as contacts, in which chats a mark has moved, what the user itself has read, whether anything ended, whether invitations wait, which connection of a device is the newest, which chats the user has muted; members_by_user, endings_by_sender, then primary keys
-- A chat's members are looked at once, up to the number from which on only counts are told. Of a closed chat nothing is told.
select pg_current_snapshot()::text as "snapshot!",
       (select i.last_seq from inboxes i where i.user_id = $1 and i.class = 'chat' order by i.step desc limit 1) as "chat_last_seq!",
       -- One more where the next page makes rows of events: so it is not taken for an empty one.
       (select i.last_seq from inboxes i where i.user_id = $1 and i.class = 'alert' order by i.step desc limit 1)
         + restante_has_untaken($1, 'alert')::integer as "alert_last_seq!",
       (select i.last_seq from inboxes i where i.user_id = $1 and i.class = 'event' order by i.step desc limit 1)
         + restante_has_untaken($1, 'event')::integer as "event_last_seq!",
       exists (select 1 from endings e where e.sender_id = $1 and e.class = 'chat' and not e.is_hidden and e.ended_xid >= (select coalesce($2::text, '0')::xid8))
         or exists (
           select 1 from unnest((select $5::text[]::xid8[])) w (xid)
           cross join lateral (select 1 from endings e where e.sender_id = $1 and e.class = 'chat' and not e.is_hidden and e.ended_xid = w.xid limit 1) e) as "ended!",
       exists (select 1 from invitations i where i.user_id = $1 and i.declined_at is null and i.expires_at > now()) as "invited!",
       (select p.muted_chats from preferences p where p.user_id = $1) as "muted_chats?",
       (select d.session_no from devices d where d.user_id = $1 and d.device_id = $4) as "session_no?",
       case when $6::boolean then array(
         select x.other_id from contacts x
         where x.user_id = $1 and (select true from contacts y where y.user_id = x.other_id and y.other_id = x.user_id limit 1) is not null
         limit 1000)
       else array_agg(q.peer) filter (where q.peer is not null) end as "peers?",
       array_agg(q.chat_id) filter (where q.members < $3 and (q.has_moved or q.has_changed) and not q.is_closed) as "moved?",
       array_agg(q.chat_id) filter (where q.members = $3) as "large?",
       array_agg(q.chat_id order by q.own_xid desc) filter (where q.has_read) as "own_chats?",
       array_agg(q.own_read order by q.own_xid desc) filter (where q.has_read) as "own_read?"
from (
  select me.chat_id, own.read_seq as own_read, own.marked_xid as own_xid,
         own.read_seq > me.joined_seq and ($2::text is null or own.marked_xid >= (select $2::text::xid8)
           or own.marked_xid = any ((select $5::text[]::xid8[])::xid8[])) as has_read, them.members, them.has_moved,
         c.recount_xid >= (select $2::text::xid8) or c.recount_xid = any ((select $5::text[]::xid8[])::xid8[]) as has_changed, case when c.kind = 'direct' and not c.is_closed then them.peer end as peer, c.is_closed
  from chat_members me
  cross join lateral (
    select x.kind, x.recount_xid, (select true from closed_chats y where y.chat_id = x.id limit 1) is not null as is_closed
    from chats x where x.id = me.chat_id limit 1
  ) c
  cross join lateral (
    select y.read_seq, y.marked_xid from marks y where y.chat_id = me.chat_id and y.user_id = me.user_id order by y.step desc limit 1
  ) own
  cross join lateral (
    select count(*) as members, max(x.user_id) filter (where x.user_id <> $1) as peer,
           bool_or(x.user_id <> $1 and case when $2::text is null then x.delivered_seq > x.joined_seq
                                                else x.marked_xid >= (select $2::text::xid8) or x.marked_xid = any ((select $5::text[]::xid8[])::xid8[]) end) as has_moved
    from (
      select cm.user_id, cm.joined_seq, k.delivered_seq, k.marked_xid
      from chat_members cm
      cross join lateral (
        select y.delivered_seq, y.marked_xid from marks y where y.chat_id = cm.chat_id and y.user_id = cm.user_id order by y.step desc limit 1
      ) k
      where cm.chat_id = me.chat_id and cm.left_seq is null
      limit $3
    ) x
  ) them
  where me.user_id = $1 and me.left_seq is null
) q
