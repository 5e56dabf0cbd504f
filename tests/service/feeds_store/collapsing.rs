//! Collapse keys of events to listed users: the newest takes the place of those that wait, whether the transaction that publishes writes
//! its row or the job does, and whoever holds what.

use restante::domain::{Class, GapReason, InboxSeq, MergeRules, PageRow, UserId};
use restante::store::{EventOutcome, EventRequest, EventTarget};
use tokio::time::timeout;

use super::{World, envelopes, event, lock_inbox, names, types};
use crate::support::PATIENCE;

fn keyed(users: &[UserId], event_type: &str) -> EventRequest {
    EventRequest { collapse_key: Some("key".to_owned()), ..event(event_type, EventTarget::Users(users.to_vec())) }
}

impl World {
    async fn superseded(&self) -> i64 {
        self.count("select count(*) from message_status where ended = 'superseded' and status = 'expired'").await
    }
}

#[tokio::test]
async fn one_key_for_five_hundred_users_is_one_statement_and_says_of_whom_something_has_ended() {
    let world = World::new().await;
    let made = "select id from restante_users((select array_agg('crowd-' || i) from generate_series(1, 501) i)) order by id";
    let crowd: Vec<_> = sqlx::query_scalar(made).fetch_all(&world.pool).await.unwrap().into_iter().map(UserId).collect();
    let (alice, users) = (crowd[0], &crowd[1..]);
    world.publish(alice, keyed(&users[..400], "first")).await;
    let outcomes = world.store.publish(alice, &[keyed(users, "second")]).await.unwrap();
    let [EventOutcome::Accepted { woken, superseded, .. }] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((woken.len(), superseded.len()), (500, 400));
    assert_eq!((world.superseded().await, types(&world.drain(users[0]).await)), (400, vec!["second".to_owned()]));
    let again = world.store.publish(alice, &[event("no key", EventTarget::Users(users.to_vec()))]).await.unwrap();
    assert!(matches!(&again[..], [EventOutcome::Accepted { superseded, .. }] if superseded.is_empty()), "{again:?}");
    world.is_consistent().await;
}

/// Broken by looking at rows from before the statement only: 500 events of one key waited.
#[tokio::test]
async fn of_many_events_of_one_key_in_one_request_the_last_one_waits_and_every_number_is_told() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    world.publish(alice, keyed(&[bob], "before")).await;
    let mut events: Vec<_> = names("k", 1..=100).iter().map(|name| keyed(&[bob, carol], name)).collect();
    events.insert(50, event("no key", EventTarget::Users(vec![bob])));
    events.push(EventRequest { urgent: true, ..keyed(&[bob], "alert") });
    world.store.publish(alice, &events).await.unwrap();
    let rows = world.drain(bob).await;
    assert_eq!(types(&rows), ["no key", "k100"]);
    let gap = |row: &PageRow| match *row {
        PageRow::Gap { from, to, reason: GapReason::Superseded, .. } => Some(from.0..=to.0),
        PageRow::Gap { .. } | PageRow::Envelope(_) => None,
    };
    assert_eq!(rows.iter().filter_map(gap).flatten().collect::<Vec<_>>(), (1..=51).chain(53..=101).collect::<Vec<_>>());
    assert_eq!((types(&world.drain(carol).await), world.superseded().await), (vec!["k100".to_owned()], 199));
    assert_eq!(world.count("select count(*) from message_status where class = 'alert' and status = 'sent'").await, 1);
    world.is_consistent().await;
}

/// Broken by leaving the job out: each of those that it wrote waited.
#[tokio::test]
async fn what_the_job_writes_supersedes_and_is_superseded_in_the_order_of_the_events() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    world.publish(alice, keyed(&[bob], "row")).await;
    let holder = world.holds(&lock_inbox(bob)).await;
    for name in names("k", 1..=3) {
        world.publish(alice, keyed(&[bob], &name)).await;
    }
    world.publish(alice, event("no key", EventTarget::Users(vec![bob]))).await;
    let mut brief = keyed(&[bob], "brief");
    brief.ttl = std::time::Duration::from_millis(1);
    world.publish(alice, brief).await;
    holder.commits().await;
    assert_eq!(types(&world.drain(bob).await), ["row"], "nothing has taken its place yet");
    crate::support::until_true(&world.pool, "select count(*) = 1 from messages where expires_at <= clock_timestamp()").await;
    let page = world.store.fan_out((UserId(0), Class::Chat), 500).await.unwrap();
    assert_eq!((page.inboxes, page.superseded), (vec![(bob, Class::Event)], vec![bob]));
    assert_eq!(types(&world.drain(bob).await), ["k3", "no key"], "one that has expired takes the place of none");
    assert_eq!((world.superseded().await, world.count("select count(*) from message_status where ended = 'expired'").await), (3, 1));
    // Page by page, one row at a time.
    let holder = world.holds(&lock_inbox(bob)).await;
    for name in names("l", 1..=3) {
        world.publish(alice, keyed(&[bob], &name)).await;
    }
    holder.commits().await;
    while world.count("select count(*) from fan_out_recipients").await > 0 {
        world.store.fan_out((UserId(0), Class::Chat), 1).await.unwrap();
    }
    assert_eq!(types(&world.drain(bob).await), ["no key", "l3"]);
    world.is_consistent().await;
}

/// Broken by looking at the time of a row only: the old event ended as superseded, and the new one told its data again.
#[tokio::test]
async fn what_waited_before_a_feed_was_left_is_no_part_of_what_comes_when_it_is_followed_again() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    let merging = |event_type: &str| EventRequest {
        collapse_key: Some("key".to_owned()),
        merge: Some(MergeRules::parse(r#"{"n": "sum"}"#).unwrap()),
        ..event(event_type, EventTarget::Feed(feed))
    };
    world.follow(feed, &[bob]).await;
    world.publish(alice, merging("before")).await;
    assert_eq!(types(&world.drain(bob).await), ["before"]);
    world.store.unfollow(feed, &[bob]).await.unwrap();
    world.follow(feed, &[bob]).await;
    world.publish(alice, merging("after")).await;
    let rows = world.drain(bob).await;
    assert_eq!((types(&rows), world.superseded().await), (vec!["after".to_owned()], 0));
    assert_eq!(envelopes(&rows)[0].merged, Some(1), "it stands for itself");
    while world.store.end_departures(1_000).await.unwrap().is_some() {}
    assert_eq!(world.count("select count(*) from message_status where ended = 'left'").await, 1);
    world.is_consistent().await;
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_being_acked_and_nobody_waits_for_it() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    world.publish(alice, keyed(&[bob], "held")).await;
    let acks = "update message_status set status = 'delivered', delivered_at = clock_timestamp()";
    let holder = world.holds(acks).await;
    timeout(PATIENCE, world.publish(alice, keyed(&[bob], "second"))).await.expect("it waits for no row");
    holder.commits().await;
    world.publish(alice, keyed(&[bob], "third")).await;
    let page = world.store.page(restante::store::PageRequest::Everything, bob, Class::Event, InboxSeq(0), 50).await.unwrap();
    assert_eq!((types(&page.rows), world.superseded().await), (vec!["held".to_owned(), "third".to_owned()], 1));
    world.is_consistent().await;
}
