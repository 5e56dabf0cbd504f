//! Dead letters, for operators: a list, a look at one, putting back, giving up. Each act leaves a line in the log, and each that changes
//! something a row in the audit. Nodes and senders learn of a change from the database, whoever made it.

use tracing::info;

use super::{DeadLetterCursor, DeadLetterFilter, Refusal, Service};
use crate::domain::{DeadLetter, ExternalId, MessageId};
use crate::store::{Content, Discarded, PutBack, page_of};

/// The recipients of one message that are listed, at most.
const RECIPIENTS_MAX: u16 = 500;

/// A part of the list, from the newest to the oldest.
#[derive(Debug)]
pub struct DeadLetterList {
    /// The dead letters.
    pub letters: Vec<DeadLetter>,
    /// More follow below this place; none: these were the last.
    pub next: Option<DeadLetterCursor>,
}

/// A message, and the recipients for whom it failed.
#[derive(Debug)]
pub struct DeadLetterDetails {
    /// The text; none when it is encrypted.
    pub content: Option<String>,
    /// The sender's JSON, as text.
    pub metadata: Option<String>,
    /// The time at which its sender recalled it: nothing is left of what it said.
    pub recalled_at: Option<time::OffsetDateTime>,
    /// One for each recipient, at most 500.
    pub letters: Vec<DeadLetter>,
}

impl Service {
    /// Dead letters from the newest on, or below a place in the list, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn dead_letters(
        &self,
        admin: &ExternalId,
        filter: &DeadLetterFilter,
        below: Option<DeadLetterCursor>,
        limit: u16,
    ) -> Result<DeadLetterList, Refusal> {
        let letters = self.ask(admin, "listing dead letters", self.store.dead_letters(filter, below, limit + 1)).await?;
        let (letters, next) = page_of(letters, limit, DeadLetterCursor::of);
        info!(admin.id = %admin, items = letters.len(), action = "list", "dead letters");
        Ok(DeadLetterList { letters, next })
    }

    /// A message that failed: what it says, and for whom it failed.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn dead_letter(&self, admin: &ExternalId, message: MessageId) -> Result<DeadLetterDetails, Refusal> {
        let filter = DeadLetterFilter { message: Some(message), ..DeadLetterFilter::default() };
        let read = async {
            let letters = self.store.dead_letters(&filter, None, RECIPIENTS_MAX).await?;
            let content = if letters.is_empty() { None } else { self.store.message_content(message).await? };
            Ok(content.map(|content| (content, letters)))
        };
        let found = self.ask(admin, "reading a dead letter", read).await?;
        let (Content { text, metadata, recalled_at }, letters) = found.ok_or(Refusal::NotFound)?;
        info!(admin.id = %admin, message.id = %message, action = "show", "dead letters");
        Ok(DeadLetterDetails { content: text, metadata, recalled_at, letters })
    }

    /// Puts a message back for one recipient: it waits again, or the outcome says why not.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect; then nothing was done for this recipient.
    pub async fn requeue(&self, admin: &ExternalId, message: MessageId, user: &ExternalId) -> Result<PutBack, Refusal> {
        let operator = self.operator(admin);
        let done = self.ask(admin, "putting back a dead letter", self.store.put_back(message, user, Some(&operator))).await?;
        self.note(admin, "requeue", message, user, done.as_str());
        Ok(done)
    }

    /// Gives a message up for one recipient, for good.
    ///
    /// # Errors
    /// The same as those of [`Service::requeue`].
    pub async fn discard(&self, admin: &ExternalId, message: MessageId, user: &ExternalId, reason: &str) -> Result<Discarded, Refusal> {
        let operator = self.operator(admin);
        let done = self.ask(admin, "giving up a dead letter", self.store.discard(message, user, reason, Some(&operator))).await?;
        self.note(admin, "discard", message, user, done.as_str());
        Ok(done)
    }

    fn note(&self, admin: &ExternalId, action: &'static str, message: MessageId, user: &ExternalId, outcome: &'static str) {
        info!(admin.id = %admin, message.id = %message, user.id = %user, action, outcome, "dead letters");
        if matches!(outcome, "requeued" | "discarded") {
            self.metrics.dead_letters.of(outcome).inc();
        }
    }
}
