//! From the HTTP request to a known user: the four ways to bring a token, and the options in the query.
//!
//! A browser shows a page nothing of an answer that is no upgrade. So a client that offers the subprotocol is refused over
//! the socket, with `error` and a close code; any other client is refused over HTTP.

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::ws::Message;
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use tokio::time::timeout;

use super::Shared;
use super::closing::{answer_close, fault_of, refuse};
use super::open::{self, Entrant};
use super::socket::Socket;
use super::upgrade::Upgrade;
use crate::auth::{self, Identity, Offer};
use crate::delivery::Refusal;
use crate::domain::{Class, DeviceId, PerClass, limits};
use crate::driver::{ConnectOptions, Resume};
use crate::hub::AckWay;
use crate::protocol::client::{self, ClientEvent, FrameError, FrameId};
use crate::protocol::codec::JsonFrames;
use crate::protocol::fields::{small_number, whole_number};
use crate::protocol::{Code, Fault};

/// The query of `/ws`, unchecked.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ConnectQuery {
    /// The JWT, for clients that can set nothing else.
    pub token: Option<String>,
    /// The device.
    pub device: Option<String>,
    /// Envelopes emitted and not yet acked, at most.
    #[serde(default, deserialize_with = "small_number")]
    pub window: Option<u16>,
    /// `1`: pages in one frame.
    pub batch: Option<String>,
    /// The epoch that `since` is of.
    pub epoch: Option<String>,
    /// "I have everything up to these numbers."
    pub since: Option<String>,
    /// The receipts that the client knows.
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
        Ok(Self { device, window, is_batched, resume, marks: query.marks, acks: AckWay::Connection })
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
        match (class, whole_number(number)) {
            (Some(class), Some(number)) if since[class].is_none() => since[class] = Some(number),
            (Some(_) | None, _) => return Err(Fault::invalid("since must be a number, or numbers with their classes: 12,event:40")),
        }
    }
    Ok(since)
}

/// Answers the request for `/ws`. `query` is the query, or why it cannot be read.
///
/// # Errors
/// The origin may not connect, or the client offers subprotocols without the one that is spoken. A client that offers no
/// subprotocol also gets as HTTP what is wrong with its token and its query, and that the node takes nobody now; one that
/// offers it gets these over the socket.
pub async fn upgrade(shared: Shared, upgrade: Upgrade, headers: &HeaderMap, query: Result<ConnectQuery, Fault>) -> Result<Response, Fault> {
    if !shared.origins.allow(headers) {
        // RFC 6455 section 4.2.2: an origin that is not accepted gets no WebSocket.
        return Err(Fault::new(Code::Forbidden, "pages of this origin may not connect"));
    }
    let offer = Offer::of(headers);
    if offer == Offer::Unspoken {
        return Err(Fault::invalid("none of the subprotocols is spoken: offer `restante.v1`, beside the token where that is one of them"));
    }
    let upgrade = if offer == Offer::Spoken { upgrade.speaking(auth::SUBPROTOCOL) } else { upgrade };
    let upgrade = shared.agree(upgrade, headers);
    match admit(&shared, headers, query).await {
        Ok((identity, options)) => {
            let tasks = shared.context.tasks.clone();
            Ok(upgrade.answer(move |socket| async move {
                // Tracked, so that a stop can wait for the close frames; and not awaited, so that this task ends here.
                tasks.spawn(serve(shared, socket.peekable(), identity, options));
            }))
        }
        Err(fault) if offer == Offer::Spoken => {
            // Not tracked: a stop waits for nobody that was never let in.
            let metrics = Arc::clone(&shared.context.metrics);
            Ok(upgrade.answer(move |socket| async move { refuse(&metrics, socket.peekable(), JsonFrames::default(), None, &fault).await }))
        }
        Err(fault) => Err(fault),
    }
}

/// The user and the options of a request, where the node takes clients now. No user: the first frame brings the token.
async fn admit(
    shared: &Shared,
    headers: &HeaderMap,
    query: Result<ConnectQuery, Fault>,
) -> Result<(Option<Identity>, ConnectOptions), Fault> {
    check_open(shared)?;
    let query = query?;
    let token = auth::socket_token(headers, query.token.as_deref())?;
    let options = ConnectOptions::try_from(query)?;
    let identity = match token {
        Some(token) => Some(shared.verify(&token).await?),
        None => None,
    };
    Ok((identity, options))
}

/// Checks that the node takes clients now, and counts one.
///
/// # Errors
/// The node stops, more clients come at once than it lets wait, or too many from this address: with a time to come back.
pub fn check_open(shared: &Shared) -> Result<(), Fault> {
    if shared.shutdown.has_begun() {
        return Err(shared.shutdown.refusal());
    }
    if shared.context.service.is_crowded() {
        return Err(Refusal::Crowded.to_one_of_a_crowd());
    }
    shared.count_handshake()
}

async fn serve(shared: Shared, mut socket: Socket, identity: Option<Identity>, options: ConnectOptions) {
    // A look at the socket takes what is left in the buffer that the request came in, and with it goes the buffer: 8 KB,
    // which a connection would keep while it waits for a turn.
    let _ = Pin::new(&mut socket).peek().now_or_never();
    let (identity, answer_to) = match identity {
        Some(identity) => (identity, None),
        None => match Box::pin(first_frame(&shared, &mut socket)).await {
            Ok((identity, id)) => (identity, Some(id)),
            Err(Some(FrameError { id, fault })) => {
                return refuse(&shared.context.metrics, socket, JsonFrames::default(), id.as_ref(), &fault).await;
            }
            Err(None) => return shared.context.metrics.connection_closed(None),
        },
    };
    let dialect = JsonFrames { is_batched: options.is_batched };
    open::run(shared, socket, Entrant { identity, options, dialect, answer_to }).await;
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
    let frame = client::parse(&text).map_err(|FrameError { id, fault }| refused(id, of_first_frame(fault)))?;
    match frame.event {
        ClientEvent::Authenticate { token } => match shared.verify(&token).await {
            Ok(identity) => Ok((identity, frame.id)),
            Err(fault) => Err(refused(frame.id, fault)),
        },
        ClientEvent::Send(_)
        | ClientEvent::Publish(_)
        | ClientEvent::Skip(_)
        | ClientEvent::Delivered(_)
        | ClientEvent::Reject(_)
        | ClientEvent::Recall(_)
        | ClientEvent::Read(_)
        | ClientEvent::Typing { .. }
        | ClientEvent::PresenceGet(_)
        | ClientEvent::PresenceSubscribe(_)
        | ClientEvent::People(_)
        | ClientEvent::Ping => Err(refused(frame.id, Fault::new(Code::BadFrame, "the first frame must be authenticate"))),
    }
}

/// The fault of a first frame that cannot be read. It ends the connection, and no new token would help: a client that came
/// back with one would say the same again.
fn of_first_frame(fault: Fault) -> Fault {
    if fault.code.row().close.is_some() {
        return fault;
    }
    Fault::new(Code::BadFrame, format!("the first frame must be authenticate: {}", fault.message))
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
