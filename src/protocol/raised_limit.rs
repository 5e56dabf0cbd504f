//! A raised limit as operators get it: over HTTP, and from the command that asks the database itself.

use schemars::JsonSchema;
use serde::Serialize;

use super::Timestamp;
use crate::domain::{ExternalId, RaisedLimit};

/// A user whose limits are raised.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RaisedLimitData {
    user_id: ExternalId,
    /// All rates of the user are multiplied by it.
    factor: u32,
    /// The time at which it was set.
    set_at: Timestamp,
}

impl From<RaisedLimit> for RaisedLimitData {
    fn from(raised: RaisedLimit) -> Self {
        Self { user_id: raised.external, factor: raised.factor, set_at: raised.set_at.into() }
    }
}
