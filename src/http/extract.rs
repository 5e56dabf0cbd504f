//! The extractors of handlers: the caller, the body, ids of the path, the query. Each refuses with an error of the service. An extractor of a
//! caller gives no one whose token does not allow the act of the request (`super::acts`).

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

use super::acts;
use super::address::client_address;
use super::error::ApiError;
use crate::auth::{self, AuthError, Identity};
use crate::connection::Shared;
use crate::domain::{ChatId, DeviceId, ExternalId, FeedId, MessageId, Profile};
use crate::protocol::fields::whole_number;
use crate::protocol::publish::PublishRight;
use crate::protocol::{Code, Fault};
use crate::service::{Publisher, Relation, Role, SignIn, may, points_of_bytes};

/// A body that does not say its length counts as one of this length, in bytes, until it has come.
const UNKNOWN_BODY: usize = 16 * 1_024;

/// The user of the request's bearer token, made on first sight.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Arc<Profile>);

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let (identity, _) = admitted(parts, shared).await?;
        pay(parts, shared, &identity.external).await?;
        sign_in(shared, identity).await.map(Self)
    }
}

/// The user of the request's bearer token, with what the token allows.
#[derive(Debug)]
pub(super) struct PublishCaller(pub(super) Publisher);

impl FromRequestParts<Shared> for PublishCaller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let (identity, role) = admitted(parts, shared).await?;
        // An application that publishes for all its users asks for more than one of them.
        if role.publish_right() == PublishRight::OwnFeeds {
            pay(parts, shared, &identity.external).await?;
        }
        Ok(Self(Publisher { profile: sign_in(shared, identity).await?, role }))
    }
}

/// The operator of the request's bearer token. It does not become a user of the database.
#[derive(Debug)]
pub(super) struct Admin(pub(super) ExternalId);

impl FromRequestParts<Shared> for Admin {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let (identity, _) = admitted(parts, shared).await?;
        Ok(Self(identity.external))
    }
}

/// The bearer of the request's token, and the role that it gives, which allows what the request asks for.
pub(super) async fn admitted(parts: &Parts, shared: &Shared) -> Result<(Identity, Role), ApiError> {
    let identity = identity(parts, shared).await?;
    let role = Role::of(&identity.scope);
    may(role, acts::of(parts)?, Relation::Unknown)?;
    Ok((identity, role))
}

/// The bearer of the request's token. No token is looked at from an address that has sent too many bad ones.
async fn identity(parts: &Parts, shared: &Shared) -> Result<Identity, ApiError> {
    let token = auth::bearer(&parts.headers)?.ok_or(AuthError::Missing)?;
    shared.context.service.know_revocations().await?;
    let judging = async {
        let identity = shared.context.verifier.verify_or_wait(token.expose_secret(), || shared.context.clock.both()).await?;
        check_device(parts, shared, &identity)?;
        Ok(identity)
    };
    Ok(shared.context.service.limits().judge_token(Some(client_address(parts, shared).into()), judging).await??)
}

/// A request that names a device in its query is that device's: its tokens may be revoked for it alone.
fn check_device(parts: &Parts, shared: &Shared, identity: &Identity) -> Result<(), AuthError> {
    // Read as the handler reads it: a name may be written with percent signs.
    let named = parts.uri.query().and_then(|_| Query::<Named>::try_from_uri(&parts.uri).ok());
    let device = named.and_then(|Query(Named { device })| DeviceId::try_from(device?).ok());
    if device.is_some() && shared.context.verifier.revocations().concern(&identity.held(), device.as_ref()) {
        return Err(AuthError::Revoked);
    }
    Ok(())
}

/// The device of a query.
#[derive(Deserialize)]
struct Named {
    device: Option<String>,
}

async fn sign_in(shared: &Shared, identity: Identity) -> Result<Arc<Profile>, ApiError> {
    let Identity { external, name, picture, .. } = identity;
    Ok(shared.context.service.sign_in(SignIn { external, name, picture }).await?)
}

/// The bytes of a request that its user has paid for.
#[derive(Debug, Clone)]
struct Paid {
    user: ExternalId,
    target: usize,
    body: usize,
}

impl Paid {
    fn points(&self) -> u32 {
        points_of_bytes(self.target.saturating_add(self.body))
    }
}

/// Pays for a request before it asks for anything: by the length of its target and of its body.
async fn pay(parts: &mut Parts, shared: &Shared, user: &ExternalId) -> Result<(), ApiError> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let named = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = named.unwrap_or(if parts.headers.contains_key(TRANSFER_ENCODING) { UNKNOWN_BODY } else { 0 });
    let paid = Paid { user: user.clone(), target, body };
    shared.context.service.pay(user, paid.points(), "http").await?;
    parts.extensions.insert(paid);
    Ok(())
}

/// Pays for the rest of a body that had not said its length.
async fn pay_rest(paid: Option<Paid>, shared: &Shared, body: usize) -> Result<(), ApiError> {
    let Some(paid) = paid.filter(|paid| paid.body < body) else { return Ok(()) };
    let before = paid.points();
    let rest = Paid { body, ..paid };
    Ok(shared.context.service.pay(&rest.user, rest.points() - before, "http").await?)
}

/// A body within the limit, as it was sent.
#[derive(Debug)]
pub(super) struct Payload(pub(super) Bytes);

impl FromRequest<Shared> for Payload {
    type Rejection = ApiError;
    async fn from_request(request: Request, shared: &Shared) -> Result<Self, ApiError> {
        if is_encoded(request.headers()) {
            return Err(Code::UnsupportedEncoding.into());
        }
        let paid = request.extensions().get::<Paid>().cloned();
        match Bytes::from_request(request, shared).await {
            Ok(bytes) => {
                pay_rest(paid, shared, bytes.len()).await?;
                Ok(Self(bytes))
            }
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
