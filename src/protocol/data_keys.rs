//! Data keys as operators get them: over HTTP, and from the command that asks the database itself. Nothing here could open anything.

use schemars::JsonSchema;
use serde::Serialize;

use super::Timestamp;

/// The data keys of the database, and how far their sweeps are.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataKeysData {
    /// Nodes encrypt what they store.
    pub is_on: bool,
    /// Sweeps of all messages that were asked for so far.
    pub sweeps_wanted: i64,
    /// The number of the last one that is done.
    pub sweeps_done: i64,
    /// The keys, newest first.
    pub keys: Vec<DataKeyData>,
}

/// A data key.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataKeyData {
    /// The id that rows name.
    pub key_id: String,
    /// The id of the master key that it is wrapped with.
    pub master_key_id: String,
    /// The time at which it was made.
    pub made_at: Timestamp,
    /// A rotation replaces it in every row.
    pub is_replaced: bool,
}

/// The answer to a rotation.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationData {
    /// The number of the sweep that brings every message under the new key. Null: encryption is off, and nothing was asked for.
    pub sweep: Option<i64>,
}
