//! NATS instead of NOTIFY, where `NATS_URL` is set: the same sealed letters, a subject for each node.
//!
//! The client reconnects by itself and says nothing of what it lost. So the node tells itself, again and again, how often
//! its connection has changed: what it hears has come all the way, and a number that it has not heard before means that
//! anything may have been missed, by it and by those it told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::post::Letters;
use super::{Bus, BusEvent};
use crate::domain::NodeId;

/// The reason why no client of NATS could be made. A server that is away is no such reason: the client tries it again and again.
pub type NatsError = async_nats::ConnectError;

/// The prefix of a message that a node sends to itself; a number follows.
const CHANGES: &str = "changes ";
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Two of them unanswered: the client makes another connection.
const PING_INTERVAL: Duration = Duration::from_secs(3);
const TIME_MAX: Duration = Duration::from_secs(2);

/// A client of a NATS server. Clones share it.
#[derive(Debug, Clone)]
pub struct Nats {
    client: Client,
    /// Nodes of another epoch have other users under the same numbers: nothing of theirs must be heard.
    epoch: Arc<str>,
    /// The number of times that the connection was made or dropped something.
    changes: Arc<AtomicU64>,
}

impl Nats {
    /// Connects, now or once the server is there, for nodes of this epoch.
    ///
    /// # Errors
    /// [`NatsError`]: the address cannot be used. A server that is away is no error.
    pub async fn connect(url: &str, epoch: &str) -> Result<Self, NatsError> {
        let changes = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&changes);
        let options = ConnectOptions::new().name("restante").retry_on_initial_connect().ping_interval(PING_INTERVAL);
        let options = options.event_callback(move |event| {
            if matches!(event, Event::Connected | Event::SlowConsumer(_)) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            std::future::ready(())
        });
        Ok(Self { client: options.connect(url).await?, epoch: epoch.into(), changes })
    }

    /// Takes letters to nodes. False: they did not leave.
    pub async fn carry(&self, letters: Letters) -> bool {
        // While it is away the client would keep them, and more than it should.
        if self.client.connection_state() != State::Connected {
            return false;
        }
        let carried = async {
            for (node, letter) in letters {
                self.client.publish(self.subject(node), letter.into()).await.ok()?;
            }
            self.client.flush().await.ok()
        };
        matches!(timeout(TIME_MAX, carried).await, Ok(Some(())))
    }

    /// Listens until it is dropped.
    pub async fn listen(&self, bus: &Bus, mut received: impl FnMut(BusEvent)) {
        loop {
            match self.client.subscribe(self.subject(bus.me())).await {
                Ok(letters) => self.follow(bus, letters, &mut received).await,
                Err(cause) => debug!(?cause, "NATS takes no subscription"),
            }
            sleep(BEAT_INTERVAL).await;
        }
    }

    async fn follow(&self, bus: &Bus, mut letters: async_nats::Subscriber, received: &mut impl FnMut(BusEvent)) {
        let mut known = None;
        let mut every = tokio::time::interval(BEAT_INTERVAL);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                letter = letters.next() => {
                    let Some(letter) = letter else { return };
                    let mut own = None;
                    bus.open_or_own(&String::from_utf8_lossy(&letter.payload), |text| own = Some(text), received);
                    if own.is_some() && known != own {
                        known = own;
                        // Letters to and from this node may not have arrived.
                        bus.lost(&[]);
                        received(BusEvent::Missed);
                    }
                }
                _ = every.tick() => {
                    let changes = format!("{CHANGES}{}", self.changes.load(Ordering::Relaxed));
                    if let Some(letter) = bus.seal(bus.me(), &changes) {
                        self.carry(vec![(bus.me(), letter)]).await;
                    }
                }
            }
        }
    }

    fn subject(&self, node: NodeId) -> String {
        format!("restante.{}.node.{}", self.epoch, node.0.simple())
    }
}
