//! The calls about users that others block or want as contacts.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Http, HttpError};

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
}
