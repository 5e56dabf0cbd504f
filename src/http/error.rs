//! The answer to a request that is refused: `{"error": {code, message, retryAfterMs?}}`, with the headers that HTTP asks for
//! beside its status. To a client that asks for it the answer is a problem (RFC 9457), which says the same.

use std::borrow::Cow;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::MessageId;
use crate::protocol::{Code, Fault};

/// The version of WebSocket that is spoken, and that an answer to any other names.
pub(super) const WEBSOCKET_VERSION: &str = "13";

/// A refusal on its way out. Its status is that of its code.
#[derive(Debug)]
pub(super) struct ApiError(Fault);

impl<T: Into<Fault>> From<T> for ApiError {
    fn from(fault: T) -> Self {
        Self(fault.into())
    }
}

impl ApiError {
    /// The refusal itself, for a door that tells it in another way.
    pub(super) fn into_fault(self) -> Fault {
        self.0
    }
}

/// The body of a refusal.
#[derive(Serialize, JsonSchema)]
pub(super) struct ErrorBody {
    error: Fault,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.0.code;
        let status = StatusCode::from_u16(self.0.code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = self.0.retry_after_ms.map(|ms| ms.div_ceil(1_000));
        let mut response = (status, Json(ErrorBody { error: self.0.clone() })).into_response();
        response.extensions_mut().insert(Refused(self.0));
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        for (name, value) in required_headers(code) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// The headers that an answer with this code must have, or may have to say what would be taken (RFC 9110 section 15.5).
fn required_headers(code: Code) -> &'static [(HeaderName, &'static str)] {
    match code {
        Code::NotAuthenticated | Code::TokenExpired | Code::TokenRevoked | Code::BadCredentials | Code::LoginEnded => {
            &[(header::WWW_AUTHENTICATE, "Bearer")]
        }
        Code::UpgradeRequired => {
            &[(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade"), (header::SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION)]
        }
        Code::UnsupportedEncoding => &[(header::ACCEPT_ENCODING, "identity")],
        _ => &[],
    }
}

/// The media type of problems (RFC 9457 section 6.1).
const PROBLEM: &str = "application/problem+json";

/// The refusal that an answer tells, for the layer that may tell it as a problem.
#[derive(Debug, Clone)]
struct Refused(Fault);

/// A problem. `code`, `retryAfterMs` and `behind` are extension members.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Problem<'a> {
    /// `urn:restante:error:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The meaning of the code.
    title: Cow<'static, str>,
    /// The status of the answer.
    status: u16,
    /// The words of this refusal.
    detail: &'a str,
    code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<MessageId>,
}

/// Tells refusals as problems to clients that accept them.
pub(super) async fn tell_as_problem(request: Request, next: Next) -> Response {
    let is_asked_for = accepts_problems(request.headers());
    let response = next.run(request).await;
    match response.extensions().get::<Refused>().cloned() {
        Some(Refused(fault)) if is_asked_for => as_problem(response, &fault),
        Some(_) | None => response,
    }
}

/// Returns whether the client names this media type. `*/*` does not: it is what clients send that know nothing of problems.
fn accepts_problems(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    ranges.map(|range| range.split(';').next().unwrap_or_default().trim()).any(|range| range.eq_ignore_ascii_case(PROBLEM))
}

fn as_problem(response: Response, fault: &Fault) -> Response {
    let status = response.status();
    let problem = Problem {
        kind: format!("urn:restante:error:{}", fault.code.as_str()),
        title: Fault::plain(fault.code).message,
        status: status.as_u16(),
        detail: &fault.message,
        code: fault.code,
        retry_after_ms: fault.retry_after_ms,
        behind: fault.behind,
    };
    let Ok(body) = serde_json::to_vec(&problem) else { return response };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    Response::from_parts(parts, Body::from(body))
}
