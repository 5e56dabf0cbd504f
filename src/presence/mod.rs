//! The nodes that live, and the users who are online at each of them: leases in the database that live as long as their node.
//!
//! A node's heartbeat renews all its leases with one row. What changes is written in batches, a moment after the fact, and
//! never waited for by a connection. Only the database's clock counts. Presence is a hint: no message depends on it.
//!
//! In reading order: `leases` (users of this node come and go), `registry` (nodes do), `watches` (what sessions were not told of).

mod leases;
mod registry;
mod watches;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::bus::{Bus, BusKey, BusMessage, ContentKey, ContentKeys, Listing};
use crate::domain::{NodeId, UserId};
use crate::hub::Hub;
use crate::notifier::Notifier;
use crate::protocol::event::Notice;
use crate::store::{self, Beat, KeyRing, Presented, Store};
use crate::telemetry::Metrics;
use leases::{Keeper, Pending};
use registry::Registry;

/// The times of presence.
#[derive(Debug, Clone, Copy)]
pub struct PresenceSettings {
    /// Time between heartbeats of a node.
    pub beat_interval: Duration,
    /// The time that a node lives without another heartbeat.
    pub lives: Duration,
    /// The time that a user may be gone before anybody is told.
    pub grace: Duration,
}

/// The parts of the node that presence uses.
#[derive(Debug, Clone)]
pub struct Node {
    /// The database that keeps the leases.
    pub store: Store,
    /// The sessions of this node.
    pub hub: Arc<Hub>,
    /// The way to the users who watch.
    pub notifier: Notifier,
    /// The other nodes.
    pub bus: Bus,
    /// The metrics that operators see.
    pub metrics: Arc<Metrics>,
}

/// Connections report here that their users came and went. Clones share it.
#[derive(Debug, Clone)]
pub struct Presence {
    pending: Arc<Mutex<Pending>>,
    ring: Arc<Notify>,
    store: Store,
    bus: Bus,
    grace: Duration,
}

impl Presence {
    /// Lists the node, so that others tell it what they do, and keeps its leases until `stop` is cancelled.
    ///
    /// # Errors
    /// The errors of [`Store::beat`]: the node could not be listed. No task was started then.
    pub async fn start(node: Node, settings: PresenceSettings, tasks: &TaskTracker, stop: &CancellationToken) -> store::Result<Self> {
        let beat = node.store.beat(node.bus.me(), settings.lives).await?;
        let live = i64::try_from(beat.live.len()).unwrap_or(i64::MAX);
        node.bus.begin(listing(beat, node.store.keys()));
        node.metrics.live_nodes.set(live);
        let (pending, ring) = (Arc::<Mutex<Pending>>::default(), Arc::new(Notify::new()));
        let presence = Self {
            pending: Arc::clone(&pending),
            ring: Arc::clone(&ring),
            store: node.store.clone(),
            bus: node.bus.clone(),
            grace: settings.grace,
        };
        let keeper = Keeper::new(node.clone(), settings.grace, pending, ring);
        tasks.spawn(stop.clone().run_until_cancelled_owned(keeper.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(watches::run(node.clone())));
        let registry = Registry { node, settings, presence: presence.clone() };
        tasks.spawn(stop.clone().run_until_cancelled_owned(registry.run()));
        Ok(presence)
    }

    /// A session of this user has registered in the hub.
    pub fn arrived(&self, user: UserId) {
        self.change(|pending| pending.came(user));
    }

    /// The last session of this user here has ended.
    pub fn left(&self, user: UserId) {
        self.change(|pending| pending.went(user, Instant::now()));
    }

    /// The node ends: the others tell it nothing more, and its users have a grace to come to another. What this node has told is
    /// to be published before it.
    ///
    /// # Errors
    /// The errors of [`Store::leave`]. The leases then end by themselves.
    pub async fn leave(&self) -> store::Result<()> {
        self.store.leave(self.bus.me(), self.grace).await
    }

    /// The leases are gone: all users who are here arrive again.
    fn renew(&self) {
        self.change(Pending::renew);
    }

    fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut leases::locked(&self.pending));
        self.ring.notify_one();
    }
}

impl Node {
    /// Takes out a node that has gone, with at most `users_max` of its leases, and tells the contacts of users who are online nowhere
    /// now. Returns how many users that are. To be called until [`Store::any_node_gone`] says that none is left.
    ///
    /// # Errors
    /// The errors of [`Store::reap`]. Leases that it took out nevertheless are told to nobody.
    pub async fn reap(&self, users_max: i32) -> store::Result<usize> {
        let offline = self.store.reap(users_max).await?;
        debug!(users = offline.len(), "users of a node that has gone are offline");
        offline.iter().for_each(|user| self.say_offline(user));
        Ok(offline.len())
    }

    fn me(&self) -> NodeId {
        self.bus.me()
    }

    fn say_online(&self, user: &Presented) {
        self.notifier.notice_to_watchers(user.user, Notice::Online { user: user.external.clone(), at: user.at });
    }

    fn say_offline(&self, user: &Presented) {
        self.notifier.notice_to_watchers(user.user, Notice::Offline { user: user.external.clone(), last_seen: user.at });
    }

    fn say_hello(&self) {
        debug!(node.id = %self.me(), "listed again; leases are made anew");
        self.bus.post(&BusMessage::Hello);
    }
}

/// The answer to a heartbeat in the form that the bus takes, with the content keys that the node knows.
fn listing(beat: Beat, ring: &KeyRing) -> Listing {
    let content_key = |(id, secret)| ContentKey { id, secret };
    let (sealing, newest) = ring.bus_secrets();
    let content = ContentKeys { sealing: sealing.map(content_key), opening: newest.into_iter().map(content_key).collect() };
    let keys = beat.keys.into_iter().map(|(number, secret)| BusKey { number, secret }).collect();
    Listing { boot: beat.boot, live: beat.live, keys, sealing: beat.sealing, content }
}
