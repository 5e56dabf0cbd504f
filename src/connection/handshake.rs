//! From the HTTP request to a known user: the four ways to bring a token, and the wish list in the query.

use std::pin::Pin;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures_util::stream::Peekable;
use futures_util::{FutureExt, Stream, StreamExt};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::timeout;

use super::outbox::Outbox;
use super::{Shared, open};
use crate::auth::{self, Identity};
use crate::delivery::Refusal;
use crate::domain::{DeviceId, limits};
use crate::protocol::client::{self, ClientEvent, FrameError, FrameId};
use crate::protocol::{Code, Fault, server};

/// A client's socket, and perhaps a frame of it that came before anybody wanted it.
pub(super) type Socket = Peekable<WebSocket>;

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
    /// "I have everything up to this number."
    pub since: Option<i64>,
    /// Which receipts are known.
    pub marks: Option<String>,
}

/// What a client wishes for its connection, checked.
#[derive(Debug, Clone)]
pub struct Wishes {
    pub(super) device: Option<DeviceId>,
    pub(super) window: u16,
    pub(super) batch: Batching,
    pub(super) resume: Option<(String, i64)>,
    pub(super) marks: Option<String>,
}

/// How pages go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batching {
    /// A frame per envelope.
    Off,
    /// A frame per page.
    On,
}

impl TryFrom<ConnectQuery> for Wishes {
    type Error = Fault;
    fn try_from(query: ConnectQuery) -> Result<Self, Fault> {
        let device = query.device.map(DeviceId::try_from).transpose().map_err(|error| Fault::invalid(error.to_string()))?;
        let window = query.window.unwrap_or(limits::WINDOW_DEFAULT);
        if !(1..=limits::WINDOW_MAX).contains(&window) {
            return Err(Fault::invalid("window must be 1 to 500"));
        }
        let batch = match query.batch.as_deref() {
            None | Some("0" | "false" | "") => Batching::Off,
            Some("1" | "true") => Batching::On,
            Some(_) => return Err(Fault::invalid("batch must be 0 or 1")),
        };
        let resume = match (query.epoch, query.since) {
            (Some(epoch), Some(since)) => Some((epoch, since)),
            (_, None) => None,
            (None, Some(_)) => return Err(Fault::invalid("since needs epoch, both from the same connection")),
        };
        Ok(Self { device, window, batch, resume, marks: query.marks })
    }
}

/// Answers the request for `/ws`: an HTTP error for a token or a wish that is not valid, else the upgrade.
pub fn upgrade(shared: Shared, upgrade: WebSocketUpgrade, headers: &HeaderMap, query: ConnectQuery) -> Result<Response, Fault> {
    if shared.stop.has_begun() {
        return Err(shared.stop.refusal());
    }
    if shared.service.is_crowded() {
        return Err(Refusal::Crowded.to_one_of_a_crowd());
    }
    let token = auth::socket_token(headers, query.token.as_deref());
    let wishes = Wishes::try_from(query)?;
    let identity = token.map(|token| verify(&shared, &token)).transpose()?;
    let tasks = shared.tasks.clone();
    Ok(bounded(upgrade)
        .protocols([auth::SUBPROTOCOL])
        .on_upgrade(move |socket| async move {
            // Tracked, so that a stop can wait for the close frames; and not awaited, so that this task ends here.
            tasks.spawn(serve(shared, socket.peekable(), identity, wishes));
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

async fn serve(shared: Shared, mut socket: Socket, identity: Option<Identity>, wishes: Wishes) {
    // A look at the socket takes what is left in the buffer that the request came in, and with it goes the buffer: 8 KB,
    // which whoever waits for a turn would keep.
    let _ = Pin::new(&mut socket).peek().now_or_never();
    let (identity, answer_to) = match identity {
        Some(identity) => (identity, None),
        None => match Box::pin(first_frame(&shared, &mut socket)).await {
            Ok((identity, id)) => (identity, Some(id)),
            Err(Some(FrameError { id, fault })) => return refuse(&shared, socket, id.as_ref(), &fault).await,
            Err(None) => return shared.metrics.connection_closed(None),
        },
    };
    open::run(shared, socket, identity, wishes, answer_to).await;
}

/// The identity from a first frame `authenticate`. `Err(None)`: the client left.
async fn first_frame(shared: &Shared, socket: &mut Socket) -> Result<(Identity, Option<FrameId>), Option<FrameError>> {
    let refused = |id: Option<FrameId>, fault: Fault| Some(FrameError { id, fault });
    let text = tokio::select! {
        text = timeout(shared.settings.auth_timeout, next_text(socket)) => text,
        () = shared.stop.begun() => return Err(refused(None, shared.stop.refusal())),
    };
    let text = match text {
        Ok(Ok(text)) => text,
        Ok(Err(fault)) => return Err(fault.and_then(|fault| refused(None, fault))),
        Err(_) => return Err(refused(None, Fault::plain(Code::AuthenticationTimeout))),
    };
    let frame = client::parse(&text).map_err(|error| refused(error.id, Fault::new(Code::NotAuthenticated, error.fault.message)))?;
    match frame.event {
        ClientEvent::Authenticate { token } => match verify(shared, &token) {
            Ok(identity) => Ok((identity, frame.id)),
            Err(fault) => Err(refused(frame.id, fault)),
        },
        ClientEvent::Send(_)
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

pub(super) fn verify(shared: &Shared, token: &SecretString) -> Result<Identity, Fault> {
    shared.verifier.verify(token.expose_secret(), shared.clock.now()).map_err(Fault::from)
}

/// What a broken frame means for the connection; `None`: it is simply gone.
pub fn fault_of(error: &axum::Error) -> Option<Fault> {
    use tokio_tungstenite::tungstenite::Error;
    let inner = std::error::Error::source(error)?.downcast_ref::<Error>()?;
    match inner {
        Error::Capacity(_) => Some(Fault::plain(Code::TooLarge)),
        Error::Utf8(_) | Error::Protocol(_) => match inner {
            Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => None,
            _ => Some(Fault::new(Code::BadFrame, "a frame breaks RFC 6455")),
        },
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => None,
    }
}

/// Says why, and closes.
pub(super) async fn refuse(shared: &Shared, mut socket: Socket, id: Option<&FrameId>, fault: &Fault) {
    let mut outbox = Outbox::default();
    outbox.text(server::frame(id, fault));
    outbox.close_for(fault);
    outbox.finish(&mut socket).await;
    shared.metrics.connection_closed(Some(fault.code));
    linger(&mut socket, |_| ()).await;
}

/// After the client's close frame: lets ours go out (RFC 6455 section 5.5.1). The socket has it ready and writes it when it
/// is read on; nothing else may be written any more.
pub(super) async fn answer_close(socket: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin)) {
    let _ = timeout(LINGER, socket.next()).await;
}

/// How long a client has to answer our close frame.
const LINGER: Duration = Duration::from_secs(1);

/// After our close frame: waits until the client has closed too (RFC 6455 section 7.1.1), and hands out the texts that
/// were on their way. A socket that is dropped with something unread in it resets the connection, and the close frame
/// may never be seen.
pub(super) async fn linger(socket: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin), mut text: impl FnMut(&str)) {
    let until_closed = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(late))) => text(&late),
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_))) => {}
                // Gone, or what is there cannot be read as frames: then the client only gets the time to read ours.
                Some(Err(error)) if fault_of(&error).is_some() => std::future::pending().await,
                Some(Err(_)) | None => return,
            }
        }
    };
    // A client that does not answer in time has had its chance.
    let _ = timeout(LINGER, until_closed).await;
}
