//! Accepting messages and settling them: the lanes that write in batches, and the hints that follow each commit.
//!
//! A lane is a task with one database connection. It takes whatever has queued up while its last transaction was
//! under way and commits that as one: alone on the machine a message waits for nobody, under load a batch pays one
//! fsync. Queues are bounded; what does not fit is refused, never kept in memory only.
//!
//! In reading order: [`item`] what is asked, `accept` and `settle` the two kinds of lanes, `routes` which lane,
//! `link` a lane's connection, `receipts` what senders are told, `health` whether the database is there.

mod accept;
mod batch;
mod health;
mod item;
mod link;
mod receipts;
mod routes;
mod settle;

pub use health::Health;
pub use item::{Accepted, Acks, Attempt, AttemptTarget, ReadDone, ReadUpTo, Refusal, SendItem};
pub use link::ConnectTo;
pub use receipts::Receipts;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::{AttemptOutcome, ChatId, UserId};
use crate::hub::Hub;
use crate::store::Store;
use crate::telemetry::Metrics;

/// How the lanes are laid out.
#[derive(Debug, Clone)]
pub struct LaneSettings {
    /// Lanes for messages, besides the one for large chats.
    pub accept_lanes: u16,
    /// Lanes for acks and reads.
    pub settle_lanes: u16,
    /// Attempts after which a row is failed.
    pub attempts_max: u16,
    /// Where lanes connect to.
    pub connect_to: ConnectTo,
}

/// The way in for everything that is written.
#[derive(Debug, Clone)]
pub struct Delivery {
    accept: accept::AcceptLanes,
    settle: settle::SettleLanes,
    receipts: Receipts,
    health: Health,
}

impl Delivery {
    /// Starts the lanes. They end, with everything written that was queued, once `stop` is cancelled.
    pub fn start(
        settings: &LaneSettings,
        store: &Store,
        hub: &Arc<Hub>,
        metrics: &Arc<Metrics>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let health = Health::start(store.clone(), Arc::clone(metrics), tasks, stop.clone());
        let receipts = Receipts::start(store.clone(), Arc::clone(hub), Arc::clone(metrics), tasks, stop.clone());
        let shared = link::Shared { hub: Arc::clone(hub), metrics: Arc::clone(metrics), health: health.clone(), stop: stop.clone() };
        let accept = accept::AcceptLanes::start(settings, &shared, tasks);
        let settle = settle::SettleLanes::start(settings, &shared, &receipts, tasks);
        Self { accept, settle, receipts, health }
    }

    /// Queues a message. The answer comes after its commit; a full queue and an absent database refuse at once.
    pub fn send(&self, item: SendItem) -> impl Future<Output = Result<Accepted, Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let queued = if self.health.is_away() { Err(Refusal::Unavailable) } else { self.accept.queue(item, reply) };
        async move {
            queued?;
            answer.await.unwrap_or(Err(Refusal::Unavailable))
        }
    }

    /// Queues acks. The returned future ends when they are committed, however long the database is away; it fails
    /// only when the node stops or on a defect. Acks of one connection are committed in the order of these calls as
    /// long as each call's first poll comes before the next call.
    pub fn settle(&self, acks: Acks) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        self.settle.settle(acks)
    }

    /// Marks a chat as read up to a number or message.
    pub fn read(
        &self,
        user: Arc<crate::domain::Profile>,
        chat: ChatId,
        up_to: ReadUpTo,
    ) -> impl Future<Output = Result<ReadDone, Refusal>> + Send + use<> {
        self.settle.read(user, chat, up_to)
    }

    /// Counts an attempt against a row of this user.
    pub fn count_attempt(&self, attempt: Attempt) -> impl Future<Output = Result<AttemptOutcome, Refusal>> + Send + use<> {
        self.settle.attempt(attempt)
    }

    /// Is the database there?
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// What senders are told.
    pub const fn receipts(&self) -> &Receipts {
        &self.receipts
    }
}

/// When a queue is full: how long a sender should wait. About what a full queue takes to be written.
const BUSY_RETRY: Duration = Duration::from_millis(500);

/// The lane of a user.
fn lane_of_user(user: UserId, lanes: usize) -> usize {
    usize::try_from(user.0.unsigned_abs()).unwrap_or(0) % lanes
}
