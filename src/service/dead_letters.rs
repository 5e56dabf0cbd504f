//! Dead letters, for operators: a list, a look at one, putting back, giving up. Each act leaves a line in the log. Nodes and
//! senders learn of a change from the database, whoever made it.

use tracing::info;

use super::{DeadLetterCursor, DeadLetterFilter, Refusal, Service};
use crate::domain::{DeadLetter, ExternalId, InboxSeq, MessageId};
use crate::store::{self, Content, Error, PutBack};

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
    /// One for each recipient, at most 500.
    pub letters: Vec<DeadLetter>,
}

/// The outcome of putting one back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeued {
    /// It waits again, under this number.
    Requeued(InboxSeq),
    /// The user is no recipient of such a message.
    NoRecipient,
    /// The user has left the chat since.
    Left,
    /// The message's time has come.
    Expired,
    /// It has not failed, or waits again already.
    NotFailed,
    /// Somebody holds a lock that it needs: repeat.
    Busy,
}

/// The outcome of giving one up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// It is given up.
    Discarded,
    /// It has not failed, or is given up already.
    NotFailed,
    /// Somebody holds a lock that it needs: repeat.
    Busy,
}

impl Requeued {
    /// The stable word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requeued(_) => "requeued",
            Self::NoRecipient => "no_recipient",
            Self::Left => "left",
            Self::Expired => "expired",
            Self::NotFailed => "not_failed",
            Self::Busy => "busy",
        }
    }

    /// The number under which it waits again.
    pub const fn inbox_seq(self) -> Option<InboxSeq> {
        match self {
            Self::Requeued(seq) => Some(seq),
            Self::NoRecipient | Self::Left | Self::Expired | Self::NotFailed | Self::Busy => None,
        }
    }
}

impl Discarded {
    /// The stable word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discarded => "discarded",
            Self::NotFailed => "not_failed",
            Self::Busy => "busy",
        }
    }
}

impl From<PutBack> for Requeued {
    fn from(done: PutBack) -> Self {
        match done {
            PutBack::Requeued(seq) => Self::Requeued(seq),
            PutBack::NoRecipient => Self::NoRecipient,
            PutBack::Left => Self::Left,
            PutBack::Expired => Self::Expired,
            PutBack::NotFailed => Self::NotFailed,
        }
    }
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
        // One more than wanted tells whether there are more.
        let mut letters = self.ask(admin, "listing dead letters", self.store.dead_letters(filter, below, limit + 1)).await?;
        let has_more = letters.len() > usize::from(limit);
        letters.truncate(usize::from(limit));
        let next = letters.last().filter(|_| has_more).map(DeadLetterCursor::of);
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
        let (Content { text, metadata }, letters) = found.ok_or(Refusal::NotFound)?;
        info!(admin.id = %admin, message.id = %message, action = "show", "dead letters");
        Ok(DeadLetterDetails { content: text, metadata, letters })
    }

    /// Puts a message back for one recipient: it waits again, or the outcome says why not.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect; then nothing was done for this recipient.
    pub async fn requeue(&self, admin: &ExternalId, message: MessageId, user: &ExternalId) -> Result<Requeued, Refusal> {
        let done = async { unless_held(self.store.put_back(message, user).await) };
        let done = self.ask(admin, "putting back a dead letter", done).await?.map_or(Requeued::Busy, Requeued::from);
        self.note(admin, "requeue", message, user, done.as_str());
        Ok(done)
    }

    /// Gives a message up for one recipient, for good.
    ///
    /// # Errors
    /// The same as those of [`Service::requeue`].
    pub async fn discard(&self, admin: &ExternalId, message: MessageId, user: &ExternalId, reason: &str) -> Result<Discarded, Refusal> {
        let done = async { unless_held(self.store.discard(message, user, reason).await) };
        let done = match self.ask(admin, "giving up a dead letter", done).await? {
            Some(true) => Discarded::Discarded,
            Some(false) => Discarded::NotFailed,
            None => Discarded::Busy,
        };
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

/// Somebody else's lock concerns one item (none); anything else ends the request, and what was done before it stays done.
fn unless_held<T>(done: store::Result<T>) -> store::Result<Option<T>> {
    match done {
        Err(Error::Held(_)) => Ok(None),
        done => done.map(Some),
    }
}
