//! Tokens name the user. A token is a JWT (RFC 7519) signed with HS256, verified against one shared secret, whose `sub` is
//! the user and whose `exp` ends the connection. Where in a request a token may stand is said here as well.
//!
//! It knows no user of the database: what comes out is the name the token gives, checked for its form. `origins` says whose
//! pages may come.

mod origins;

pub use origins::Origins;

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use time::{Duration, OffsetDateTime};

use crate::domain::{ExternalId, InvalidId, limits};
use crate::protocol::publish::PublishRight;
use crate::protocol::{Code, Fault};

/// The subprotocol that the service speaks. A client that sends its token as a subprotocol must offer this one
/// beside it, and gets this one back, never the token.
pub const SUBPROTOCOL: &str = "restante.v1";
/// The prefix of a token in `Sec-WebSocket-Protocol`.
const SUBPROTOCOL_BEARER: &str = "bearer.";
/// The time by which the issuer's clock may be ahead of the node's.
const LEEWAY: Duration = Duration::seconds(10);
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
    /// The word that lets its user publish to every feed, to everyone and to users that it lists.
    pub const EVENTS_WRITE: &str = "events:write";

    /// Returns whether the scope contains this word.
    pub fn allows(&self, wanted: &str) -> bool {
        self.0.split(' ').any(|word| word == wanted)
    }

    /// The right to publish that it gives its user.
    pub fn publish_right(&self) -> PublishRight {
        if self.allows(Self::EVENTS_WRITE) { PublishRight::Anywhere } else { PublishRight::OwnFeeds }
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
    /// It is longer than [`limits::TOKEN_BYTES_MAX`].
    #[error("the token must be at most {} bytes", limits::TOKEN_BYTES_MAX)]
    TooLong,
    /// Its `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// Its `nbf` has not come, the leeway included.
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
            AuthError::Missing | AuthError::Invalid | AuthError::TooLong | AuthError::TooEarly | AuthError::Subject(_) => {
                Code::NotAuthenticated
            }
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
        // Times are judged here, against the caller's clock; `aud` and `iss` are for the holders of the secret to check.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self { decoding: DecodingKey::from_secret(secret), encoding: EncodingKey::from_secret(secret), validation }
    }

    /// The identity of this token at `now`. A token is good until `exp` exactly (RFC 7519 section 4.1.4), and so is the
    /// connection that lives on it. It is good from 10 s before `nbf` on (section 4.1.5): an issuer whose clock is ahead sets
    /// `nbf` to a time that has not come here. `iat` is not judged (section 4.1.6), however far it is ahead.
    ///
    /// # Errors
    /// The token is not valid. The error says in what way.
    pub fn verify(&self, token: &str, now: OffsetDateTime) -> Result<Identity, AuthError> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong);
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
        if nbf.map(instant).is_some_and(|begin| begin > now.saturating_add(LEEWAY)) {
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

/// The subprotocols that a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// None at all.
    Nothing,
    /// [`SUBPROTOCOL`] is among them. The answer must choose it, or a browser ends the connection.
    Spoken,
    /// Others only. Any answer but a refusal would make a browser end the connection without a reason (RFC 6455 section 4.1).
    Unspoken,
}

impl Offer {
    /// The offer of a WebSocket request, whether it stands in one header line or in several.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut offer = Self::Nothing;
        for name in subprotocols(headers) {
            if name == SUBPROTOCOL {
                return Self::Spoken;
            }
            offer = Self::Unspoken;
        }
        offer
    }
}

/// The names that the client offers, without empty ones. A line that is not ASCII is one name that nobody speaks.
fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    lines.flat_map(|line| line.to_str().unwrap_or("?").split(',')).map(str::trim).filter(|name| !name.is_empty())
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
        assert!(verified(json!({"sub": "a", "exp": at(9), "nbf": at(0), "aud": "elsewhere"})).is_ok());
        assert_eq!(verified(json!({"sub": "a", "exp": 1e300})).unwrap().expires_at.year(), 9999);
        assert_eq!(verified(json!({"sub": "a", "exp": at(0) as f64 + 0.5})).unwrap().expires_at, NOW + Duration::milliseconds(500));
    }

    #[test]
    fn an_issuers_clock_may_be_ahead_by_ten_seconds_and_a_token_is_never_good_after_its_end() {
        for begin in [at(2), at(10)] {
            assert!(verified(json!({"sub": "a", "exp": at(99), "nbf": begin, "iat": begin})).is_ok(), "{begin}");
        }
        for begin in [json!(at(11)), json!(at(10) as f64 + 0.5), json!(1e300)] {
            assert_eq!(verified(json!({"sub": "a", "exp": at(99), "nbf": begin})), Err(AuthError::TooEarly), "{begin}");
        }
        assert!(verified(json!({"sub": "a", "exp": at(9), "iat": at(3_600)})).is_ok(), "no rule asks for the age of a token");
        for end in [at(0), at(-1), at(-10)] {
            assert_eq!(verified(json!({"sub": "a", "exp": end, "nbf": at(-99)})), Err(AuthError::Expired), "{end}");
        }
        let last = OffsetDateTime::from_unix_timestamp(253_402_300_799).unwrap();
        let token = signed(&Header::new(Algorithm::HS256), &json!({"sub": "a", "exp": 1e300, "nbf": 1e300}), SECRET);
        assert_eq!(verifier().verify(&token, last), Err(AuthError::Expired), "the last instant there is, with a leeway behind it");
    }

    #[test]
    fn a_token_of_16_kib_is_taken_and_a_longer_one_is_told_the_limit() {
        let of_length =
            |claim: usize| signed(&Header::new(Algorithm::HS256), &json!({"sub": "a", "exp": at(9), "groups": "g".repeat(claim)}), SECRET);
        let shorter = of_length(12_000);
        let largest = of_length(12_000 + (16 * 1024 - shorter.len()) * 3 / 4);
        assert!((16 * 1024 - 1..=16 * 1024).contains(&largest.len()), "{}", largest.len());
        assert!(verifier().verify(&largest, NOW).is_ok());
        let refused = verifier().verify(&of_length(13_000), NOW).unwrap_err();
        assert_eq!(refused, AuthError::TooLong);
        let fault = Fault::from(refused);
        assert_eq!((fault.code, fault.message.as_ref()), (Code::NotAuthenticated, "the token must be at most 16384 bytes"));
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
        let texts = [format!("{none}.{claims}."), format!("{none}.{rest}"), good[..good.len() - 2].to_owned(), "x".repeat(10_000)];
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
        let offer = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| ("sec-websocket-protocol".parse().unwrap(), line.parse().unwrap()));
            let mut headers = HeaderMap::new();
            lines.for_each(|(name, value): (axum::http::HeaderName, _)| _ = headers.append(name, value));
            Offer::of(&headers)
        };
        for spoken in
            [&["bearer.x,restante.v1"][..], &["bearer.x", "restante.v1"], &["restante.v1", "bearer.x"], &["", "chat , restante.v1"]]
        {
            assert_eq!(offer(spoken), Offer::Spoken, "{spoken:?}");
        }
        for unspoken in [&["bearer.x"][..], &["restante.v10, bearer.x"], &["Restante.v1"], &["chat"], &["ü"]] {
            assert_eq!(offer(unspoken), Offer::Unspoken, "{unspoken:?}");
        }
        for nothing in [&[][..], &[""], &[" , "]] {
            assert_eq!(offer(nothing), Offer::Nothing, "{nothing:?}");
        }
    }
}
