-- One chat of 500,000 messages. For `lagging` the last of them waits and nothing below it is settled; of the last 200,000 all wait for
-- `waits`, only the first for `overtaken`, and all are delivered to `unread` and not read. Beside it what has expired: 20,000 messages
-- to `late`, and 100 to a crowd of 2,000.
create function pg_temp.deep() returns bigint language sql immutable as 'select 500000::bigint';
create function pg_temp.id(n bigint) returns uuid language sql immutable as $$ select lpad(to_hex(n), 32, '0')::uuid $$;
select count(*) from restante_users('{alice,waits,overtaken,lagging,unread,late}');
select count(*) from restante_users((select array_agg('crowd-' || n) from generate_series(1, 2000) n));
create temporary table of as select u.id, u.external_id as name from users u;
create temporary table member as
  select o.id, o.name, case o.name when 'lagging' then 0 else 300000 end::bigint as joined from of o where o.name in ('waits', 'overtaken', 'lagging', 'unread');
insert into chats (id, kind) values (md5('deep')::uuid, 'group'), (md5('late')::uuid, 'group'), (md5('crowd')::uuid, 'group');
insert into chat_heads (chat_id, last_seq, step)
  select md5(q.name)::uuid, q.last, q.last >> 4 from (values ('deep', pg_temp.deep()), ('late', 20000), ('crowd', 100)) q (name, last);
insert into chat_members (chat_id, user_id, role, joined_seq)
  select md5('deep')::uuid, o.id, 'admin'::member_role, 0 from of o where o.name = 'alice'
  union all select md5('deep')::uuid, m.id, 'member', m.joined from member m
  union all select md5('late')::uuid, o.id, 'member', 0 from of o where o.name in ('alice', 'late')
  union all select md5('crowd')::uuid, o.id, 'member', 0 from of o where o.name = 'alice' or o.name like 'crowd-%';
insert into marks (chat_id, user_id, delivered_seq, read_seq, has_hole)
  select cm.chat_id, cm.user_id,
         case when cm.chat_id <> md5('deep')::uuid then 0 when o.name in ('alice', 'unread') then pg_temp.deep() else cm.joined_seq end,
         case when cm.chat_id <> md5('deep')::uuid then 0 when o.name = 'alice' then pg_temp.deep() else cm.joined_seq end,
         o.name in ('overtaken', 'lagging')
    from chat_members cm join of o on o.id = cm.user_id;
-- Indexes are made at once: row by row they take longer than all the rest.
alter table messages drop constraint messages_are_known_by_their_id, drop constraint a_chat_number_names_one_message;
alter table message_status drop constraint a_recipient_gets_a_message_once;
insert into messages (id, chat_id, seq, sender_id, content, created_at)
  select pg_temp.id(n), md5('deep')::uuid, n, (select o.id from of o where o.name = 'alice'), 'deep', clock_timestamp() from generate_series(1, pg_temp.deep()) n;
insert into messages (id, chat_id, seq, sender_id, content, created_at, expires_at)
  select md5(q.name || n)::uuid, md5(q.name)::uuid, n, (select o.id from of o where o.name = 'alice'), 'late', clock_timestamp(), timestamptz '2026-01-01' + n * interval '1 ms'
    from (values ('late', 20000), ('crowd', 100)) q (name, last) cross join lateral generate_series(1, q.last) n;
insert into message_status (user_id, class, seq, message_id, status, delivered_at)
  select m.id, 'chat', n - m.joined, pg_temp.id(n), case when q.waits then 'sent'::delivery_status else 'delivered' end, case when not q.waits then clock_timestamp() end
    from member m cross join lateral generate_series(m.joined + 1, pg_temp.deep()) n
    cross join lateral (select m.name = 'waits' or m.name = 'overtaken' and n = m.joined + 1 or m.name = 'lagging' and n = pg_temp.deep() as waits) q;
insert into message_status (user_id, class, seq, message_id)
  select o.id, 'chat'::inbox_class, n, md5('late' || n)::uuid from of o cross join generate_series(1, 20000) n where o.name = 'late'
  union all select o.id, 'chat', n, md5('crowd' || n)::uuid from of o cross join generate_series(1, 100) n where o.name like 'crowd-%';
-- Events to everyone, of which nobody has taken one.
insert into messages (id, chat_id, seq, sender_id, message_type, collapse_key, created_at, expires_at)
  select md5('event' || n)::uuid, '00000000-0000-0000-0000-000000000001', n, (select o.id from of o where o.name = 'alice'), 'event', case when n % 50 = 1 then 'key' || n / 1000 end, clock_timestamp(), clock_timestamp() + interval '1 day'
    from generate_series(1, 100000) n;
update chat_heads set last_seq = 100000, step = 100000 >> 4 where chat_id = '00000000-0000-0000-0000-000000000001';
alter table message_status add constraint a_recipient_gets_a_message_once unique (message_id, user_id);
alter table messages add constraint messages_are_known_by_their_id primary key (id), add constraint a_chat_number_names_one_message unique (chat_id, seq);
update inboxes i set last_seq = q.last, step = q.last >> 4, settled_seq = case when q.name = 'unread' then q.last else 0 end
  from (select m.id, m.name, pg_temp.deep() - m.joined as last from member m
        union all select o.id, o.name, case o.name when 'late' then 20000 else 100 end from of o where o.name = 'late' or o.name like 'crowd-%') q
 where i.user_id = q.id and i.class = 'chat';
insert into devices (user_id, device_id) select m.id, 'device-1' from member m;
insert into device_cursors (user_id, device_id, class) select m.id, 'device-1', c.class from member m cross join unnest('{chat,event}'::inbox_class[]) c (class);
insert into nodes (node_id, gone_at, lives) values ('00000000-0000-0000-0000-000000000000', clock_timestamp() + interval '1 hour', interval '1 hour');
