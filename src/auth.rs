//! Tokens name the user. A token is a JWT (RFC 7519) signed with HS256, verified against one shared secret, whose `sub` is
//! the user and whose `exp` ends the connection. Where in a request a token may stand is said here as well.
//!
//! It knows no user of the database: what comes out is the name the token gives, checked for its form.

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use time::{Duration, OffsetDateTime};

use crate::domain::{ExternalId, InvalidId};
use crate::protocol::{Code, Fault};

/// The subprotocol that the service speaks. A client that sends its token as a subprotocol must offer this one
/// beside it, and gets this one back, never the token.
pub const SUBPROTOCOL: &str = "restante.v1";
/// The prefix of a token in `Sec-WebSocket-Protocol`.
const SUBPROTOCOL_BEARER: &str = "bearer.";
/// Longer texts are no tokens.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
const NAME_CHARS_MAX: usize = 256;
const PICTURE_CHARS_MAX: usize = 2_048;

/// The user of a token, and until when the token is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`.
    pub external: ExternalId,
    /// The token's `exp`: from this instant on it is worth nothing.
    pub expires_at: OffsetDateTime,
    /// The token's `name`, if it has a usable one.
    pub name: Option<String>,
    /// The token's `picture`, if it has a usable one.
    pub picture: Option<String>,
    /// The acts that it allows beside those of its user.
    pub scope: Scope,
}

/// The acts that a token allows beside those of its user: the claim `scope`, words separated by spaces (RFC 8693 section 4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// The word that opens what operators do.
    pub const ADMIN: &str = "admin";

    /// Whether the scope contains this word.
    pub fn allows(&self, wanted: &str) -> bool {
        self.0.split(' ').any(|word| word == wanted)
    }
}

/// The reason for which a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error("no token")]
    Missing,
    /// It is no JWT, or not signed with the secret by HS256, or lacks a claim. Which of these is nobody's business.
    #[error("the token is not valid")]
    Invalid,
    /// Its `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// Its `nbf` has not come.
    #[error("the token is not valid yet")]
    TooEarly,
    /// Its `sub` cannot be a user.
    #[error("the token's `sub`: {0}")]
    Subject(#[from] InvalidId),
}

impl From<AuthError> for Fault {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::Expired => Code::TokenExpired,
            AuthError::Missing | AuthError::Invalid | AuthError::TooEarly | AuthError::Subject(_) => Code::NotAuthenticated,
        };
        Self::new(code, error.to_string())
    }
}

/// Verifies tokens, and makes them for the command line and the tests.
#[derive(Clone)]
pub struct TokenVerifier {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    name: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    picture: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    scope: Option<String>,
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    sub: &'a ExternalId,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    iat: i64,
    exp: i64,
}

impl TokenVerifier {
    /// A verifier for tokens signed with this secret.
    pub fn new(secret: &SecretString) -> Self {
        let secret = secret.expose_secret().as_bytes();
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are judged here, against the caller's clock; `aud` and `iss` are the business of whoever shares the secret.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self { decoding: DecodingKey::from_secret(secret), encoding: EncodingKey::from_secret(secret), validation }
    }

    /// The identity of this token at `now`. There is no leeway: a token is good from `nbf` on, until `exp` exactly
    /// (RFC 7519 sections 4.1.4 and 4.1.5), and so is the connection that lives on it.
    pub fn verify(&self, token: &str, now: OffsetDateTime) -> Result<Identity, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::Invalid);
        }
        let token = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).map_err(|_| AuthError::Invalid)?;
        // RFC 7515 section 4.1.11: extensions that must be understood, and none is.
        if token.header.crit.is_some() {
            return Err(AuthError::Invalid);
        }
        let Claims { sub, exp, nbf, name, picture, scope } = token.claims;
        let expires_at = exp.map(instant).ok_or(AuthError::Invalid)?;
        if expires_at <= now {
            return Err(AuthError::Expired);
        }
        if nbf.map(instant).is_some_and(|begin| begin > now) {
            return Err(AuthError::TooEarly);
        }
        let external = ExternalId::try_from(sub.ok_or(AuthError::Invalid)?)?;
        let (name, picture) = (shown(name, NAME_CHARS_MAX), shown(picture, PICTURE_CHARS_MAX));
        Ok(Identity { external, expires_at, name, picture, scope: Scope(scope.unwrap_or_default()) })
    }

    /// A token for this user, good from `now` on for `ttl`.
    pub fn mint(&self, user: &ExternalId, ttl: Duration, now: OffsetDateTime) -> String {
        self.mint_scoped(user, None, ttl, now)
    }

    /// The same, with what it allows beside being that user.
    pub fn mint_scoped(&self, user: &ExternalId, scope: Option<&str>, ttl: Duration, now: OffsetDateTime) -> String {
        let claims = MintedClaims { sub: user, scope, iat: now.unix_timestamp(), exp: now.saturating_add(ttl).unix_timestamp() };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding).expect("HS256 signs any claims with any key")
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenVerifier")
    }
}

/// A `NumericDate`, which may have a fraction and be absurd.
fn instant(seconds: f64) -> OffsetDateTime {
    const LAST_SECOND: f64 = 253_402_300_799.0; // 9999-12-31T23:59:59Z
    let nanos = (seconds.clamp(0.0, LAST_SECOND) * 1e9) as i128;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A name or an address that can be stored and shown; anything else is as good as none.
fn shown(text: Option<String>, chars_max: usize) -> Option<String> {
    text.filter(|text| !text.is_empty() && !text.contains('\0') && text.chars().count() <= chars_max)
}

/// Claims for display are not worth refusing a token for.
fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    })
}

/// The token of a request: `Authorization: Bearer …` (RFC 6750 section 2.1).
pub fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().into())
}

/// The token of a WebSocket request, in this order: `Authorization`, `Sec-WebSocket-Protocol: restante.v1, bearer.<jwt>`
/// (browsers can set no header), `?token=`. None means that the first frame must be `authenticate`.
pub fn socket_token(headers: &HeaderMap, query_token: Option<&str>) -> Option<SecretString> {
    bearer(headers)
        .or_else(|| subprotocols(headers).find_map(|offer| offer.strip_prefix(SUBPROTOCOL_BEARER)).map(Into::into))
        .or_else(|| query_token.filter(|token| !token.is_empty()).map(Into::into))
}

/// Whether the client offers [`SUBPROTOCOL`]. If so, the answer must choose it, or a browser closes the connection.
pub fn offers_subprotocol(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|offer| offer == SUBPROTOCOL)
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-01 12:00 UTC);
    const SECRET: &str = "a secret for tests, of 32 bytes or more";

    fn verifier() -> TokenVerifier {
        TokenVerifier::new(&SECRET.into())
    }

    fn signed(header: &Header, claims: &Value, secret: &str) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn verified(claims: Value) -> Result<Identity, AuthError> {
        verifier().verify(&signed(&Header::new(Algorithm::HS256), &claims, SECRET), NOW)
    }

    fn at(seconds: i64) -> i64 {
        NOW.unix_timestamp() + seconds
    }

    #[test]
    fn a_minted_token_is_good_until_the_very_second_it_expires() {
        let anna = ExternalId::try_from("anna".to_owned()).unwrap();
        let token = verifier().mint(&anna, Duration::minutes(5), NOW);
        let identity = verifier().verify(&token, NOW + Duration::seconds(299)).unwrap();
        assert_eq!((identity.external, identity.expires_at), (anna, NOW + Duration::minutes(5)));
        assert_eq!(verifier().verify(&token, NOW + Duration::minutes(5)), Err(AuthError::Expired));
    }

    #[test]
    fn claims_are_required_and_times_are_kept() {
        assert_eq!(verified(json!({"sub": "a"})), Err(AuthError::Invalid));
        assert_eq!(verified(json!({"exp": at(9)})), Err(AuthError::Invalid));
        assert_eq!(verified(json!({"sub": "a", "exp": "soon"})), Err(AuthError::Invalid));
        assert_eq!(verified(json!({"sub": "a", "exp": at(0)})), Err(AuthError::Expired));
        assert_eq!(verified(json!({"sub": "a", "exp": -1e300})), Err(AuthError::Expired));
        assert_eq!(verified(json!({"sub": "a", "exp": at(9), "nbf": at(1)})), Err(AuthError::TooEarly));
        assert!(verified(json!({"sub": "a", "exp": at(9), "nbf": at(0), "aud": "elsewhere"})).is_ok());
        assert_eq!(verified(json!({"sub": "a", "exp": 1e300})).unwrap().expires_at.year(), 9999);
        assert_eq!(verified(json!({"sub": "a", "exp": at(0) as f64 + 0.5})).unwrap().expires_at, NOW + Duration::milliseconds(500));
    }

    #[test]
    fn a_subject_has_1_to_128_characters_without_nul() {
        for sub in ["", &"x".repeat(129), "a\0b"] {
            assert!(matches!(verified(json!({"sub": sub, "exp": at(9)})), Err(AuthError::Subject(_))), "{sub:?}");
        }
        assert!(verified(json!({"sub": "ü".repeat(128), "exp": at(9)})).is_ok());
        assert_eq!(verified(json!({"sub": 7, "exp": at(9)})), Err(AuthError::Invalid));
    }

    #[test]
    fn only_hs256_with_this_secret_counts() {
        let claims = json!({"sub": "a", "exp": at(9)});
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            assert_eq!(verifier().verify(&signed(&Header::new(algorithm), &claims, SECRET), NOW), Err(AuthError::Invalid));
        }
        assert_eq!(verifier().verify(&signed(&Header::new(Algorithm::HS256), &claims, "another"), NOW), Err(AuthError::Invalid));
        let critical = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
        assert_eq!(verifier().verify(&signed(&critical, &claims, SECRET), NOW), Err(AuthError::Invalid));
    }

    #[test]
    fn unsigned_and_garbled_tokens_are_refused() {
        let good = signed(&Header::new(Algorithm::HS256), &json!({"sub": "a", "exp": at(9)}), SECRET);
        let (_, rest) = good.split_once('.').unwrap();
        let (claims, _) = rest.split_once('.').unwrap();
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"; // {"alg":"none","typ":"JWT"}
        let texts = [format!("{none}.{claims}."), format!("{none}.{rest}"), good[..good.len() - 2].to_owned(), "x".repeat(100_000)];
        for text in texts.iter().map(String::as_str).chain(["", ".", "..", "a.b.c", "null", "💥.💥.💥"]) {
            assert_eq!(verifier().verify(text, NOW), Err(AuthError::Invalid), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_shown_is_left_out() {
        let identity = verified(json!({"sub": "a", "exp": at(9), "name": "Anna", "picture": 5})).unwrap();
        assert_eq!((identity.name.as_deref(), identity.picture), (Some("Anna"), None));
        let identity = verified(json!({"sub": "a", "exp": at(9), "name": "x".repeat(257), "picture": "a\0"})).unwrap();
        assert_eq!((identity.name, identity.picture), (None, None));
    }

    #[test]
    fn a_scope_is_words_and_what_is_no_text_is_none() {
        let allows = |scope: serde_json::Value| verified(json!({"sub": "a", "exp": at(9), "scope": scope})).unwrap().scope.allows("admin");
        assert!(allows(json!("admin")) && allows(json!("read admin write")));
        for other in [json!("administrator"), json!("Admin"), json!("no-admin"), json!(""), json!(["admin"]), json!(true), json!(null)] {
            assert!(!allows(other.clone()), "{other}");
        }
        let anna = ExternalId::try_from("anna".to_owned()).unwrap();
        let minted = verifier().mint_scoped(&anna, Some("admin"), Duration::minutes(5), NOW);
        assert!(verifier().verify(&minted, NOW).unwrap().scope.allows(Scope::ADMIN));
        assert!(!verifier().verify(&verifier().mint(&anna, Duration::minutes(5), NOW), NOW).unwrap().scope.allows(Scope::ADMIN));
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn found(pairs: &[(&'static str, &'static str)], query: Option<&str>) -> Option<String> {
        socket_token(&headers(pairs), query).map(|token| token.expose_secret().to_owned())
    }

    #[test]
    fn a_token_is_found_in_each_of_its_three_places() {
        assert_eq!(found(&[("authorization", "bearer  a.b.c ")], Some("q")).as_deref(), Some("a.b.c"));
        assert_eq!(found(&[("sec-websocket-protocol", "restante.v1, bearer.a.b.c")], Some("q")).as_deref(), Some("a.b.c"));
        assert_eq!(found(&[("authorization", "Basic x")], Some("q")).as_deref(), Some("q"));
        assert_eq!(found(&[("sec-websocket-protocol", "restante.v1")], Some("")), None);
    }

    #[test]
    fn the_subprotocol_is_chosen_only_when_it_was_offered() {
        assert!(offers_subprotocol(&headers(&[("sec-websocket-protocol", "bearer.x,restante.v1")])));
        assert!(!offers_subprotocol(&headers(&[("sec-websocket-protocol", "restante.v10, bearer.x")])));
    }
}
