//! Tokens for the users that a run makes up, signed with the secret of the service that was started for it. Written against
//! the protocol's description: HS256 over `sub`, `jti`, `iat` and `exp`, and `scope` where the token allows more than a person may.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use uuid::Uuid;

/// The leeway (`JWT_LEEWAY_SECS`) of the services of a torture, in seconds: a revocation concerns tokens that say to be issued so much later.
pub const LEEWAY_SECS: i64 = 2;
/// Longer than any run.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Signs tokens with one secret.
#[derive(Clone)]
pub struct Signer(EncodingKey);

/// A token, and what it says of itself.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The token.
    pub text: String,
    /// Its `jti`.
    pub id: String,
    /// The earliest time at which a service with this leeway takes it to have been issued: its `iat` less [`LEEWAY_SECS`], in seconds since 1970.
    pub issued_from: i64,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    jti: &'a str,
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

    /// The same with this scope.
    pub fn scoped(&self, user: &str, scope: Option<&'static str>) -> anyhow::Result<String> {
        Ok(self.issue(user, scope)?.text)
    }

    /// The same, with what the token says of itself.
    pub fn issue(&self, user: &str, scope: Option<&'static str>) -> anyhow::Result<Issued> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let (id, iat) = (Uuid::new_v4().to_string(), now.as_secs());
        let claims = Claims { sub: user, jti: &id, iat, exp: (now + TTL).as_secs(), scope };
        let text = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.0).context("a token cannot be signed")?;
        Ok(Issued { text, id, issued_from: i64::try_from(iat)? - LEEWAY_SECS })
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}
