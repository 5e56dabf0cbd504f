//! Verifies tokens: JWTs (RFC 7519) signed by a key that knows their algorithm, with claims by the rules. Which of many things is wrong
//! with a token that is not valid is nobody's business.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{AlgorithmFamily, Validation};
use secrecy::{ExposeSecret, SecretString};

use super::claims::{Claims, TokenRules};
use super::key::Key;
use super::key_ring::{KeyRing, Sought};
use super::revocations::Revocations;
use super::{AuthError, Identity};
use crate::domain::{Now, limits};

/// Verifies tokens. Cheap to clone.
#[derive(Clone)]
pub struct TokenVerifier {
    keys: KeyRing,
    rules: Arc<TokenRules>,
    revocations: Revocations,
}

impl TokenVerifier {
    /// A verifier for tokens signed with this secret by HS256.
    pub fn new(secret: &SecretString) -> Self {
        let key = Key::of_secret(secret.expose_secret().as_bytes());
        Self::with(KeyRing::new(vec![key], None), TokenRules::default(), Revocations::default())
    }

    /// A verifier for tokens signed with one of these keys, and not revoked.
    pub fn with(keys: KeyRing, rules: TokenRules, revocations: Revocations) -> Self {
        Self { keys, rules: Arc::new(rules), revocations }
    }

    /// The keys.
    pub const fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The revocations that count.
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The identity of this token at `now`, by the keys that are known now.
    ///
    /// # Errors
    /// The token is not valid, or its key is not known yet ([`AuthError::UnknownKey`]).
    pub fn verify(&self, token: &str, now: impl Into<Now>) -> Result<Identity, AuthError> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong);
        }
        let now = now.into();
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Invalid)?;
        // RFC 7515 section 4.1.11: extensions that must be understood, and none is.
        if header.crit.is_some() {
            return Err(AuthError::Invalid);
        }
        let (id, algorithm, keys) = (header.kid.as_deref(), header.alg, self.keys.current());
        let validation = signature_only(algorithm);
        for key in keys.candidates(id, algorithm) {
            match jsonwebtoken::decode::<Claims>(token, key.decoding(), &validation) {
                Ok(token) => return self.rules.judge(token.claims, now).and_then(|identity| self.unless_revoked(identity)),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(_) => return Err(AuthError::Invalid),
            }
        }
        // A secret never comes from a server, and a key that is known has spoken.
        let may_be_new = self.keys.has_server() && algorithm.family() != AlgorithmFamily::Hmac && !id.is_some_and(|id| keys.names(id));
        Err(if may_be_new { AuthError::UnknownKey } else { AuthError::Invalid })
    }

    fn unless_revoked(&self, identity: Identity) -> Result<Identity, AuthError> {
        if self.revocations.concern(&identity.held(), None) { Err(AuthError::Revoked) } else { Ok(identity) }
    }

    /// The same. Where the key of the token is not known, it waits up to 5 s for keys that are fetched, and `now` is asked once more.
    ///
    /// # Errors
    /// The token is not valid, or nobody can say now if it is ([`AuthError::NoKeys`]).
    pub async fn verify_or_wait(&self, token: &str, now: impl Fn() -> Now) -> Result<Identity, AuthError> {
        match self.verify(token, now()) {
            Err(AuthError::UnknownKey) => match self.keys.seek().await {
                Sought::Fetched => self.verify(token, now()).map_err(|error| match error {
                    AuthError::UnknownKey => AuthError::Invalid,
                    error => error,
                }),
                Sought::Nowhere => Err(AuthError::Invalid),
                Sought::NotYet(retry_after) => Err(AuthError::NoKeys { retry_after }),
            },
            judged => judged,
        }
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenVerifier")
    }
}

/// The library checks the signature alone: claims are judged here, against the clock of the node.
fn signature_only(algorithm: jsonwebtoken::Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

#[cfg(test)]
mod tests;
