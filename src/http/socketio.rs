//! The requests of Socket.IO clients. The door behind it knows what each of them means.

use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::Method;
use axum::http::header::ALLOW;
use axum::response::{IntoResponse, Response};

use super::address::client_address;
use super::error::ApiError;
use super::extract::{Params, Payload};
use super::upgrade::Upgrade;
use crate::connection::ConnectQuery;
use crate::protocol::{Code, Fault};
use crate::socketio::{Door, EngineQuery, Transport};

/// A request of any kind.
pub(super) async fn handle(State(door): State<Door>, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let Params(engine) = Params::<EngineQuery>::from_request_parts(&mut parts, &()).await?;
    let transport = door.check(&parts.headers, &engine)?;
    let address = client_address(&parts, door.shared());
    let answer = match (transport, &parts.method, engine.sid.as_deref()) {
        (Transport::WebSocket, &Method::GET, sid) => {
            let Params(query) = Params::<ConnectQuery>::from_request_parts(&mut parts, &()).await?;
            let Upgrade(upgrade) = Upgrade::from_request_parts(&mut parts, &()).await?;
            door.upgrade(upgrade, address, &parts.headers, query, sid)?
        }
        (Transport::Polling, &Method::GET, None) => {
            let Params(query) = Params::<ConnectQuery>::from_request_parts(&mut parts, &()).await?;
            door.open(address, &parts.headers, query)?
        }
        (Transport::Polling, &Method::GET, Some(sid)) => door.poll(sid).await?,
        (Transport::Polling, &Method::POST, Some(sid)) => {
            let sid = sid.to_owned();
            let Payload(body) = Payload::from_request(Request::from_parts(parts, body), door.shared()).await?;
            door.post(&sid, &body).await?
        }
        (Transport::Polling, &Method::POST, None) => return Err(Fault::invalid("a session begins with GET").into()),
        // The router lets any method come here, since the transport decides; so it does not say which there are (RFC 9110 section 15.5.6).
        _ => ([(ALLOW, "GET, POST")], ApiError::from(Code::MethodNotAllowed)).into_response(),
    };
    Ok(answer)
}
