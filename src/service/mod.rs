//! The service: what a user and an operator can do, the same behind every door.
//!
//! Doors (HTTP, the socket) decode a request, ask here, and encode the result. Requests and results are typed values; nothing here
//! knows JSON, axum or sockets. Whatever goes wrong is a [`Refusal`]. Everything that a client can make the database do
//! outside of the lanes waits for its permit in the [`AdmissionQueue`], and is counted against the [`Budget`] of its user.
//!
//! In reading order: `may` (rights), `sessions` (sign in, open), `messages`, `chats`, `members` with `announce` and `changes`, `recalls`, `inbox`, `marks`, `echoes`, `presence`,
//! `feeds` and `events`, `preferences`, `contacts`, `blocks`, `invitations`, `accounts`, `dead_letters`, `audit`, `revocations`, `limits`, `data_keys`, `statistics`, `readiness`; then what bounds, orders and bundles what many ask: `budget`, `admission`, `batcher` with
//! `fallback_poll` and `low_watermark`; `feed_wakes` wakes those who follow a feed.

mod accounts;
mod audit;
mod blocks;
mod chats;
mod contacts;
mod data_keys;
mod dead_letters;
mod echoes;
mod erasures;
mod events;
mod feeds;
mod inbox;
mod invitations;
mod limits;
mod marks;
mod may;
mod members;
mod messages;
mod preferences;
mod presence;
mod readiness;
mod recalls;
mod revocations;
mod sessions;
mod statistics;

mod announce;
mod changes;

mod admission;
mod batcher;
mod budget;
mod fallback_poll;
mod feed_wakes;
mod low_watermark;
mod take_ahead;

pub use accounts::{AccountRefusal, AccountSettings, Accounts, LoginTokens, PasswordChange, Registration};
use admission::Claimant;
pub use admission::{Admission, AdmissionQueue, Purpose};
pub use audit::AuditPage;
pub use blocks::BlockList;
pub use budget::points_of_bytes;
pub use chats::{ChatDetails, ChatList, MembersPart, NewChat, NewChatResult};
pub use contacts::ContactList;
pub use dead_letters::{DeadLetterDetails, DeadLetterList};
pub use events::{Publication, Published, Publisher};
pub use feeds::{FeedList, FollowChange, FollowerList, NewFeed, PublisherChange};
pub use inbox::PageQuery;
pub use invitations::{InvitationList, InvitedList};
pub use limits::RaisedLimitList;
pub use marks::OverviewQuery;
pub use may::{Act, Relation, Right, Role, may};
pub use members::{MembersAdded, MembersRemoved};
pub use presence::PresenceOf;
pub use recalls::RecallDone;
pub use revocations::{RevocationList, RevocationWatch, RevokeRequest};
pub use sessions::SignIn;
pub use statistics::{NoStatistics, StatisticsPage, StatisticsRequest};

pub use crate::delivery::{Accepted, Budget, ReadDone, ReadUpTo, Refusal};
pub use crate::store::{
    BlockedUser, ChatView, ContactChange, ContactRole, ContactState, ContactView, DeadLetterCursor, DeadLetterFilter, Discarded,
    ErasedContent, Erasure, EventAddress, EventProgress, FeedRole, FeedView, HistoryPage, HistoryRange, InvitationView, InvitedUser,
    LoginTimes, Member, MemberMarks, PreferencesChange, PutBack, RevocationPlace, StatusOf,
};

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::delivery::{Delivery, Limits};
use crate::domain::{Clock, ExternalId, LimitKind};
use crate::hub::Hub;
use crate::notifier::Notifier;
use crate::store::{self, Health, Store};
use crate::telemetry::Metrics;
use changes::ChangePlaces;
use events::{PublishLane, PublishQueue};
use fallback_poll::FallbackPoll;
use feed_wakes::FeedWakes;
use low_watermark::LowWatermarks;
use take_ahead::TakesAhead;

/// A request waits so long for what its user owes.
const DEBT_WAIT_MAX: Duration = Duration::from_secs(2);

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
    /// The revocations of tokens.
    pub revocations: RevocationWatch,
    /// The accounts; none: there are none here.
    pub accounts: Option<Accounts>,
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
    /// The time for which a sender may recall a message; zero: not at all.
    pub recall_window: Duration,
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
    bounds: Bounds,
    batched: BatchedReads,
    events: PublishQueue,
    publish_lane: PublishLane,
    recall_window: Duration,
    takes_ahead: TakesAhead,
    tasks: TaskTracker,
    revocations: RevocationWatch,
    accounts: Option<Arc<Accounts>>,
}

/// The bounds of what users ask of the database at this node.
#[derive(Debug, Clone)]
struct Bounds {
    admission: AdmissionQueue,
    changes: ChangePlaces,
}

/// Reads of many sessions, bundled into few statements.
#[derive(Debug, Clone)]
struct BatchedReads {
    fallback_poll: FallbackPoll,
    low_watermarks: LowWatermarks,
}

impl Service {
    /// Starts what bundles the reads of many sessions, until `stop` is cancelled.
    pub fn start(parts: Parts, settings: ServiceSettings, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let Parts { store, delivery, hub, notifier, metrics, clock, revocations, accounts } = parts;
        let accounts = accounts.map(|accounts| Arc::new(accounts.counted_in(&metrics)));
        let admission = AdmissionQueue::new(settings.pool_size, settings.openings_waiting_max, Arc::clone(&metrics));
        let fallback_poll = FallbackPoll::start(store.clone(), admission.clone(), settings.look_interval, tasks, stop);
        let low_watermarks = LowWatermarks::start(store.clone(), admission.clone(), tasks, stop);
        let publish_lane = PublishLane::start(store.clone(), admission.clone(), Arc::clone(&metrics), tasks, stop);
        let (of_store, of_hub, of_notifier) = (store.clone(), Arc::clone(&hub), notifier.clone());
        let (of_metrics, of_admission) = (Arc::clone(&metrics), admission.clone());
        let feed_wakes = FeedWakes { store: of_store, hub: of_hub, notifier: of_notifier, metrics: of_metrics, admission: of_admission };
        tasks.spawn(stop.clone().run_until_cancelled_owned(feed_wakes.run()));
        Self {
            store,
            delivery,
            hub,
            notifier,
            metrics,
            clock,
            bounds: Bounds { admission, changes: ChangePlaces::default() },
            batched: BatchedReads { fallback_poll, low_watermarks },
            events: PublishQueue::default(),
            publish_lane,
            recall_window: settings.recall_window,
            takes_ahead: TakesAhead::default(),
            tasks: tasks.clone(),
            revocations,
            accounts,
        }
    }

    /// The permits to ask something of the database.
    pub const fn admission(&self) -> &AdmissionQueue {
        &self.bounds.admission
    }

    /// The state of the database: away, or there.
    pub const fn health(&self) -> &Health {
        self.store.health()
    }

    /// The limits of users and addresses.
    pub const fn limits(&self) -> &Limits {
        self.delivery.limits()
    }

    /// The request budget of this user.
    pub fn budget(&self, user: &ExternalId) -> Budget {
        self.delivery.limits().budget(user)
    }

    /// Counts a request, in points, once its user owes nothing. `door` is the label of the metrics.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], after 2 s: the user owes more than that. Nothing was counted.
    pub async fn pay(&self, user: &ExternalId, points: u32, door: &'static str) -> Result<(), Refusal> {
        let budget = self.budget(user);
        let owed = budget.debt();
        if !owed.is_zero() {
            self.metrics.request_pauses.of(door).inc();
        }
        if owed > DEBT_WAIT_MAX {
            // Later, so that a client that asks again at once does so seldom.
            tokio::time::sleep(DEBT_WAIT_MAX).await;
            self.delivery.limits().refused(LimitKind::Requests);
            return Err(Refusal::RateLimited(owed.saturating_sub(DEBT_WAIT_MAX)));
        }
        // Counted before the wait: callers that come together wait for one another.
        tokio::time::sleep(budget.count(points)).await;
        Ok(())
    }

    /// Asks for what has no length: it costs one point.
    async fn ask<T>(&self, user: &ExternalId, what: &'static str, asked: impl Future<Output = store::Result<T>>) -> Result<T, Refusal> {
        self.ask_for(user, 0, what, asked).await
    }

    /// Runs what this user asks of the database once it is admitted: a number of names or rows at most, each 25 of which cost another
    /// point. `what` is asked, in words for the log. While the database is away
    /// nothing waits to be admitted: with each try taking seconds, the last in line would hear of it after a minute.
    async fn ask_for<T>(
        &self,
        user: &ExternalId,
        rows: usize,
        what: &'static str,
        asked: impl Future<Output = store::Result<T>>,
    ) -> Result<T, Refusal> {
        self.budget(user).count(budget::points_of_rows(rows));
        self.try_asking(user, asked).await?.map_err(|cause| Refusal::of(&cause, what))
    }

    /// The same, with the error of the store as it is.
    ///
    /// # Errors
    /// The refusal of the admission: [`Refusal::Busy`] or [`Refusal::Unavailable`]. Nothing was asked then.
    async fn try_asking<T>(
        &self,
        claimant: impl Into<Claimant>,
        asked: impl Future<Output = store::Result<T>>,
    ) -> Result<store::Result<T>, Refusal> {
        let _admission = self.admit(claimant).await?;
        Ok(asked.await)
    }

    /// A permit to ask the database for what this client wants.
    async fn admit(&self, claimant: impl Into<Claimant>) -> Result<Admission, Refusal> {
        tokio::select! {
            biased;
            admitted = self.bounds.admission.admit_request(claimant) => admitted,
            () = self.health().gone() => Err(Refusal::Unavailable),
        }
    }
}
