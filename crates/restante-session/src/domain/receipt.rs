//! Receipts: what a sender is told of its messages.

use time::OffsetDateTime;

use super::{ChatId, ChatSeq, ExternalId, MessageId, Status};

/// News for one sender.
#[derive(Debug, Clone)]
pub enum Receipt {
    /// Messages reached a status for one recipient; one receipt for all of a batch.
    Moved {
        /// Their chat.
        chat: ChatId,
        /// The messages, by number.
        messages: Vec<MessageId>,
        /// The lowest of their numbers.
        first: ChatSeq,
        /// The highest.
        seq: ChatSeq,
        /// Their new status.
        status: Status,
        /// The recipient.
        member: ExternalId,
        /// The time, by the database's clock.
        at: OffsetDateTime,
        /// The reason, if they failed or expired.
        reason: Option<String>,
    },
    /// The counts of a message in a large chat.
    Counted(ReceiptCounts),
}

/// The number of members of a large chat that have a message, and that read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiptCounts {
    /// The chat.
    pub chat: ChatId,
    /// The message.
    pub message: MessageId,
    /// Its number.
    pub seq: ChatSeq,
    /// Members with it or past it.
    pub delivered: i64,
    /// Members who read it.
    pub read: i64,
    /// Members who should.
    pub members: i64,
}

/// A message that ended otherwise for a member.
#[derive(Debug, Clone)]
pub struct Exception {
    /// The message.
    pub message: MessageId,
    /// `failed` or `expired`.
    pub status: Status,
    /// The reason.
    pub reason: String,
}

/// A member's marks in a chat that reports members.
#[derive(Debug, Clone)]
pub struct MovedMark {
    /// The chat.
    pub chat: ChatId,
    /// The member.
    pub member: ExternalId,
    /// Nothing at or below it waits for the member.
    pub delivered: ChatSeq,
    /// Nothing at or below it is unread by the member; 0: nothing is read.
    pub read: ChatSeq,
    /// Messages of the asker that ended otherwise for the member.
    pub except: Vec<Exception>,
}
