//! A revocation as operators get it: over HTTP, and from the command that asks the database itself.

use schemars::JsonSchema;
use serde::Serialize;

use super::Timestamp;
use crate::domain::{DeviceId, ExternalId, Revocation, Revoked};

/// Tokens that are worth nothing although they have not expired: those of a user, of one device of a user, or the one of an id.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevocationData {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<ExternalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<DeviceId>,
    /// The `jti` of the token, or the `sid` of those of a login.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Of a user and of a device, tokens that were issued before this time are concerned.
    revoked_at: Timestamp,
    /// Until then it is kept.
    expires_at: Timestamp,
    /// The operator.
    revoked_by: String,
}

impl From<Revocation> for RevocationData {
    fn from(revocation: Revocation) -> Self {
        let (user_id, device_id, token_id) = match revocation.revoked {
            Revoked::User(user) => (Some(user), None, None),
            Revoked::Device(user, device) => (Some(user), Some(device), None),
            Revoked::Token(id) => (None, None, Some(id)),
            Revoked::Login(id) => (None, None, Some(id.to_string())),
        };
        Self {
            user_id,
            device_id,
            token_id,
            reason: revocation.reason,
            revoked_at: revocation.at.into(),
            expires_at: revocation.expires_at.into(),
            revoked_by: revocation.by,
        }
    }
}
