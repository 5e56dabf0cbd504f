//! Events: publishing them, and what became of one. An event of a feed is stored once; an event to listed users is stored with a row
//! for each of the first, and the others are written by a job.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Error, Result, Store};
use crate::domain::{ChatId, Class, EventId, FeedId, GapReason, MessageId, UserId};

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
    /// The newest event of a key takes the place of one that waits.
    pub collapse_key: Option<String>,
    /// It goes to inboxes of the class [`Class::Alert`], else [`Class::Event`].
    pub urgent: bool,
    /// The publisher may publish to every feed, to everyone and to listed users. Else only to feeds whose publisher it is.
    pub may_publish_anywhere: bool,
}

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

/// What became of an event so far.
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
    /// What became of its rows.
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
    /// Rows that ended otherwise, by reason.
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
        let _ = (publisher, items);
        Err(Error::Failed(sqlx::Error::Decode("not yet".into())))
    }

    /// What became of an event. None: there is no such event, or it has been removed. It checks no rights.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn event(&self, event: EventId) -> Result<Option<EventProgress>> {
        let _ = event;
        Err(Error::Failed(sqlx::Error::Decode("not yet".into())))
    }
}
