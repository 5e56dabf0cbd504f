//! The calls of an operator about limits of single users. They take a token with the scope `admin`, or to list `admin:read`.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Http, HttpError};

/// A page of users whose limits are raised. A field that is `None` leaves the choice to the service.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RaisedLimitQuery {
    /// The page token: `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
}

/// A user whose limits are raised.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RaisedLimit {
    /// The user.
    pub user_id: String,
    /// All of its rates are multiplied by it.
    pub factor: u32,
    /// When it was set (RFC 3339).
    pub set_at: String,
}

/// A page of them.
#[derive(Debug, Clone, Deserialize)]
pub struct RaisedLimitPage {
    /// Them.
    pub limits: Vec<RaisedLimit>,
    /// The page token of the next page; `None`: this page is the last.
    pub next: Option<String>,
}

impl Http {
    /// A page of users whose limits are raised.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn raised_limits(&self, token: &str, query: &RaisedLimitQuery) -> Result<RaisedLimitPage, HttpError> {
        self.call_with_query::<_, Value>(token, Method::GET, "v1/admin/limits", query, None).await
    }

    /// Multiplies all rates of a user by a factor, 1 to 1,000.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn set_limit(&self, token: &str, user: &str, factor: u16) -> Result<(), HttpError> {
        let body = json!({"userId": user, "factor": factor});
        self.call_with_query::<_, Value>(token, Method::POST, "v1/admin/limits", &json!({}), Some(&body)).await.map(|_: Value| ())
    }
}
