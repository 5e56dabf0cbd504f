//! The calls of an operator about revocations of tokens. They take a token with the scope `admin`.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Http, HttpError};

/// Tokens to be revoked: those of a user, of one device of a user, or the one of an id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewRevocation {
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The device of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The `jti` of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// The operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The time at which the tokens have expired (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// A revocation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The device of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The `jti` of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// The operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was revoked (RFC 3339).
    pub revoked_at: String,
    /// Until then it is kept (RFC 3339).
    pub expires_at: String,
    /// The operator: the `sub` of its token, or a role of the database.
    pub revoked_by: String,
}

/// A page of the revocations that count. A field that is `None` leaves the choice to the service.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RevocationQuery {
    /// The page token: `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
}

/// A page of revocations, newest first.
#[derive(Debug, Clone, Deserialize)]
pub struct RevocationPage {
    /// Them.
    pub revocations: Vec<Revocation>,
    /// The page token of the next page; `None`: this page is the last.
    pub next: Option<String>,
}

impl Http {
    /// Revokes tokens, on every node.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn revoke(&self, token: &str, revocation: &NewRevocation) -> Result<Revocation, HttpError> {
        self.call_with_query(token, Method::POST, "v1/admin/revocations", &json!({}), Some(revocation)).await
    }

    /// A page of the revocations that count.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn revocations(&self, token: &str, query: &RevocationQuery) -> Result<RevocationPage, HttpError> {
        self.call_with_query::<_, Value>(token, Method::GET, "v1/admin/revocations", query, None).await
    }
}
