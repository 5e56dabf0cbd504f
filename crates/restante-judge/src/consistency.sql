-- inconsistencies: sentences about tables that do not agree with one another, whatever has happened before; it reads whole tables
select 'chat ' || c.chat_id || ': last_seq ' || c.last_seq || ', purged_seq ' || p.purged_seq || ', messages ' || count(m.id) || ', from ' || coalesce(min(m.seq), 0) || ' to ' || coalesce(max(m.seq), 0)
from chat_heads c join chats p on p.id = c.chat_id left join messages m on m.chat_id = c.chat_id and m.seq > 0
group by c.chat_id, c.last_seq, p.purged_seq
-- events to listed users are removed one by one
having (case when c.chat_id in ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000012')
             then count(m.id) > c.last_seq - p.purged_seq or max(m.seq) > c.last_seq
             else count(m.id) <> c.last_seq - p.purged_seq or coalesce(max(m.seq), p.purged_seq) <> c.last_seq end)
    or min(m.seq) <= p.purged_seq
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
  from message_status s join messages m on m.id = s.message_id and m.seq > 0
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
where (s.status = 'failed' or s.status = 'expired' and s.class = 'chat') is distinct from (e.status is not null) or e.status <> s.status
union all
-- a message that was recalled says nothing, and has one notice, which has its number negated
select 'message ' || m.id || ' of chat ' || m.chat_id || ' was recalled, and has content, or ' || count(n.id) || ' notices'
from messages m left join messages n on n.chat_id = m.chat_id and n.seq = -m.seq and n.content = m.id::text and n.sender_id = m.sender_id
where m.recalled_at is not null
group by m.id, m.chat_id, m.content, m.metadata having count(n.id) <> 1 or m.content is not null or m.metadata is not null
union all
select 'notice ' || n.id || ' of chat ' || n.chat_id || ' is of no message that was recalled'
from messages n left join messages m on m.chat_id = n.chat_id and m.seq = -n.seq
where n.seq < 0 and m.recalled_at is null
union all
select 'row ' || s.user_id || ' ' || s.class || ' ' || s.seq || ' waits although its message was recalled and all recipients are done'
from message_status s join messages m on m.id = s.message_id
where s.status = 'sent' and m.recalled_at is not null and not exists (select from recalls r where r.message_id = m.id)
union all
select 'user ' || coalesce(s.user_id, t.user_id) || ' has message ' || m.id || ', which was recalled, ' || case when t.user_id is null then 'and no notice' else 'not, and a notice' end
from messages m
join messages n on n.chat_id = m.chat_id and n.seq = -m.seq
join message_status s on s.message_id = m.id
join users u on u.id = s.user_id and u.is_current
left join message_status t on t.message_id = n.id and t.user_id = s.user_id
where m.recalled_at is not null and (s.status in ('delivered', 'read')) <> (t.user_id is not null)
  and not exists (select from recalls r where r.message_id = m.id)
  and not exists (select from inboxes i where i.user_id = s.user_id and i.purged_seq > 0)
union all
select 'outgoing holds ' || count(*) || ' requests' from outgoing having count(*) > 0
union all
select 'outgoing_events holds ' || count(*) || ' requests' from outgoing_events having count(*) > 0
union all
select 'stream ' || c.id || ' of feed ' || coalesce(s.feed_id::text, 'nothing') || ' ' || coalesce(s.class::text, '') || ' numbers ' || h.class
from chats c join chat_heads h on h.chat_id = c.id left join feeds s on s.chat_id = c.id
where (c.kind = 'feed') <> (s.chat_id is not null) or s.class <> h.class
union all
select 'user ' || u.id || ' follows everyone in ' || count(f.user_id) || ' streams'
from users u left join followers f on f.user_id = u.id and f.feed_id = '00000000-0000-0000-0000-000000000001'
where u.is_current
group by u.id having count(f.user_id) <> 2
union all
select 'follower ' || f.user_id || ' of feed ' || f.feed_id || ' ' || f.class || ': cursor ' || f.cursor_seq || ' beyond last_seq ' || coalesce(h.last_seq, 0)
from followers f left join feeds s on s.feed_id = f.feed_id and s.class = f.class left join chat_heads h on h.chat_id = s.chat_id
where h.last_seq is null or f.cursor_seq > h.last_seq
union all
select 'follower ' || f.user_id || ' of feed ' || f.feed_id || ' ' || f.class || ': number ' || m.seq || ' at or below its cursor ' || f.cursor_seq || ' has neither row nor gap'
from followers f
join feeds s on s.feed_id = f.feed_id and s.class = f.class
join inboxes i on i.user_id = f.user_id and i.class = f.class and i.purged_seq = 0
join messages m on m.chat_id = s.chat_id and m.seq > f.followed_seq and m.seq <= f.cursor_seq
where m.sender_id <> f.user_id
  and not exists (select from event_exceptions x where x.message_id = m.id and x.user_id = f.user_id)
  and not exists (select from message_status r where r.message_id = m.id and r.user_id = f.user_id)
  and not exists (select from inbox_gaps g where g.user_id = f.user_id and g.class = f.class and g.feed_id = f.feed_id and m.seq between g.from_feed_seq and g.to_feed_seq)
union all
select 'user ' || r.user_id || ' has a row of number ' || m.seq || ' of feed ' || s.feed_id || ' ' || s.class || ' that it has not taken, or that is not for it'
from message_status r
join messages m on m.id = r.message_id
join feeds s on s.chat_id = m.chat_id and s.feed_id <> '00000000-0000-0000-0000-000000000002'
left join followers f on f.user_id = r.user_id and f.feed_id = s.feed_id and f.class = s.class
where r.class <> s.class or m.seq > f.cursor_seq or exists (select from event_exceptions x where x.message_id = m.id and x.user_id = r.user_id)
union all
select 'user ' || g.user_id || ': gaps ' || g.seq || ' and ' || o.seq || ' of feed ' || g.feed_id || ' ' || g.class || ' share numbers'
from inbox_gaps g join inbox_gaps o on o.user_id = g.user_id and o.class = g.class and o.feed_id = g.feed_id and o.seq > g.seq
where o.from_feed_seq <= g.to_feed_seq
union all
select 'user ' || g.user_id || ': number ' || m.seq || ' of feed ' || g.feed_id || ' ' || g.class || ' has a row and lies in gap ' || g.seq
from inbox_gaps g
join feeds s on s.feed_id = g.feed_id and s.class = g.class
join messages m on m.chat_id = s.chat_id and m.seq between g.from_feed_seq and g.to_feed_seq
join message_status r on r.message_id = m.id and r.user_id = g.user_id
union all
select 'event ' || coalesce(f.message_id, r.message_id) || ': ' || coalesce(f.waiting, 0) || ' rows wait to be written and ' || coalesce(r.rows, 0) || ' are listed'
from fan_outs f full join (select message_id, count(*) as rows from fan_out_recipients group by message_id) r on r.message_id = f.message_id
where coalesce(f.waiting, 0) <> coalesce(r.rows, 0)
union all
select 'event ' || f.message_id || ' has ' || f.recipients || ' recipients, of which ' || f.waiting || ' wait for rows and ' || f.muted || ' have muted it, and ' || count(r.user_id) || ' rows'
from fan_outs f left join message_status r on r.message_id = f.message_id
-- rows that were purged are not counted any more
where not exists (select from inboxes i where i.purged_seq > 0)
group by f.message_id, f.recipients, f.waiting, f.muted having count(r.user_id) <> f.recipients - f.waiting - f.muted
union all
select 'user ' || w.user_id || ' ' || w.class || ' has a row of number ' || m.seq || ' to listed users while number ' || w.seq || ' waits to be written'
from (select user_id, class, min(seq) as seq from fan_out_recipients group by user_id, class) w
join message_status r on r.user_id = w.user_id and r.class = w.class
join messages m on m.id = r.message_id and m.seq > w.seq
join feeds s on s.chat_id = m.chat_id and s.feed_id = '00000000-0000-0000-0000-000000000002'
union all
select 'direct chat ' || c.id || ' has ' || count(distinct x.user_id) || ' closed members and ' || count(distinct b.user_id) || ' blocks'
from chats c
left join closed_chats x on x.chat_id = c.id
left join blocks b on c.direct_key = least(b.user_id, b.other_id) || ':' || greatest(b.user_id, b.other_id)
-- Blocks of one that was erased are of the user that has its name now.
where not exists (select from chat_members g where g.chat_id = c.id and g.left_seq is not null)
group by c.id having (count(x.user_id) > 0) <> (count(b.user_id) > 0) or count(distinct x.user_id) not in (0, 2)
