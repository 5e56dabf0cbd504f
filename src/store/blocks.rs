//! Blocks between users. The functions that make and end them also close and open the direct chat of the two, so there is no moment
//! in between. Nothing here tells anybody.

use time::OffsetDateTime;

use super::rows::profile;
use super::{ContactAudience, Error, Result, StatusRow, Store, enums};
use crate::domain::{ChatId, ChatSeq, ExternalId, InboxSeq, MessageId, Profile, UserId, limits};

/// A user that another one has blocked.
#[derive(Debug, Clone)]
pub struct BlockedUser {
    /// The user.
    pub profile: Profile,
    /// Since when, by the database's clock.
    pub at: OffsetDateTime,
}

/// The outcome of a block.
#[derive(Debug)]
pub enum Blocking {
    /// It is made.
    Done(NewBlock),
    /// It was there.
    Again,
    /// The user has blocked as many as it may.
    TooMany,
}

/// A block that was just made.
#[derive(Debug)]
pub struct NewBlock {
    /// The direct chat of the two, which is closed now.
    pub chat: Option<ChatId>,
    /// Rows that waited for the user that blocks, and wait no more.
    pub ended: Vec<StatusRow>,
    /// When.
    pub at: OffsetDateTime,
    /// Those who learn that the two are no contacts any more; nobody, where they were none and neither had requested the other.
    pub contact_audience: ContactAudience,
}

/// The outcome of taking a block back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unblocking {
    /// There is none any more. With the direct chat of the two.
    Done(Option<ChatId>),
    /// There was none.
    Again,
}

impl Store {
    /// A user blocks another one, and what waits from it in their direct chat ends.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: both are the same user. [`Error::Failed`]: a defect.
    pub async fn put_block(&self, user: UserId, other: UserId) -> Result<Blocking> {
        let blocks_max = i32::try_from(limits::BLOCKS_MAX).unwrap_or(i32::MAX);
        let rows = sqlx::query_file!("src/store/sql/put_block.sql", user.0, other.0, blocks_max).fetch_all(self.database()).await?;
        let last = rows.last().ok_or_else(unexpected)?;
        let (chat, at) = (last.chat_id.map(ChatId), last.ended_at);
        let contact_audience = ContactAudience::of(last.were_contacts, last.is_told);
        match (last.outcome.as_str(), at) {
            ("done", Some(at)) => {
                let ended = rows.into_iter().filter_map(|row| {
                    Some(StatusRow {
                        user,
                        class: row.class?.into(),
                        seq: InboxSeq(row.seq?),
                        message: MessageId(row.message_id?),
                        chat: chat?,
                        chat_seq: ChatSeq(row.chat_seq?),
                        sender: UserId(row.sender_id?),
                    })
                });
                Ok(Blocking::Done(NewBlock { chat, ended: ended.collect(), at, contact_audience }))
            }
            ("again", _) => Ok(Blocking::Again),
            ("too_many", _) => Ok(Blocking::TooMany),
            _ => Err(unexpected()),
        }
    }

    /// A user blocks another one no more. What has ended stays ended.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn take_block_back(&self, user: UserId, other: UserId) -> Result<Unblocking> {
        let row = sqlx::query_file!("src/store/sql/take_block_back.sql", user.0, other.0).fetch_one(self.database()).await?;
        match row.outcome.as_str() {
            "done" => Ok(Unblocking::Done(row.chat_id.map(ChatId))),
            "again" => Ok(Unblocking::Again),
            _ => Err(unexpected()),
        }
    }

    /// The users that a user has blocked, in the order in which the service met them, those behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn blocks(&self, user: UserId, after: Option<&ExternalId>, limit: u16) -> Result<Vec<BlockedUser>> {
        let after = after.map(ExternalId::as_str);
        let rows = sqlx::query_file!("src/store/sql/blocks.sql", user.0, after, i64::from(limit)).fetch_all(self.database()).await?;
        rows.into_iter()
            .map(|row| Ok(BlockedUser { profile: profile(row.user_id, row.external_id, row.name, row.picture)?, at: row.blocked_at }))
            .collect()
    }

    /// The receipts of these chats that are hidden: a chat that is missing hides none, and one that was closed once has a row a member.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn hidden_receipts(&self, chats: &[ChatId]) -> Result<Vec<HiddenReceipts>> {
        let ids: Vec<uuid::Uuid> = chats.iter().map(|chat| chat.0).collect();
        let rows = sqlx::query_file!("src/store/sql/hidden_receipts.sql", &ids).fetch_all(self.database()).await?;
        let hidden = rows.into_iter().map(|row| HiddenReceipts {
            chat: ChatId(row.chat_id),
            is_closed: row.is_closed,
            member: row.member.map(UserId),
            delivered: ChatSeq(row.delivered_seq.unwrap_or_default()),
            read: ChatSeq(row.read_seq.unwrap_or_default()),
        });
        Ok(hidden.collect())
    }
}

/// The receipts of a direct chat that the other member is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HiddenReceipts {
    /// The chat.
    pub chat: ChatId,
    /// None is told: one of the two members has blocked the other.
    pub is_closed: bool,
    /// The chat was closed once, and this is a member of it. None: it never was open again.
    pub member: Option<UserId>,
    /// The mark of the member when the chat was opened again: what it acked up to here is told neither then nor later.
    pub delivered: ChatSeq,
    /// The same for what it read.
    pub read: ChatSeq,
}

/// The function and this file do not agree.
fn unexpected() -> Error {
    Error::Failed(sqlx::Error::RowNotFound)
}
