//! The calls of an operator about data keys. They take a token with the scope `admin`.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Http, HttpError};

/// The data keys of the database, and how far their sweeps are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataKeys {
    /// Nodes encrypt what they store.
    pub is_on: bool,
    /// Sweeps of all messages that were asked for so far.
    pub sweeps_wanted: i64,
    /// The number of the last one that is done.
    pub sweeps_done: i64,
    /// The keys, newest first.
    pub keys: Vec<DataKey>,
}

/// A data key. It opens nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataKey {
    /// The id that rows name.
    pub key_id: String,
    /// The id of the master key that it is wrapped with.
    pub master_key_id: String,
    /// When it was made (RFC 3339).
    pub made_at: String,
    /// A rotation replaces it in every row.
    pub is_replaced: bool,
}

#[derive(Deserialize)]
struct Rotation {
    sweep: Option<i64>,
}

impl Http {
    /// The data keys.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn data_keys(&self, token: &str) -> Result<DataKeys, HttpError> {
        self.call_with_query::<_, Value>(token, Method::GET, "v1/admin/keys", &json!({}), None).await
    }

    /// Asks for a new data key, and for a sweep that brings every message under it. Returns the number of the sweep. None: encryption is
    /// off.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn rotate_keys(&self, token: &str) -> Result<Option<i64>, HttpError> {
        let rotation: Rotation = self.call_with_query::<_, Value>(token, Method::POST, "v1/admin/keys/rotate", &json!({}), None).await?;
        Ok(rotation.sweep)
    }
}
