//! Tokens for the users that a run makes up, signed with the secret of the service that was started for it. Written against
//! the protocol's description: HS256 over `sub`, `iat` and `exp`, and `scope` where the user may publish to everything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// Longer than any run.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Signs tokens with one secret.
#[derive(Clone)]
pub struct Signer(EncodingKey);

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
}

impl Signer {
    /// For a service with this secret.
    pub fn new(secret: &str) -> Self {
        Self(EncodingKey::from_secret(secret.as_bytes()))
    }

    /// A token for this user, good for a day.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        self.scoped(user, None)
    }

    /// The same, and the user may publish events to everything.
    pub fn publisher(&self, user: &str) -> anyhow::Result<String> {
        self.scoped(user, Some("events:write"))
    }

    fn scoped(&self, user: &str, scope: Option<&'static str>) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let claims = Claims { sub: user, iat: now.as_secs(), exp: (now + TTL).as_secs(), scope };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.0).context("a token cannot be signed")
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}
