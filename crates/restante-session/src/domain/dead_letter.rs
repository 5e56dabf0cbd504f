//! Dead letters: what failed for a recipient.

use time::OffsetDateTime;

use super::{ChatId, ChatSeq, ExternalId, MessageId, UserId};

/// A message that failed for a recipient.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The message.
    pub message: MessageId,
    /// The recipient that did not get it.
    pub user: UserId,
    /// The same, as it is known outside.
    pub recipient: ExternalId,
    /// The sender, which was told.
    pub sender: ExternalId,
    /// Its chat.
    pub chat: ChatId,
    /// Its number there.
    pub chat_seq: ChatSeq,
    /// The type that the sender gave it.
    pub message_type: String,
    /// The reason of the failure, as the sender was told.
    pub reason: String,
    /// The last error of an attempt: the client's words, or that no ack came in time; none: no attempt failed.
    pub last_error: Option<String>,
    /// Attempts that were counted.
    pub attempts: u16,
    /// The time at which it was accepted.
    pub accepted_at: OffsetDateTime,
    /// The time at which it failed.
    pub failed_at: OffsetDateTime,
}
