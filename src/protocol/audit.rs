//! An act of an operator as operators get it: over HTTP, and from the command that asks the database itself.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Timestamp;
use crate::domain::{AuditEntry, NodeId};

/// An act of an operator.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntryData {
    /// Its number.
    id: i64,
    at: Timestamp,
    /// The operator: the `sub` of its token, or the role that was logged in to the database.
    actor: String,
    /// The act.
    action: String,
    /// Ids of what was acted upon, by name.
    #[schemars(extend("additionalProperties" = {"type": ["string", "number"]}))]
    target: Map<String, Value>,
    /// The outcome that the operator was told.
    outcome: String,
    /// The node that was asked. Missing: it was done by a command, or by hand in SQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<NodeId>,
    /// The role of the database that wrote it.
    role: String,
    /// The address from which that role was connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

impl From<AuditEntry> for AuditEntryData {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { id, at, actor, action, target, outcome, node, role, address } = entry;
        Self { id, at: Timestamp(at), actor, action, target, outcome, node_id: node, role, address }
    }
}
