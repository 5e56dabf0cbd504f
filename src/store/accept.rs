//! Accepting: the one statement that stores messages and numbers them.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::sealing::SealedColumn;
use super::{Error, LockTimeout, Result, enums};
use crate::domain::{ChatId, ChatSeq, Class, InboxSeq, UserId};

/// Messages to accept, as columns. An id must not stand in a batch twice.
#[derive(Debug, Default)]
pub struct AcceptBatch {
    /// Message ids.
    pub ids: Vec<Uuid>,
    /// Chats.
    pub chats: Vec<Uuid>,
    /// Senders.
    pub senders: Vec<i64>,
    /// Message types.
    pub types: Vec<String>,
    /// Contents.
    pub contents: Vec<String>,
    /// Metadata as JSON text.
    pub metadata: Vec<Option<String>>,
    /// Expiry.
    pub expires: Vec<Option<OffsetDateTime>>,
    /// The verdicts that count in direct chats, beside blocks; none: everybody may write to everybody.
    pub verdicts: Option<Vec<Verdict>>,
    /// In place of contents and metadata, which are empty then (see [`Sealer`](super::Sealer)).
    pub sealed: SealedColumn,
}

/// The right of a message's sender to write to the other member, where its chat is a direct one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// That of contacts.
    Contacts,
    /// It may.
    Yes,
    /// It may not.
    No,
    /// That is not known yet.
    Unknown,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Contacts => "contacts",
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// The outcome of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptOutcome {
    /// Stored now.
    Accepted,
    /// The same sender's message of this id was there: its first result is returned.
    Duplicate,
    /// Another sender's message has this id.
    Conflict,
    /// The sender is not a member, or there is no such chat.
    NotAMember,
    /// Its id is old: its message may have been accepted and removed.
    Purged,
    /// One of the two members of the direct chat has blocked the other, or the verdict was no.
    NotAccepted,
    /// The verdict was not known, and is needed.
    Undecided,
    /// Its expiry has passed.
    TooLate,
    /// Somebody else holds the chat or a member's inbox (only when asked to skip those).
    Held,
}

/// The outcome of one item, with what was given to it.
#[derive(Debug)]
pub struct AcceptedRow {
    /// Its place in the batch, from 0.
    pub place: usize,
    /// Its outcome.
    pub outcome: AcceptOutcome,
    /// Its chat; for a duplicate that of the first result.
    pub chat: ChatId,
    /// Its number in the chat, when accepted or a duplicate.
    pub seq: ChatSeq,
    /// The time at which it was accepted; for a duplicate that of the first result.
    pub created_at: OffsetDateTime,
    /// The inbox its recipients have it in.
    pub class: Class,
    /// Its recipients and its numbers in their inboxes, when accepted now.
    pub recipients: Vec<(UserId, InboxSeq)>,
}

/// Accepts a batch in one transaction: all of it is stored, or on an error nothing. With `skip_held` items whose
/// locks somebody else has come back as [`AcceptOutcome::Held`] instead of being waited for.
///
/// # Errors
/// [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a lock. [`Error::Taken`]: a unique value exists
/// already. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
pub async fn accept(
    connection: &mut PgConnection,
    batch: &AcceptBatch,
    skip_held: bool,
    lock_timeout: LockTimeout,
) -> Result<Vec<AcceptedRow>> {
    let verdicts = batch.verdicts.as_ref().map(|verdicts| verdicts.iter().map(|verdict| verdict.as_str().to_owned()).collect::<Vec<_>>());
    let answer = sqlx::query_file!(
        "src/store/sql/accept.sql",
        &batch.ids,
        &batch.chats,
        &batch.senders,
        &batch.types,
        &batch.contents,
        &batch.metadata as &[Option<String>],
        &batch.expires as &[Option<OffsetDateTime>],
        skip_held,
        lock_timeout.value(),
        verdicts.as_deref(),
        &batch.sealed.values,
        batch.sealed.key_id()
    )
    .fetch_one(connection)
    .await?;
    let first_results = answer.first_chats.unwrap_or_default().into_iter().zip(answer.first_times.unwrap_or_default());
    let numbers = answer.seqs.unwrap_or_default().into_iter().zip(answer.classes.unwrap_or_default());
    let items = answer.outcomes.unwrap_or_default().into_iter().zip(numbers).zip(first_results).zip(&batch.chats).enumerate();
    let mut rows = items
        .map(|(place, (((word, (seq, class)), (first_chat, first_time)), chat))| {
            let outcome = outcome(&word)?;
            let created_at = if outcome == AcceptOutcome::Accepted { Some(answer.accepted_at) } else { first_time };
            Ok(AcceptedRow {
                place,
                outcome,
                chat: ChatId(first_chat.unwrap_or(*chat)),
                seq: ChatSeq(seq.unwrap_or_default()),
                created_at: created_at.unwrap_or(OffsetDateTime::UNIX_EPOCH),
                class: class.into(),
                recipients: Vec::new(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let recipients = answer.recipients.unwrap_or_default().into_iter().zip(answer.inbox_seqs.unwrap_or_default());
    for (ord, (user, seq)) in answer.places.unwrap_or_default().into_iter().zip(recipients) {
        let row = usize::try_from(ord - 1).ok().and_then(|place| rows.get_mut(place));
        let row = row.ok_or_else(|| defect(format!("restante_accept returned the place {ord}")))?;
        row.recipients.push((UserId(user), InboxSeq(seq)));
    }
    Ok(rows)
}

fn defect(what: String) -> Error {
    Error::Failed(sqlx::Error::Decode(what.into()))
}

fn outcome(word: &str) -> Result<AcceptOutcome> {
    match word {
        "accepted" => Ok(AcceptOutcome::Accepted),
        "duplicate" => Ok(AcceptOutcome::Duplicate),
        "conflict" => Ok(AcceptOutcome::Conflict),
        "not_a_member" => Ok(AcceptOutcome::NotAMember),
        "purged" => Ok(AcceptOutcome::Purged),
        "not_accepted" => Ok(AcceptOutcome::NotAccepted),
        "undecided" => Ok(AcceptOutcome::Undecided),
        "too_late" => Ok(AcceptOutcome::TooLate),
        "held" => Ok(AcceptOutcome::Held),
        other => Err(defect(format!("restante_accept returned the outcome {other:?}"))),
    }
}

/// The recipients that still wait for these messages.
///
/// # Errors
/// [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a lock. [`Error::Failed`]: a defect.
pub async fn recipients_waiting(connection: &mut PgConnection, messages: &[Uuid]) -> Result<Vec<(UserId, Class)>> {
    let rows = sqlx::query_file!("src/store/sql/recipients_waiting.sql", messages).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (UserId(row.user_id), row.class.into())).collect())
}

/// Returns when these messages are wherever commits have to be. PostgreSQL shows a commit that a standby does not have yet if
/// the wait for it was ended early, and a reader does not wait for it either. So a message that was only found must not be confirmed yet.
///
/// # Errors
/// [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a lock. [`Error::Failed`]: a defect.
pub async fn wait_for_replication(connection: &mut PgConnection, messages: &[Uuid]) -> Result<()> {
    sqlx::query_file!("src/store/sql/wait_for_replication.sql", messages).execute(connection).await?;
    Ok(())
}

/// The clock that `created_at` is taken from.
///
/// # Errors
/// [`Error::Unavailable`]: the database is away. [`Error::Failed`]: a defect.
pub async fn database_clock(connection: &mut PgConnection) -> Result<OffsetDateTime> {
    Ok(sqlx::query_file_scalar!("src/store/sql/database_clock.sql").fetch_one(connection).await?)
}
