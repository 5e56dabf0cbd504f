//! `GET /v1/stream`: the request for server-sent events. The door behind it knows what follows.

use axum::extract::{Extension, State};
use axum::http::header::ALLOW;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};

use super::address::ClientAddress;
use super::error::ApiError;
use super::extract::Params;
use crate::connection::{ConnectQuery, Shared};
use crate::event_stream::{self, StreamRequest, Wire};
use crate::protocol::Code;

/// `GET /v1/stream`, with the query of `/ws`.
pub(super) async fn open(
    State(shared): State<Shared>,
    ClientAddress(address): ClientAddress,
    method: Method,
    headers: HeaderMap,
    wire: Option<Extension<Wire>>,
    Params(query): Params<ConnectQuery>,
) -> Result<Response, ApiError> {
    // A request for the headers alone would open a session that nobody reads.
    if method != Method::GET {
        return Ok(([(ALLOW, "GET")], ApiError::from(Code::MethodNotAllowed)).into_response());
    }
    let wire = wire.map(|Extension(wire)| wire).unwrap_or_default();
    Ok(event_stream::open(shared.of_client(address), StreamRequest { headers: &headers, query, wire }).await?)
}
