//! From the HTTP request to a known user: the four ways to bring a token, and the options in the query.

use std::pin::Pin;

use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use tokio::time::timeout;

use super::closing::{answer_close, fault_of, refuse};
use super::socket::Socket;
use super::{Shared, open};
use crate::auth::{self, Identity};
use crate::delivery::Refusal;
use crate::domain::{Class, DeviceId, PerClass, limits};
use crate::driver::{ConnectOptions, Resume, commands};
use crate::protocol::client::{self, ClientEvent, FrameError, FrameId};
use crate::protocol::{Code, Fault};

/// The query of `/ws`. What cannot be read is an error before the upgrade, so that a client sees it as HTTP.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ConnectQuery {
    /// The JWT, for clients that can set nothing else.
    pub token: Option<String>,
    /// The device.
    pub device: Option<String>,
    /// Envelopes emitted and not yet acked, at most.
    pub window: Option<u16>,
    /// `1`: pages in one frame.
    pub batch: Option<String>,
    /// The epoch that `since` is of.
    pub epoch: Option<String>,
    /// "I have everything up to these numbers."
    pub since: Option<String>,
    /// Which receipts are known.
    pub marks: Option<String>,
}

impl TryFrom<ConnectQuery> for ConnectOptions {
    type Error = Fault;
    fn try_from(query: ConnectQuery) -> Result<Self, Fault> {
        let device = query.device.map(DeviceId::try_from).transpose().map_err(|error| Fault::invalid(error.to_string()))?;
        let window = query.window.unwrap_or(limits::WINDOW_DEFAULT);
        if !(1..=limits::WINDOW_MAX).contains(&window) {
            return Err(Fault::invalid("window must be 1 to 500"));
        }
        let is_batched = match query.batch.as_deref() {
            None | Some("0" | "false" | "") => false,
            Some("1" | "true") => true,
            Some(_) => return Err(Fault::invalid("batch must be 0 or 1")),
        };
        let since = query.since.as_deref().map(since).transpose()?;
        let resume = match (query.epoch, since) {
            (Some(epoch), Some(since)) => Some(Resume { epoch, since }),
            (_, None) => None,
            (None, Some(_)) => return Err(Fault::invalid("since needs epoch, both from the same connection")),
        };
        Ok(Self { device, window, is_batched, resume, marks: query.marks })
    }
}

/// Reads `since`: numbers with their classes, such as `12,event:40`. A number alone is of the chat inbox.
fn since(text: &str) -> Result<PerClass<Option<i64>>, Fault> {
    let mut since: PerClass<Option<i64>> = PerClass::default();
    for pair in text.split(',') {
        let (class, number) = match pair.split_once(':') {
            Some((name, number)) => (Class::ALL.into_iter().find(|class| class.as_str() == name), number),
            None => (Some(Class::Chat), pair),
        };
        match (class, number.parse::<i64>()) {
            (Some(class), Ok(number)) if since[class].is_none() => since[class] = Some(number),
            (Some(_) | None, _) => return Err(Fault::invalid("since must be a number, or numbers with their classes: 12,event:40")),
        }
    }
    Ok(since)
}

/// Answers the request for `/ws`: an HTTP error for a token or a wish that is not valid, else the upgrade.
pub fn upgrade(shared: Shared, upgrade: WebSocketUpgrade, headers: &HeaderMap, query: ConnectQuery) -> Result<Response, Fault> {
    if shared.shutdown.has_begun() {
        return Err(shared.shutdown.refusal());
    }
    if shared.context.service.is_crowded() {
        return Err(Refusal::Crowded.to_one_of_a_crowd());
    }
    let token = auth::socket_token(headers, query.token.as_deref());
    let options = ConnectOptions::try_from(query)?;
    let identity = token.map(|token| commands::verify(&shared.context, &token)).transpose()?;
    let tasks = shared.context.tasks.clone();
    Ok(bounded(upgrade)
        .protocols([auth::SUBPROTOCOL])
        .on_upgrade(move |socket| async move {
            // Tracked, so that a stop can wait for the close frames; and not awaited, so that this task ends here.
            tasks.spawn(serve(shared, socket.peekable(), identity, options));
        })
        .into_response())
}

/// The limits of a socket.
pub fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        // An idle connection keeps its buffer: small, or idle connections would be most of the node's memory.
        .read_buffer_size(2 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(2 * limits::BATCH_FRAME_BYTES_MAX)
        .max_message_size(limits::FRAME_BYTES_MAX)
        .max_frame_size(limits::FRAME_BYTES_MAX)
}

async fn serve(shared: Shared, mut socket: Socket, identity: Option<Identity>, options: ConnectOptions) {
    // A look at the socket takes what is left in the buffer that the request came in, and with it goes the buffer: 8 KB,
    // which whoever waits for a turn would keep.
    let _ = Pin::new(&mut socket).peek().now_or_never();
    let (identity, answer_to) = match identity {
        Some(identity) => (identity, None),
        None => match Box::pin(first_frame(&shared, &mut socket)).await {
            Ok((identity, id)) => (identity, Some(id)),
            Err(Some(FrameError { id, fault })) => return refuse(&shared.context.metrics, socket, id.as_ref(), &fault).await,
            Err(None) => return shared.context.metrics.connection_closed(None),
        },
    };
    open::run(shared, socket, identity, options, answer_to).await;
}

/// The identity from a first frame `authenticate`. `Err(None)`: the client left.
async fn first_frame(shared: &Shared, socket: &mut Socket) -> Result<(Identity, Option<FrameId>), Option<FrameError>> {
    let refused = |id: Option<FrameId>, fault: Fault| Some(FrameError { id, fault });
    let text = tokio::select! {
        text = timeout(shared.settings.auth_timeout, next_text(socket)) => text,
        () = shared.shutdown.begun() => return Err(refused(None, shared.shutdown.refusal())),
    };
    let text = match text {
        Ok(Ok(text)) => text,
        Ok(Err(fault)) => return Err(fault.and_then(|fault| refused(None, fault))),
        Err(_) => return Err(refused(None, Fault::plain(Code::AuthenticationTimeout))),
    };
    let frame = client::parse(&text).map_err(|error| refused(error.id, Fault::new(Code::NotAuthenticated, error.fault.message)))?;
    match frame.event {
        ClientEvent::Authenticate { token } => match commands::verify(&shared.context, &token) {
            Ok(identity) => Ok((identity, frame.id)),
            Err(fault) => Err(refused(frame.id, fault)),
        },
        ClientEvent::Send(_)
        | ClientEvent::Skip(_)
        | ClientEvent::Delivered(_)
        | ClientEvent::Reject(_)
        | ClientEvent::Read(_)
        | ClientEvent::Typing { .. }
        | ClientEvent::PresenceGet(_)
        | ClientEvent::PresenceSubscribe(_)
        | ClientEvent::Ping => Err(refused(frame.id, Fault::new(Code::NotAuthenticated, "the first frame must be authenticate"))),
    }
}

async fn next_text(socket: &mut Socket) -> Result<String, Option<Fault>> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => return Err(Some(client::refuse_binary().fault)),
            Some(Err(error)) => return Err(fault_of(&error)),
            Some(Ok(Message::Close(_))) | None => {
                answer_close(socket).await;
                return Err(None);
            }
        }
    }
}
