//! The answer to a request that is refused: `{"error": {code, message, retryAfterMs?}}`, with the headers that HTTP asks for
//! beside its status.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

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

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: Fault,
        }
        let code = self.0.code;
        let status = StatusCode::from_u16(self.0.code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = self.0.retry_after_ms.map(|ms| ms.div_ceil(1_000));
        let mut response = (status, Json(Body { error: self.0 })).into_response();
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
        Code::NotAuthenticated | Code::TokenExpired => &[(header::WWW_AUTHENTICATE, "Bearer")],
        Code::UpgradeRequired => {
            &[(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade"), (header::SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION)]
        }
        Code::UnsupportedEncoding => &[(header::ACCEPT_ENCODING, "identity")],
        _ => &[],
    }
}
