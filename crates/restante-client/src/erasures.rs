//! The calls of an operator about users that are erased. They take a token with the scope `admin`.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Http, HttpError};
use restante_session::domain::ExternalId;

/// An erasure of a user, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erasure {
    /// The user.
    pub user_id: ExternalId,
    /// `keep`: what it has said stays. `empty`: it goes.
    pub content: String,
    /// When it was asked for, the last time (RFC 3339).
    pub asked_at: String,
    /// Messages and events that were emptied so far.
    pub emptied: u64,
    /// When all was done. None: it is under way.
    pub done_at: Option<String>,
}

impl Http {
    /// Erases a user: its profile and its tokens now, the rest within minutes. `content` is `keep` or `empty`.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn erase_user(&self, token: &str, user: &ExternalId, content: &str) -> Result<Erasure, HttpError> {
        let body = json!({"userId": user, "content": content});
        self.call_with_query::<_, Value>(token, Method::POST, "v1/admin/erasures", &json!({}), Some(&body)).await
    }

    /// The last erasure of a user. It is refused (404) where there was none.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn erasure(&self, token: &str, user: &ExternalId) -> Result<Erasure, HttpError> {
        self.call_with_query::<_, Value>(token, Method::GET, "v1/admin/erasures", &json!({"userId": user}), None).await
    }
}
