//! Preferences: what a user has muted. Events of muted types make no rows where rows are made, in the schema.

use uuid::Uuid;

use super::{Error, Result, Store};
use crate::domain::{ChatId, Preferences, UserId};

/// A change of preferences. What is none stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreferencesChange {
    /// The types of events that are muted from now on, at most [`MUTED_TYPES_MAX`](crate::domain::limits::MUTED_TYPES_MAX).
    pub muted_types: Option<Vec<String>>,
    /// The chats that are muted from now on, at most [`MUTED_CHATS_MAX`](crate::domain::limits::MUTED_CHATS_MAX).
    pub muted_chats: Option<Vec<ChatId>>,
}

/// The outcome of a change of preferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreferencesOutcome {
    /// It is stored.
    Done,
    /// The user never was a member of one of the chats, or there is no such chat. Nothing has changed.
    NotFound,
    /// A type is empty or too long, or something is listed too often. Nothing has changed.
    Invalid,
}

impl Store {
    /// The things that a user has muted, each list in ascending order.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn preferences(&self, user: UserId) -> Result<Preferences> {
        let row = sqlx::query_file!("src/store/sql/preferences.sql", user.0).fetch_optional(self.database()).await?;
        Ok(row.map_or_else(Preferences::default, |row| Preferences {
            muted_types: row.muted_types,
            muted_chats: row.muted_chats.into_iter().map(ChatId).collect(),
        }))
    }

    /// Sets what a user has muted.
    ///
    /// # Errors
    /// As [`Self::preferences`], and [`Error::Invalid`]: PostgreSQL refuses a value.
    pub async fn put_preferences(&self, user: UserId, change: &PreferencesChange) -> Result<PreferencesOutcome> {
        let chats: Option<Vec<Uuid>> = change.muted_chats.as_ref().map(|chats| chats.iter().map(|chat| chat.0).collect());
        let (types, chats) = (change.muted_types.as_deref(), chats.as_deref());
        let outcome =
            sqlx::query_file_scalar!("src/store/sql/put_preferences.sql", user.0, types, chats).fetch_one(self.database()).await?;
        match outcome.as_str() {
            "done" => Ok(PreferencesOutcome::Done),
            "not_found" => Ok(PreferencesOutcome::NotFound),
            "invalid" | "too_many" => Ok(PreferencesOutcome::Invalid),
            other => Err(Error::Failed(sqlx::Error::Decode(format!("a change of preferences returned {other:?}").into()))),
        }
    }
}
