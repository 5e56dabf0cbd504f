//! Feeds in the store: what is published once becomes rows of those who follow, once, in order and without a hole, whatever else is
//! under way. In reading order: `taking` (pages make rows), `together` (rows for many at once), `ends` (what ends before it is a row), `listed` (events to listed users),
//! `collapsing` (the newest of a key), `merging` (what it stands for), `muted` and `living` (what users want none of, and what is too much in all), `races` (all of it
//! at once), `from_sql`.

mod collapsing;
mod ends;
mod from_sql;
mod listed;
mod living;
mod merging;
mod muted;
mod races;
mod taking;
mod together;

use std::time::Duration;

use restante::domain::{Class, Envelope, FeedId, FeedRange, GapReason, InboxSeq, MessageId, Page, PageRow, UserId};
use restante::store::{EventOutcome, EventRequest, EventTarget, FeedChange, PageRequest, Store};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::fixtures::{LockHolder, assert_consistent, number};
use crate::support::{Database, database, users};

/// A database with users, who have these names.
struct World {
    db: Database,
    pool: PgPool,
    store: Store,
}

impl World {
    async fn new() -> Self {
        let db = database().await;
        let pool = db.pool(16).await;
        let store = Store::new(pool.clone());
        Self { db, pool, store }
    }

    async fn users<const N: usize>(&self, names: [&str; N]) -> [UserId; N] {
        users(&self.pool, &names).await.into_iter().map(UserId).collect::<Vec<_>>().try_into().unwrap()
    }

    /// A feed of this maker.
    async fn feed(&self, maker: UserId) -> FeedId {
        let feed = FeedId::generate();
        assert_eq!(self.store.make_feed(feed, maker, None, &[]).await.unwrap(), FeedChange::Done);
        feed
    }

    async fn follow(&self, feed: FeedId, users: &[UserId]) {
        assert_eq!(self.store.follow(feed, users).await.unwrap(), FeedChange::Done);
    }

    /// Publishes one event, which must be accepted.
    async fn publish(&self, publisher: UserId, event: EventRequest) -> MessageId {
        let id = event.id;
        let outcomes = self.store.publish(publisher, &[event]).await.unwrap();
        assert!(matches!(outcomes[..], [EventOutcome::Accepted { .. }]), "{outcomes:?}");
        id
    }

    /// Publishes events of these types to a feed, in one request.
    async fn publish_all(&self, publisher: UserId, feed: FeedId, types: impl IntoIterator<Item = String>) {
        let events: Vec<_> = types.into_iter().map(|event_type| event(&event_type, EventTarget::Feed(feed))).collect();
        for outcome in self.store.publish(publisher, &events).await.unwrap() {
            assert!(matches!(outcome, EventOutcome::Accepted { .. }), "{outcome:?}");
        }
    }

    async fn page(&self, user: UserId, after: i64) -> Page {
        self.store.page(PageRequest::Waiting, user, Class::Event, InboxSeq(after), 50).await.unwrap()
    }

    /// Reads pages to the end, as a session does that emits all of them.
    async fn drain(&self, user: UserId) -> Vec<PageRow> {
        self.drain_as(PageRequest::Waiting, user, Class::Event).await
    }

    async fn drain_as(&self, request: PageRequest, user: UserId, class: Class) -> Vec<PageRow> {
        let (mut rows, mut after) = (Vec::new(), InboxSeq(0));
        loop {
            let page = self.store.page(request, user, class, after, 50).await.unwrap();
            assert!(page.rows.len() <= 51, "a page has {} rows", page.rows.len());
            after = page.rows.last().map_or(after, last_number);
            rows.extend(page.rows);
            if page.is_last {
                return rows;
            }
        }
    }

    async fn run(&self, statements: &str) {
        run(&self.pool, statements).await;
    }

    /// Ends what is left of events to listed users.
    async fn fan_out(&self) {
        let mut place = Some((UserId(0), Class::Chat));
        while let Some(after) = place {
            place = self.store.fan_out(after, 500).await.unwrap().next;
        }
    }

    async fn is_consistent(&self) {
        assert_consistent(&self.pool).await;
    }

    async fn count(&self, statement: &str) -> i64 {
        number(&self.pool, statement).await
    }

    async fn holds(&self, statements: &str) -> LockHolder {
        LockHolder::holds(&self.db.options(), statements).await
    }
}

async fn run(pool: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// An event of this type that lives for a day, from a publisher that may publish anywhere.
fn event(event_type: &str, to: EventTarget) -> EventRequest {
    EventRequest {
        id: MessageId::generate(),
        event_type: event_type.to_owned(),
        data: Some(r#"{"n": 1}"#.to_owned()),
        to,
        except: Vec::new(),
        ttl: Duration::from_secs(86_400),
        collapse_key: None,
        merge: None,
        urgent: false,
        may_publish_anywhere: true,
    }
}

fn last_number(row: &PageRow) -> InboxSeq {
    match row {
        PageRow::Envelope(envelope) => envelope.inbox_seq,
        PageRow::Gap { to, .. } => *to,
    }
}

fn envelopes(rows: &[PageRow]) -> Vec<&Envelope> {
    rows.iter().filter_map(envelope).collect()
}

fn envelope(row: &PageRow) -> Option<&Envelope> {
    match row {
        PageRow::Envelope(envelope) => Some(envelope),
        PageRow::Gap { .. } => None,
    }
}

fn types(rows: &[PageRow]) -> Vec<String> {
    envelopes(rows).into_iter().map(|envelope| envelope.message.message_type.clone()).collect()
}

/// The gaps of feeds: the number, the reason, the range.
fn gaps(rows: &[PageRow]) -> Vec<(i64, GapReason, FeedRange)> {
    let gap = |row: &PageRow| match *row {
        PageRow::Gap { from, reason, feed: Some(range), .. } => Some((from.0, reason, range)),
        PageRow::Gap { feed: None, .. } | PageRow::Envelope(_) => None,
    };
    rows.iter().filter_map(gap).collect()
}

fn names(prefix: &str, range: std::ops::RangeInclusive<i64>) -> Vec<String> {
    range.map(|n| format!("{prefix}{n}")).collect()
}

/// `select … for update` on a user's inbox of events.
fn lock_inbox(user: UserId) -> String {
    format!("select from inboxes where user_id = {user} and class = 'event' for update")
}
