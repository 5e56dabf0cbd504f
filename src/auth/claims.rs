//! The claims of a token that are read (RFC 7519 section 4.1), and the rules by which they are judged. Times are judged by the clocks of whoever
//! asks. A claim that is there in another form than its own makes the token invalid, unless it is only shown to people: dropped, it would no longer
//! narrow what the token may do. It knows no key.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::scope::Scope;
use super::{AuthError, Identity};
use crate::domain::{ExternalId, Now, limits};

const NAME_CHARS_MAX: usize = 256;
const PICTURE_CHARS_MAX: usize = 2_048;

/// The rules for the claims of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// The issuers of which one must be `iss`; empty: `iss` is not judged.
    pub issuers: Vec<String>,
    /// The audiences of which one must be in `aud`; empty: `aud` is not judged.
    pub audiences: Vec<String>,
    /// The time by which the issuer's clock may be ahead of the node's.
    pub leeway: Duration,
    /// Time after `iat` from which on a token is worth nothing, whatever its `exp` says. None: `exp` alone decides.
    pub lifetime_max: Option<Duration>,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self { issuers: Vec::new(), audiences: Vec::new(), leeway: Duration::seconds(10), lifetime_max: None }
    }
}

/// The claims, as they are read.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: Option<String>,
    iss: Option<Value>,
    aud: Option<Value>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: Option<String>,
    sid: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    name: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    picture: Option<String>,
    scope: Option<Value>,
    scp: Option<Value>,
}

impl TokenRules {
    /// The identity that these claims give at `now`.
    ///
    /// A token is good until `exp` exactly (RFC 7519 section 4.1.4), and so is the connection that lives on it. It is good from the leeway
    /// before `nbf` on (section 4.1.5): an issuer whose clock is ahead sets `nbf` to a time that has not come here. The same holds for `iat`
    /// (section 4.1.6), by the clock of the database, since revocations are compared with it: so a token that was ever taken before a
    /// revocation says to be issued the leeway after it at the latest.
    ///
    /// # Errors
    /// The token is not valid, or not valid now.
    pub(super) fn judge(&self, claims: Claims, now: Now) -> Result<Identity, AuthError> {
        if !is_one_of(&self.issuers, claims.iss.as_ref()) || !is_among(&self.audiences, claims.aud.as_ref()) {
            return Err(AuthError::Invalid);
        }
        let end = claims.exp.map(instant).ok_or(AuthError::Invalid)?;
        let issued_at = claims.iat.map(instant);
        let oldest_end = issued_at.zip(self.lifetime_max).map(|(at, lifetime)| at.saturating_add(lifetime));
        let expires_at = oldest_end.map_or(end, |oldest| oldest.min(end));
        if expires_at <= now.here {
            return Err(AuthError::Expired);
        }
        let is_to_come = |at: Option<OffsetDateTime>, now: OffsetDateTime| at.is_some_and(|at| at > now.saturating_add(self.leeway));
        if is_to_come(claims.nbf.map(instant), now.here) || is_to_come(issued_at, now.at_database) {
            return Err(AuthError::TooEarly);
        }
        Ok(Identity {
            external: ExternalId::try_from(claims.sub.ok_or(AuthError::Invalid)?)?,
            expires_at,
            issued_from: issued_at.map(|at| at.saturating_sub(self.leeway)),
            token_id: revocable(claims.jti)?,
            login_id: revocable(claims.sid)?,
            name: shown(claims.name, NAME_CHARS_MAX),
            picture: shown(claims.picture, PICTURE_CHARS_MAX),
            scope: scope(claims.scope.as_ref(), claims.scp.as_ref())?,
        })
    }
}

/// Returns whether a claim, a text, is one of the wanted. Where none is wanted, every claim will do.
fn is_one_of(wanted: &[String], claim: Option<&Value>) -> bool {
    wanted.is_empty() || claim.and_then(Value::as_str).is_some_and(|text| wanted.iter().any(|wanted| wanted == text))
}

/// The same of a claim that may be a list of texts, too: one of them will do.
fn is_among(wanted: &[String], claim: Option<&Value>) -> bool {
    match claim {
        Some(Value::Array(values)) => wanted.is_empty() || values.iter().any(|value| is_one_of(wanted, Some(value))),
        claim => is_one_of(wanted, claim),
    }
}

/// The scope, which some issuers name `scp`. Where both are there they must say the same: of two that differ one would be overlooked.
fn scope(scope: Option<&Value>, scp: Option<&Value>) -> Result<Scope, AuthError> {
    let read = |claim: Option<&Value>| claim.map(Scope::read).transpose();
    match (read(scope)?, read(scp)?) {
        (Some(scope), Some(scp)) if scope != scp => Err(AuthError::Invalid),
        (scope, scp) => Ok(scope.or(scp).unwrap_or_default()),
    }
}

/// An id by which a token can be revoked. One that no revocation can name makes the token invalid: it could not be ended.
fn revocable(id: Option<String>) -> Result<Option<String>, AuthError> {
    match id {
        Some(id) => shown(Some(id), limits::TOKEN_ID_CHARS_MAX).ok_or(AuthError::Invalid).map(Some),
        None => Ok(None),
    }
}

/// A `NumericDate`, which may have a fraction and be absurd.
fn instant(seconds: f64) -> OffsetDateTime {
    const LAST_SECOND: f64 = 253_402_300_799.0; // 9999-12-31T23:59:59Z
    let nanos = (seconds.clamp(0.0, LAST_SECOND) * 1e9) as i128;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A text that can be stored and shown; anything else is as good as none.
fn shown(text: Option<String>, chars_max: usize) -> Option<String> {
    text.filter(|text| !text.is_empty() && !text.contains('\0') && text.chars().count() <= chars_max)
}

/// Claims for display are not worth refusing a token for.
fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}
