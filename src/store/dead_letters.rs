//! Dead letters: messages that failed for a recipient and wait for an operator. The operator puts them back or gives them up.

use std::fmt;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Error, Result, Store, audit};
use crate::domain::{ChatId, ChatSeq, DeadLetter, ExternalId, InboxSeq, MessageId, Operator, UserId};

/// A filter of dead letters. A field that is none filters nothing.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Only those of this sender.
    pub sender: Option<ExternalId>,
    /// Only those for this recipient.
    pub recipient: Option<ExternalId>,
    /// Only those of this message.
    pub message: Option<MessageId>,
    /// Only those that failed at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Only those whose reason begins with this text.
    pub reason: Option<String>,
}

/// A place in the list, which goes from the newest to the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterCursor {
    /// The time at which it failed.
    pub at: OffsetDateTime,
    /// The message, among those of the same moment.
    pub message: MessageId,
    /// The recipient, among those of the message.
    pub user: UserId,
}

/// The text form: microseconds since 1970, message id and user number, with a dot between them. Clients pass it back unread.
impl fmt::Display for DeadLetterCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.at.unix_timestamp_nanos() / 1_000, self.message, self.user.0)
    }
}

impl DeadLetterCursor {
    /// The place of this one.
    pub const fn of(letter: &DeadLetter) -> Self {
        Self { at: letter.failed_at, message: letter.message, user: letter.user }
    }

    /// Reads the text form; none: the text is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (micros, message, user) = (parts.next()?, parts.next()?, parts.next()?);
        let at = OffsetDateTime::from_unix_timestamp_nanos(micros.parse::<i128>().ok()?.checked_mul(1_000)?).ok()?;
        let message = MessageId(Uuid::try_parse(message).ok()?);
        parts.next().is_none().then_some(Self { at, message, user: UserId(user.parse().ok()?) })
    }
}

/// The content of a message.
#[derive(Debug, Clone)]
pub struct Content {
    /// The text; none when it is encrypted.
    pub text: Option<String>,
    /// The sender's JSON text; none: the message has none.
    pub metadata: Option<String>,
    /// The time at which its sender recalled it: text and metadata are gone since.
    pub recalled_at: Option<OffsetDateTime>,
}

/// The outcome of a requeue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBack {
    /// It waits again, under this number.
    Requeued(InboxSeq),
    /// The user is no recipient of such a message.
    NoRecipient,
    /// The user has left the chat since.
    Left,
    /// The user has blocked the sender since.
    Blocked,
    /// The message's time has come.
    Expired,
    /// Its sender has recalled the message.
    Recalled,
    /// It has not failed, or waits again already.
    NotFailed,
    /// Another transaction holds a lock that it needs: repeat.
    Busy,
}

impl PutBack {
    /// The stable word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requeued(_) => "requeued",
            Self::NoRecipient => "no_recipient",
            Self::Left => "left",
            Self::Blocked => "blocked",
            Self::Expired => "expired",
            Self::Recalled => "recalled",
            Self::NotFailed => "not_failed",
            Self::Busy => "busy",
        }
    }

    /// The number under which it waits again.
    pub const fn inbox_seq(self) -> Option<InboxSeq> {
        match self {
            Self::Requeued(seq) => Some(seq),
            Self::NoRecipient | Self::Left | Self::Blocked | Self::Expired | Self::Recalled | Self::NotFailed | Self::Busy => None,
        }
    }
}

/// The outcome of giving a message up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// It is given up.
    Discarded,
    /// It has not failed, or is given up already.
    NotFailed,
    /// Another transaction holds a lock that it needs: repeat.
    Busy,
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

impl Store {
    /// A page of dead letters from the newest on, or below a place in the list.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Invalid`](super::Error::Invalid): PostgreSQL refuses a value.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn dead_letters(&self, filter: &DeadLetterFilter, below: Option<DeadLetterCursor>, rows_max: u16) -> Result<Vec<DeadLetter>> {
        let below = below.unwrap_or(DeadLetterCursor { at: LATEST, message: MessageId(Uuid::max()), user: UserId(i64::MAX) });
        let rows = sqlx::query_file!(
            "src/store/sql/dead_letters.sql",
            filter.sender.as_ref().map(ExternalId::as_str),
            filter.recipient.as_ref().map(ExternalId::as_str),
            filter.message.map(|message| message.0),
            filter.since.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            filter.reason.as_deref(),
            below.at,
            below.message.0,
            below.user.0,
            i32::from(rows_max)
        )
        .fetch_all(self.database())
        .await?;
        let letters = rows.into_iter().filter_map(|row| {
            Some(DeadLetter {
                message: MessageId(row.message_id),
                user: UserId(row.user_id),
                recipient: ExternalId::try_from(row.recipient).ok()?,
                sender: ExternalId::try_from(row.sender).ok()?,
                chat: ChatId(row.chat_id),
                chat_seq: ChatSeq(row.chat_seq),
                message_type: row.message_type,
                reason: row.reason,
                last_error: row.last_error,
                attempts: u16::try_from(row.attempts).unwrap_or(0),
                accepted_at: row.accepted_at,
                failed_at: row.failed_at,
            })
        });
        Ok(letters.collect())
    }

    /// The content of a message; none when there is no such message.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn message_content(&self, message: MessageId) -> Result<Option<Content>> {
        let row = sqlx::query_file!("src/store/sql/message_content.sql", message.0).fetch_optional(self.database()).await?;
        Ok(row.map(|row| Content {
            text: row.content.filter(|_| row.key_id.is_none()),
            metadata: row.metadata,
            recalled_at: row.recalled_at,
        }))
    }

    /// Puts a failed message back for one recipient, and notes it in the audit. Nodes and the sender are told with the commit. Repeated, it
    /// is `NotFailed`. Without an operator it is an act of the connection's role.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn put_back(&self, message: MessageId, recipient: &ExternalId, operator: Option<&Operator>) -> Result<PutBack> {
        let (actor, node) = audit::columns(operator);
        let row = sqlx::query_file!("src/store/sql/put_back.sql", message.0, recipient.as_str(), actor, node).fetch_one(self.database());
        let Some(row) = unless_held(row.await)? else { return Ok(PutBack::Busy) };
        Ok(match (row.outcome.as_str(), row.inbox_seq) {
            ("requeued", Some(seq)) => PutBack::Requeued(InboxSeq(seq)),
            ("left", _) => PutBack::Left,
            ("blocked", _) => PutBack::Blocked,
            ("expired", _) => PutBack::Expired,
            ("recalled", _) => PutBack::Recalled,
            ("no_recipient", _) => PutBack::NoRecipient,
            _ => PutBack::NotFailed,
        })
    }

    /// Gives up a message that waits or has failed for one recipient, with this reason, and notes it in the audit. Without an operator it is
    /// an act of the connection's role.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Invalid`](super::Error::Invalid): PostgreSQL refuses a value. [`Failed`](super::Error::Failed): a defect.
    pub async fn discard(
        &self,
        message: MessageId,
        recipient: &ExternalId,
        reason: &str,
        operator: Option<&Operator>,
    ) -> Result<Discarded> {
        let (actor, node) = audit::columns(operator);
        let asked = sqlx::query_file!("src/store/sql/discard.sql", message.0, recipient.as_str(), reason, actor, node);
        let row = asked.fetch_one(self.database());
        Ok(match unless_held(row.await)? {
            Some(row) if row.was_discarded => Discarded::Discarded,
            Some(_) => Discarded::NotFailed,
            None => Discarded::Busy,
        })
    }
}

/// Another transaction's lock concerns one message only, so it is an outcome (none) and no error.
fn unless_held<T>(done: sqlx::Result<T>) -> Result<Option<T>> {
    match done.map_err(Error::from) {
        Err(Error::Held(_)) => Ok(None),
        done => done.map(Some),
    }
}

/// After everything that has failed.
const LATEST: OffsetDateTime = time::macros::datetime!(9999-12-31 0:00 UTC);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_793_534_400_123_456_000).unwrap();
        let place = DeadLetterCursor { at, message: MessageId::generate(), user: UserId(7) };
        assert_eq!(DeadLetterCursor::parse(&place.to_string()), Some(place));
        let id = Uuid::nil();
        for bad in ["", "1", "x.y.z", &format!("1.{id}"), &format!("1.{id}.2.3"), &format!("{}.{id}.1", i128::MAX)] {
            assert_eq!(DeadLetterCursor::parse(bad), None, "{bad}");
        }
    }
}
