//! The heartbeat of this node. Its answer names the other nodes that live.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, info};

use super::{Node, Presence, PresenceSettings};
use crate::store::{self, Beat};

/// A statement that takes longer is not waited for: the next heartbeat is due.
const TIME_MAX: Duration = Duration::from_secs(3);

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
            every.tick().await;
            match timeout(TIME_MAX, self.beat()).await {
                Ok(Ok(())) => {}
                Ok(Err(cause)) => debug!(?cause, "the node could not be listed"),
                Err(_) => debug!("the node could not be listed in time"),
            }
        }
    }

    async fn beat(&self) -> store::Result<()> {
        self.node.bus.ask();
        let Beat { came, live } = self.node.store.beat(self.node.me(), self.settings.lives).await?;
        self.node.metrics.live_nodes.set(i64::try_from(live.len()).unwrap_or(i64::MAX));
        if self.node.bus.know(live) {
            // It may have told nobody of its last commits.
            info!(
                "a node that was not stopped in order is taken out, as after a kill of this service: sessions look for what it told nobody"
            );
            self.node.notifier.look();
        }
        if came {
            self.node.say_hello();
            self.presence.renew();
        }
        Ok(())
    }
}
