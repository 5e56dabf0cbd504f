//! Events: publishing them, and what became of one. An event of a feed is stored once; an event to listed users is stored with a row
//! for each of the first, and the others are written by a job.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::event_batch::{EventBatch, ROWS_AT_ONCE};
use super::feeds::{numbers, setting};
use super::row_states::gap_reason;
use super::sealing::{SealedColumn, Sealer};
use super::{Error, Result, Store, enums};
use crate::domain::{ChatId, Class, EventId, FeedId, GapReason, MergeRules, MessageId, Status, UserId, limits};

/// The times that a batch is tried where another transaction stores an event of the same id at the same moment.
const TRIES: u32 = 3;
/// Rows of an event that are counted.
const COUNTED_MAX: u32 = 10_000;

/// An event to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRequest {
    /// Its id, which is a message id.
    pub id: MessageId,
    /// Its type, 1 to 64 characters.
    pub event_type: String,
    /// Its data as JSON text, at most [`limits::EVENT_DATA_BYTES_MAX`](crate::domain::limits::EVENT_DATA_BYTES_MAX) bytes.
    pub data: Option<String>,
    /// The users that get it.
    pub to: EventTarget,
    /// Users that do not get it, at most [`limits::EVENT_EXCEPT_MAX`](crate::domain::limits::EVENT_EXCEPT_MAX). Its publisher never does.
    pub except: Vec<UserId>,
    /// The time from its acceptance on after which it is delivered no more.
    pub ttl: Duration,
    /// The newest event of a key takes the place of those that wait: of a feed, or, whoever published them, of events to listed users.
    pub collapse_key: Option<String>,
    /// The rules by which its data is merged where it takes the place of others. They need a collapse key.
    pub merge: Option<MergeRules>,
    /// It goes to inboxes of the class [`Class::Alert`], else [`Class::Event`].
    pub urgent: bool,
    /// The publisher may publish to every feed, to everyone and to listed users. Else only to feeds whose publisher it is.
    pub may_publish_anywhere: bool,
}

/// An event with its publisher.
pub type EventBy<'a> = (UserId, &'a EventRequest);

/// The users that get an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventTarget {
    /// These users, at most [`limits::EVENT_USERS_MAX`](crate::domain::limits::EVENT_USERS_MAX). One that is listed twice gets it once.
    Users(Vec<UserId>),
    /// The followers of a feed.
    Feed(FeedId),
    /// All users.
    Everyone,
}

/// The outcome of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventOutcome {
    /// Stored now.
    Accepted {
        /// The database's clock, after the locks were taken.
        created_at: OffsetDateTime,
        /// Listed users whose rows were written. The others are woken by the job that writes theirs.
        woken: Vec<UserId>,
        /// The stream of a feed, or of everyone, whose followers are to be woken. None: it has listed users.
        stream: Option<ChatId>,
        /// Listed users of whom something that waited was superseded, by this event or by another one of the same call.
        superseded: Vec<UserId>,
    },
    /// The same publisher's event of this id was there.
    Duplicate {
        /// The time at which it was accepted.
        created_at: OffsetDateTime,
    },
    /// Another user's message or event has this id.
    Conflict,
    /// There is no such feed.
    NotFound,
    /// The publisher has no right to publish there.
    Forbidden,
    /// It would have expired by now.
    TooLate,
}

/// The users that got an event, as a view of it names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventAddress {
    /// Listed users.
    Users,
    /// The followers of a feed.
    Feed(FeedId),
    /// All users.
    Everyone,
}

/// The progress of an event so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventProgress {
    /// The event.
    pub id: EventId,
    /// The user that published it.
    pub publisher: UserId,
    /// Its type.
    pub event_type: String,
    /// The inboxes that it goes to.
    pub class: Class,
    /// The users that get it.
    pub to: EventAddress,
    /// The time at which it was accepted.
    pub created_at: OffsetDateTime,
    /// The time from which on it is delivered no more.
    pub expires_at: Option<OffsetDateTime>,
    /// The number of listed users. None: it went to a feed or to everyone, whose followers are not counted.
    pub recipients: Option<u64>,
    /// Its rows, counted.
    pub rows: EventRows,
}

/// The rows of an event. Of an event with more than 10,000 rows the first 10,000 are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventRows {
    /// Rows that were written.
    pub written: u64,
    /// Rows that were delivered, those that were read too.
    pub delivered: u64,
    /// Rows that were read.
    pub read: u64,
    /// Rows that ended otherwise, by reason; and listed users that had muted the type, who have no row.
    pub ended: Vec<(GapReason, u64)>,
    /// There are more rows than were counted.
    pub more: bool,
}

impl Store {
    /// Publishes events, each with an outcome of its own, in their order. An event is stored whole or not at all.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away; some of them may have been stored, and it may
    /// be repeated. [`Error::Held`]: another session holds a stream. [`Error::Invalid`]: PostgreSQL refuses a value.
    /// [`Error::Failed`]: a defect.
    pub async fn publish(&self, publisher: UserId, items: &[EventRequest]) -> Result<Vec<EventOutcome>> {
        let items: Vec<EventBy<'_>> = items.iter().map(|item| (publisher, item)).collect();
        self.publish_each(&items).await
    }

    /// The same for events of many publishers, each with its own. What fits is one transaction (see [`EventBatch`]).
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_each(&self, items: &[EventBy<'_>]) -> Result<Vec<EventOutcome>> {
        let mut outcomes = Vec::with_capacity(items.len());
        let mut rest = items;
        while !rest.is_empty() {
            let (batch, behind) = rest.split_at(batch_len(rest));
            outcomes.extend(self.publish_batch(batch).await?);
            rest = behind;
        }
        Ok(outcomes)
    }

    /// The progress of an event. None: there is no such event, or it has been removed. It checks no rights.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn event(&self, event: EventId) -> Result<Option<EventProgress>> {
        let Some(row) = sqlx::query_file!("src/store/sql/event.sql", event.0).fetch_optional(self.database()).await? else {
            return Ok(None);
        };
        let to = match FeedId(row.feed_id) {
            FeedId::DIRECT => EventAddress::Users,
            FeedId::EVERYONE => EventAddress::Everyone,
            feed => EventAddress::Feed(feed),
        };
        let mut rows = self.event_rows(event).await?;
        if let Some(muted) = row.muted.and_then(|muted| u64::try_from(muted).ok()).filter(|muted| *muted > 0) {
            rows.ended.push((GapReason::Muted, muted));
        }
        Ok(Some(EventProgress {
            id: event,
            publisher: UserId(row.publisher),
            event_type: row.event_type,
            class: row.class.into(),
            to,
            created_at: row.created_at.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            expires_at: row.expires_at,
            recipients: row.recipients.map(|recipients| u64::try_from(recipients).unwrap_or_default()),
            rows,
        }))
    }

    /// Rows of an event by what became of them.
    async fn event_rows(&self, event: EventId) -> Result<EventRows> {
        // One more than is counted tells that there are more.
        let asked = sqlx::query_file!("src/store/sql/event_rows.sql", event.0, i64::from(COUNTED_MAX) + 1);
        let mut rows = EventRows::default();
        for row in asked.fetch_all(self.database()).await? {
            rows.add(row.status.into(), row.ended.as_deref(), u64::try_from(row.rows).unwrap_or_default());
        }
        rows.more = rows.written > u64::from(COUNTED_MAX);
        Ok(rows)
    }

    async fn publish_batch(&self, items: &[EventBy<'_>]) -> Result<Vec<EventOutcome>> {
        let sealer = self.sealer().await?;
        let columns = Columns::of(items, sealer.as_ref());
        for _ in 1..TRIES {
            match self.try_publish(items, &columns).await {
                // Another transaction has stored one of them meanwhile. Now it is seen.
                Err(Error::Taken(_)) => {}
                answer => return answer,
            }
        }
        self.try_publish(items, &columns).await
    }

    async fn try_publish(&self, items: &[EventBy<'_>], columns: &Columns) -> Result<Vec<EventOutcome>> {
        let answer = sqlx::query_file!(
            "src/store/sql/publish.sql",
            &columns.ids,
            &columns.publishers,
            &columns.types,
            &columns.data as &[Option<String>],
            &columns.ttls_ms,
            &columns.keys as &[Option<String>],
            &columns.classes as &[enums::Class],
            &columns.feeds as &[Option<Uuid>],
            &columns.may_publish_anywhere,
            &columns.listed.places,
            &columns.listed.users,
            &columns.excepted.places,
            &columns.excepted.users,
            i32::try_from(ROWS_AT_ONCE).unwrap_or(i32::MAX),
            setting(limits::EVENTS_PER_USER_MAX),
            &columns.merges as &[Option<String>],
            &columns.sealed.values,
            columns.sealed.key_id()
        );
        let answer = answer.fetch_one(self.database()).await?;
        let words = answer.outcomes.unwrap_or_default();
        let (times, streams) = (answer.first_times.unwrap_or_default(), answer.streams.unwrap_or_default());
        if [words.len(), times.len(), streams.len()] != [items.len(); 3] {
            return Err(defect("restante_publish_batch has not answered for every event".to_owned()));
        }
        let answers = words.iter().zip(times).zip(streams).map(|((word, first), stream)| outcome(word, answer.accepted_at, first, stream));
        let mut outcomes = answers.collect::<Result<Vec<_>>>()?;
        for (place, user) in answer.woken_places.unwrap_or_default().into_iter().zip(answer.woken.unwrap_or_default()) {
            let row = usize::try_from(place - 1).ok().and_then(|place| outcomes.get_mut(place));
            if let Some(EventOutcome::Accepted { woken, .. }) = row {
                woken.push(UserId(user));
            }
        }
        let last = outcomes.iter_mut().rev().find_map(|outcome| match outcome {
            EventOutcome::Accepted { superseded, .. } => Some(superseded),
            _ => None,
        });
        if let Some(superseded) = last {
            superseded.extend(answer.superseded.unwrap_or_default().into_iter().map(UserId));
        }
        Ok(outcomes)
    }
}

/// The number of events that are published together.
fn batch_len(items: &[EventBy<'_>]) -> usize {
    let mut batch = EventBatch::default();
    items.iter().take_while(|(_, item)| batch.take([(item.id, item.names())])).count()
}

impl EventRequest {
    /// The users that it names.
    pub fn names(&self) -> usize {
        self.listed().len() + self.except.len()
    }

    fn listed(&self) -> &[UserId] {
        match &self.to {
            EventTarget::Users(users) => users,
            EventTarget::Feed(_) | EventTarget::Everyone => &[],
        }
    }

    /// None: it has listed users.
    const fn feed(&self) -> Option<FeedId> {
        match &self.to {
            EventTarget::Users(_) => None,
            EventTarget::Feed(feed) => Some(*feed),
            EventTarget::Everyone => Some(FeedId::EVERYONE),
        }
    }
}

impl EventRows {
    fn add(&mut self, status: Status, ended: Option<&str>, rows: u64) {
        self.written += rows;
        match gap_reason(Some(status), ended) {
            Some(reason) => match self.ended.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += rows,
                None => self.ended.push((reason, rows)),
            },
            None => {
                self.delivered += if status >= Status::Delivered { rows } else { 0 };
                self.read += if status == Status::Read { rows } else { 0 };
            }
        }
    }
}

/// Users of items, each with the place of its item, from 1.
#[derive(Default)]
struct Pairs {
    places: Vec<i32>,
    users: Vec<i64>,
}

impl Pairs {
    fn push(&mut self, place: usize, users: &[UserId]) {
        self.places.extend(std::iter::repeat_n(i32::try_from(place).unwrap_or(i32::MAX), users.len()));
        self.users.extend(numbers(users));
    }
}

/// Events as columns.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    publishers: Vec<i64>,
    types: Vec<String>,
    data: Vec<Option<String>>,
    ttls_ms: Vec<i64>,
    keys: Vec<Option<String>>,
    merges: Vec<Option<String>>,
    classes: Vec<enums::Class>,
    feeds: Vec<Option<Uuid>>,
    may_publish_anywhere: Vec<bool>,
    listed: Pairs,
    excepted: Pairs,
    /// In place of data, which is empty then.
    sealed: SealedColumn,
}

impl Columns {
    fn of(items: &[EventBy<'_>], sealer: Option<&Sealer>) -> Self {
        let mut columns = Self::default();
        for (place, (publisher, item)) in (1..).zip(items) {
            columns.ids.push(item.id.0);
            columns.publishers.push(publisher.0);
            columns.types.push(item.event_type.clone());
            match sealer {
                Some(sealer) => columns.sealed.push(sealer.seal(item.id, None, item.data.as_deref(), None)),
                None => columns.data.push(item.data.clone()),
            }
            let ttl_ms = u64::try_from(item.ttl.as_millis()).unwrap_or(u64::MAX).min(limits::EVENT_TTL_MS_MAX);
            columns.ttls_ms.push(i64::try_from(ttl_ms).unwrap_or(i64::MAX));
            columns.keys.push(item.collapse_key.clone());
            columns.merges.push(item.merge.as_ref().map(MergeRules::to_json));
            columns.classes.push(if item.urgent { enums::Class::Alert } else { enums::Class::Event });
            columns.feeds.push(item.feed().map(|feed| feed.0));
            columns.may_publish_anywhere.push(item.may_publish_anywhere);
            columns.listed.push(place, item.listed());
            columns.excepted.push(place, &item.except);
        }
        columns
    }
}

fn outcome(word: &str, accepted_at: OffsetDateTime, first: Option<OffsetDateTime>, stream: Option<Uuid>) -> Result<EventOutcome> {
    match word {
        "accepted" => {
            Ok(EventOutcome::Accepted { created_at: accepted_at, woken: Vec::new(), stream: stream.map(ChatId), superseded: Vec::new() })
        }
        "duplicate" => Ok(EventOutcome::Duplicate { created_at: first.unwrap_or(accepted_at) }),
        "conflict" => Ok(EventOutcome::Conflict),
        "not_found" => Ok(EventOutcome::NotFound),
        "forbidden" => Ok(EventOutcome::Forbidden),
        "too_late" => Ok(EventOutcome::TooLate),
        other => Err(defect(format!("restante_publish_batch returned the outcome {other:?}"))),
    }
}

fn defect(what: String) -> Error {
    Error::Failed(sqlx::Error::Decode(what.into()))
}
