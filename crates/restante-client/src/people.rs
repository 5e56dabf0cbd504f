//! The calls about users that others block or want as contacts, and about tokens that an operator revokes.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Http, HttpError};

/// The tokens to revoke.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// All of this user, or those of one of its devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Those in the hands of this device of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The one with this id (`jti`), without a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    revoked_at: String,
}

impl Http {
    /// The caller blocks a user, or blocks it no more; may be repeated.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn set_block(&self, token: &str, user: &str, blocks: bool) -> Result<(), HttpError> {
        let method = if blocks { Method::POST } else { Method::DELETE };
        let body = json!({"userId": user});
        self.call_with_query::<Value, _>(token, method, "v1/blocks", &json!({}), Some(&body)).await.map(drop)
    }

    /// The caller wants a user as a contact, or is none of it any more; may be repeated.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn set_contact(&self, token: &str, user: &str, wants: bool) -> Result<(), HttpError> {
        let method = if wants { Method::POST } else { Method::DELETE };
        let body = json!({"userId": user});
        self.call_with_query::<Value, _>(token, method, "v1/contacts", &json!({}), Some(&body)).await.map(drop)
    }

    /// Revokes tokens; may be repeated. Takes a token with the scope `admin`. Returns the time of the revocation (RFC 3339).
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn revoke_tokens(&self, token: &str, revocation: &Revocation) -> Result<String, HttpError> {
        let path = "v1/admin/revocations";
        let done: Done = self.call_with_query(token, Method::POST, path, &json!({}), Some(revocation)).await?;
        Ok(done.revoked_at)
    }
}
