//! Feeds at the end of a run: their streams, events and followers, and the rows and gaps that followers have of them. Rows and gaps
//! that were removed meanwhile are there too, where the judge's triggers have noted them.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::Row;
use super::columns::{class, status_row};
use crate::history::{Class, Status};

/// The feed in whose streams events to listed users are numbered.
pub const LISTED: Uuid = Uuid::from_u128(2);

/// One stream of a feed: its events of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The feed.
    pub feed: Uuid,
    /// The class.
    pub class: Class,
    /// Its last number.
    pub last_seq: i64,
    /// Events up to this number were removed.
    pub purged_seq: i64,
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its stream.
    pub stream: Uuid,
    /// Its number there.
    pub seq: i64,
    /// Its publisher.
    pub publisher: String,
    /// Its type.
    pub event_type: String,
    /// Its data as JSON text.
    pub data: String,
    /// True when it is encrypted: the database does not have its data.
    pub is_sealed: bool,
    /// Its collapse key.
    pub collapse_key: Option<String>,
    /// Its data is merged with that of the events whose place it takes.
    pub merges: bool,
    /// True when its time is over.
    pub is_over: bool,
}

/// A time in which a user followed a stream, in the stream's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Following {
    /// The user.
    pub user: String,
    /// The stream.
    pub stream: Uuid,
    /// The events above this number are for the user.
    pub followed_seq: i64,
    /// The user has taken the events up to this number.
    pub cursor_seq: i64,
    /// The user has left the feed.
    pub has_left: bool,
}

/// Events of a feed that ended before they became rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedGap {
    /// The user.
    pub user: String,
    /// The inbox.
    pub class: Class,
    /// The number of the inbox that they share.
    pub seq: i64,
    /// The reason.
    pub reason: String,
    /// The feed.
    pub feed: Uuid,
    /// The first number in the feed.
    pub from: i64,
    /// The last number in the feed.
    pub to: i64,
    /// The number of events in it that were for the user.
    pub count: i64,
}

/// All feeds of a run.
#[derive(Debug, Clone, Default)]
pub struct Feeds {
    /// Streams by their ids.
    pub streams: HashMap<Uuid, Stream>,
    /// Events by their ids.
    pub events: HashMap<Uuid, StoredEvent>,
    /// The rows of events. The reason of a row is that of the closed list.
    pub rows: Vec<Row>,
    /// Rows of events that were removed, as they were then.
    pub removed: Vec<Row>,
    /// Gaps of feeds, also those that were removed.
    pub gaps: Vec<FeedGap>,
    /// All times in which users followed.
    pub followings: Vec<Following>,
    /// Events, each with a user that it is not for.
    pub exceptions: HashSet<(Uuid, String)>,
}

const STREAMS: &str = "select s.chat_id, s.feed_id, s.class::text, h.last_seq, c.purged_seq
  from feeds s join chat_heads h on h.chat_id = s.chat_id join chats c on c.id = s.chat_id";
const EVENTS: &str = "select m.id, m.chat_id, m.seq, u.external_id, coalesce(m.metadata::text, 'null'), m.collapse_key,
    coalesce(m.expires_at <= clock_timestamp(), false), m.message_type, m.merge is not null, m.key_id is not null
  from messages m join feeds s on s.chat_id = m.chat_id join users u on u.id = m.sender_id";
const ROWS: &str =
    "select u.external_id, s.class::text, s.seq, s.message_id, s.status::text, s.attempts, coalesce(s.ended::text, ''), 0::bigint
  from message_status s join users u on u.id = s.user_id join messages m on m.id = s.message_id join feeds f on f.chat_id = m.chat_id";
const REMOVED: &str = "select u.external_id, s.class, s.seq, s.message_id, s.status, s.attempts, coalesce(s.ended, ''), 0::bigint
  from judge.removed s join users u on u.id = s.user_id join messages m on m.id = s.message_id join feeds f on f.chat_id = m.chat_id";
const GAPS: &str = "select u.external_id, g.class::text, g.seq, g.reason::text, g.feed_id, g.from_feed_seq, g.to_feed_seq, g.count
  from inbox_gaps g join users u on u.id = g.user_id where g.feed_id is not null";
const REMOVED_GAPS: &str = "select u.external_id, g.class, g.seq, g.reason, g.feed_id, g.from_feed_seq, g.to_feed_seq, g.count
  from judge.removed_gaps g join users u on u.id = g.user_id where g.feed_id is not null";
const FOLLOWINGS: &str = "select u.external_id, s.chat_id, f.followed_seq, f.cursor_seq, false
  from followers f join users u on u.id = f.user_id join feeds s on s.feed_id = f.feed_id and s.class = f.class";
const LEFT: &str = "select u.external_id, s.chat_id, f.followed_seq, f.cursor_seq, true
  from judge.left_feeds f join users u on u.id = f.user_id join feeds s on s.feed_id = f.feed_id and s.class::text = f.class";
const EXCEPTIONS: &str = "select x.message_id, u.external_id from event_exceptions x join users u on u.id = x.user_id";

/// Reads all feeds, in the transaction that is open.
///
/// # Errors
/// When the database does not answer, or holds a value that the judge does not know.
pub(super) async fn read(database: &mut PgConnection) -> sqlx::Result<Feeds> {
    let is_watched: bool = sqlx::query_scalar("select to_regclass('judge.removed') is not null").fetch_one(&mut *database).await?;
    let mut feeds = Feeds {
        streams: all(database, STREAMS, stream).await?,
        events: all(database, EVENTS, event).await?,
        rows: all(database, ROWS, status_row).await?,
        removed: Vec::new(),
        gaps: all(database, GAPS, gap).await?,
        followings: all(database, FOLLOWINGS, following).await?,
        exceptions: all(database, EXCEPTIONS, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?,
    };
    if is_watched {
        feeds.removed = all(database, REMOVED, status_row).await?;
        feeds.gaps.extend(all::<_, Vec<_>>(database, REMOVED_GAPS, gap).await?);
        feeds.followings.extend(all::<_, Vec<_>>(database, LEFT, following).await?);
    }
    Ok(feeds)
}

async fn all<T, C: FromIterator<T>>(
    database: &mut PgConnection,
    statement: &'static str,
    of: impl Fn(&PgRow) -> sqlx::Result<T>,
) -> sqlx::Result<C> {
    sqlx::query(statement).fetch_all(database).await?.iter().map(of).collect()
}

fn stream(row: &PgRow) -> sqlx::Result<(Uuid, Stream)> {
    let stream = Stream { feed: row.try_get(1)?, class: class(row, 2)?, last_seq: row.try_get(3)?, purged_seq: row.try_get(4)? };
    Ok((row.try_get(0)?, stream))
}

fn event(row: &PgRow) -> sqlx::Result<(Uuid, StoredEvent)> {
    let event = StoredEvent {
        stream: row.try_get(1)?,
        seq: row.try_get(2)?,
        publisher: row.try_get(3)?,
        event_type: row.try_get(7)?,
        data: row.try_get(4)?,
        is_sealed: row.try_get(9)?,
        collapse_key: row.try_get(5)?,
        merges: row.try_get(8)?,
        is_over: row.try_get(6)?,
    };
    Ok((row.try_get(0)?, event))
}

fn gap(row: &PgRow) -> sqlx::Result<FeedGap> {
    Ok(FeedGap {
        user: row.try_get(0)?,
        class: class(row, 1)?,
        seq: row.try_get(2)?,
        reason: row.try_get(3)?,
        feed: row.try_get(4)?,
        from: row.try_get(5)?,
        to: row.try_get(6)?,
        count: row.try_get(7)?,
    })
}

fn following(row: &PgRow) -> sqlx::Result<Following> {
    Ok(Following {
        user: row.try_get(0)?,
        stream: row.try_get(1)?,
        followed_seq: row.try_get(2)?,
        cursor_seq: row.try_get(3)?,
        has_left: row.try_get(4)?,
    })
}

impl Feeds {
    /// Rows that waited when they were removed, and that did not stand under another number.
    pub(crate) fn removed_while_waiting(&self) -> impl Iterator<Item = &Row> {
        let standing: HashSet<(Uuid, &str)> = self.rows.iter().map(|row| (row.message, row.user.as_str())).collect();
        self.removed.iter().filter(move |row| row.status == Status::Sent && !standing.contains(&(row.message, row.user.as_str())))
    }
}
