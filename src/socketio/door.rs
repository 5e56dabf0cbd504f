//! The requests of Engine.IO: which of them begins a session, goes on with one, or takes one over.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::ws::{Message, Utf8Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::SinkExt;
use serde::Deserialize;

use super::carrier::Carrier;
use super::entering::{self, Knock};
use super::sessions::{Sessions, random_id};
use super::{polling, taking_over};
use crate::auth;
use crate::connection::{ConnectQuery, Shared, Upgrade, WebSocket, check_open};
use crate::domain::limits;
use crate::protocol::socketio::{Forms, OpenPacket, SocketIo};
use crate::protocol::{Code, Fault};

/// A way for packets between a client and a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One WebSocket.
    WebSocket,
    /// Requests that wait.
    Polling,
}

/// The settings of the door.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The transports that clients may use.
    pub transports: Vec<Transport>,
    /// The forms of events.
    pub forms: Forms,
    /// Sessions that poll, at most.
    pub sessions_max: usize,
}

/// The query of Engine.IO, unchecked.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct EngineQuery {
    /// The version of the protocol.
    #[serde(rename = "EIO")]
    pub version: Option<String>,
    /// The transport.
    pub transport: Option<String>,
    /// The session; none: the request begins one.
    pub sid: Option<String>,
}

/// The door. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door {
    shared: Shared,
    settings: Arc<Settings>,
    sessions: Sessions,
}

impl Door {
    /// A door with these settings.
    pub fn new(shared: Shared, settings: Settings) -> Self {
        let sessions = Sessions::new(settings.sessions_max);
        Self { shared, settings: Arc::new(settings), sessions }
    }

    /// The parts of the node that its sessions share.
    pub const fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Checks a request before anything is done for it, and tells its transport.
    ///
    /// # Errors
    /// `forbidden`: it comes from a page that may not connect. `invalid`: another version of the protocol, or a transport that there is not.
    pub fn check(&self, headers: &HeaderMap, query: &EngineQuery) -> Result<Transport, Fault> {
        if !self.shared.origins.allow(headers) {
            return Err(Fault::new(Code::Forbidden, "pages of this origin may not connect"));
        }
        if query.version.as_deref() != Some("4") {
            return Err(Fault::invalid("`EIO` must be 4: take version 3 or 4 of socket.io-client"));
        }
        let transport = match query.transport.as_deref() {
            Some("websocket") => Some(Transport::WebSocket),
            Some("polling") => Some(Transport::Polling),
            Some(_) | None => None,
        };
        let transport = transport.filter(|transport| self.has(*transport));
        transport.ok_or_else(|| Fault::invalid(format!("`transport` must be {}", self.names().join(" or "))))
    }

    /// Begins a session whose client polls.
    ///
    /// # Errors
    /// The node takes nobody now, or has as many sessions as it may.
    pub fn open(&self, address: IpAddr, headers: &HeaderMap, query: ConnectQuery) -> Result<Response, Fault> {
        let shared = self.shared.clone().of_client(address);
        check_open(&shared)?;
        let knock = self.knock(headers, query)?;
        let (entry, ends) = self.sessions.begin()?;
        let answer = text(self.open_packet(&entry.session.sid, Transport::Polling).as_str().to_owned());
        self.shared.context.tasks.spawn(async move { entering::enter(shared, Carrier::new(entry, ends), knock).await });
        Ok(answer)
    }

    /// Takes what waits for the client of a session.
    ///
    /// # Errors
    /// There is no such session, it has ended, or the request may not be made.
    pub async fn poll(&self, sid: &str) -> Result<Response, Fault> {
        polling::poll(&*self.sessions.find(sid)?).await.map(text)
    }

    /// Brings packets of the client of a session.
    ///
    /// # Errors
    /// There is no such session, it has ended, or the request may not be made or cannot be read.
    pub async fn post(&self, sid: &str, body: &[u8]) -> Result<Response, Fault> {
        polling::post(&*self.sessions.find(sid)?, body).await.map(|()| text("ok".to_owned()))
    }

    /// Answers a request for a WebSocket, which begins a session or takes one over.
    ///
    /// # Errors
    /// The node takes nobody now, or there is no such session.
    pub fn upgrade(
        &self,
        upgrade: Upgrade,
        address: IpAddr,
        headers: &HeaderMap,
        query: ConnectQuery,
        sid: Option<&str>,
    ) -> Result<Response, Fault> {
        let upgrade = self.shared.agree(upgrade, headers);
        if let Some(sid) = sid {
            let session = self.sessions.find(sid)?;
            return Ok(upgrade.answer(move |socket| taking_over::take_over(session, socket)));
        }
        let shared = self.shared.clone().of_client(address);
        check_open(&shared)?;
        let (knock, open) = (self.knock(headers, query)?, self.open_packet(&random_id()?, Transport::WebSocket));
        Ok(upgrade.answer(move |socket| async move {
            // Tracked, so that a stop can wait for it; and not awaited, so that this task ends here.
            shared.context.tasks.clone().spawn(begin(shared, socket, open, knock));
        }))
    }

    fn knock(&self, headers: &HeaderMap, query: ConnectQuery) -> Result<Knock, Fault> {
        let token = auth::socket_token(headers, query.token.as_deref())?;
        let dialect = SocketIo::new(random_id()?, self.settings.forms.clone(), limits::WINDOW_DEFAULT);
        Ok(Knock { token, query, dialect })
    }

    fn open_packet(&self, sid: &str, transport: Transport) -> Utf8Bytes {
        let upgrades: &[&'static str] =
            if transport == Transport::Polling && self.has(Transport::WebSocket) { &["websocket"] } else { &[] };
        let ping_interval = u64::try_from(self.shared.settings.heartbeat.as_millis()).unwrap_or(u64::MAX);
        // The first ping comes with the session, and a crowd waits for its sessions.
        let ping_timeout = ping_interval.saturating_mul(2);
        OpenPacket { sid, upgrades, ping_interval, ping_timeout, max_payload: limits::FRAME_BYTES_MAX }.text()
    }

    fn has(&self, transport: Transport) -> bool {
        self.settings.transports.contains(&transport)
    }

    fn names(&self) -> Vec<&'static str> {
        let name = |transport: &Transport| match transport {
            Transport::WebSocket => "websocket",
            Transport::Polling => "polling",
        };
        self.settings.transports.iter().map(name).collect()
    }
}

async fn begin(shared: Shared, mut socket: WebSocket, open: Utf8Bytes, knock: Knock) {
    if socket.send(Message::Text(open)).await.is_ok() {
        entering::enter(shared, socket, knock).await;
    }
}

/// An answer to a request of polling. It is nobody else's, and never the same again.
fn text(body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body).into_response()
}
