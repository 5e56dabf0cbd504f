//! The extractors of handlers: the caller, the body, ids of the path, the query. Each refuses with an error of the service.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::address::client_address;
use super::error::ApiError;
use crate::auth::{self, Act, AuthError, Identity, Scope};
use crate::connection::Shared;
use crate::domain::{ChatId, DeviceId, ExternalId, FeedId, MessageId, Profile};
use crate::protocol::fields::whole_number;
use crate::protocol::{Code, Fault};
use crate::service::{Publisher, SignIn, points_of_bytes};

/// A body that does not say its length counts as one of this length, in bytes.
const UNKNOWN_BODY: usize = 16 * 1_024;

/// The user of the request's bearer token, made on first sight.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Arc<Profile>);

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        person(parts, shared, Act::Person).await.map(Self)
    }
}

/// A request that names a device in its query is that device's: its tokens may be revoked for it alone.
fn check_device(parts: &Parts, shared: &Shared, identity: &Identity) -> Result<(), ApiError> {
    let named = parts.uri.query().filter(|query| query.contains("device=")).and_then(|_| Query::<Named>::try_from_uri(&parts.uri).ok());
    let device = named.and_then(|Query(Named { device })| DeviceId::try_from(device?).ok());
    if device.is_some() && shared.context.verifier.revocations().concern(&identity.held(), device.as_ref()) {
        return Err(AuthError::Revoked.into());
    }
    Ok(())
}

/// The device of a query.
#[derive(Deserialize)]
struct Named {
    device: Option<String>,
}

/// The same for what a token with the scope `send` may do, too.
#[derive(Debug)]
pub(super) struct Sender(pub(super) Arc<Profile>);

impl FromRequestParts<Shared> for Sender {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        person(parts, shared, Act::Send).await.map(Self)
    }
}

async fn person(parts: &Parts, shared: &Shared, act: Act) -> Result<Arc<Profile>, ApiError> {
    let identity = identity(parts, shared).await?;
    identity.scope.check(act)?;
    check_device(parts, shared, &identity)?;
    let Identity { external, name, picture, .. } = identity;
    shared.context.service.pay(&external, points_of(parts), "http").await?;
    Ok(shared.context.service.sign_in(SignIn { external, name, picture }).await?)
}

/// The points of a request before it asks for anything: by the length of its target and of its body.
fn points_of(parts: &Parts) -> u32 {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let named = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = named.unwrap_or(if parts.headers.contains_key(TRANSFER_ENCODING) { UNKNOWN_BODY } else { 0 });
    points_of_bytes(target.saturating_add(body))
}

/// The user of the request's bearer token, with what the token lets it publish to.
#[derive(Debug)]
pub(super) struct PublishCaller(pub(super) Publisher);

impl FromRequestParts<Shared> for PublishCaller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let Identity { external, name, picture, scope, .. } = identity(parts, shared).await?;
        scope.check(Act::Publish)?;
        // An application that publishes for all its users asks for more than one of them.
        if !scope.allows(Scope::EVENTS_WRITE) {
            shared.context.service.pay(&external, points_of(parts), "http").await?;
        }
        let profile = shared.context.service.sign_in(SignIn { external, name, picture }).await?;
        Ok(Self(Publisher { profile, right: scope.publish_right() }))
    }
}

/// A caller whose token allows the acts of operators. It does not become a user of the database.
#[derive(Debug)]
pub(super) struct Admin(pub(super) ExternalId);

impl FromRequestParts<Shared> for Admin {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        operator(parts, shared, Act::Operate).await.map(Self)
    }
}

/// A caller whose token allows to look at what operators look at. It does not become a user of the database either.
#[derive(Debug)]
pub(super) struct AdminReader(pub(super) ExternalId);

impl FromRequestParts<Shared> for AdminReader {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        operator(parts, shared, Act::Watch).await.map(Self)
    }
}

async fn operator(parts: &Parts, shared: &Shared, act: Act) -> Result<ExternalId, ApiError> {
    let Identity { external, scope, .. } = identity(parts, shared).await?;
    scope.check(act)?;
    Ok(external)
}

/// The user of the request's bearer token, as the token describes it.
async fn identity(parts: &Parts, shared: &Shared) -> Result<Identity, ApiError> {
    let token = auth::bearer(&parts.headers).ok_or(AuthError::Missing)?;
    let (address, limits) = (client_address(parts, shared).into(), shared.context.service.limits());
    limits.check_tokens_of(address)?;
    let judged = shared.context.verifier.verify_or_wait(token.expose_secret(), || shared.context.clock.now()).await;
    Ok(judged.map_err(Fault::from).inspect_err(|fault| limits.token_judged(address, fault.code))?)
}

/// A body within the limit, as it was sent.
#[derive(Debug)]
pub(super) struct Payload(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Payload {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if is_encoded(request.headers()) {
            return Err(Code::UnsupportedEncoding.into());
        }
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Code::TooLarge.into()),
            Err(_) => Err(Fault::new(Code::BadFrame, "the body broke off").into()),
        }
    }
}

/// Returns whether the body has a coding (RFC 9110 section 8.4); `identity` stands for none.
fn is_encoded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(CONTENT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    codings.map(<[u8]>::trim_ascii).any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// The chat of the path.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChatPath(pub(super) ChatId);

impl<S: Send + Sync> FromRequestParts<S> for ChatPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        uuid_of_path(parts, state, "chat id").await.map(|id| Self(ChatId(id)))
    }
}

/// The message of the path.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessagePath(pub(super) MessageId);

impl<S: Send + Sync> FromRequestParts<S> for MessagePath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        uuid_of_path(parts, state, "message id").await.map(|id| Self(MessageId(id)))
    }
}

/// The event of the path.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventPath(pub(super) MessageId);

impl<S: Send + Sync> FromRequestParts<S> for EventPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        uuid_of_path(parts, state, "event id").await.map(|id| Self(MessageId(id)))
    }
}

/// The feed of the path.
#[derive(Debug, Clone, Copy)]
pub(super) struct FeedPath(pub(super) FeedId);

impl<S: Send + Sync> FromRequestParts<S> for FeedPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        uuid_of_path(parts, state, "feed id").await.map(|id| Self(FeedId(id)))
    }
}

async fn uuid_of_path<S: Send + Sync>(parts: &mut Parts, state: &S, what: &str) -> Result<Uuid, ApiError> {
    let text = Path::<String>::from_request_parts(parts, state).await.ok();
    let id = text.and_then(|Path(text)| Uuid::try_parse(&text).ok());
    id.ok_or_else(|| Fault::invalid(format!("the {what} in the path must be a UUID")).into())
}

/// The query.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(params)| Self(params)).map_err(|rejection| unreadable(&rejection).into())
    }
}

/// The number of a chat or an inbox in a parameter of this name.
///
/// # Errors
/// `invalid`: it is no whole number, 0 or above.
pub(super) fn number(name: &str, text: Option<&str>) -> Result<Option<i64>, Fault> {
    let read = |text| whole_number(text).ok_or_else(|| Fault::invalid(format!("`{name}` must be a whole number, 0 or above")));
    text.map(read).transpose()
}

/// The parameter and what is wrong with it, without the words of a library.
fn unreadable(rejection: &QueryRejection) -> Fault {
    let why = std::error::Error::source(rejection).map_or_else(|| rejection.body_text(), ToString::to_string);
    Fault::invalid(format!("the query after the `?` cannot be read: {why}"))
}

/// The number of items that a request asks for, checked against the maximum.
pub(super) fn limit(wanted: Option<u16>, default: u16, max: u16) -> Result<u16, Fault> {
    match wanted.unwrap_or(default) {
        limit if (1..=max).contains(&limit) => Ok(limit),
        _ => Err(Fault::invalid(format!("`limit` must be 1 to {max}"))),
    }
}
