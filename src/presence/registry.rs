//! The heartbeat of this node. Its answer names the other nodes that live. A node that says it has come makes the next one due,
//! and is believed only if the answer names it.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::{Node, Presence, PresenceSettings, listing};
use crate::store;

/// A statement that takes longer is not waited for: the next heartbeat is due.
const TIME_MAX: Duration = Duration::from_secs(3);
/// The shortest pause between two heartbeats, whatever other nodes say.
const PAUSE_MIN: Duration = Duration::from_millis(100);

pub(super) struct Registry {
    pub(super) node: Node,
    pub(super) settings: PresenceSettings,
    pub(super) presence: Presence,
}

impl Registry {
    pub(super) async fn run(self) {
        let mut every = tokio::time::interval(self.settings.beat_interval);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = self.node.bus.outdated() => {}
            }
            match timeout(TIME_MAX, self.beat()).await {
                Ok(Ok(())) => {}
                Ok(Err(cause)) => debug!(?cause, "the node could not be listed"),
                Err(_) => debug!("the node could not be listed in time"),
            }
            sleep(PAUSE_MIN).await;
        }
    }

    async fn beat(&self) -> store::Result<()> {
        let beat = self.node.store.beat(self.node.me(), self.settings.lives).await?;
        let came = beat.came;
        let live = i64::try_from(beat.live.len()).unwrap_or(i64::MAX);
        let looks = self.node.bus.know(listing(beat, self.node.store.keys()), &mut |event| self.node.notifier.received(event));
        self.node.metrics.live_nodes.set(live);
        if looks {
            // It may have told nobody of its last commits, or too much before it was known here.
            info!(
                "a node that was not stopped in order is taken out, as after a kill of this service, or one has told much before it was \
                 known: sessions check for what they were not told"
            );
            self.node.notifier.check_all();
        }
        if came {
            self.node.say_hello();
            self.presence.renew();
        }
        Ok(())
    }
}
