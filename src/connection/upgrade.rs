//! A request for a WebSocket and its answer (RFC 6455 section 4.2): what both sides agree on, and then the socket.
//!
//! The reader of the request has checked its headers before; here nothing is refused.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode as Status, Version};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use restante_deflate::Agreement;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::debug;

use super::websocket::WebSocket;
use crate::telemetry::Metrics;

/// A request for a WebSocket.
#[derive(Debug)]
pub struct Upgrade {
    accept: HeaderValue,
    on_upgrade: OnUpgrade,
    subprotocol: Option<&'static str>,
    compression: Option<(Agreement, Arc<Metrics>)>,
}

impl Upgrade {
    /// The request of these parts, whose headers ask for a WebSocket. None: its connection cannot become one, or its method is not GET.
    pub fn of(parts: &mut Parts) -> Option<Self> {
        if parts.method != Method::GET || parts.version != Version::HTTP_11 {
            return None;
        }
        let key = parts.headers.get(SEC_WEBSOCKET_KEY)?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()?;
        let on_upgrade = parts.extensions.remove::<OnUpgrade>()?;
        Some(Self { accept, on_upgrade, subprotocol: None, compression: None })
    }

    /// Chooses this subprotocol, which the client has offered.
    #[must_use]
    pub fn speaking(self, subprotocol: &'static str) -> Self {
        Self { subprotocol: Some(subprotocol), ..self }
    }

    /// Agrees on compression, if the client offers one that can be kept. `metrics` count its bytes.
    #[must_use]
    pub fn compressing(self, headers: &HeaderMap, metrics: &Arc<Metrics>) -> Self {
        let lines = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|line| line.to_str().ok());
        Self { compression: Agreement::of(lines).map(|agreement| (agreement, Arc::clone(metrics))), ..self }
    }

    /// The answer. The socket goes to `callback`, in a task of its own, once the answer is out.
    pub fn answer<F: Future<Output = ()> + Send>(self, callback: impl FnOnce(WebSocket) -> F + Send + 'static) -> Response {
        let Self { accept, on_upgrade, subprotocol, compression } = self;
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = Status::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(subprotocol) = subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        }
        let extensions = compression.as_ref().map(|(agreement, _)| HeaderValue::try_from(agreement.answer()));
        if let Some(Ok(extensions)) = extensions {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, extensions);
        }
        tokio::spawn(async move {
            match on_upgrade.await {
                Ok(upgraded) => callback(WebSocket::new(upgraded, compression).await).await,
                Err(error) => debug!(%error, "a client left before its WebSocket began"),
            }
        });
        answer
    }
}
