//! Acts of operators: what was done, by whom, and what came of it.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{ExternalId, NodeId};

/// The operator of an act that is asked for through a node. A command that works on the database has none: there the role counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The `sub` of its token.
    pub name: ExternalId,
    /// The node that it asked.
    pub node: NodeId,
}

/// An act that was noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number. Later acts have higher ones, save those that were committed at the same moment.
    pub id: i64,
    /// The time, by the database's clock.
    pub at: OffsetDateTime,
    /// The operator: the `sub` of a token, or a role of the database.
    pub actor: String,
    /// The act, such as `dead_letter.requeue`.
    pub action: String,
    /// Ids by name.
    pub target: Map<String, Value>,
    /// The word that the operator was answered.
    pub outcome: String,
    /// The node that was asked. None: it was done in SQL, or by a command.
    pub node: Option<NodeId>,
    /// The role of the database that wrote it.
    pub role: String,
    /// The address from which that role was connected. None: over a socket of the machine itself.
    pub address: Option<String>,
}
