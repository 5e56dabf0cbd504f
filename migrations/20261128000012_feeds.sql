-- Feeds: events to followers, to everyone and to listed users. An event is a message of a stream. A stream is a chat of the kind feed,
-- which has no members and no marks. An event of a feed is stored once, and becomes a row of a follower's inbox when the follower
-- reads a page (restante_take). An event to listed users has a row for each of them: the first are written by the transaction that
-- publishes it, the others by a job (restante_fan_out).
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table feeds (
  feed_id uuid not null,
  class   inbox_class not null,
  chat_id uuid not null,
  constraint a_feed_has_one_stream_of_a_class primary key (feed_id, class),
  constraint a_stream_belongs_to_one_feed unique (chat_id),
  constraint streams_are_numbered_as_chats foreign key (chat_id) references chats (id),
  constraint a_feed_has_no_stream_of_chat check (class <> 'chat'),
  constraint a_stream_of_events_has_the_id_of_its_feed check ((class = 'event') = (chat_id = feed_id))
);
comment on table feeds is
  'The streams of feeds: each feed has one for each class of events, numbered on its own. Two feeds are always there. 00000000-0000-0000-0000-000000000001 is that of everyone: every user follows it from first sight. In 00000000-0000-0000-0000-000000000002 events to listed users are numbered: nobody follows it.';
comment on column feeds.feed_id is 'The feed.';
comment on column feeds.class is 'event, or alert for urgent events.';
comment on column feeds.chat_id is 'The stream (chats.id). Its title and the time at which it was made are those of the feed.';
comment on constraint streams_are_numbered_as_chats on feeds is 'The counter of a stream is in chat_heads.';
comment on constraint a_feed_has_no_stream_of_chat on feeds is 'An event never lies between messages of people.';
comment on constraint a_stream_of_events_has_the_id_of_its_feed on feeds is 'So that a feed is found by the id of a chat, too.';
comment on index a_feed_has_one_stream_of_a_class is 'Finds the stream of a feed.';
comment on index a_stream_belongs_to_one_feed is 'Finds the feed of an event.';

create index messages_by_collapse_key on messages (chat_id, collapse_key, seq) where collapse_key is not null;
comment on index messages_by_collapse_key is 'Is there a newer event of this key in the stream? Costs nothing for messages without a key.';

create table feed_publishers (
  feed_id uuid not null,
  user_id bigint not null,
  role    member_role not null default 'member',
  constraint a_user_is_a_publisher_once primary key (feed_id, user_id),
  constraint publishers_publish_to_a_feed foreign key (feed_id) references chats (id),
  constraint publishers_are_users foreign key (user_id) references users (id)
);
comment on table feed_publishers is 'The users that may publish to a feed. Those whose token allows it may publish to every feed; they are not listed here.';
comment on column feed_publishers.feed_id is 'The feed.';
comment on column feed_publishers.user_id is 'The publisher.';
comment on column feed_publishers.role is 'admin made the feed, and may add and remove publishers; it stays. member publishes.';
comment on constraint publishers_publish_to_a_feed on feed_publishers is 'The stream of events has the id of its feed.';
comment on constraint publishers_are_users on feed_publishers is 'Delete what a user may publish to before the user.';
comment on index a_user_is_a_publisher_once is 'May this user publish to this feed?';

create index publishers_by_user on feed_publishers (user_id, feed_id);
comment on index publishers_by_user is 'The feeds that a user may publish to.';

create table followers (
  user_id      bigint not null,
  feed_id      uuid not null,
  class        inbox_class not null,
  cursor_seq   bigint not null,
  followed_seq bigint not null,
  constraint a_user_follows_a_stream_once primary key (user_id, feed_id, class),
  constraint followers_are_users foreign key (user_id) references users (id),
  constraint a_follower_gets_what_came_after_it_followed check (cursor_seq >= followed_seq)
) with (fillfactor = 50);
comment on table followers is
  'The users that follow a feed, a row for each of its streams, and how far each has taken it. A cursor moves while the user''s inbox of the class is locked, in the transaction that makes the rows (restante_take). No foreign key leads to the feed: every user that is made would lock the feed of everyone.';
comment on column followers.user_id is 'The follower.';
comment on column followers.feed_id is 'The feed.';
comment on column followers.class is 'Which of its streams.';
comment on column followers.cursor_seq is 'Events of the stream at or below this number are rows of the user''s inbox, or have ended before, or are not for it. Only grows; never above the stream''s last number.';
comment on column followers.followed_seq is 'The stream''s last number when the user began to follow: it gets what came after that.';
comment on constraint followers_are_users on followers is 'Delete what a user follows before the user.';
comment on constraint a_follower_gets_what_came_after_it_followed on followers is 'An event from before is not for it.';
comment on index a_user_follows_a_stream_once is 'The feeds of a user, and how far it has taken each.';

create index followers_of_a_feed on followers (feed_id, user_id) where class = 'event';
comment on index followers_of_a_feed is 'The followers of a feed, a page at a time.';

create trigger what_was_taken_stays_taken after update of cursor_seq on followers
  for each row when (new.cursor_seq < old.cursor_seq)
  execute function refuse_to_go_back('the cursor of a follower only grows');
comment on trigger what_was_taken_stays_taken on followers is 'A cursor that went back would make rows a second time.';

create table event_exceptions (
  message_id uuid not null,
  user_id    bigint not null,
  constraint a_user_is_excepted_once primary key (message_id, user_id)
);
comment on table event_exceptions is
  'Followers that an event is not for, at most 500 an event. They pass it without a number. Rows go with the event (restante_purge_chats).';
comment on column event_exceptions.message_id is 'The event (messages.id).';
comment on column event_exceptions.user_id is 'The user.';
comment on index a_user_is_excepted_once is 'Is this event not for this user?';

create table fan_outs (
  message_id uuid not null,
  recipients integer not null,
  waiting    integer not null,
  constraint an_event_is_fanned_out_once primary key (message_id),
  constraint a_fan_out_has_as_much_left_as_it_has_at_most check (waiting between 0 and recipients)
) with (fillfactor = 70);
comment on table fan_outs is 'The progress of each event to listed users. A row goes with its event (restante_purge_chats).';
comment on column fan_outs.message_id is 'The event (messages.id).';
comment on column fan_outs.recipients is 'The users that get it.';
comment on column fan_outs.waiting is 'How many of them have no row in message_status yet. They are in fan_out_recipients.';
comment on constraint a_fan_out_has_as_much_left_as_it_has_at_most on fan_outs is 'Each recipient is counted down once.';
comment on index an_event_is_fanned_out_once is 'Reads and moves the progress of an event.';

create table fan_out_recipients (
  user_id    bigint not null,
  class      inbox_class not null,
  seq        bigint not null,
  message_id uuid not null,
  constraint a_recipient_waits_for_a_row_once primary key (user_id, class, seq)
);
comment on table fan_out_recipients is
  'Listed users that have no row of an event yet: more were listed than one transaction should write, or the inbox was held, or is full. A job writes them, in the order of the events for each user (restante_fan_out). As long as one is here, later events to the same user come here too. Empty, as a rule.';
comment on column fan_out_recipients.user_id is 'The recipient.';
comment on column fan_out_recipients.class is 'The inbox that the row will lie in.';
comment on column fan_out_recipients.seq is 'Number of the event in the stream of events to listed users.';
comment on column fan_out_recipients.message_id is 'The event (messages.id).';
comment on index a_recipient_waits_for_a_row_once is 'The job takes the rows of a user in this order.';

alter table inbox_gaps
  add column feed_id       uuid,
  add column from_feed_seq bigint,
  add column to_feed_seq   bigint,
  add column count         bigint,
  add constraint a_gap_of_a_feed_has_a_range check (num_nulls(feed_id, from_feed_seq, to_feed_seq, count) in (0, 4)),
  add constraint a_range_of_a_feed_holds_what_it_counts check (count between 1 and to_feed_seq - from_feed_seq + 1);
comment on column inbox_gaps.feed_id is 'Events of this feed ended before they became rows, and have this one number together. Null: the number had a row.';
comment on column inbox_gaps.from_feed_seq is 'The first of them, as a number of the feed''s stream of the class.';
comment on column inbox_gaps.to_feed_seq is 'The last of them.';
comment on column inbox_gaps.count is 'How many of them the user would have got. Of events that have been removed it counts all.';
comment on constraint a_gap_of_a_feed_has_a_range on inbox_gaps is 'All of it, or none.';
comment on constraint a_range_of_a_feed_holds_what_it_counts on inbox_gaps is 'A gap stands for one event at least.';

insert into chats (id, kind) values
  ('00000000-0000-0000-0000-000000000001', 'feed'), ('00000000-0000-0000-0000-000000000011', 'feed'),
  ('00000000-0000-0000-0000-000000000002', 'feed'), ('00000000-0000-0000-0000-000000000012', 'feed');
insert into feeds (feed_id, class, chat_id) values
  ('00000000-0000-0000-0000-000000000001', 'event', '00000000-0000-0000-0000-000000000001'),
  ('00000000-0000-0000-0000-000000000001', 'alert', '00000000-0000-0000-0000-000000000011'),
  ('00000000-0000-0000-0000-000000000002', 'event', '00000000-0000-0000-0000-000000000002'),
  ('00000000-0000-0000-0000-000000000002', 'alert', '00000000-0000-0000-0000-000000000012');
insert into chat_heads (chat_id, class) select s.chat_id, s.class from feeds s;
insert into followers (user_id, feed_id, class, cursor_seq, followed_seq)
  select u.id, s.feed_id, s.class, 0, 0 from users u cross join feeds s where s.feed_id = '00000000-0000-0000-0000-000000000001';

create function follow_everyone() returns trigger
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
begin
  insert into followers (user_id, feed_id, class, cursor_seq, followed_seq)
    select n.id, s.feed_id, s.class, s.last_seq, s.last_seq
      from (select x.feed_id, x.class, h.last_seq
              from feeds x
              cross join lateral (select y.last_seq from chat_heads y where y.chat_id = x.chat_id order by y.step desc limit 1) h
             where x.feed_id = '00000000-0000-0000-0000-000000000001') s
      cross join made n
     order by n.id, s.class;
  return null;
end $$;
comment on function follow_everyone() is 'Makes users that are new followers of everyone''s feed, from its last numbers on.';

create trigger users_follow_everyone_from_first_sight after insert on users
  referencing new table as made for each statement execute function follow_everyone();
comment on trigger users_follow_everyone_from_first_sight on users is 'However a user is made, it gets what is published to everyone from then on.';

-- Feeds, their publishers and their followers.

create function restante_new_feed(p_feed uuid, p_maker bigint, p_title text, p_publishers bigint[], p_publishers_max integer) returns text
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_publishers bigint[] := array(select p_maker union select unnest(p_publishers) order by 1);
  v_alerts     uuid := gen_random_uuid();
begin
  perform restante_needs_read_committed();
  if cardinality(v_publishers) > p_publishers_max then
    return 'too_many';
  end if;
  insert into chats (id, kind, title) values (p_feed, 'feed', p_title) on conflict on constraint chats_are_known_by_their_id do nothing;
  if not found then
    return case when exists (select from feed_publishers p where p.feed_id = p_feed and p.user_id = p_maker and p.role = 'admin') then 'done' else 'forbidden' end;
  end if;
  insert into chats (id, kind, title) values (v_alerts, 'feed', p_title);
  insert into chat_heads (chat_id, class) values (p_feed, 'event'), (v_alerts, 'alert');
  insert into feeds (feed_id, class, chat_id) values (p_feed, 'event', p_feed), (p_feed, 'alert', v_alerts);
  insert into feed_publishers (feed_id, user_id, role)
    select p_feed, u.id, case when u.id = p_maker then 'admin'::member_role else 'member' end from unnest(v_publishers) u (id);
  return 'done';
end $$;
comment on function restante_new_feed(uuid, bigint, text, bigint[], integer) is
  'Makes a feed with its two streams; its maker is its first publisher. done, also where the same maker made it before; forbidden: somebody else has an id like this; too_many: it would have more publishers than p_publishers_max.';

create function restante_set_publishers(
  p_feed uuid, p_caller bigint, p_may_anywhere boolean, p_add bigint[], p_remove bigint[], p_publishers_max integer
) returns text
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
declare
  v_count bigint;
begin
  perform restante_needs_read_committed();
  if p_feed in ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002')
     or not exists (select from feeds s where s.feed_id = p_feed and s.class = 'event') then
    return 'not_found';
  elsif not p_may_anywhere and not exists (select from feed_publishers p where p.feed_id = p_feed and p.user_id = p_caller and p.role = 'admin') then
    return 'forbidden';
  end if;
  -- Two changes come one after the other, and each counts what the other has left.
  perform from chats c where c.id = p_feed for no key update;
  select count(*) into v_count
    from (select p.user_id from feed_publishers p where p.feed_id = p_feed and (p.role = 'admin' or p.user_id <> all (p_remove))
          union select unnest(p_add)) q;
  if v_count > p_publishers_max then
    return 'too_many';
  end if;
  delete from feed_publishers p where p.feed_id = p_feed and p.user_id = any (p_remove) and p.user_id <> all (p_add) and p.role <> 'admin';
  insert into feed_publishers (feed_id, user_id) select distinct p_feed, u.id from unnest(p_add) u (id) order by u.id
    on conflict on constraint a_user_is_a_publisher_once do nothing;
  return 'done';
end $$;
comment on function restante_set_publishers(uuid, bigint, boolean, bigint[], bigint[], integer) is
  'Adds publishers to a feed and removes others; who is in both lists is added, and its maker stays. Only its maker may, or who may publish anywhere. Else nothing is done: not_found, forbidden, too_many.';

create function restante_add_followers(p_feed uuid, p_users bigint[], p_feeds_max integer) returns text
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  if p_feed = '00000000-0000-0000-0000-000000000002' or not exists (select from feeds s where s.feed_id = p_feed and s.class = 'event') then
    return 'not_found';
  end if;
  -- New follows of a user come one after the other, and each is counted. A statement after the lock sees those before it.
  perform from (select distinct unnest(p_users) as id order by 1) n
    cross join lateral (select from users u where u.id = n.id limit 1 for no key update) u;
  if exists (
    select from (select distinct unnest(p_users) as id) n
     where not exists (select from followers f where f.user_id = n.id and f.feed_id = p_feed and f.class = 'event')
       and p_feeds_max <= (select count(*) from followers f
                            where f.user_id = n.id and f.class = 'event' and f.feed_id <> '00000000-0000-0000-0000-000000000001')) then
    return 'too_many';
  end if;
  -- An event that commits later has a higher number, whatever is under way now.
  insert into followers (user_id, feed_id, class, cursor_seq, followed_seq)
    select n.id, s.feed_id, s.class, h.last_seq, h.last_seq
      from (select distinct unnest(p_users) as id) n
      cross join lateral (select x.feed_id, x.class, x.chat_id from feeds x where x.feed_id = p_feed) s
      cross join lateral (select x.last_seq from chat_heads x where x.chat_id = s.chat_id order by x.step desc limit 1) h
     order by n.id, s.class
    on conflict on constraint a_user_follows_a_stream_once do nothing;
  return 'done';
end $$;
comment on function restante_add_followers(uuid, bigint[], integer) is
  'These users follow the feed: they get what is published after this, and who follows it already goes on. Else nothing is done: not_found; too_many: one of them would follow more than p_feeds_max feeds, that of everyone not counted.';

create function restante_remove_followers(p_feed uuid, p_users bigint[]) returns text
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set search_path from current
as $$
begin
  perform restante_needs_read_committed();
  if p_feed = '00000000-0000-0000-0000-000000000001' then
    return 'forbidden';
  elsif not exists (select from feeds s where s.feed_id = p_feed and s.class = 'event') then
    return 'not_found';
  end if;
  -- Under these locks nothing is taken. A statement after them sees all rows that were made.
  perform from (select distinct n.id, c.class from unnest(p_users) n (id) cross join unnest('{alert,event}'::inbox_class[]) c (class) order by 1, 2) u
    cross join lateral (select from inboxes x where x.user_id = u.id and x.class = u.class order by x.step desc limit 1 for no key update) i;
  with gone as (
    delete from followers f
     using (select distinct n.id, c.class from unnest(p_users) n (id) cross join unnest('{alert,event}'::inbox_class[]) c (class)) u
     where f.user_id = u.id and f.feed_id = p_feed and f.class = u.class
    returning f.user_id, f.class, f.cursor_seq
  ), waiting as (
    -- The oldest row that waits. A job ends what is behind it, and no page shows it any more.
    select g.user_id, s.chat_id, w.seq, g.cursor_seq
      from gone g
      cross join lateral (select x.chat_id from feeds x where x.feed_id = p_feed and x.class = g.class limit 1) s
      cross join lateral (select x.settled_seq from inboxes x where x.user_id = g.user_id and x.class = g.class order by x.step desc limit 1) i
      cross join lateral (
        select min(m.seq) as seq
          from (select r.message_id from message_status r
                 where r.user_id = g.user_id and r.class = g.class and r.seq > i.settled_seq and r.status = 'sent' order by r.seq limit 5000) r
          cross join lateral (select x.seq from messages x where x.id = r.message_id and x.chat_id = s.chat_id limit 1) m) w
     where w.seq is not null
  )
  insert into departures (user_id, chat_id, after_seq, up_to_seq)
    select w.user_id, w.chat_id, w.seq - 1, w.cursor_seq from waiting w
    on conflict on constraint a_departure_is_noted_once do nothing;
  -- Their sessions may hold rows of it, which are not to be emitted any more.
  perform restante_check_marks(p_users);
  return 'done';
end $$;
comment on function restante_remove_followers(uuid, bigint[]) is
  'These users follow the feed no more. What of it waits for them is noted in departures: it is shown to nobody any more, and a job ends it (left). Else nothing is done: not_found, forbidden (nobody leaves the feed of everyone). Waits for the inboxes.';
