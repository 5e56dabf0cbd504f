//! From the request for a stream to the session that writes it. Whatever refuses the client does so before the first byte of the stream,
//! as an answer of HTTP: a browser shows a page nothing else.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use super::socket::{EventBody, socket};
use super::wire::Wire;
use crate::auth::{self, AuthError, Identity};
use crate::connection::{self, ConnectQuery, Shared, check_open};
use crate::driver::ConnectOptions;
use crate::hub::AckWay;
use crate::protocol::event_stream::{ENDED, EventId, EventStream};
use crate::protocol::{Code, Fault};

/// The header with the id of the last event that the client has got.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells a proxy to pass on each piece as it comes.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A request for a stream.
#[derive(Debug)]
pub struct StreamRequest<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its query, which is that of `/ws`.
    pub query: ConnectQuery,
    /// The connection that it came on.
    pub wire: Wire,
}

/// Answers a request for a stream. A client that must not open the stream again is answered 204, which a browser takes for its end.
///
/// # Errors
/// The origin may not connect, the node takes nobody now, the token or the query are not valid, or the session cannot be opened.
pub async fn open(shared: Shared, request: StreamRequest<'_>) -> Result<Response, Fault> {
    let StreamRequest { headers, mut query, wire } = request;
    if !shared.origins.allow(headers) {
        return Err(Fault::new(Code::Forbidden, "pages of this origin may not connect"));
    }
    let last_id = last_event_id(headers)?;
    if last_id == Some(ENDED) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    check_open(&shared)?;
    let token = auth::stream_token(headers, query.token.take().as_deref())?.ok_or(AuthError::Missing)?;
    let options = options(query, last_id)?;
    let identity = shared.verify(&token).await?;
    let (tell, told) = oneshot::channel();
    // A task of its own: a request whose client has gone is dropped, and an opening must not be.
    shared.context.tasks.clone().spawn(run(shared, identity, options, wire, tell));
    told.await.unwrap_or_else(|_| Err(Code::Internal.into())).map(answer)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    let id = headers.get(LAST_EVENT_ID).map(|id| id.to_str().map_err(|_| Fault::invalid("`Last-Event-ID` must be ASCII")));
    // A browser that has got no id says so, or says nothing.
    Ok(id.transpose()?.filter(|id| !id.is_empty()))
}

/// The options of a client. The id of the last event says where it resumes, whatever the query says: a browser keeps its address.
fn options(mut query: ConnectQuery, last_id: Option<&str>) -> Result<ConnectOptions, Fault> {
    if let Some(EventId { epoch, since, marks }) = last_id.map(EventId::parse).transpose()? {
        (query.epoch, query.since) = (Some(epoch), Some(since));
        query.marks = marks.or(query.marks);
    }
    Ok(ConnectOptions { acks: AckWay::Http, is_batched: false, ..ConnectOptions::try_from(query)? })
}

/// Opens the session, hands out the body of its answer, and starts its task. A body that nobody takes any more ends the session.
async fn run(shared: Shared, identity: Identity, options: ConnectOptions, wire: Wire, tell: oneshot::Sender<Result<EventBody, Fault>>) {
    match connection::admit(&shared, &identity, options).await {
        Ok(opened) => {
            let (socket, body) = socket(wire, Arc::clone(&shared.context.metrics));
            let _ = tell.send(Ok(body));
            connection::start(shared, socket, EventStream::default(), &identity, opened, None);
        }
        Err(fault) => {
            shared.context.metrics.connection_closed(Some(fault.code));
            let _ = tell.send(Err(fault));
        }
    }
}

fn answer(body: EventBody) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(body)).into_response()
}
