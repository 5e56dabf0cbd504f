//! A dead letter as operators get it: over HTTP, and from the command that asks the database itself.

use schemars::JsonSchema;
use serde::Serialize;

use super::Timestamp;
use crate::domain::{ChatId, ChatSeq, DeadLetter, ExternalId, MessageId};

/// A message that failed for a recipient.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterData {
    message_id: MessageId,
    /// The recipient that did not get it.
    user_id: ExternalId,
    sender_id: ExternalId,
    chat_id: ChatId,
    seq: ChatSeq,
    message_type: String,
    /// The reason, as the sender was told.
    reason: String,
    /// The last error of an attempt: the client's words, or `ack timeout`.
    last_error: Option<String>,
    attempts: u16,
    created_at: Timestamp,
    failed_at: Timestamp,
}

impl From<DeadLetter> for DeadLetterData {
    fn from(letter: DeadLetter) -> Self {
        Self {
            message_id: letter.message,
            user_id: letter.recipient,
            sender_id: letter.sender,
            chat_id: letter.chat,
            seq: letter.chat_seq,
            message_type: letter.message_type,
            reason: letter.reason,
            last_error: letter.last_error,
            attempts: letter.attempts,
            created_at: Timestamp(letter.accepted_at),
            failed_at: Timestamp(letter.failed_at),
        }
    }
}
