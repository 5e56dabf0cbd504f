//! Tokens name the user. A token is a JWT (RFC 7519) signed by a key of the operator or of the issuer, whose `sub` is the user and whose
//! `exp` ends the connection.
//!
//! It knows no user of the database: what comes out is the name the token gives, checked for its form. In reading order: `request` (where in a
//! request a token may stand), `key`, `key_set` and `key_ring` (what tokens are verified with), `key_file` and `key_server` (where that comes
//! from), `claims` and `scope`, `revocations`, `verifier`, `signer`. `origins` says whose pages may come. What accounts need beside: `password` and `password_hash`,
//! `refresh_token`, `random`, and `trusted_proxies` (from where a request came).

mod claims;
mod key;
mod key_file;
mod key_ring;
mod key_server;
mod key_set;
mod origins;
mod password;
mod password_hash;
mod random;
mod refresh_token;
mod request;
mod revocations;
mod scope;
mod signer;
mod trusted_proxies;
mod verifier;

pub use claims::TokenRules;
pub use key::{Key, Origin, Refused};
pub use key_file::{FileError, KeyFile};
pub use key_ring::{KeyRing, ServerKeys, ServerLimits, Sought};
pub use key_server::KeyServer;
pub use key_set::{KEYS_MAX, KeySet, NoSet, ReadSet, SET_BYTES_MAX};
pub use origins::Origins;
pub use password::{Password, UnfitPassword};
pub use password_hash::{HashCost, PasswordHasher, Verified};
pub use random::random_id;
pub use refresh_token::{REFRESH_TOKEN_CHARS, RefreshToken};
pub use request::{Offer, SUBPROTOCOL, bearer, same_token, socket_token, stream_token};
pub use revocations::{REVOCATIONS_MAX, Revocations};
pub use scope::Scope;
pub use signer::{LoginToken, TokenSigner};
pub use trusted_proxies::TrustedProxies;
pub use verifier::TokenVerifier;

use std::time::Duration;

use time::OffsetDateTime;

use crate::domain::{ExternalId, HeldToken, InvalidId, limits};
use crate::protocol::{Code, Fault};

/// The user of a token, and until when the token is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`.
    pub external: ExternalId,
    /// The token's `exp`: from this instant on it is worth nothing.
    pub expires_at: OffsetDateTime,
    /// The earliest time at which the token may have been issued, by the clock of the database: its `iat` less the leeway. None: it has none.
    pub issued_from: Option<OffsetDateTime>,
    /// The token's `jti`, if it has one.
    pub token_id: Option<String>,
    /// The token's `sid`, if it has one: the login that it was issued for.
    pub login_id: Option<String>,
    /// The token's `name`, if it has a usable one.
    pub name: Option<String>,
    /// The token's `picture`, if it has a usable one.
    pub picture: Option<String>,
    /// Its `scope`, or `scp`.
    pub scope: Scope,
}

impl Identity {
    /// The token, as far as a revocation asks.
    pub fn held(&self) -> HeldToken {
        let (id, login_id) = (self.token_id.clone(), self.login_id.clone());
        HeldToken { external: self.external.clone(), id, login_id, issued_from: self.issued_from }
    }
}

/// The reason for which a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error("no token")]
    Missing,
    /// The request brings two that differ.
    #[error("the request brings two tokens that differ: bring one")]
    Several,
    /// It is no JWT, or not signed by a key that is known and knows its algorithm, or lacks a claim, or has one in another form. Which of these is nobody's business.
    #[error("the token is not valid")]
    Invalid,
    /// It is longer than [`limits::TOKEN_BYTES_MAX`].
    #[error("the token must be at most {} bytes", limits::TOKEN_BYTES_MAX)]
    TooLong,
    /// Its `exp` has passed, or it is too old.
    #[error("the token has expired")]
    Expired,
    /// An operator has revoked it.
    #[error("the token was revoked")]
    Revoked,
    /// Its `nbf` or its `iat` has not come, the leeway included.
    #[error("the token is not valid yet")]
    TooEarly,
    /// Its `sub` cannot be a user.
    #[error("the token's `sub`: {0}")]
    Subject(#[from] InvalidId),
    /// Its key is not known, and may be new.
    #[error("the token is not valid")]
    UnknownKey,
    /// Its key is not known, and nobody can say now if it is good.
    #[error("the key of the token is not known yet, and keys cannot be fetched now: keep the token, and come back")]
    NoKeys {
        /// The time after which to come back.
        retry_after: Duration,
    },
}

impl From<AuthError> for Fault {
    fn from(error: AuthError) -> Self {
        let code = match &error {
            AuthError::Expired => Code::TokenExpired,
            AuthError::Revoked => Code::TokenRevoked,
            AuthError::NoKeys { .. } => Code::KeysUnavailable,
            AuthError::Several => Code::Invalid,
            AuthError::Missing
            | AuthError::Invalid
            | AuthError::TooLong
            | AuthError::TooEarly
            | AuthError::Subject(_)
            | AuthError::UnknownKey => Code::NotAuthenticated,
        };
        let fault = Self::new(code, error.to_string());
        match error {
            AuthError::NoKeys { retry_after } => fault.retry_after_ms(u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX)),
            _ => fault,
        }
    }
}
