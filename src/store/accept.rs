//! Accepting: the one statement that stores messages and numbers them.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Error, Result};
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
}

/// What became of one item.
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
    /// What became of it.
    pub outcome: AcceptOutcome,
    /// Its chat; for a duplicate that of the first result.
    pub chat: ChatId,
    /// Its number in the chat, when accepted or a duplicate.
    pub seq: ChatSeq,
    /// When it was accepted (the first time).
    pub created_at: OffsetDateTime,
    /// The inbox its recipients have it in.
    pub class: Class,
    /// Its recipients and its numbers in their inboxes, when accepted now.
    pub recipients: Vec<(UserId, InboxSeq)>,
}

/// Accepts a batch in one transaction: all of it is stored, or on an error nothing. With `skip_held` items whose
/// locks somebody else has come back as [`AcceptOutcome::Held`] instead of being waited for.
pub async fn accept(connection: &mut PgConnection, batch: &AcceptBatch, skip_held: bool) -> Result<Vec<AcceptedRow>> {
    let rows = sqlx::query_file!(
        "src/store/sql/accept.sql",
        &batch.ids,
        &batch.chats,
        &batch.senders,
        &batch.types,
        &batch.contents,
        &batch.metadata as &[Option<String>],
        &batch.expires as &[Option<OffsetDateTime>],
        skip_held
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let recipients = row.recipients.unwrap_or_default().into_iter().zip(row.inbox_seqs.unwrap_or_default());
            Ok(AcceptedRow {
                place: usize::try_from(row.ord - 1).map_err(|error| Error::Failed(sqlx::Error::Decode(error.into())))?,
                outcome: outcome(&row.outcome)?,
                chat: ChatId(row.chat_id),
                seq: ChatSeq(row.seq.unwrap_or_default()),
                created_at: row.created_at.unwrap_or(OffsetDateTime::UNIX_EPOCH),
                class: row.class,
                recipients: recipients.map(|(user, seq)| (UserId(user), InboxSeq(seq))).collect(),
            })
        })
        .collect()
}

fn outcome(word: &str) -> Result<AcceptOutcome> {
    match word {
        "accepted" => Ok(AcceptOutcome::Accepted),
        "duplicate" => Ok(AcceptOutcome::Duplicate),
        "conflict" => Ok(AcceptOutcome::Conflict),
        "not_a_member" => Ok(AcceptOutcome::NotAMember),
        "too_late" => Ok(AcceptOutcome::TooLate),
        "held" => Ok(AcceptOutcome::Held),
        other => Err(Error::Failed(sqlx::Error::Decode(format!("restante_accept returned the outcome {other:?}").into()))),
    }
}

/// Who still waits for these messages.
pub async fn recipients_waiting(connection: &mut PgConnection, messages: &[Uuid]) -> Result<Vec<(UserId, Class)>> {
    let rows = sqlx::query_file!("src/store/sql/recipients_waiting.sql", messages).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (UserId(row.user_id), row.class)).collect())
}

/// The clock that `created_at` is taken from.
pub async fn database_clock(connection: &mut PgConnection) -> Result<OffsetDateTime> {
    Ok(sqlx::query_file_scalar!("src/store/sql/database_clock.sql").fetch_one(connection).await?)
}
