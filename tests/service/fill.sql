-- A database as it looks after a while: 5,000 users, 1,000 groups of eleven, one of 600, direct chats, 220,000 rows of the queue.
select count(*) from restante_users((select array_agg('user-' || i) from generate_series(1, 5000) i));
create temporary table u as select id, external_id as name, row_number() over (order by id) - 1 as n from users where external_id like 'user-%';
create index on u (n);
create temporary table g as select md5('group ' || i)::uuid as id, i from generate_series(0, 999) i;
insert into chats (id, kind) select id, 'group' from g;
insert into chats (id, kind) values (md5('large')::uuid, 'group');
insert into chat_members (chat_id, user_id) select g.id, u.id from g cross join generate_series(0, 10) k join u on u.n = (g.i * 5 + k * 7) % 5000;
insert into chat_members (chat_id, user_id) select md5('large')::uuid, u.id from u where n < 600;
insert into chats (id, kind, direct_key) select md5('direct ' || a.n)::uuid, 'direct', least(a.id, b.id) || ':' || greatest(a.id, b.id)
  from u a join u b on b.n = a.n + 1 where a.n < 2000;
insert into chat_members (chat_id, user_id) select md5('direct ' || a.n)::uuid, x.id from u a join u b on b.n = a.n + 1 cross join lateral (values (a.id), (b.id)) x (id) where a.n < 2000;
insert into chat_heads (chat_id, last_seq, step) select c.id, case when g.id is null then 0 else 22 end, 0 from chats c left join g on g.id = c.id where not exists (select from chat_heads h where h.chat_id = c.id);
insert into marks (chat_id, user_id, delivered_seq) select cm.chat_id, cm.user_id, case when g.id is null then 0 else 19 end from chat_members cm left join g on g.id = cm.chat_id
  where not exists (select from marks k where k.chat_id = cm.chat_id and k.user_id = cm.user_id);
insert into messages (id, chat_id, seq, sender_id, content, created_at, expires_at)
  select md5('message ' || g.i || ' ' || s)::uuid, g.id, s, u.id, 'hello', clock_timestamp(), case when s = 22 then clock_timestamp() + interval '1 hour' * g.i end
  from generate_series(1, 22) s cross join g join u on u.n = (g.i * 5 + (s % 11) * 7) % 5000;
insert into message_status (user_id, class, seq, message_id, status, delivered_at)
  select cm.user_id, 'chat', row_number() over (partition by cm.user_id order by m.seq, m.chat_id), m.id,
         case when m.seq < 20 then 'delivered' else 'sent' end::delivery_status, case when m.seq < 20 then clock_timestamp() end
  from messages m join g on g.id = m.chat_id join chat_members cm on cm.chat_id = m.chat_id and cm.user_id <> m.sender_id;
update inboxes i set last_seq = q.last, settled_seq = q.settled
  from (select user_id, max(seq) as last, coalesce(max(seq) filter (where status = 'delivered'), 0) as settled from message_status group by user_id) q
  where i.user_id = q.user_id and i.class = 'chat';
update message_status s set status = 'failed', ended = 'failed', reason = 'test' from messages m where m.id = s.message_id and m.seq = 22 and s.user_id % 3 = 0;
insert into devices (user_id, device_id) select id, 'device-' || d from u cross join generate_series(1, 2) d;
insert into device_cursors (user_id, device_id, class, acked_seq) select d.user_id, d.device_id, c.class, 0 from devices d cross join unnest('{chat,event}'::inbox_class[]) c (class);
insert into last_seen (user_id, seen_at) select id, clock_timestamp() from u;
insert into nodes (node_id, gone_at, lives) select md5('node ' || n)::uuid, clock_timestamp() + interval '1 hour', interval '1 hour' from generate_series(1, 2000) n;
insert into presence_leases (user_id, node_id) select u.id, md5('node ' || (1 + u.n % 2000))::uuid from u;
insert into inbox_gaps (user_id, class, seq, reason) select id, 'event', s, 'purged' from u cross join generate_series(1, 3) s;
update inboxes i set last_seq = 3 where i.class = 'event';
insert into chats (id, kind) select md5('feed ' || k || s)::uuid, 'feed' from generate_series(1, 500) k, unnest('{event,alert}'::text[]) s;
insert into feeds (feed_id, class, chat_id) select md5('feed ' || k || 'event')::uuid, s, md5('feed ' || k || s)::uuid from generate_series(1, 500) k, unnest('{event,alert}'::inbox_class[]) s;
insert into chat_heads (chat_id, class, last_seq, step) select chat_id, class, 6, 0 from feeds where feed_id >= '00000000-0000-0000-0000-000000000003';
insert into feed_publishers (feed_id, user_id) select md5('feed ' || k || 'event')::uuid, u.id from generate_series(1, 500) k join u on u.n in (k, k + 1) or u.name = 'user-36';
insert into followers (user_id, feed_id, class, cursor_seq, followed_seq)
  select u.id, s.feed_id, s.class, 3, 0 from generate_series(1, 500) k join u on u.name = 'user-36' or u.n % 500 = k % 500 join feeds s on s.feed_id = md5('feed ' || k || 'event')::uuid
  where k <= 400 on conflict do nothing;
insert into messages (id, chat_id, seq, sender_id, message_type, metadata, created_at, expires_at)
  select md5('event ' || s.chat_id || k)::uuid, s.chat_id, k, u.id, 'event', '{}', clock_timestamp(), clock_timestamp() + interval '1 day'
  from generate_series(1, 6) k cross join feeds s join u on u.n = 7 where s.feed_id >= '00000000-0000-0000-0000-000000000003';
insert into message_status (user_id, class, seq, message_id) select u.id, 'event', 3 + row_number() over (order by m.chat_id, m.seq), m.id
  from messages m join feeds s on s.chat_id = m.chat_id and s.class = 'event' join u on u.name = 'user-36' where m.seq <= 3 and m.chat_id < '20000000-0000-0000-0000-000000000000';
insert into event_exceptions (message_id, user_id) select m.id, u.id from messages m join u on u.n = 9 where m.message_type = 'event' and m.seq <= 2;
insert into fan_outs (message_id, recipients, waiting) select m.id, 10000, 10000 from messages m where m.message_type = 'event' and m.seq <= 2;
insert into fan_out_recipients (user_id, class, seq, message_id) select u.id, 'event', k, md5('event ' || md5('feed 1event')::uuid || k)::uuid from u cross join generate_series(1, 3) k;
update inboxes i set last_seq = q.last from (select user_id, max(seq) as last from message_status where class = 'event' group by user_id) q where i.user_id = q.user_id and i.class = 'event';
update chat_heads set last_seq = 40, step = 2 where chat_id = '00000000-0000-0000-0000-000000000002';
insert into revocations (user_name, revoked_at, expires_at, revoked_by, revoked_xid) select 'user-' || n, now() - n * interval '1 second', now() + n * interval '1 minute', 'op', (n || '')::xid8 from generate_series(1, 5000) n;
insert into user_limits (user_id, factor) select id, 2 from u;
insert into accounts (name, password_hash) select 'user-' || n, '$argon2id$x' from generate_series(1, 5000) n;
insert into account_logins (id, name, family, secret_hash, renewed_at, begun_at, ends_at, expires_at)
  select gen_random_uuid(), 'user-' || n, gen_random_uuid(), sha256('x'), now(), now(), now() + n * interval '1 minute', now() + interval '90 days' from generate_series(1, 5000) n, generate_series(1, 2);
drop table u, g;
