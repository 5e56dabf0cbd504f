//! The number of events that live is bounded: beyond it the oldest end, before they are rows and after, and nothing else does.

use std::time::Duration;

use restante::domain::{FeedRange, FeedSeq, GapReason, UserId};
use restante::store::{CapPlace, Capped, EventTarget};
use tokio::time::timeout;

use super::{World, event, gaps, lock_inbox, names, types};
use crate::support::fixtures::group;
use crate::support::{Node, PATIENCE, until_true, wait_until};

impl World {
    /// One sweep: what it has counted, and the events and rows that have ended.
    async fn cap(&self, events_max: u32) -> (u64, u64, u64) {
        let (mut place, mut ended) = (CapPlace::FIRST, (0, 0));
        for _ in 0..1_000 {
            let Capped { counted, events, rows, next, .. } = self.store.cap_events(place, events_max).await.unwrap();
            ended = (ended.0 + events, ended.1 + rows);
            match next {
                Some(next) => place = next,
                None => return (counted, ended.0, ended.1),
            }
        }
        panic!("a sweep does not end");
    }

    /// Sweeps until nothing is ending any more: the events and rows that have ended. A transaction that is open in another database of the
    /// server holds up the last walk, too.
    async fn cap_to_the_end(&self, events_max: u32) -> (u64, u64) {
        let mut ended = (0, 0);
        let sweeping = async {
            loop {
                let (_, events, rows) = self.cap(events_max).await;
                ended = (ended.0 + events, ended.1 + rows);
                let left = "select count(*) from living_events e join feeds s on s.chat_id = e.chat_id where e.seq <= s.floor_seq";
                if self.count(left).await == 0 {
                    return;
                }
            }
        };
        timeout(PATIENCE, sweeping).await.expect("something is ending for ever");
        ended
    }

    async fn waiting(&self) -> i64 {
        self.count("select count(*) from message_status where status = 'sent'").await
    }
}

#[tokio::test]
async fn beyond_the_bound_the_oldest_events_end_whether_they_are_rows_or_not_and_chats_are_left_alone() {
    let world = World::new().await;
    let [alice, bob, carol, dora] = world.users(["alice", "bob", "carol", "dora"]).await;
    let chat = group(&world.pool, &[alice, bob]).await;
    world.run(&format!("select restante_send('{chat}', 'alice', n::text) from generate_series(1, 5) n")).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob, carol]).await;
    world.publish_all(alice, feed, names("old", 1..=4)).await;
    assert_eq!(types(&world.drain(bob).await), names("old", 1..=4));
    world.publish(alice, event("listed", EventTarget::Users(vec![bob, carol]))).await;
    let holder = world.holds(&lock_inbox(dora)).await;
    world.publish(alice, event("late", EventTarget::Users(vec![dora]))).await;
    world.publish_all(alice, feed, names("new", 1..=3)).await;
    assert_eq!(world.cap(9).await, (9, 0, 0), "none is too many");
    assert_eq!(world.count("select count(*) from feeds where floor_seq > 0").await, 0);
    // Six of nine are too many: bob has four rows of them and one that lists him, and carol one; dora's is not written yet.
    let mut rows = 0;
    for _ in 0..3 {
        rows += world.cap(3).await.2;
    }
    assert_eq!(rows, 6, "a transaction that is open holds up no row that is there");
    holder.commits().await;
    world.fan_out().await;
    assert_eq!(world.cap_to_the_end(3).await, (6, 0));
    assert_eq!(world.cap(3).await, (3, 0, 0));
    assert_eq!(world.waiting().await, 5, "the messages of the chat");
    assert_eq!(types(&world.drain(bob).await), names("new", 1..=3));
    let carols = world.drain(carol).await;
    assert_eq!(types(&carols), names("new", 1..=3));
    let range = FeedRange { feed, from: FeedSeq(1), to: FeedSeq(4), count: 4 };
    assert_eq!(gaps(&carols).iter().map(|(_, reason, range)| (*reason, *range)).collect::<Vec<_>>(), [(GapReason::Capped, range)]);
    assert!(types(&world.drain(dora).await).is_empty());
    let capped = world.count("select count(*) from message_status where status = 'expired' and ended = 'capped'").await;
    assert_eq!(capped, 7, "dora's too, once it was written");
    world.is_consistent().await;
}

/// Broken by counting what every listed user has got: an event that waited ended for one that did not.
#[tokio::test]
async fn what_has_expired_or_was_got_by_all_that_are_listed_does_not_live() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    world.publish(alice, event("first", EventTarget::Users(vec![bob, carol]))).await;
    for n in 0..20 {
        let mut short = event(&format!("e{n}"), EventTarget::Everyone);
        short.ttl = Duration::from_millis(1);
        world.publish(alice, short).await;
        world.publish(alice, event("acked", EventTarget::Users(vec![bob]))).await;
    }
    until_true(&world.pool, "select clock_timestamp() > max(expires_at) from messages where message_type like 'e%'").await;
    assert_eq!(world.cap(100).await, (21, 0, 0));
    let acked = "update message_status set status = 'delivered', delivered_at = clock_timestamp() where status = 'sent' and user_id = ";
    world.run(&format!("{acked}{bob}")).await;
    assert_eq!(world.cap(1).await, (1, 0, 0), "carol waits for the first");
    assert_eq!(world.waiting().await, 1);
    world.run(&format!("{acked}{carol}")).await;
    assert_eq!((world.cap(1).await, world.count("select count(*) from living_events").await), ((0, 0, 0), 0));
}

/// Broken by letting an event go as soon as none of its rows waits: that of a page that was being read waited until it expired.
#[tokio::test]
async fn what_somebody_holds_or_is_just_taking_ends_later_and_nobody_waits() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob, carol]).await;
    world.publish_all(alice, feed, names("e", 1..=3)).await;
    assert_eq!(types(&world.drain(carol).await), names("e", 1..=3));
    let taking = world.holds(&format!("select * from restante_take({bob}, 'event', 50, 1000)")).await;
    let acking = world.holds(&format!("select from message_status where user_id = {carol} and seq = 2 for update")).await;
    for _ in 0..3 {
        timeout(PATIENCE, world.cap(1)).await.expect("it waits for nobody");
    }
    taking.commits().await;
    assert_eq!(world.count(&format!("select count(*) from message_status where user_id = {bob} and status = 'sent'")).await, 3);
    acking.commits().await;
    let ended = world.cap_to_the_end(1).await;
    assert_eq!((ended.0, world.waiting().await), (2, 2), "the newest waits for each");
    assert_eq!((types(&world.drain(bob).await), types(&world.drain(carol).await)), (names("e", 3..=3), names("e", 3..=3)));
    world.is_consistent().await;
}

#[tokio::test]
async fn an_event_of_many_rows_ends_in_parts_and_two_sweeps_at_once_with_publishers_end_nothing_twice() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let made = "select id from restante_users((select array_agg('crowd-' || i) from generate_series(1, 4500) i)) order by id";
    let crowd: Vec<UserId> = sqlx::query_scalar::<_, i64>(made).fetch_all(&world.pool).await.unwrap().into_iter().map(UserId).collect();
    world.publish(alice, event("wide", EventTarget::Users(crowd))).await;
    world.fan_out().await;
    let publishing = async {
        for n in 0..10 {
            world.publish(alice, event(&format!("e{n}"), EventTarget::Users(vec![bob]))).await;
        }
    };
    let (first, second, ()) = tokio::join!(world.cap(5), world.cap(5), publishing);
    let (events, rows) = world.cap_to_the_end(5).await;
    assert_eq!(first.1 + second.1 + events, 6, "the wide one and five of the others");
    assert_eq!(first.2 + second.2 + rows, 4_505);
    assert_eq!(types(&world.drain(bob).await), names("e", 5..=9));
    world.is_consistent().await;
}

/// The race of two sweeps alone shows nothing: they seldom meet.
#[tokio::test]
async fn while_one_sweep_is_under_way_another_does_nothing_and_waits_for_nobody() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    world.publish_all(alice, feed, names("e", 1..=3)).await;
    world.drain(bob).await;
    let under_way = world.holds("select from restante_cap_events(9223372036854775807, 0, 1, 1000, 2000)").await;
    let other = timeout(PATIENCE, world.store.cap_events(CapPlace::FIRST, 1)).await.expect("it waits for nobody").unwrap();
    let again = other.next.expect("it is to come again");
    assert_eq!((other.counted, other.events, other.rows, again.before, again.counted), (0, 0, 0, CapPlace::FIRST.before, 0));
    under_way.commits().await;
    assert_eq!((world.cap(1).await.2, world.waiting().await), (2, 1));
}

/// A row that one walk has ended, or that somebody has just acked, stays as it is in the other walk.
#[tokio::test]
async fn a_row_is_capped_once_and_never_after_its_ack() {
    let world = World::new().await;
    let [alice, bob, carol, dora] = world.users(["alice", "bob", "carol", "dora"]).await;
    let id = world.publish(alice, event("wide", EventTarget::Users(vec![bob, carol, dora]))).await;
    let walk = format!("select coalesce(cardinality(users), 0) * 10 + has_held::integer from restante_cap_rows('{}', 0, 2000)", id.0);
    let acking = format!(
        "update message_status set status = 'delivered', delivered_at = clock_timestamp() where user_id = {bob} and class = 'event'"
    );
    let (acking, one) =
        (world.holds(&acking).await, world.holds(&format!("select users from restante_cap_rows('{}', {bob}, 1)", id.0)).await);
    assert_eq!(world.count(&format!("select w::bigint from ({walk}) q (w)")).await, 11, "dora's, and the others are held");
    acking.commits().await;
    one.commits().await;
    assert_eq!(world.count(&format!("select w::bigint from ({walk}) q (w)")).await, 0, "nothing is left to it, and nothing is held");
    let ended = "select count(*) from message_status where status = 'expired' and ended = 'capped'";
    assert_eq!((world.count(ended).await, world.waiting().await), (2, 0));
    world.is_consistent().await;
}

#[tokio::test]
async fn a_node_ends_them_by_itself_and_says_how_many_live() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    for n in 0..5 {
        world.publish(alice, event(&format!("e{n}"), EventTarget::Users(vec![bob]))).await;
    }
    let node = Node::with(world.db.options(), |config| config.events_max = 2).await;
    until_true(&world.pool, "select count(*) = 3 from message_status where ended = 'capped'").await;
    let metrics = &node.app().context().metrics;
    wait_until("the metrics say so", || metrics.events_living.get() == 2 && metrics.events_capped.get() == 3).await;
    node.stop().await;
    assert_eq!(types(&world.drain(bob).await), names("e", 3..=4));
}
