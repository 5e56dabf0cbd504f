//! The status of a message, for one recipient.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of one row of the queue. `Sent < Delivered < Read`; `Failed` and `Expired` end it otherwise.
///
/// The order of the variants is that of the database's enum; statuses only ever move forward in it, and
/// [`Status::may_become`] is the rule that the schema enforces too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Stored, waits for the recipient's ack.
    Sent,
    /// The recipient acked it.
    Delivered,
    /// The recipient read it.
    Read,
    /// Gave up: attempts used up, rejected for good, or discarded by an operator.
    Failed,
    /// It was too late, or the recipient left the chat.
    Expired,
}

impl Status {
    /// True if a row may go from this status to `next`. An operator's requeue is no status change: it makes a new number.
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Sent, Self::Delivered | Self::Read | Self::Failed | Self::Expired) | (Self::Delivered, Self::Read) => true,
            (Self::Sent, Self::Sent)
            | (Self::Delivered, Self::Sent | Self::Delivered | Self::Failed | Self::Expired)
            | (Self::Read | Self::Failed | Self::Expired, _) => false,
        }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// True if a row in this status still waits for its recipient.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Sent)
    }
}
