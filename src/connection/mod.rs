//! The door of WebSocket clients: a task per socket that runs one driver and keeps the socket's own promises:
//! authentication, heartbeat, the token's end, bounded queues both ways.
//!
//! In reading order: `handshake` (from the HTTP request to a known user), `open` (admission and opening), `task` (the
//! loop), `outbox` (events, encoded), `writer` (from there to the socket), `closing` (the closing handshake), `shutdown`
//! (a planned stop: which connection is closed when).

mod closing;
mod handshake;
mod open;
mod outbox;
mod shutdown;
mod task;
mod writer;

mod advances;
mod gathered;
mod looks;
mod turns;

pub use advances::Advances;
pub use closing::fault_of;
pub use handshake::{ConnectQuery, bounded, upgrade};
pub use looks::Looks;
pub use shutdown::Shutdown;
pub use turns::{Purpose, Turn, Turns, spread};

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::auth::TokenVerifier;
use crate::delivery::Delivery;
use crate::domain::Clock;
use crate::hub::Hub;
use crate::notifier::Notifier;
use crate::presence::Presence;
use crate::session;
use crate::store::{Epoch, Store};
use crate::telemetry::Metrics;

/// How connections behave.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// What sessions start with; the window is the client's wish.
    pub session: session::Settings,
    /// Time for the first frame `authenticate`.
    pub auth_timeout: Duration,
    /// Time between pings; a connection that misses two is closed.
    pub heartbeat: Duration,
}

/// What every connection of a node shares. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The database.
    pub store: Store,
    /// The lanes.
    pub delivery: Delivery,
    /// The sessions of this node.
    pub hub: Arc<Hub>,
    /// The sessions of every node.
    pub notifier: Notifier,
    /// Who is online.
    pub presence: Presence,
    /// What operators see.
    pub metrics: Arc<Metrics>,
    /// Whose token is it?
    pub verifier: Arc<TokenVerifier>,
    /// This node's clock.
    pub clock: Clock,
    /// Which database the numbers are of.
    pub epoch: Epoch,
    /// Who ends connections without an ack, again and again.
    pub crashes: Arc<crate::driver::Crashes>,
    /// Whose read is next.
    pub turns: Turns,
    /// Slow looks.
    pub looks: Looks,
    /// Where inboxes are settled up to.
    pub advances: Advances,
    /// How connections behave.
    pub settings: Arc<ConnectionSettings>,
    /// Connections run here, so that a stop can wait for them.
    pub tasks: TaskTracker,
    /// Whether the node has begun to stop. Then connections take leave, each at its moment, and close with 1012.
    pub shutdown: Shutdown,
}
