//! Columns of the database as the judge's own values.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::Row;
use crate::history::{Class, Status};

/// A row of `message_status`: user, class, number, message, status, attempts, reason, and how many ended later.
pub(super) fn status_row(row: &PgRow) -> sqlx::Result<Row> {
    Ok(Row {
        user: row.try_get(0)?,
        class: class(row, 1)?,
        seq: Some(row.try_get(2)?),
        message: row.try_get(3)?,
        status: word::<Status>(row, 4)?,
        attempts: row.try_get(5)?,
        reason: row.try_get(6)?,
        ended_later: row.try_get(7)?,
    })
}

/// The class in this column.
pub(super) fn class(row: &PgRow, column: usize) -> sqlx::Result<Class> {
    word(row, column)
}

/// A word of an enum, as the database writes it.
fn word<T: serde::de::DeserializeOwned>(row: &PgRow, column: usize) -> sqlx::Result<T> {
    serde_json::from_value(row.try_get::<String, _>(column)?.into()).map_err(|error| sqlx::Error::Decode(error.into()))
}
