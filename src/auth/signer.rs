//! Makes tokens, for the command line and the tests. The service itself gives none out.

use std::fmt;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use time::{Duration, OffsetDateTime};

use crate::domain::ExternalId;

/// Signs tokens with HS256 and one secret.
#[derive(Clone)]
pub struct TokenSigner {
    key: EncodingKey,
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    sub: &'a ExternalId,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    iat: i64,
    exp: i64,
}

impl TokenSigner {
    /// A signer with this secret.
    pub fn new(secret: &SecretString) -> Self {
        Self { key: EncodingKey::from_secret(secret.expose_secret().as_bytes()) }
    }

    /// A token for this user, good from `now` on for `ttl`. `scope`: the acts that it allows; none: those of a person.
    pub fn sign(&self, user: &ExternalId, scope: Option<&str>, ttl: Duration, now: OffsetDateTime) -> String {
        let claims = MintedClaims { sub: user, scope, iat: now.unix_timestamp(), exp: now.saturating_add(ttl).unix_timestamp() };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key).expect("HS256 signs any claims with any key")
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSigner")
    }
}
