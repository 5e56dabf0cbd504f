//! Retention: the statements that remove what is finished and old, a page at a time. The order of the pages is the caller's.

use uuid::Uuid;

use super::{Result, Store, enums};
use crate::domain::{ChatId, Class, FeedSeq, UserId};

/// A page that was purged, and the place behind which the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged<P> {
    /// Rows that were removed.
    pub rows: usize,
    /// Milliseconds from the time at which the oldest of them should have gone until now.
    pub late_ms: u64,
    /// The place at which the next page begins. None: this was the last one.
    pub next: Option<P>,
}

/// The bounds of a page: the places that it looks at, and the rows that it removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeLimits {
    /// Inboxes, chats or users.
    pub places: i32,
    /// Rows.
    pub rows: i32,
}

impl Store {
    /// Removes rows of recipients that were finished more than `days` days ago, in inboxes behind `after`, and waits for nobody.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn purge_inboxes(&self, days: i32, after: (UserId, Class), limits: PurgeLimits) -> Result<Purged<(UserId, Class)>> {
        let (user, class) = after;
        let class = enums::Class::from(class);
        let asked = sqlx::query_file!("src/store/sql/purge_inboxes.sql", days, user.0, class as enums::Class, limits.places, limits.rows);
        let row = asked.fetch_one(self.database()).await?;
        let next = row.next_user.zip(row.next_class).map(|(user, class)| (UserId(user), class.into()));
        Ok(Purged { rows: count(row.rows_gone), late_ms: u64::try_from(row.late_ms).unwrap_or_default(), next })
    }

    /// Removes events to listed users that have expired a day ago and that no user has a row of, behind the number `after` of the stream
    /// of this class, and waits for nobody. It looks at `events` of them.
    ///
    /// # Errors
    /// As [`Self::purge_inboxes`].
    pub async fn purge_listed_events(&self, class: Class, after: FeedSeq, events: i32) -> Result<Purged<FeedSeq>> {
        let asked = sqlx::query_file!("src/store/sql/purge_listed_events.sql", enums::Class::from(class) as enums::Class, after.0, events);
        let row = asked.fetch_one(self.database()).await?;
        let late_ms = u64::try_from(row.late_ms).unwrap_or_default();
        Ok(Purged { rows: count(row.events_gone), late_ms, next: row.next_seq.map(FeedSeq) })
    }

    /// Removes messages without recipients' rows that are older than `days` days and than their chats keep them, in chats behind
    /// `after`, and waits for nobody.
    ///
    /// # Errors
    /// As [`Self::purge_inboxes`].
    pub async fn purge_chats(&self, days: i32, after: ChatId, limits: PurgeLimits) -> Result<Purged<ChatId>> {
        let asked = sqlx::query_file!("src/store/sql/purge_chats.sql", days, after.0, limits.places, limits.rows);
        let row = asked.fetch_one(self.database()).await?;
        let late_ms = u64::try_from(row.late_ms).unwrap_or_default();
        Ok(Purged { rows: count(row.messages_gone), late_ms, next: row.next_chat.map(ChatId) })
    }

    /// Forgets when users behind `after` were last there, if that is more than `days` days ago. It looks at `rows` users.
    ///
    /// # Errors
    /// As [`Self::purge_inboxes`].
    pub async fn purge_last_seen(&self, days: i32, after: UserId, rows: i32) -> Result<Purged<UserId>> {
        let row = sqlx::query_file!("src/store/sql/purge_last_seen.sql", days, after.0, rows).fetch_one(self.database()).await?;
        Ok(Purged { rows: count(row.rows_gone), late_ms: 0, next: row.next_user.map(UserId) })
    }
}

/// The place before all chats.
pub const FIRST_CHAT: ChatId = ChatId(Uuid::nil());

fn count(rows: i32) -> usize {
    usize::try_from(rows).unwrap_or_default()
}
