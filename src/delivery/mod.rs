//! Accepting messages and settling them: the lanes that write in batches, and the hints that follow each commit.
//!
//! A lane is a task with one database connection. It takes whatever has queued up while its last transaction was
//! under way and commits that as one: alone on the machine a message waits for nobody, under load a batch pays one
//! fsync. Queues are bounded; what does not fit is refused, never kept in memory only.
//!
//! In reading order: `item` and `chain` define the requests and their order, `accept` (with `batch` and `deferred`) and `settle` are
//! the two kinds of lanes, `routes` chooses the lane, `turns` lets those who change a chat wait for those who send to it, `link` is the
//! connection of a lane, `policy` the rule for direct messages, `direct` finds the direct chat with a user, `receipts` sends
//! receipts, `refusal` maps failures to answers, and `health` pings a database that is away until it answers.

mod accept;
mod batch;
mod chain;
mod deferred;
mod direct;
mod health;
mod item;
mod limits;
mod link;
mod policy;
mod receipts;
mod refusal;
mod routes;
mod settle;
mod turns;

pub use chain::Chain;
pub use item::{Accepted, Acks, Attempt, AttemptTarget, ReadDone, ReadUpTo, SendItem};
pub use limits::{AccountRates, Budget, Limits, RateSettings};
pub use link::ConnectTo;
pub use receipts::Receipts;
pub use refusal::Refusal;
pub use turns::{Turn, Turns};

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::{AttemptOutcome, ChatId, ExternalId, Profile, SessionId, UserId};
use crate::notifier::Notifier;
use crate::store::{DirectChat, Health, Store};
use crate::telemetry::Metrics;

/// The settings of the lanes.
#[derive(Debug, Clone)]
pub struct LaneSettings {
    /// Lanes for messages, besides the one for large chats.
    pub accept_lanes: u16,
    /// Lanes for acks and reads.
    pub settle_lanes: u16,
    /// Attempts after which a row is failed.
    pub attempts_max: u16,
    /// A message waits this long for a chat, inbox or name that another session holds; then it is refused.
    pub held_timeout: Duration,
    /// The database to which lanes connect.
    pub connect_to: ConnectTo,
    /// The rate limits of a user.
    pub rates: RateSettings,
}

/// The way in for everything that is written.
#[derive(Debug, Clone)]
pub struct Delivery {
    accept: accept::AcceptLanes,
    settle: settle::SettleLanes,
    receipts: Receipts,
    health: Health,
    limits: Limits,
    direct: direct::DirectChats,
    turns: Turns,
}

impl Delivery {
    /// Starts the lanes. They end, with everything written that was queued, once `stop` is cancelled.
    pub fn start(
        settings: &LaneSettings,
        store: &Store,
        notifier: &Notifier,
        metrics: &Arc<Metrics>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let receipts = Receipts::start(store.clone(), notifier.clone(), Arc::clone(metrics), tasks, stop.clone());
        let (metrics, of_lanes) = (Arc::clone(metrics), store.clone());
        let shared = link::Shared { notifier: notifier.clone(), metrics, store: of_lanes, stop: stop.clone() };
        let watch = health::Watch::new(link::Link::new(settings.connect_to.clone(), &shared), store.clone(), Arc::clone(&shared.metrics));
        tasks.spawn(stop.clone().run_until_cancelled_owned(watch.run()));
        let policy = policy::Policy::new(&shared, tasks);
        let accept = accept::AcceptLanes::start(settings, &shared, &policy, tasks);
        let settle = settle::SettleLanes::start(settings, &shared, &receipts, tasks);
        let limits = Limits::start(settings.rates, store, notifier, &shared.metrics, tasks, stop);
        let direct = direct::DirectChats::start(settings, &limits, &policy, &shared, tasks);
        Self { turns: accept.turns(), accept, settle, receipts, health: store.health().clone(), limits, direct }
    }

    /// Queues a message. The answer comes after its commit; a full queue and an absent database refuse at once.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: the queue is full. [`Refusal::Unavailable`]: the database does not answer, or the node stops. Otherwise
    /// the refusal of the transaction, such as [`Refusal::NotAMember`] or [`Refusal::Conflict`]. [`Refusal::Behind`]: an earlier
    /// message of its chain was refused for now.
    pub fn send(&self, item: SendItem) -> impl Future<Output = Result<Accepted, Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let (id, chain) = (item.id, item.chain.clone());
        let queued = match chain.is_behind() {
            Some(first) => Err(Refusal::Behind(first)),
            None if self.health.is_away() => Err(Refusal::Unavailable),
            None => self.accept.queue(item, reply),
        };
        // Now, and not where the answer is read: the next message of the chain may come before that.
        if queued.is_err() {
            chain.break_at(id);
        }
        async move {
            queued?;
            answer.await.unwrap_or(Err(Refusal::Unavailable))
        }
    }

    /// Writes acks. The future ends when they are committed, however long the database is away; it fails only when the
    /// node stops or on a defect.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: the node stops. Otherwise the database has refused the acks.
    pub fn settle(&self, acks: Acks) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        let queued = self.settle_or_wait(acks);
        async move {
            match queued {
                Ok(written) => written.await,
                Err(wait) => wait.await,
            }
        }
    }

    /// The same for a connection, whose acks must be committed in order. `Ok`: they are queued, the next may follow.
    ///
    /// # Errors
    /// The lane is full, or the node stops. The next acks must wait until the future in the error has ended.
    pub fn settle_or_wait(&self, acks: Acks) -> Result<Writing, Writing> {
        self.settle.settle(acks)
    }

    /// Marks a chat as read up to a number or message.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`] or [`Refusal::NotFound`]: the user is not in the chat, or the chat has no such message.
    /// [`Refusal::Unavailable`]: the node stops.
    pub fn read(
        &self,
        user: Arc<Profile>,
        chat: ChatId,
        up_to: ReadUpTo,
    ) -> impl Future<Output = Result<ReadDone, Refusal>> + Send + use<> {
        self.settle.read(user, chat, up_to, None)
    }

    /// The same for a session, which is not told of its own reading.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn read_by_session(
        &self,
        session: SessionId,
        user: Arc<Profile>,
        chat: ChatId,
        up_to: ReadUpTo,
    ) -> impl Future<Output = Result<ReadDone, Refusal>> + Send + use<> {
        self.settle.read(user, chat, up_to, Some(session))
    }

    /// Counts an attempt against a row of this user.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: the user has no such row. [`Refusal::Unavailable`]: the node stops.
    pub fn count_attempt(&self, attempt: Attempt) -> impl Future<Output = Result<AttemptOutcome, Refusal>> + Send + use<> {
        self.settle.attempt(attempt)
    }

    /// The health of the database: whether it answers.
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// The turns of those who change who is in a chat.
    pub const fn turns(&self) -> &Turns {
        &self.turns
    }

    /// The rate limits of users.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The direct chat of this user with the one of this name, where this process remembers it.
    pub fn known_direct_chat(&self, user: UserId, other: &ExternalId) -> Option<ChatId> {
        self.direct.known(user, other)
    }

    /// The same from the database: found, or made when it is missing and the user may begin another.
    ///
    /// # Errors
    /// [`Refusal::TooManyChats`]: the user has begun too many. [`Refusal::Busy`]: the queue is full.
    /// [`Refusal::Unavailable`]: the database does not answer.
    pub fn ask_direct_chat(&self, user: UserId, other: ExternalId) -> impl Future<Output = Result<DirectChat, Refusal>> + Send + use<> {
        self.direct.ask(user, other)
    }

    /// The direct chat of this user with the one of this name, from memory or from the database.
    ///
    /// # Errors
    /// The refusals of [`Self::ask_direct_chat`], when this process does not remember the chat.
    pub async fn direct_chat(&self, user: UserId, other: &ExternalId) -> Result<DirectChat, Refusal> {
        match self.known_direct_chat(user, other) {
            Some(chat) => Ok(DirectChat { chat, is_new: false }),
            None => self.ask_direct_chat(user, other.clone()).await,
        }
    }

    /// The receipts to senders.
    pub const fn receipts(&self) -> &Receipts {
        &self.receipts
    }
}

/// Acks on their way to a commit.
pub type Writing = std::pin::Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// The lane of a user.
fn lane_of_user(user: UserId, lanes: usize) -> usize {
    usize::try_from(user.0.unsigned_abs()).unwrap_or(0) % lanes
}
