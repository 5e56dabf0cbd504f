//! Publishing, taking, following, acking and accepting at once: nothing is missed, nothing comes twice, and nobody waits in a circle.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use restante::domain::{Class, FeedId, UserId};
use restante::store::{EventTarget, PageRequest};
use tokio::time::timeout;

use super::{World, envelopes, event, lock_inbox, names, types};
use crate::support::{PATIENCE, SOMEBODY_WAITS, fill, group, until_true};

/// Broken by reading the cursors before the lock: what was published meanwhile was not in the page.
#[tokio::test]
async fn a_page_that_waits_for_its_inbox_has_what_was_published_meanwhile() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    world.publish_all(alice, feed, names("e", 1..=1)).await;
    let holder = world.holds(&lock_inbox(bob)).await;
    let page = async { world.page(bob, 0).await };
    let publish = async {
        until_true(&world.pool, SOMEBODY_WAITS).await;
        world.publish_all(alice, feed, names("e", 2..=3)).await;
        holder.commits().await;
    };
    let (page, ()) = tokio::join!(page, publish);
    assert_eq!((types(&page.rows), page.is_last), (names("e", 1..=3), true));
    world.is_consistent().await;
}

/// Broken by leaving the inbox unlocked: rows that a page made meanwhile were not seen, and went on waiting.
#[tokio::test]
async fn who_unfollows_while_a_page_makes_rows_of_the_feed_gets_none_of_them() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    world.publish_all(alice, feed, names("e", 1..=3)).await;
    let taking = world.holds(&format!("select numbers from restante_take({bob}, 'event', 50, 1000)")).await;
    let unfollow = async { world.store.unfollow(feed, &[bob]).await.unwrap() };
    let commit = async {
        until_true(&world.pool, SOMEBODY_WAITS).await;
        taking.commits().await;
    };
    tokio::join!(unfollow, commit);
    assert!(types(&world.drain(bob).await).is_empty());
    while world.store.end_departures(1_000).await.unwrap().is_some() {}
    assert_eq!(world.count("select count(*) from message_status where status = 'sent'").await, 0);
    world.is_consistent().await;
}

/// Two pages of one user wait for the inbox: the second finds nothing new.
#[tokio::test]
async fn four_takes_and_publishes_at_once_make_each_row_once_and_in_order() {
    const EVENTS: i64 = 120;
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let feeds = [world.feed(alice).await, FeedId::EVERYONE, world.feed(alice).await];
    for feed in [feeds[0], feeds[2]] {
        world.follow(feed, &[bob, carol]).await;
    }
    let publish = feeds.map(|feed| {
        let world = &world;
        async move {
            for n in 1..=EVENTS {
                world.publish_all(alice, feed, [format!("{feed} {n}")]).await;
                if n % 10 == 0 {
                    world.publish(alice, event("direct", EventTarget::Users(vec![bob, carol]))).await;
                }
            }
        }
    });
    let stop = tokio_util::sync::CancellationToken::new();
    let take = [bob, bob, carol, carol].map(|user| {
        let (world, stop) = (&world, stop.clone());
        async move {
            while !stop.is_cancelled() {
                world.drain(user).await;
            }
        }
    });
    let publish = async {
        join_all(publish).await;
        stop.cancel();
    };
    timeout(PATIENCE, async { tokio::join!(publish, join_all(take)) }).await.unwrap();
    world.fan_out().await;
    for user in [bob, carol] {
        let rows = world.drain(user).await;
        for feed in feeds {
            let of_feed: Vec<String> = types(&rows).into_iter().filter(|name| name.starts_with(&feed.to_string())).collect();
            assert_eq!(of_feed, (1..=EVENTS).map(|n| format!("{feed} {n}")).collect::<Vec<_>>());
        }
        assert_eq!(types(&rows).iter().filter(|name| *name == "direct").count() as i64, 3 * EVENTS / 10);
    }
    world.is_consistent().await;
}

#[tokio::test]
async fn who_follows_while_events_are_published_gets_all_from_one_number_on() {
    let world = World::new().await;
    let [alice] = world.users(["alice"]).await;
    let feed = world.feed(alice).await;
    let crowd: Vec<UserId> = world.users(["a", "b", "c", "d", "e", "f", "g", "h"]).await.to_vec();
    let publish = async {
        for n in 1..=80 {
            world.publish_all(alice, feed, names("e", n..=n)).await;
        }
    };
    let follow = async {
        for user in &crowd {
            world.follow(feed, &[*user]).await;
            world.page(*user, 0).await;
        }
    };
    tokio::join!(publish, follow);
    for user in crowd {
        let rows = world.drain(user).await;
        let numbers: Vec<i64> = envelopes(&rows).iter().map(|envelope| envelope.feed.unwrap().seq.0).collect();
        let first = world
            .count(&format!("select followed_seq + 1 from followers where user_id = {user} and feed_id = '{feed}' and class = 'event'"))
            .await;
        assert_eq!(numbers, (first..=80).collect::<Vec<_>>());
    }
    world.is_consistent().await;
}

/// The statements of one who does this again and again, `{u}` being a user of the crowd and `{n}` a number.
const WRITERS: [&str; 10] = [
    "select restante_publish('alice', 'e', null, p_feed => '{feed}'), restante_publish('alice', 'e', null), restante_send('{chat}', 'alice', 'x')",
    "select restante_send('{chat}', 'alice', 'x'), restante_publish('alice', 'd', null, '{u1,u2,u3,u4,u5,u6}'), restante_publish('alice', 'e', null, p_feed => '{feed}')",
    "select numbers from users u, restante_take(u.id, 'event', 50, 1000) where u.external_id = '{u}'",
    "select restante_settle(a.users, a.classes, a.seqs, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}') from (select array_agg(q.user_id) as users, array_agg(q.class) as classes, array_agg(q.seq) as seqs from (select s.user_id, s.class, s.seq from message_status s join users u on u.id = s.user_id where u.external_id = '{u}' and s.class = 'event' and s.status = 'sent' order by s.seq limit 20) q) a where a.users is not null",
    "select cardinality(users) from restante_take_together('{feed}', array(select id from users where external_id like 'u%'), 8, 1000)",
    "select rows_done from restante_fan_out(0, 'chat', 100, 20)",
    "select restante_unfollow('{feed}', '{{u}}')",
    "select restante_follow('{feed}', '{{u}}')",
    "select count(*) from restante_end_departures(100)",
    "select count(*) from restante_expire('epoch', '00000000-0000-0000-0000-000000000000', clock_timestamp(), 500, 2000)",
];

/// Broken by publishing before messages are accepted at a commit of both: one held a stream and waited for an inbox.
#[tokio::test]
async fn accepting_publishing_taking_acking_following_and_the_jobs_never_wait_in_a_circle() {
    const ROUNDS: usize = 60;
    let world = World::new().await;
    let [alice] = world.users(["alice"]).await;
    let crowd: Vec<String> = (1..=6).map(|n| format!("u{n}")).collect();
    let members: Vec<&str> = std::iter::once("alice").chain(crowd.iter().map(String::as_str)).collect();
    let chat = group(&world.pool, &members).await;
    let feed = world.feed(alice).await;
    world.run(&format!("select restante_follow('{feed}', '{{{}}}')", crowd.join(","))).await;
    let writers = WRITERS.iter().enumerate().map(|(n, statement)| {
        let (world, crowd) = (&world, &crowd);
        async move {
            for round in 0..ROUNDS {
                let user = &crowd[(round * 7 + n) % crowd.len()];
                let filled = statement.replace("{feed}", &feed.to_string()).replace("{chat}", &chat.to_string()).replace("{u}", user);
                world.run(&filled).await;
            }
        }
    });
    let lanes = async {
        for _ in 0..ROUNDS {
            fill(&world.pool, chat, "alice", 3).await;
        }
    };
    timeout(Duration::from_secs(60), async { tokio::join!(join_all(writers), lanes) }).await.unwrap();
    assert_eq!(world.count("select deadlocks from pg_stat_database where datname = current_database()").await, 0);
    world.fan_out().await;
    while world.store.end_departures(1_000).await.unwrap().is_some() {}
    world.is_consistent().await;
}

#[tokio::test]
async fn events_of_the_same_id_at_once_are_one_event() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    let mut ids = HashSet::new();
    for n in 0..20 {
        let one = event(&format!("e{n}"), EventTarget::Feed(feed));
        let other = [restante::store::EventRequest { to: EventTarget::Everyone, ..one.clone() }];
        ids.insert(one.id);
        let (first, second) = tokio::join!(world.store.publish(alice, std::slice::from_ref(&one)), world.store.publish(alice, &other));
        first.unwrap();
        second.unwrap();
    }
    assert_eq!(world.count("select count(*) from messages").await, 20);
    assert_eq!(world.drain_as(PageRequest::Everything, bob, Class::Event).await.len(), ids.len());
    world.is_consistent().await;
}
