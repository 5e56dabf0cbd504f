//! Dead letters: what failed for a recipient.

use time::OffsetDateTime;

use super::{ChatId, ChatSeq, ExternalId, MessageId, UserId};

/// A message that failed for a recipient.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The message.
    pub message: MessageId,
    /// Who did not get it.
    pub user: UserId,
    /// The same, as it is known outside.
    pub recipient: ExternalId,
    /// Who sent it, and was told.
    pub sender: ExternalId,
    /// Its chat.
    pub chat: ChatId,
    /// Its number there.
    pub chat_seq: ChatSeq,
    /// What the sender says it is.
    pub message_type: String,
    /// Why it failed, as the sender was told.
    pub reason: String,
    /// What went wrong last at the client; none when nothing ever did.
    pub last_error: Option<String>,
    /// Attempts that were counted.
    pub attempts: u16,
    /// When it was accepted.
    pub accepted_at: OffsetDateTime,
    /// When it failed.
    pub failed_at: OffsetDateTime,
}
