//! Makes tokens: for the command line and the tests, and for the logins of accounts, where the service has some. It knows no account.

use std::fmt;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Number;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::random::random_id;
use crate::domain::ExternalId;

/// Signs tokens with HS256 and one secret.
#[derive(Clone)]
pub struct TokenSigner {
    key: EncodingKey,
}

/// The access token of a login.
#[derive(Debug, Clone, Copy)]
pub struct LoginToken<'a> {
    /// The user: `sub`.
    pub user: &'a ExternalId,
    /// The name that is shown: `name`.
    pub name: Option<&'a str>,
    /// The login: `sid`. It is revoked by this id.
    pub login: Uuid,
    /// The issuer: `iss`.
    pub issuer: Option<&'a str>,
    /// The audience: `aud`.
    pub audience: Option<&'a str>,
    /// The time at which it was issued: `iat`, to the millisecond.
    pub issued_at: OffsetDateTime,
    /// From then on it is worth nothing: `exp`, whole seconds.
    pub expires_at: OffsetDateTime,
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    sub: &'a ExternalId,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<Uuid>,
    iat: Number,
    exp: i64,
}

impl TokenSigner {
    /// A signer with this secret.
    pub fn new(secret: &SecretString) -> Self {
        Self { key: EncodingKey::from_secret(secret.expose_secret().as_bytes()) }
    }

    /// A token for this user, good from `now` on for `ttl`. `scope`: the acts that it allows; none: those of a person.
    pub fn sign(&self, user: &ExternalId, scope: Option<&str>, ttl: Duration, now: OffsetDateTime) -> String {
        let (iat, exp) = (now.unix_timestamp().into(), now.saturating_add(ttl).unix_timestamp());
        self.encode(&MintedClaims { sub: user, scope, name: None, iss: None, aud: None, sid: None, jti: None, iat, exp })
    }

    /// The access token of a login, with an id of its own. It allows the acts of a person.
    pub fn sign_login(&self, token: LoginToken<'_>) -> String {
        let LoginToken { user, name, login, issuer, audience, issued_at, expires_at } = token;
        let (iat, exp) = (numeric_date(issued_at), expires_at.unix_timestamp());
        let (sid, jti) = (Some(login), Some(random_id()));
        self.encode(&MintedClaims { sub: user, scope: None, name, iss: issuer, aud: audience, sid, jti, iat, exp })
    }

    fn encode(&self, claims: &MintedClaims<'_>) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.key).expect("HS256 signs any claims with any key")
    }
}

/// A `NumericDate` (RFC 7519 section 2): whole seconds, where they are.
fn numeric_date(at: OffsetDateTime) -> Number {
    let seconds = at.unix_timestamp();
    let parts = f64::from(at.millisecond()) / 1_000.0;
    Some(parts).filter(|parts| *parts > 0.0).and_then(|parts| Number::from_f64(seconds as f64 + parts)).unwrap_or_else(|| seconds.into())
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSigner")
    }
}
