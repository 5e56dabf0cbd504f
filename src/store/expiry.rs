//! Expiry: the sweep for messages whose time has come.

use time::OffsetDateTime;

use super::{Result, StatusRow, Store, enums};
use crate::domain::{ChatId, ChatSeq, ExternalId, InboxSeq, MessageId, UserId};

/// A place in the order of expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryCursor {
    /// The time of expiry.
    pub at: OffsetDateTime,
    /// The message, among those of the same moment.
    pub message: MessageId,
    /// A recipient of this message: its rows behind this one come first. None: nothing of the message is left.
    pub user: Option<UserId>,
}

impl ExpiryCursor {
    /// Before everything of this moment.
    pub const fn at(at: OffsetDateTime) -> Self {
        Self { at, message: MessageId(uuid::Uuid::nil()), user: None }
    }
}

/// A row that expired.
#[derive(Debug)]
pub struct ExpiredRow {
    /// The row.
    pub row: StatusRow,
    /// Its recipient, as it is shown.
    pub member: ExternalId,
    /// The time at which it ended.
    pub at: OffsetDateTime,
}

/// One page of a sweep.
#[derive(Debug)]
pub struct ExpiredPage {
    /// Rows that ended.
    pub rows: Vec<ExpiredRow>,
    /// The expiry of the first message that still has waiting rows because another session holds them; none: there is none.
    pub held: Option<OffsetDateTime>,
    /// The start of the next page; none: there is no next page.
    pub next: Option<ExpiryCursor>,
}

impl Store {
    /// Ends what waits of at most `messages_max` messages that expired after the cursor, up to the horizon, at most `rows_max` rows.
    /// It looks at 20,000 rows at most, and waits for nobody.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn expire(&self, after: ExpiryCursor, horizon: OffsetDateTime, messages_max: i32, rows_max: i32) -> Result<ExpiredPage> {
        let user = after.user.map(|user| user.0);
        let found = sqlx::query_file!("src/store/sql/expire.sql", after.at, after.message.0, horizon, messages_max, rows_max, user)
            .fetch_all(self.database())
            .await?;
        // A message may have more rows than a page takes. The rest is on the next page, which then begins in the middle of it.
        let done = found.iter().rev().find(|row| row.user_id.is_none());
        let place = |at, message, user: Option<i64>| ExpiryCursor { at, message: MessageId(message), user: user.map(UserId) };
        let next = done.map(|row| place(row.expires_at, row.message_id, row.after_user));
        let held = found.iter().find(|row| row.expired_at.is_none()).map(|row| row.expires_at);
        let rows = found
            .into_iter()
            .filter_map(|row| {
                let user = UserId(row.user_id?);
                let (class, seq) = (row.class?.into(), InboxSeq(row.seq?));
                let (message, chat, chat_seq) = (MessageId(row.message_id), ChatId(row.chat_id), ChatSeq(row.chat_seq));
                let row_at = StatusRow { user, class, seq, message, chat, chat_seq, sender: UserId(row.sender_id) };
                Some(ExpiredRow { row: row_at, member: ExternalId::try_from(row.member?).ok()?, at: row.expired_at? })
            })
            .collect();
        Ok(ExpiredPage { rows, held, next })
    }
}
