//! The kinds of chats, and the roles of members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of a chat. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChatKind {
    /// Two users, or one with itself. Nobody joins or leaves.
    Direct,
    /// Members come and go.
    Group,
    /// Events to followers.
    Feed,
}

/// The role of a member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Send, read, leave.
    Member,
    /// Add and remove members too.
    Admin,
}
