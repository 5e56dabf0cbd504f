//! The door of WebSocket clients: a task per socket that runs one driver and keeps the socket's own promises:
//! authentication, heartbeat, the token's end, bounded queues both ways. The task speaks any dialect over any socket of frames, so other doors run it too.
//!
//! In reading order: `upgrade` and `websocket` (the socket itself, and its compression), `handshake` (from the HTTP request to a known user) with `client` (what its address may ask), `open` (admission and opening), `task` (the
//! loop), `reading` (whether it reads on), `outbox` (events, encoded), `writer` (from there to the socket), `closing` (the closing handshake), `shutdown`
//! (a planned stop: which connection is closed when).

mod client;
mod closing;
mod handshake;
mod open;
mod outbox;
mod reading;
mod shutdown;
mod socket;
mod task;
mod upgrade;
mod websocket;
mod writer;

pub use closing::{answer_close, fault_of, refuse};
pub use handshake::{ConnectQuery, check_open, upgrade};
pub use open::{AnswerTo, Entrant, admit, run, start};
pub use shutdown::Shutdown;
pub use socket::Frames;
pub use upgrade::Upgrade;
pub use websocket::WebSocket;

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;

use crate::auth::{Origins, TrustedProxies};
use crate::domain::AddressBlock;
use crate::driver::Context;

/// The settings of connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionSettings {
    /// Time for the first frame `authenticate`.
    pub auth_timeout: Duration,
    /// Time between pings; a connection that misses two is closed.
    pub heartbeat: Duration,
    /// Long frames are compressed for clients that offer it.
    pub has_compression: bool,
}

/// The parts of a node that its connections share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The parts that sessions need.
    pub context: Context,
    /// The settings of connections.
    pub settings: ConnectionSettings,
    /// The origins whose pages may use the node, over the socket and over HTTP.
    pub origins: Origins,
    /// The proxies that say where a request came from.
    pub proxies: Arc<TrustedProxies>,
    /// Knows if the node has begun to stop. Then connections take leave, each at its moment, and close with 1012.
    pub shutdown: Shutdown,
    /// The client that is being let in; none: these are the parts for all.
    pub client: Option<AddressBlock>,
}

impl Shared {
    /// Agrees on compression with a client that offers it, where the settings allow it.
    pub fn agree(&self, upgrade: Upgrade, headers: &HeaderMap) -> Upgrade {
        if self.settings.has_compression { upgrade.compressing(headers, &self.context.metrics) } else { upgrade }
    }
}
