//! The request for a WebSocket, read as RFC 6455 section 4.2.1 says: a list may stand in several header lines, in any order
//! and among other words (RFC 9110 section 5.3).

use axum::extract::FromRequestParts;
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::error::{ApiError, WEBSOCKET_VERSION};
use crate::connection;
use crate::protocol::{Code, Fault};

/// A request that asks for a WebSocket of the version that is spoken.
#[derive(Debug)]
pub(super) struct Upgrade(pub(super) connection::Upgrade);

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let no_upgrade = || Fault::invalid("this is for WebSocket: the request asks for no upgrade (RFC 6455)");
        if !names(&parts.headers, CONNECTION, "upgrade") || !names(&parts.headers, UPGRADE, "websocket") {
            return Err(no_upgrade().into());
        }
        if !is_once(&parts.headers, SEC_WEBSOCKET_VERSION, |version| version == WEBSOCKET_VERSION) {
            return Err(Code::UpgradeRequired.into());
        }
        if !is_once(&parts.headers, SEC_WEBSOCKET_KEY, |key| !key.is_empty()) {
            return Err(Fault::invalid("`Sec-WebSocket-Key` must be there once (RFC 6455)").into());
        }
        // None: HTTP/1.0, or another method than GET.
        Ok(Self(connection::Upgrade::of(parts).ok_or_else(no_upgrade)?))
    }
}

/// Returns whether one of the header's lines has this word in its list. Words are compared without regard to case.
fn names(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

/// Returns whether the header has one line, and its value is as it should be.
fn is_once(headers: &HeaderMap, name: HeaderName, fits: impl FnOnce(&HeaderValue) -> bool) -> bool {
    let mut lines = headers.get_all(name).iter();
    lines.next().is_some_and(fits) && lines.next().is_none()
}
