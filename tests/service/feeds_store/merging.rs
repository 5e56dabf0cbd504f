//! Events that merge in a page: one statement reads what all rows stand for, a part at a time where that is much, and each comes as it
//! would alone.

use std::sync::Arc;

use fastrand::Rng;
use restante::domain::{Class, Envelope, FeedId, InboxSeq, MergeRules, MessageId, UserId};
use restante::store::{EventRequest, EventTarget, PageRequest};

use super::{World, envelopes, event, last_number};
use crate::support::Log;

/// An event of this key whose numbers are summed up, and whose names are united.
fn merging(key: usize, data: String, to: EventTarget) -> EventRequest {
    EventRequest {
        data: Some(data),
        collapse_key: Some(format!("key {key}")),
        merge: Some(MergeRules::parse(r#"{"n": "sum", "names": "union", "all": "count"}"#).unwrap()),
        ..event("like", to)
    }
}

/// The thing that a client is told of an envelope: number, message, events that it stands for, data.
type Told = (i64, MessageId, Option<u32>, Option<String>);

fn told(envelope: &Envelope) -> Told {
    let message = Arc::clone(&envelope.message);
    (envelope.inbox_seq.0, message.id, envelope.merged, message.metadata.as_ref().map(|data| data.get().to_owned()))
}

impl World {
    /// Everything that pages of this size bring. In those of one row nothing is read for two rows together.
    async fn told(&self, request: PageRequest, user: UserId, limit: u16) -> Vec<Told> {
        let (mut all, mut after) = (Vec::new(), InboxSeq(0));
        loop {
            let page = self.store.page(request, user, Class::Event, after, limit).await.unwrap();
            all.extend(envelopes(&page.rows).into_iter().map(told));
            match page.rows.last() {
                Some(row) if !page.is_last => after = last_number(row),
                Some(_) | None => return all,
            }
        }
    }

    /// A feed that bob follows, where so many keys have waited as rows, and have merged with this many events more.
    async fn followed(&self, keys: usize, more: usize, data: &str) -> (UserId, UserId, FeedId) {
        let [alice, bob] = self.users(["alice", "bob"]).await;
        let feed = self.feed(alice).await;
        self.follow(feed, &[bob]).await;
        for _ in 0..=more {
            let events: Vec<_> = (0..keys).map(|key| merging(key, data.to_owned(), EventTarget::Feed(feed))).collect();
            self.store.publish(alice, &events).await.unwrap();
        }
        self.drain(bob).await;
        (alice, bob, feed)
    }
}

/// The statements that have read what rows stand for, since the last look.
fn statements(log: &Log) -> usize {
    let of_sqlx = log.take().into_iter().filter(|line| line.target == "sqlx::query");
    of_sqlx.filter(|line| line.fields.contains("-- merged: ")).count()
}

/// A page of one row shows what each row by itself would ask.
#[tokio::test]
async fn fifty_rows_that_stand_for_others_are_read_by_one_statement_more() {
    let log = Log::of_this_thread();
    let world = World::new().await;
    let (_, bob, _) = world.followed(50, 1, r#"{"n": 2, "names": "anna"}"#).await;
    for request in [PageRequest::Waiting, PageRequest::Everything, PageRequest::Poll] {
        statements(&log);
        let rows = world.told(request, bob, 100).await;
        assert_eq!(statements(&log), 1, "{request:?}");
        assert_eq!(rows.len(), 50);
        let data = r#"{"all":2,"n":4,"names":["anna"],"namesMore":0}"#;
        assert!(rows.iter().all(|(_, _, merged, told)| *merged == Some(2) && told.as_deref() == Some(data)), "{rows:?}");
        assert_eq!(world.told(request, bob, 1).await, rows);
        assert_eq!(statements(&log), 50, "{request:?}: a page of one row asks for one");
    }
    world.is_consistent().await;
}

#[tokio::test]
async fn a_page_whose_rows_stand_for_much_is_read_in_parts_and_no_row_loses_anything() {
    let log = Log::of_this_thread();
    let world = World::new().await;
    // 11 MB in all.
    let data = format!(r#"{{"n": 1, "text": "{}"}}"#, "x".repeat(7_000));
    let (_, bob, _) = world.followed(40, 40, &data).await;
    statements(&log);
    let rows = world.told(PageRequest::Waiting, bob, 50).await;
    let asked = statements(&log);
    assert!((3..=4).contains(&asked), "{asked} statements");
    assert_eq!(rows.iter().map(|(_, _, merged, _)| *merged).collect::<Vec<_>>(), vec![Some(41); 40]);
    assert_eq!(world.told(PageRequest::Waiting, bob, 1).await, rows);
}

#[tokio::test]
async fn whatever_was_published_and_acked_each_row_of_a_page_comes_as_it_would_alone() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    for _ in 0..6 {
        let world = World::new().await;
        let (alice, bob, feed) = world.followed(5, 0, r#"{"n": 1}"#).await;
        let other = world.feed(alice).await;
        world.follow(other, &[bob]).await;
        for round in 0..10 {
            let events: Vec<_> = (0..random.usize(1..60)).map(|n| drawn(&mut random, n, bob, [feed, other])).collect();
            world.store.publish(alice, &events).await.unwrap();
            world.fan_out().await;
            if round % 2 == 0 {
                world.drain(bob).await;
            }
            let acks = "update message_status set status = 'delivered', delivered_at = clock_timestamp() where status = 'sent' and class = 'event'";
            world.run(&format!("{acks} and seq % 7 = {round}")).await;
        }
        for request in [PageRequest::Waiting, PageRequest::Everything] {
            let rows = world.told(request, bob, 50).await;
            assert!(rows.iter().filter(|(_, _, merged, _)| merged.is_some_and(|merged| merged > 1)).count() > 3, "seed {seed}: {rows:?}");
            assert_eq!(world.told(request, bob, 1).await, rows, "seed {seed}, {request:?}");
        }
        world.is_consistent().await;
    }
}

/// An event of one of ten keys, to a feed or to bob; now and then one that does not merge.
fn drawn(random: &mut Rng, n: usize, bob: UserId, feeds: [FeedId; 2]) -> EventRequest {
    let to = match random.usize(0..3) {
        0 => EventTarget::Users(vec![bob]),
        feed => EventTarget::Feed(feeds[feed - 1]),
    };
    let event = merging(random.usize(0..10), format!(r#"{{"n": {n}, "names": ["{}"]}}"#, random.usize(0..20)), to);
    if random.usize(0..10) > 0 { event } else { EventRequest { merge: None, ..event } }
}

#[tokio::test]
async fn a_row_whose_events_cannot_be_read_costs_itself_only() {
    let world = World::new().await;
    let (_, bob, _) = world.followed(10, 2, r#"{"n": 1}"#).await;
    let before = world.told(PageRequest::Waiting, bob, 50).await;
    let (_, broken, ..) = before[4];
    // A time from which thirty days cannot be taken.
    world.run(&format!("update messages set created_at = '4714-12-01 BC' where id = '{}'", broken.0)).await;
    let after = world.told(PageRequest::Waiting, bob, 50).await;
    assert_eq!(after, before.into_iter().filter(|(_, id, ..)| *id != broken).collect::<Vec<_>>());
}
