//! A connection: the task around one session. It turns frames into inputs, performs effects, and keeps the socket's
//! own promises: authentication, heartbeat, the token's end, bounded queues both ways.
//!
//! In reading order: `handshake` (from the HTTP request to a known user), `open` (from the user to `ready`), `shell`
//! (the loop), `frames` (what the client says), `directing` (which sends wait for
//! their chat), `perform` (what the session wants), `notes` (what others say),
//! `marks` (what a sender that was away is told), `outbox` (the way out), `stop` (who leaves when). The database is asked through
//! the service.

mod handshake;
mod open;

mod shell;

mod directing;
mod frames;
mod notes;
mod perform;

mod crashes;
mod marks;
mod outbox;
mod stop;

pub use crashes::Crashes;
pub use handshake::{ConnectQuery, Wishes, bounded, fault_of, upgrade};
pub use stop::Stop;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::auth::TokenVerifier;
use crate::domain::Clock;
use crate::hub::Hub;
use crate::presence::Presence;
use crate::reach::Reach;
use crate::service::Service;
use crate::session;
use crate::store::Epoch;
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
    /// The way in for everything that a client asks for.
    pub service: Service,
    /// The sessions of this node.
    pub hub: Arc<Hub>,
    /// The sessions of every node.
    pub reach: Reach,
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
    pub crashes: Arc<Crashes>,
    /// How connections behave.
    pub settings: Arc<ConnectionSettings>,
    /// Connections run here, so that a stop can wait for them.
    pub tasks: TaskTracker,
    /// Has the node begun to stop? Then connections take leave, each at its moment, and close with 1012.
    pub stop: Stop,
}
