//! An event that ends before it is a row takes one number for each run and feed, and tells its range: it expired, or too much waited. What has
//! expired for a day is removed.

use restante::domain::{Class, FeedId, FeedRange, FeedSeq, GapReason, InboxSeq, PageRow, UserId};
use restante::store::{EventTarget, FIRST_CHAT, PageRequest, PurgeLimits};

use super::{World, envelopes, event, gaps, names, types};

/// The events of these types expired so long ago.
async fn expired(world: &World, prefix: &str, ago: &str) {
    let when = format!("clock_timestamp() - interval '{ago}'");
    world
        .run(&format!(
            "update messages set expires_at = {when}, created_at = {when} - interval '1 day' where message_type like '{prefix}%'"
        ))
        .await;
}

fn range(feed: FeedId, from: i64, to: i64, count: i64) -> FeedRange {
    FeedRange { feed, from: FeedSeq(from), to: FeedSeq(to), count }
}

/// Removes what is old, until nothing is left to remove. Returns how many rows and how many messages went.
async fn purge(world: &World) -> (usize, usize) {
    let limits = PurgeLimits { places: 500, rows: 1_000 };
    let (mut rows, mut messages) = (0, 0);
    let mut inbox = Some((UserId(0), Class::Chat));
    while let Some(after) = inbox {
        let page = world.store.purge_inboxes(90, after, limits).await.unwrap();
        rows += page.rows;
        inbox = page.next;
    }
    for class in [Class::Alert, Class::Event] {
        let mut listed = Some(FeedSeq(0));
        while let Some(after) = listed {
            let page = world.store.purge_listed_events(class, after, 3).await.unwrap();
            messages += page.rows;
            listed = page.next;
        }
    }
    let mut chat = Some(FIRST_CHAT);
    while let Some(after) = chat {
        let page = world.store.purge_chats(90, after, limits).await.unwrap();
        messages += page.rows;
        chat = page.next;
    }
    (rows, messages)
}

#[tokio::test]
async fn what_expired_before_it_was_taken_is_one_gap_with_its_range_and_what_follows_comes() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob, carol]).await;
    world.publish_all(alice, feed, names("old", 1..=300)).await;
    let mut not_for_bob = event("old", EventTarget::Feed(feed));
    not_for_bob.except = vec![bob];
    world.publish(alice, not_for_bob).await;
    world.publish_all(alice, feed, names("new", 1..=3)).await;
    world.publish_all(alice, feed, names("odd", 1..=1)).await;
    world.publish_all(alice, feed, names("late", 1..=1)).await;
    expired(&world, "o", "1 second").await;
    for request in [PageRequest::Waiting, PageRequest::Everything] {
        let rows = world.drain_as(request, bob, Class::Event).await;
        assert_eq!(types(&rows), ["new1", "new2", "new3", "late1"], "{request:?}");
        let expected = [(1, GapReason::Expired, range(feed, 1, 300, 300)), (5, GapReason::Expired, range(feed, 305, 305, 1))];
        assert_eq!(gaps(&rows), expected, "{request:?}");
    }
    assert_eq!(gaps(&world.drain(carol).await)[0].2, range(feed, 1, 301, 301), "for whom all of it was");
    world.is_consistent().await;
}

#[tokio::test]
async fn the_newest_thousand_come_and_those_before_them_are_one_gap() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob, carol]).await;
    for part in 0..3 {
        world.publish_all(alice, feed, names("e", part * 500 + 1..=part * 500 + 500)).await;
    }
    let rows = world.drain(bob).await;
    assert_eq!(gaps(&rows), [(1, GapReason::Capped, range(feed, 1, 500, 500))]);
    assert_eq!(types(&rows), names("e", 501..=1_500));
    // Of the newest thousand some have expired: all others come.
    world.run("update messages set expires_at = clock_timestamp() where seq between 800 and 899 or seq <= 500").await;
    let rows = world.drain(carol).await;
    let expected = [(1, GapReason::Expired, range(feed, 1, 500, 500)), (301, GapReason::Expired, range(feed, 800, 899, 100))];
    assert_eq!((types(&rows).len(), gaps(&rows)), (900, expected.to_vec()));
    world.is_consistent().await;
}

/// Broken by counting every number above the cursor as one that waits: some that could come were capped.
#[tokio::test]
async fn what_has_expired_or_is_for_others_is_none_of_those_that_wait() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feeds = [world.feed(alice).await, world.feed(alice).await, world.feed(alice).await];
    for feed in feeds {
        world.follow(feed, &[bob]).await;
    }
    for part in 0..2 {
        world.publish_all(alice, feeds[0], names("e", part * 400 + 1..=part * 400 + 400)).await;
    }
    world.publish_all(alice, feeds[1], names("old", 1..=500)).await;
    expired(&world, "old", "1 second").await;
    let others = names("x", 1..=500).into_iter().map(|name| {
        let mut event = event(&name, EventTarget::Feed(feeds[2]));
        event.except = vec![bob];
        event
    });
    world.store.publish(alice, &others.collect::<Vec<_>>()).await.unwrap();
    let rows = world.drain(bob).await;
    assert_eq!((types(&rows).len(), gaps(&rows).len()), (800, 1));
    assert_eq!(world.count("select count(*) from inbox_gaps where reason = 'capped'").await, 0);
    world.is_consistent().await;
}

#[tokio::test]
async fn an_inbox_in_which_events_only_ever_ended_loses_its_gaps_in_time() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    for n in 1..=105 {
        world.publish_all(alice, feed, names("old", n..=n)).await;
        expired(&world, "old", "1 second").await;
        world.page(bob, 0).await;
    }
    assert_eq!(world.count("select count(*) from inbox_gaps").await, 105);
    purge(&world).await;
    assert_eq!(world.count("select count(*) from inbox_gaps").await, 0);
    assert_eq!(world.count(&format!("select purged_seq from inboxes where user_id = {bob} and class = 'event'")).await, 105);
    world.publish_all(alice, feed, names("new", 1..=1)).await;
    assert_eq!(types(&world.drain(bob).await), ["new1"]);
    world.is_consistent().await;
}

#[tokio::test]
async fn rows_and_what_is_not_a_row_yet_are_capped_together_the_oldest_first_by_time_across_feeds() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feeds = [world.feed(alice).await, world.feed(alice).await];
    for feed in feeds {
        world.follow(feed, &[bob]).await;
    }
    let mut all = Vec::new();
    for part in 0..12 {
        let types = names("e", part * 100 + 1..=part * 100 + 100);
        all.extend(types.clone());
        match part {
            0 => drop(world.page(bob, 0).await),
            1 => {
                let events: Vec<_> = types.iter().map(|name| event(name, EventTarget::Users(vec![bob]))).collect();
                world.store.publish(alice, &events).await.unwrap();
                continue;
            }
            _ => {}
        }
        world.publish_all(alice, feeds[usize::try_from(part).unwrap() % 2], types).await;
    }
    let rows = world.drain(bob).await;
    let mut came = types(&rows);
    assert_eq!(came.len(), 1_000);
    came.sort_by_key(|name| name[1..].parse::<u32>().unwrap());
    assert_eq!(came, all[200..], "the newest thousand, wherever they were published");
    let gone: i64 = gaps(&rows).iter().map(|(_, _, range)| range.count).sum();
    assert_eq!((gone, world.count("select count(*) from message_status where ended = 'capped'").await), (100, 100));
    world.is_consistent().await;
}

/// Broken by counting rows by their status alone: rows that lived ended as capped in the moment before the job came to those that had expired.
#[tokio::test]
async fn rows_that_have_expired_or_were_left_take_no_place_before_a_job_has_come_to_them() {
    for is_listed in [false, true] {
        let world = World::new().await;
        let [alice, bob] = world.users(["alice", "bob"]).await;
        let (feed, left) = (world.feed(alice).await, world.feed(alice).await);
        world.follow(feed, &[bob]).await;
        world.follow(left, &[bob]).await;
        world.publish_all(alice, feed, names("old", 1..=400)).await;
        world.publish_all(alice, left, names("left", 1..=100)).await;
        world.publish_all(alice, feed, names("kept", 1..=200)).await;
        world.drain(bob).await;
        expired(&world, "old", "1 second").await;
        world.store.unfollow(left, &[bob]).await.unwrap();
        let holder = world.holds(&super::lock_inbox(bob)).await;
        for part in 0..2 {
            let types = names("new", part * 400 + 1..=part * 400 + 400);
            let to = |name: &String| event(name, if is_listed { EventTarget::Users(vec![bob]) } else { EventTarget::Feed(feed) });
            world.store.publish(alice, &types.iter().map(to).collect::<Vec<_>>()).await.unwrap();
        }
        holder.commits().await;
        world.fan_out().await;
        let came = types(&world.drain(bob).await);
        // A page leaves it to the session to see that the old ones have expired.
        let came = came.iter().filter(|name| !name.starts_with("old")).count();
        let capped = "select (select count(*) from message_status where ended = 'capped') + (select count(*) from inbox_gaps where reason = 'capped')";
        assert_eq!((world.count(capped).await, came), (0, 1_000), "listed: {is_listed}");
        // One more than may wait: the oldest that lives goes, and none of those that have ended anyway.
        world.publish(alice, event("last", if is_listed { EventTarget::Users(vec![bob]) } else { EventTarget::Feed(feed) })).await;
        world.fan_out().await;
        world.drain(bob).await;
        let oldest = "select count(*) from message_status s join messages m on m.id = s.message_id where s.ended = 'capped' and m.message_type = 'kept1'";
        assert_eq!((world.count(capped).await, world.count(oldest).await), (1, 1), "listed: {is_listed}");
    }
}

#[tokio::test]
async fn more_feeds_than_a_look_holds_are_taken_whole_and_in_order() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    world.run("select restante_make_feed('alice', p_feed => md5(n::text)::uuid), restante_follow(md5(n::text)::uuid, '{bob}') from generate_series(1, 400) n").await;
    world
        .run("select restante_publish('alice', 'e' || s || '-' || n, null, p_feed => md5(n::text)::uuid) from generate_series(1, 2) s, generate_series(1, 400) n")
        .await;
    world.run("select restante_publish('alice', 'f' || n, null, p_feed => md5('1')::uuid) from generate_series(1, 198) n").await;
    let rows = world.drain(bob).await;
    assert_eq!((types(&rows).len(), gaps(&rows).len()), (998, 0));
    world.is_consistent().await;
    world
        .run("select restante_publish('alice', 'g' || n, null, p_feed => md5((n % 400 + 1)::text)::uuid) from generate_series(1, 900) n")
        .await;
    world
        .run("select restante_publish('alice', 'h' || n, null, p_feed => md5((n % 400 + 1)::text)::uuid) from generate_series(1, 900) n")
        .await;
    let rows = world.drain(bob).await;
    let waiting = world.count("select count(*) from message_status where status = 'sent'").await;
    assert_eq!(waiting, 1_000, "of {} rows", rows.len());
    let _ = alice;
    world.is_consistent().await;
}

#[tokio::test]
async fn an_event_goes_a_day_after_it_expired_with_what_belongs_to_it_and_followers_who_were_away_get_one_gap() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob, carol]).await;
    let mut first = event("old0", EventTarget::Feed(feed));
    first.except = vec![carol];
    world.publish(alice, first).await;
    world.publish_all(alice, feed, names("old", 1..=9)).await;
    world.publish(alice, event("old", EventTarget::Users(vec![bob, carol]))).await;
    assert_eq!(world.drain(bob).await.len(), 11);
    world.run("update message_status set status = 'delivered', delivered_at = clock_timestamp() where seq <= 5").await;
    expired(&world, "old", "23 hours").await;
    let sweep = "select count(*) from restante_expire('epoch', '00000000-0000-0000-0000-000000000000', clock_timestamp(), 500, 2000) e where e.user_id is not null";
    assert_eq!(world.count(sweep).await, 6, "bob's six and carol's one wait, less the five that are delivered");
    assert_eq!(world.count("select count(*) from endings").await, 0);
    assert_eq!(purge(&world).await, (0, 0), "not within a day");
    expired(&world, "old", "25 hours").await;
    world.publish_all(alice, feed, names("new", 1..=2)).await;
    assert_eq!(purge(&world).await, (12, 11));
    assert_eq!(world.count("select (select count(*) from event_exceptions) + (select count(*) from fan_outs)").await, 0);
    let rows = world.drain(carol).await;
    assert_eq!((gaps(&rows), types(&rows)), (vec![(2, GapReason::Expired, range(feed, 1, 10, 10))], names("new", 1..=2)));
    assert_eq!(types(&world.drain(bob).await), names("new", 1..=2));
    world.is_consistent().await;
}

#[tokio::test]
async fn a_row_that_waits_or_is_still_to_be_written_keeps_its_event() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let holder = world.holds(&super::lock_inbox(bob)).await;
    world.publish(alice, event("old", EventTarget::Users(vec![bob, carol]))).await;
    expired(&world, "old", "25 hours").await;
    assert_eq!(purge(&world).await, (0, 0), "carol's row waits");
    world.run("update message_status set status = 'delivered', delivered_at = clock_timestamp()").await;
    assert_eq!(purge(&world).await, (1, 0), "bob's is still to be written");
    holder.commits().await;
    world.fan_out().await;
    let page = world.page(bob, 0).await;
    assert!(matches!(page.rows[..], [PageRow::Gap { reason: GapReason::Expired, from: InboxSeq(1), .. }]), "{page:?}");
    assert_eq!(purge(&world).await, (1, 1));
    assert!(envelopes(&world.drain(bob).await).is_empty());
}

/// Broken by looking for newer ones whoever they are for: one that was not for bob took the place of his.
/// Broken by ending at the first event that stays: all that stood behind one for a month stayed with it.
#[tokio::test]
async fn events_to_listed_users_go_whatever_stays_before_them_and_their_ids_and_numbers_go_on() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let to = |user: UserId, event_type: &str| event(event_type, EventTarget::Users(vec![user]));
    let mut long = to(bob, "long");
    long.ttl = std::time::Duration::from_secs(30 * 86_400);
    world.publish(alice, long).await;
    let mut urgent = to(carol, "old urgent");
    urgent.urgent = true;
    world.publish(alice, urgent).await;
    for n in 1..=7 {
        world.publish(alice, to(carol, &format!("old{n}"))).await;
    }
    world.run("update message_status set status = 'failed', ended = 'failed', reason = 'test' where message_id = (select id from messages where message_type = 'old4')").await;
    world.publish(alice, to(carol, "new")).await;
    let acked = "update message_status set status = 'delivered', delivered_at = clock_timestamp() where status = 'sent'";
    world.run(acked).await;
    assert_eq!(purge(&world).await, (0, 0), "nothing has expired");
    expired(&world, "old", "25 hours").await;
    // A dead letter holds what stands behind it in carol's inbox.
    assert_eq!(purge(&world).await, (4, 4), "the urgent one, and three before the dead letter");
    let kept = async || world.count("select count(*) from messages").await;
    assert_eq!(kept().await, 6);
    world.run("update endings set ended_at = clock_timestamp() - interval '100 days'").await;
    let held = world.holds("select from messages where message_type = 'old6' for update").await;
    assert_eq!(purge(&world).await, (4, 3), "one is held, and nobody waits for it");
    held.commits().await;
    assert_eq!(purge(&world).await, (0, 1));
    assert_eq!((kept().await, world.count("select count(*) from fan_outs").await), (2, 2));
    world.is_consistent().await;
    world.publish(alice, to(carol, "newest")).await;
    assert_eq!(types(&world.drain(carol).await), ["newest"]);
    assert_eq!(world.count("select max(seq) from messages").await, 10);
    world.is_consistent().await;
}

#[tokio::test]
async fn the_newest_of_a_collapse_key_takes_the_place_of_those_that_wait_and_stands_at_the_end() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let (feed, other) = (world.feed(alice).await, world.feed(alice).await);
    for feed in [feed, other] {
        world.follow(feed, &[bob, carol]).await;
    }
    let publish = async |name: &str, feed, except: &[UserId]| {
        let key = name.starts_with('k').then(|| "key".to_owned());
        let event = restante::store::EventRequest { collapse_key: key, except: except.to_vec(), ..event(name, EventTarget::Feed(feed)) };
        world.publish(alice, event).await;
    };
    publish("k1", feed, &[]).await;
    publish("k2", feed, &[]).await;
    publish("x", feed, &[]).await;
    publish("k of another feed", other, &[]).await;
    publish("k3", feed, &[]).await;
    publish("k4", feed, &[bob]).await;
    let bobs = world.drain(bob).await;
    assert_eq!(types(&bobs), ["x", "k of another feed", "k3"]);
    assert_eq!(gaps(&bobs), [(1, GapReason::Superseded, range(feed, 1, 2, 2))]);
    assert_eq!(types(&world.drain(carol).await), ["x", "k of another feed", "k4"]);
    // A row that waits ends, one that was delivered stays.
    world.run(&format!("update message_status set status = 'delivered', delivered_at = clock_timestamp() where user_id = {carol}")).await;
    publish("k5", feed, &[]).await;
    let bobs = world.drain(bob).await;
    assert_eq!(types(&bobs), ["x", "k of another feed", "k5"]);
    assert!(
        bobs.iter().any(|row| matches!(row, PageRow::Gap { reason: GapReason::Superseded, from: InboxSeq(4), feed: None, .. })),
        "{bobs:?}"
    );
    world.drain(carol).await;
    let ended = format!("select count(*) from message_status where user_id = {carol} and status <> 'delivered' and status <> 'sent'");
    assert_eq!(world.count(&ended).await, 0);
    world.is_consistent().await;
}
