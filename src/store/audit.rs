//! Acts of operators: the statement that notes one beside an act that is more than a statement, and the one that lists them. An act that is one
//! statement notes itself.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Result, Store};
use crate::domain::{AuditEntry, NodeId, Operator};

/// An act to be noted.
#[derive(Debug, Clone)]
pub struct Act<'a> {
    /// A word for it, of at most 64 characters.
    pub action: &'a str,
    /// Ids by name, at most 2 KiB as JSON. No content, no token.
    pub target: Map<String, Value>,
    /// The word that the operator is answered, of at most 64 characters.
    pub outcome: &'a str,
}

impl Store {
    /// Notes an act. Without an operator it is an act of the connection's role. Not to be called twice: each call is a row.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Invalid`](super::Error::Invalid): a word or the target is too long. [`Failed`](super::Error::Failed): a defect.
    pub async fn audit(&self, operator: Option<&Operator>, act: Act<'_>) -> Result<()> {
        let Act { action, target, outcome } = act;
        let (actor, node) = columns(operator);
        let target = Value::Object(target).to_string();
        sqlx::query_file!("src/store/sql/note_act.sql", action, target, outcome, actor, node).fetch_one(self.database()).await?;
        Ok(())
    }

    /// A page of acts from the newest on, or of those whose numbers are below `below`.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn audit_entries(&self, below: Option<i64>, rows_max: u16) -> Result<Vec<AuditEntry>> {
        let (below, rows_max) = (below.unwrap_or(i64::MAX), i64::from(rows_max));
        let rows = sqlx::query_file!("src/store/sql/audit_entries.sql", below, rows_max).fetch_all(self.database()).await?;
        let entries = rows.into_iter().map(|row| AuditEntry {
            id: row.id,
            at: row.at,
            actor: row.actor,
            action: row.action,
            target: serde_json::from_str(&row.target).unwrap_or_default(),
            outcome: row.outcome,
            node: row.node_id.map(NodeId),
            role: row.role_name,
            address: row.address,
        });
        Ok(entries.collect())
    }
}

/// The columns that name an operator. Nulls: the connection's role.
pub(super) fn columns(operator: Option<&Operator>) -> (Option<&str>, Option<Uuid>) {
    (operator.map(|operator| operator.name.as_str()), operator.map(|operator| operator.node.0))
}
