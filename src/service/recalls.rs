//! Recalls: a sender takes a message back. A short transaction does it; what follows is done a part of the recipients at a time. The first
//! part is done here, so in a chat of usual size all is done when the caller is answered. What is left is the job's.

use time::OffsetDateTime;
use tracing::warn;

use super::budget::points_of_rows;
use super::{Refusal, Service};
use crate::domain::{ChatId, ChatSeq, MessageId, Profile, SessionId};
use crate::store::{RECIPIENTS_AT_ONCE, TakenBack};

/// A message that is recalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecallDone {
    /// The message.
    pub message: MessageId,
    /// Its chat.
    pub chat: ChatId,
    /// Its number there.
    pub seq: ChatSeq,
    /// When it was recalled, the first time.
    pub at: OffsetDateTime,
}

impl Service {
    /// Recalls a message of the caller. A second recall returns what the first did. `origin` is the session that it came by.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: there is no such message, or the caller may not see it. [`Refusal::NotTheSender`],
    /// [`Refusal::RecallOver`], [`Refusal::RecallOff`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn recall(&self, caller: &Profile, origin: Option<SessionId>, message: MessageId) -> Result<RecallDone, Refusal> {
        let taken = self.store.take_back(message, caller.user, self.recall_window);
        let (chat, seq, at, is_first) = match self.ask(&caller.external, "recalling a message", taken).await? {
            TakenBack::Recalled { chat, seq, at } => (chat, seq, at, true),
            TakenBack::Again { chat, seq, at } => (chat, seq, at, false),
            TakenBack::NotFound => return Err(Refusal::NotFound),
            TakenBack::Forbidden => return Err(Refusal::NotTheSender),
            TakenBack::TooLate => return Err(Refusal::RecallOver),
            TakenBack::Off => return Err(Refusal::RecallOff),
        };
        if is_first {
            self.recall_first_part(caller, origin, message).await;
        }
        Ok(RecallDone { message, chat, seq, at })
    }

    /// The job does a moment later what cannot be done now.
    async fn recall_first_part(&self, caller: &Profile, origin: Option<SessionId>, message: MessageId) {
        let part = self.store.recall_part(message, RECIPIENTS_AT_ONCE);
        match self.ask(&caller.external, "recalling a message", part).await {
            Ok(Some(part)) => {
                self.budget(&caller.external).count(points_of_rows(part.ended.len() + part.noticed.len()));
                self.delivery.receipts().recalled(&part, origin);
            }
            Ok(None) => {}
            Err(refusal) => warn!(message.id = %message, code = refusal.code().as_str(), "the job goes on with a recall"),
        }
    }
}
