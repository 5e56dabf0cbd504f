//! An erasure of a user as operators get it: over HTTP, and from the command that asks the database itself.

use schemars::JsonSchema;
use serde::Serialize;

use super::Timestamp;
use crate::domain::ExternalId;

/// The treatment of what the user has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ErasedContentWord {
    /// It stays.
    Keep,
    /// Its messages are recalled, its events emptied.
    Empty,
}

/// An erasure, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErasureData {
    /// The user.
    pub user_id: ExternalId,
    /// The treatment of what it has said.
    pub content: ErasedContentWord,
    /// The time at which it was asked for, the last time.
    pub asked_at: Timestamp,
    /// Messages and events that were emptied so far.
    pub emptied: u64,
    /// The time at which all was done. Null: it is under way.
    pub done_at: Option<Timestamp>,
}
