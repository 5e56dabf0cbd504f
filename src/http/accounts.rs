//! Accounts: to register, to log in and to go on with a login take no token; to change the password and to log out everywhere take one of a login.
//!
//! Answers that hold tokens are kept by no cache (RFC 6749 section 5.1).

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use uuid::Uuid;

use super::address::ClientAddress;
use super::error::ApiError;
use super::extract::{Payload, admitted};
use crate::auth::{Password, RefreshToken};
use crate::connection::Shared;
use crate::domain::{ExternalId, limits};
use crate::protocol::fields::Fields;
use crate::protocol::{Fault, Timestamp};
use crate::service::{AccountRefusal, LoginTokens, PasswordChange, Registration, Service};

/// An account that was made.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Account")]
pub(super) struct AccountBody {
    /// The name, by which its user is known.
    user_id: ExternalId,
}

/// The tokens of a login.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "LoginTokens")]
pub(super) struct TokensBody {
    /// The user.
    user_id: ExternalId,
    /// The token to come with.
    access_token: String,
    /// From then on it is worth nothing.
    expires_at: Timestamp,
    /// The token with which the login goes on. It is good once.
    refresh_token: String,
    /// From then on it is worth nothing.
    refresh_expires_at: Timestamp,
}

/// Logins that have ended.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EndedLogins")]
pub(super) struct EndedBody {
    /// The number of them.
    ended: usize,
}

/// An answer without anything to say.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LoggedOut")]
pub(super) struct LoggedOutBody {}

/// The user of a token, and the login that the token was issued for. It is not made a user of the database.
#[derive(Debug)]
pub(super) struct LoginCaller {
    name: ExternalId,
    login: Option<Uuid>,
}

impl FromRequestParts<Shared> for LoginCaller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let (identity, _) = admitted(parts, shared).await?;
        shared.context.service.pay(&identity.external, 1, "http").await?;
        let login = identity.login_id.and_then(|id| Uuid::try_parse(&id).ok());
        Ok(Self { name: identity.external, login })
    }
}

/// `POST /v1/accounts {userId, password, name?}`.
pub(super) async fn register(
    State(service): State<Service>,
    ClientAddress(address): ClientAddress,
    Payload(body): Payload,
) -> Result<(StatusCode, Json<AccountBody>), ApiError> {
    let fields = Fields::of_body(&body, ["userId", "password", "name"])?;
    let name = account_name(&fields)?;
    let (password, display_name) = (secret(&fields, "password")?, fields.optional::<String>("name")?);
    if display_name.as_ref().is_some_and(|name| !(1..=limits::ACCOUNT_SHOWN_CHARS_MAX).contains(&name.chars().count())) {
        return Err(Fault::invalid(format!("`name` must be 1 to {} characters", limits::ACCOUNT_SHOWN_CHARS_MAX)).into());
    }
    let registration = Registration { name: name.clone(), password, display_name };
    service.counted("register", service.register(address, registration).await)?;
    Ok((StatusCode::CREATED, Json(AccountBody { user_id: name })))
}

/// `POST /v1/accounts/login {userId, password}`.
pub(super) async fn log_in(
    State(service): State<Service>,
    ClientAddress(address): ClientAddress,
    Payload(body): Payload,
) -> Result<Response, ApiError> {
    let fields = Fields::of_body(&body, ["userId", "password"])?;
    let (name, password) = (account_name(&fields)?, given(secret(&fields, "password")?)?);
    Ok(told(service.counted("login", service.log_in(address, name, password).await)?))
}

/// `POST /v1/accounts/refresh {refreshToken}`.
pub(super) async fn refresh(
    State(service): State<Service>,
    ClientAddress(address): ClientAddress,
    Payload(body): Payload,
) -> Result<Response, ApiError> {
    let token = refresh_token(&body)?;
    Ok(told(service.counted("refresh", service.refresh(address, &token).await)?))
}

/// `POST /v1/accounts/password {password, newPassword}`: all logins of the caller end but the one that asks.
pub(super) async fn change_password(
    State(service): State<Service>,
    ClientAddress(address): ClientAddress,
    LoginCaller { name, login }: LoginCaller,
    Payload(body): Payload,
) -> Result<Json<EndedBody>, ApiError> {
    let fields = Fields::of_body(&body, ["password", "newPassword"])?;
    let (password, new_password) = (given(secret(&fields, "password")?)?, secret(&fields, "newPassword")?);
    let change = PasswordChange { name, login, password, new_password };
    let ended = service.counted("password", service.change_password(address, change).await)?;
    Ok(Json(EndedBody { ended }))
}

/// `POST /v1/accounts/logout {refreshToken}`: answered alike whether there was such a login or not (RFC 7009 section 2.2).
pub(super) async fn log_out(
    State(service): State<Service>,
    ClientAddress(address): ClientAddress,
    Payload(body): Payload,
) -> Result<Json<LoggedOutBody>, ApiError> {
    let token = refresh_token(&body)?;
    service.counted("logout", service.log_out(address, &token).await)?;
    Ok(Json(LoggedOutBody {}))
}

/// `POST /v1/accounts/logout-everywhere`.
pub(super) async fn log_out_everywhere(
    State(service): State<Service>,
    LoginCaller { name, .. }: LoginCaller,
) -> Result<Json<EndedBody>, ApiError> {
    let ended = service.counted("logout_everywhere", service.log_out_everywhere(&name).await)?;
    Ok(Json(EndedBody { ended }))
}

/// The name of an account: small letters, digits, `.`, `_` and `-`. Capital letters are taken as small ones, so that no two names look alike.
fn account_name<const N: usize>(fields: &Fields<'_, N>) -> Result<ExternalId, Fault> {
    let name = fields.required::<String>("userId")?.to_ascii_lowercase();
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let is_fit = (1..=limits::ACCOUNT_NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric());
    let name = ExternalId::try_from(name).ok().filter(|_| is_fit);
    name.ok_or_else(|| {
        let chars = limits::ACCOUNT_NAME_CHARS_MAX;
        Fault::invalid(format!(
            "`userId` must be 1 to {chars} of the characters a to z, 0 to 9, `.`, `_` and `-`, and begin with a letter or a digit"
        ))
    })
}

fn secret<const N: usize>(fields: &Fields<'_, N>, name: &'static str) -> Result<SecretString, Fault> {
    fields.required::<String>(name).map(Into::into)
}

fn given(password: SecretString) -> Result<Password, AccountRefusal> {
    Ok(Password::given(password)?)
}

/// A text that is no refresh token is answered as one that counts no more.
fn refresh_token(body: &[u8]) -> Result<RefreshToken, ApiError> {
    let text = secret(&Fields::of_body(body, ["refreshToken"])?, "refreshToken")?;
    Ok(RefreshToken::parse(text.expose_secret()).ok_or(AccountRefusal::LoginEnded)?)
}

fn told(tokens: LoginTokens) -> Response {
    let LoginTokens { user, access_token, expires_at, refresh_token, refresh_expires_at } = tokens;
    let body = TokensBody {
        user_id: user,
        access_token: access_token.expose_secret().to_owned(),
        expires_at: expires_at.into(),
        refresh_token: refresh_token.expose_secret().to_owned(),
        refresh_expires_at: refresh_expires_at.into(),
    };
    let mut response = Json(body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
