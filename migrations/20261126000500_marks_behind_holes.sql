-- Marks that stay exact as long as something waits above them. Whoever acked above what waits left a hole: the next session
-- sees what waits and not what was acked beyond it, and the mark that it proposes stops in between, for good.

create or replace function restante_exact_marks(p_chats uuid[], p_users bigint[]) returns void
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
#variable_conflict use_column
begin
  -- One snapshot for last_seq and rows: whatever is numbered up to that last_seq is visible here too.
  update chat_members cm
     set delivered_seq = greatest(cm.delivered_seq, e.delivered), read_seq = greatest(cm.read_seq, e.read),
         has_hole = e.waits, marked_xid = pg_current_xact_id()
    from (
      select u.chat, u.user_id, coalesce(w.seq - 1, c.last_seq) as delivered, coalesce(r.seq - 1, c.last_seq) as read,
             w.seq is not null as waits
        from unnest(p_chats, p_users) u (chat, user_id)
        join chats c on c.id = u.chat
        join chat_members m on m.chat_id = u.chat and m.user_id = u.user_id
        left join lateral (
          select x.seq from messages x join message_status s on s.message_id = x.id and s.user_id = u.user_id
           where x.chat_id = u.chat and x.seq > m.delivered_seq and s.status = 'sent'
           order by x.seq limit 1) w on true
        left join lateral (
          select x.seq from messages x join message_status s on s.message_id = x.id and s.user_id = u.user_id
           where x.chat_id = u.chat and x.seq > m.read_seq and s.status in ('sent', 'delivered')
           order by x.seq limit 1) r on true
    ) e
   where cm.chat_id = e.chat and cm.user_id = e.user_id
     and (cm.delivered_seq < e.delivered or cm.read_seq < e.read or cm.has_hole <> e.waits);
end $$;
comment on function restante_exact_marks(uuid[], bigint[]) is
  'Moves the marks of these members to where their rows say; while something waits above them, has_hole keeps them exact. The caller holds the locks on their chat_members rows since an earlier statement: computed in the statement that locks, the sub-select would be of the older snapshot.';

comment on column chat_members.has_hole is
  'A message may wait below what this member has acked since: it was requeued, or skipped, or acked by another way. The marks are then computed from the rows, not taken from what a session proposes. Cleared when nothing waits.';
