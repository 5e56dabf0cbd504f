//! The states of single rows: of those that a session holds, and of those against which no attempt was counted.

use sqlx::PgConnection;

use super::{Result, StatusRow, Store, enums};
use crate::domain::{Class, GapReason, InboxSeq, RowState, Status, UserId};

/// Where a row stands by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptState {
    /// The row that was asked for, under the number that it has now.
    pub row: StatusRow,
    /// Its status.
    pub status: Status,
    /// Attempts that have been counted against it.
    pub attempts: u16,
}

impl Store {
    /// The state of rows of one inbox, by their numbers.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn row_states(&self, user: UserId, class: Class, seqs: &[InboxSeq]) -> Result<Vec<(InboxSeq, RowState)>> {
        let numbers: Vec<i64> = seqs.iter().map(|seq| seq.0).collect();
        let rows = sqlx::query_file!("src/store/sql/row_states.sql", user.0, enums::Class::from(class) as enums::Class, &numbers)
            .fetch_all(self.database())
            .await?;
        let state = |status: Option<enums::Status>, ended: Option<&str>| {
            let status = status.map(Status::from);
            match (gap_reason(status, ended), status) {
                (Some(reason), _) => RowState::Ended(reason),
                (None, Some(status)) if !status.waits() => RowState::Settled(status),
                (None, _) => RowState::Waits,
            }
        };
        Ok(rows.into_iter().map(|row| (InboxSeq(row.seq), state(row.status, row.ended.as_deref()))).collect())
    }
}

/// The states of rows, looked for by their messages, since a row may have another number by now. A row that is gone has no entry;
/// the number of each is its place among `rows`.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Held`](super::Error::Held): another session holds a lock.
/// [`Failed`](super::Error::Failed): a defect.
pub async fn attempt_states(connection: &mut PgConnection, rows: &[StatusRow]) -> Result<Vec<(usize, AttemptState)>> {
    let users: Vec<i64> = rows.iter().map(|row| row.user.0).collect();
    let messages: Vec<uuid::Uuid> = rows.iter().map(|row| row.message.0).collect();
    let found = sqlx::query_file!("src/store/sql/attempt_states.sql", &users, &messages).fetch_all(connection).await?;
    let state = |row: &StatusRow, class: enums::Class, seq, status: enums::Status, attempts| AttemptState {
        row: StatusRow { class: class.into(), seq: InboxSeq(seq), ..*row },
        status: status.into(),
        attempts: u16::try_from(attempts).unwrap_or_default(),
    };
    Ok(found
        .into_iter()
        .filter_map(|found| {
            let place = usize::try_from(found.ord - 1).ok()?;
            Some((place, state(rows.get(place)?, found.class, found.seq, found.status, found.attempts)))
        })
        .collect())
}

/// The reason why what stands at a number is not emitted, from its status (none: there is no row) and the word for its end; none: it is
/// emitted.
pub(super) fn gap_reason(status: Option<Status>, ended: Option<&str>) -> Option<GapReason> {
    match (status, ended) {
        (Some(Status::Sent | Status::Delivered | Status::Read), None) => None,
        (Some(Status::Failed), _) | (_, Some("failed" | "discarded")) => Some(GapReason::Failed),
        (_, Some("left")) => Some(GapReason::Left),
        (_, Some("capped")) => Some(GapReason::Capped),
        (_, Some("muted")) => Some(GapReason::Muted),
        (_, Some("superseded")) => Some(GapReason::Superseded),
        (_, Some("blocked")) => Some(GapReason::Blocked),
        (_, Some("recalled")) => Some(GapReason::Recalled),
        (_, Some("requeued")) => Some(GapReason::Requeued),
        (_, Some("expired")) | (Some(_), Some(_)) | (Some(Status::Expired), None) => Some(GapReason::Expired),
        (None, _) => Some(GapReason::Purged),
    }
}
