//! The service: what a user and an operator can do, the same behind every door.
//!
//! Doors (HTTP, the socket) decode a request, ask here, and encode the result. Requests and results are typed values; nothing here
//! knows JSON, axum or sockets. Whatever goes wrong is a [`Refusal`]. Everything that a client can make the database do
//! outside of the lanes waits for its permit in the [`AdmissionQueue`].
//!
//! In reading order: `sessions` (sign in, open), `messages`, `chats`, `members` with `announce` and `changes`, `inbox`, `marks`, `echoes`, `presence`,
//! `dead_letters`, `readiness`; then what orders and bundles the reads of many: `admission`, `batcher` with `fallback_poll` and
//! `low_watermark`.

mod chats;
mod dead_letters;
mod echoes;
mod inbox;
mod marks;
mod members;
mod messages;
mod presence;
mod readiness;
mod sessions;

mod announce;
mod changes;

mod admission;
mod batcher;
mod fallback_poll;
mod low_watermark;

pub use admission::{Admission, AdmissionQueue, Purpose};
pub use chats::{ChatDetails, ChatList, MembersPart, NewChat, NewChatResult};
pub use dead_letters::{DeadLetterDetails, DeadLetterList};
pub use inbox::PageQuery;
pub use marks::OverviewQuery;
pub use members::{MembersAdded, MembersRemoved};
pub use presence::PresenceOf;
pub use sessions::SignIn;

pub use crate::delivery::{Accepted, ReadDone, ReadUpTo, Refusal};
pub use crate::store::{
    ChatView, DeadLetterCursor, DeadLetterFilter, Discarded, HistoryPage, HistoryRange, Member, MemberMarks, PutBack, StatusOf,
};

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::delivery::Delivery;
use crate::domain::{Clock, ExternalId};
use crate::hub::Hub;
use crate::notifier::Notifier;
use crate::store::{self, Health, Store};
use crate::telemetry::Metrics;
use changes::ChangePlaces;
use fallback_poll::FallbackPoll;
use low_watermark::LowWatermarks;

/// The parts of a node that the service is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The lanes.
    pub delivery: Delivery,
    /// The sessions of this node.
    pub hub: Arc<Hub>,
    /// The sessions of every node.
    pub notifier: Notifier,
    /// The metrics of this node.
    pub metrics: Arc<Metrics>,
    /// The clock of this node.
    pub clock: Clock,
}

/// The bounds of the service.
#[derive(Debug, Clone, Copy)]
pub struct ServiceSettings {
    /// Connections of the pool.
    pub pool_size: u32,
    /// Openings that may wait for a permit.
    pub openings_waiting_max: u32,
    /// The interval at which each session polls for what it was not told of.
    pub look_interval: Duration,
}

/// The way in for everything that a client can ask for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    store: Store,
    delivery: Delivery,
    hub: Arc<Hub>,
    notifier: Notifier,
    metrics: Arc<Metrics>,
    clock: Clock,
    admission: AdmissionQueue,
    changes: ChangePlaces,
    fallback_poll: FallbackPoll,
    low_watermarks: LowWatermarks,
}

impl Service {
    /// Starts what bundles the reads of many sessions, until `stop` is cancelled.
    pub fn start(parts: Parts, settings: ServiceSettings, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let Parts { store, delivery, hub, notifier, metrics, clock } = parts;
        let admission = AdmissionQueue::new(settings.pool_size, settings.openings_waiting_max, Arc::clone(&metrics));
        let fallback_poll = FallbackPoll::start(store.clone(), admission.clone(), settings.look_interval, tasks, stop);
        let low_watermarks = LowWatermarks::start(store.clone(), admission.clone(), tasks, stop);
        Self { store, delivery, hub, notifier, metrics, clock, admission, changes: ChangePlaces::default(), fallback_poll, low_watermarks }
    }

    /// The permits to ask something of the database.
    pub const fn admission(&self) -> &AdmissionQueue {
        &self.admission
    }

    /// The state of the database: away, or there.
    pub const fn health(&self) -> &Health {
        self.store.health()
    }

    /// Runs what this user asks of the database once it is admitted. `what` is asked, in words for the log. While the database is away
    /// nothing waits to be admitted: with each try taking seconds, the last in line would hear of it after a minute.
    async fn ask<T>(&self, user: &ExternalId, what: &'static str, asked: impl Future<Output = store::Result<T>>) -> Result<T, Refusal> {
        let _admission = self.admit(user).await?;
        asked.await.map_err(|cause| Refusal::of(&cause, what))
    }

    /// A permit to ask the database for what this user wants.
    async fn admit(&self, user: &ExternalId) -> Result<Admission, Refusal> {
        tokio::select! {
            biased;
            admitted = self.admission.admit_request(user) => admitted,
            () = self.health().gone() => Err(Refusal::Unavailable),
        }
    }
}
