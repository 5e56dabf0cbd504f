//! What a chat is, and what its members may do.

use serde::{Deserialize, Serialize};

/// What a chat is. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "chat_kind", rename_all = "lowercase")]
pub enum ChatKind {
    /// Two users, or one with itself. Nobody joins or leaves.
    Direct,
    /// Members come and go.
    Group,
    /// Events to followers.
    Feed,
}

/// What a member of a group may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "member_role", rename_all = "lowercase")]
pub enum Role {
    /// Send, read, leave.
    Member,
    /// Add and remove members too.
    Admin,
}
