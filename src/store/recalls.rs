//! Recalls: the statement that takes a message back for its sender, and the one that goes on with its recipients, a part of them at a time.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use time::OffsetDateTime;

use super::{Error, Result, StatusRow, Store, enums};
use crate::domain::{ChatId, ChatSeq, Class, ExternalId, InboxSeq, MessageId, UserId};

/// Recipients of one part: some 20 ms.
pub const RECIPIENTS_AT_ONCE: i32 = 500;

/// The outcome of a recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenBack {
    /// The message is recalled.
    Recalled {
        /// Its chat.
        chat: ChatId,
        /// Its number there.
        seq: ChatSeq,
        /// The time, by the database's clock.
        at: OffsetDateTime,
    },
    /// It had been recalled before.
    Again {
        /// Its chat.
        chat: ChatId,
        /// Its number there.
        seq: ChatSeq,
        /// The time of the first recall.
        at: OffsetDateTime,
    },
    /// There is no such message of a chat, or the user may not see it.
    NotFound,
    /// Another member has sent it.
    Forbidden,
    /// It was accepted too long ago.
    TooLate,
    /// No message can be recalled.
    Off,
}

/// A row that has ended, since its message was recalled.
#[derive(Debug)]
pub struct RecalledRow {
    /// The row.
    pub row: StatusRow,
    /// Its recipient, as it is shown.
    pub member: ExternalId,
}

/// A part of a recall.
#[derive(Debug)]
pub struct RecallPart {
    /// The message.
    pub message: MessageId,
    /// Its chat.
    pub chat: ChatId,
    /// Its number there.
    pub seq: ChatSeq,
    /// Its sender.
    pub sender: UserId,
    /// The time of the recall.
    pub at: OffsetDateTime,
    /// The inboxes that its recipients have it in.
    pub class: Class,
    /// No part was done before.
    pub is_first: bool,
    /// There are recipients behind these.
    pub goes_on: bool,
    /// Rows that waited, and have ended.
    pub ended: Vec<RecalledRow>,
    /// Recipients that have got the notice.
    pub noticed: Vec<UserId>,
}

impl Store {
    /// Recalls a message for its sender, if it was accepted within the window; zero: recalls are turned off.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn take_back(&self, message: MessageId, sender: UserId, window: Duration) -> Result<TakenBack> {
        let microseconds = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let window = PgInterval { months: 0, days: 0, microseconds };
        let row = sqlx::query_file!("src/store/sql/take_back.sql", message.0, sender.0, window).fetch_one(self.database()).await?;
        let place = || Some((ChatId(row.chat_id?), ChatSeq(row.chat_seq?), row.recalled_at?));
        Ok(match (row.outcome.as_str(), place()) {
            ("recalled", Some((chat, seq, at))) => TakenBack::Recalled { chat, seq, at },
            ("again", Some((chat, seq, at))) => TakenBack::Again { chat, seq, at },
            ("forbidden", _) => TakenBack::Forbidden,
            ("too_late", _) => TakenBack::TooLate,
            ("off", _) => TakenBack::Off,
            _ => TakenBack::NotFound,
        })
    }

    /// Goes on with the recall of this message. None: it is done, or another node is at it.
    ///
    /// # Errors
    /// As [`Self::take_back`].
    pub async fn recall_part(&self, message: MessageId, recipients_max: i32) -> Result<Option<RecallPart>> {
        self.part_of_recall(Some(message), MessageId(uuid::Uuid::nil()), recipients_max).await
    }

    /// Goes on with the first recall of a message behind `after`, in the order of their ids. None: there is none that no other node is at.
    ///
    /// # Errors
    /// As [`Self::take_back`].
    pub async fn next_recall_part(&self, after: MessageId, recipients_max: i32) -> Result<Option<RecallPart>> {
        self.part_of_recall(None, after, recipients_max).await
    }

    async fn part_of_recall(&self, message: Option<MessageId>, after: MessageId, recipients_max: i32) -> Result<Option<RecallPart>> {
        let asked = sqlx::query_file!("src/store/sql/recall_part.sql", message.map(|message| message.0), after.0, recipients_max);
        let rows = asked.fetch_all(self.database()).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let (chat, seq, sender) = (ChatId(first.chat_id), ChatSeq(first.chat_seq), UserId(first.sender_id));
        let mut part = RecallPart {
            message: MessageId(first.message_id),
            chat,
            seq,
            sender,
            at: first.recalled_at,
            class: first.class.into(),
            is_first: first.is_first,
            goes_on: first.goes_on,
            ended: Vec::new(),
            noticed: Vec::new(),
        };
        for row in rows {
            let (Some(user), Some(inbox_seq), Some(has_ended)) = (row.user_id, row.seq, row.has_ended) else { continue };
            let user = UserId(user);
            if !has_ended {
                part.noticed.push(user);
                continue;
            }
            let Some(member) = row.member else { continue };
            let member = ExternalId::try_from(member).map_err(|error| Error::Failed(sqlx::Error::Decode(Box::new(error))))?;
            let row = StatusRow { user, class: part.class, seq: InboxSeq(inbox_seq), message: part.message, chat, chat_seq: seq, sender };
            part.ended.push(RecalledRow { row, member });
        }
        Ok(Some(part))
    }
}
