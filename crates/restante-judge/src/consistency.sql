-- inconsistencies: sentences about tables that do not agree with one another, whatever has happened before; it reads whole tables
select 'chat ' || c.chat_id || ': last_seq ' || c.last_seq || ', purged_seq ' || p.purged_seq || ', messages ' || count(m.id) || ', from ' || coalesce(min(m.seq), 0) || ' to ' || coalesce(max(m.seq), 0)
from chat_heads c join chats p on p.id = c.chat_id left join messages m on m.chat_id = c.chat_id
group by c.chat_id, c.last_seq, p.purged_seq
having count(m.id) <> c.last_seq - p.purged_seq or coalesce(max(m.seq), p.purged_seq) <> c.last_seq or min(m.seq) <= p.purged_seq
union all
select 'chat ' || c.id || ' has ' || count(h.chat_id) || ' heads' from chats c left join chat_heads h on h.chat_id = c.id group by c.id having count(h.chat_id) <> 1
union all
select 'member ' || cm.user_id || ' of chat ' || cm.chat_id || ' has ' || count(k.user_id) || ' rows of marks'
from chat_members cm left join marks k on k.chat_id = cm.chat_id and k.user_id = cm.user_id
group by cm.chat_id, cm.user_id having count(k.user_id) <> 1
union all
select 'user ' || i.user_id || ' has ' || count(*) || ' inboxes ' || i.class from inboxes i group by i.user_id, i.class having count(*) <> 1
union all
select 'device ' || d.device_id || ' of ' || d.user_id || ' has ' || count(*) || ' cursors ' || d.class from device_cursors d
group by d.user_id, d.device_id, d.class having count(*) <> 1
union all
select 'inbox ' || i.user_id || ' ' || i.class || ': last_seq ' || i.last_seq || ', purged_seq ' || i.purged_seq || ', rows and gaps ' || count(n.seq) || ', from ' || coalesce(min(n.seq), 0) || ' to ' || coalesce(max(n.seq), 0)
from inboxes i
left join (select user_id, class, seq from message_status union all select user_id, class, seq from inbox_gaps) n on n.user_id = i.user_id and n.class = i.class
group by i.user_id, i.class, i.last_seq, i.purged_seq
having count(n.seq) <> i.last_seq - i.purged_seq or coalesce(max(n.seq), i.purged_seq) <> i.last_seq or min(n.seq) <= i.purged_seq
union all
select 'inbox ' || i.user_id || ' ' || i.class || ': purged_seq ' || i.purged_seq || ' beyond settled_seq ' || i.settled_seq
from inboxes i where i.purged_seq > i.settled_seq
union all
select 'member ' || k.user_id || ' of chat ' || k.chat_id || ': purged_seq ' || k.purged_seq || ' and nothing was purged of its inbox ' || h.class
from marks k
join chat_heads h on h.chat_id = k.chat_id
join inboxes i on i.user_id = k.user_id and i.class = h.class
where k.purged_seq > h.last_seq or k.purged_seq > 0 and i.purged_seq = 0
union all
select 'user ' || q.user_id || ' has number ' || q.seq || ' of chat ' || q.chat_id || ' before number ' || q.before
from (
  select s.user_id, m.chat_id, m.seq, lag(m.seq) over (partition by s.user_id, s.class, m.chat_id order by s.seq) as before
  from message_status s join messages m on m.id = s.message_id
  where not exists (select from inbox_gaps g where g.user_id = s.user_id and g.class = s.class and g.reason = 'requeued')
    -- such a gap goes with the numbers around it
    and exists (select from inboxes i where i.user_id = s.user_id and i.class = s.class and i.purged_seq = 0)
) q
where q.seq <= q.before
union all
select 'row ' || s.user_id || ' ' || s.class || ' ' || s.seq || ' waits at or below settled_seq ' || i.settled_seq
from inboxes i join message_status s on s.user_id = i.user_id and s.class = i.class and s.seq <= i.settled_seq
where s.status = 'sent'
union all
select 'member ' || cm.user_id || ' of chat ' || cm.chat_id || ': number ' || m.seq || ' waits at or below its mark ' || cm.delivered_seq
from marks cm
-- a mark speaks of the time since its member last joined
join chat_members since on since.chat_id = cm.chat_id and since.user_id = cm.user_id
join messages m on m.chat_id = cm.chat_id and m.seq > since.joined_seq and m.seq <= cm.delivered_seq
join message_status s on s.message_id = m.id and s.user_id = cm.user_id
where s.status = 'sent'
union all
select 'member ' || cm.user_id || ' of chat ' || cm.chat_id || ': number ' || m.seq || ' is unread at or below its mark ' || cm.read_seq
from marks cm
join chat_members since on since.chat_id = cm.chat_id and since.user_id = cm.user_id
join messages m on m.chat_id = cm.chat_id and m.seq > since.joined_seq and m.seq <= cm.read_seq
join message_status s on s.message_id = m.id and s.user_id = cm.user_id
where s.status in ('sent', 'delivered')
union all
select 'member ' || cm.user_id || ' of chat ' || cm.chat_id || ': mark ' || cm.delivered_seq || ' beyond last_seq ' || c.last_seq
from marks cm join chat_heads c on c.chat_id = cm.chat_id
where cm.delivered_seq > c.last_seq
union all
select 'message ' || m.id || ' has no chat or no sender'
from messages m left join chats c on c.id = m.chat_id left join users u on u.id = m.sender_id
where c.id is null or u.id is null
union all
select 'row ' || s.user_id || ' ' || s.class || ' ' || s.seq || ' has no message or no inbox'
from message_status s left join messages m on m.id = s.message_id left join inboxes i on i.user_id = s.user_id and i.class = s.class
where m.id is null or i.user_id is null
union all
select 'message ' || m.id || ' is in its sender''s own inbox'
from messages m join message_status s on s.message_id = m.id and s.user_id = m.sender_id
union all
select 'message ' || m.id || ' has no row for member ' || cm.user_id
from messages m
join chat_members cm on cm.chat_id = m.chat_id and cm.user_id <> m.sender_id and m.seq > cm.joined_seq and (cm.left_seq is null or m.seq <= cm.left_seq)
join marks k on k.chat_id = m.chat_id and k.user_id = cm.user_id
left join message_status s on s.message_id = m.id and s.user_id = cm.user_id
where s.user_id is null and m.seq > k.purged_seq
union all
select 'row ' || s.user_id || ' ' || s.class || ' ' || s.seq || ' is ' || s.status || ' and endings says ' || coalesce(e.status::text, 'nothing')
from message_status s full join (select * from endings where status <> 'sent') e on e.message_id = s.message_id and e.user_id = s.user_id
where (s.status in ('failed', 'expired')) is distinct from (e.status is not null) or e.status <> s.status
union all
select 'outgoing holds ' || count(*) || ' requests' from outgoing having count(*) > 0
