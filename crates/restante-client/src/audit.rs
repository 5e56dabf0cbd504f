//! The call of an operator about what operators have done. It takes a token with the scope `admin`.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Http, HttpError};
use restante_session::domain::NodeId;

/// A page of the audit. A field that is `None` leaves the choice to the service.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AuditQuery {
    /// The page token: `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
}

/// An act of an operator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Its number.
    pub id: i64,
    /// When it was done (RFC 3339).
    pub at: String,
    /// The operator: the `sub` of its token, or a role of the database.
    pub actor: String,
    /// The act, such as `dead_letter.requeue`.
    pub action: String,
    /// Ids by name.
    pub target: Map<String, Value>,
    /// The word that the operator was answered.
    pub outcome: String,
    /// The node that was asked; none: it was done by a command, or in SQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// The role of the database that wrote it.
    pub role: String,
    /// The address from which that role was connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// A page of acts, newest first.
#[derive(Debug, Clone, Deserialize)]
pub struct AuditPage {
    /// Them.
    pub entries: Vec<AuditEntry>,
    /// The page token of the next page; `None`: this page is the last.
    pub next: Option<String>,
}

impl Http {
    /// A page of the audit.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn audit(&self, token: &str, query: &AuditQuery) -> Result<AuditPage, HttpError> {
        self.call_with_query::<_, Value>(token, Method::GET, "v1/admin/audit", query, None).await
    }
}
