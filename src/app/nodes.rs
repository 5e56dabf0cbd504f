//! The bus between this node and the others: NOTIFY and LISTEN, or NATS. Letters are sealed before they come here.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::StartError;
use crate::bus::{self, Bus, BusEvent, Letters, ListenerSettings};
use crate::config::Config;
use crate::notifier::Notifier;
use crate::store::{Epoch, Store};
use crate::telemetry::Metrics;

/// The interval at which a node sends itself a beat, and the longest time in which it may receive nothing.
const BEAT_INTERVAL: Duration = Duration::from_secs(2);
const SILENCE_MAX: Duration = Duration::from_secs(7);

/// The connections and settings of the bus.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    /// The pool options and the address of the connection that listens.
    pub(super) listens: PgPoolOptions,
    pub(super) connect_to: PgConnectOptions,
    /// The channel on which functions of the schema notify all nodes.
    pub(super) wakes: String,
    pub(super) carrier: Carrier,
    pub(super) store: Store,
    pub(super) notifier: Notifier,
    pub(super) bus: Bus,
    pub(super) metrics: Arc<Metrics>,
}

/// The transport of letters to other nodes.
#[derive(Debug, Clone)]
pub(super) enum Carrier {
    /// PostgreSQL.
    Notify(Store, Arc<Metrics>),
    /// A NATS server.
    #[cfg(feature = "nats")]
    Nats(bus::Nats, Arc<Metrics>),
}

impl Carrier {
    /// The carrier that the settings choose.
    #[cfg_attr(not(feature = "nats"), expect(unused_variables, reason = "only nodes that use NATS have to keep their epochs apart"))]
    pub(super) async fn choose(config: &Config, epoch: &Epoch, store: &Store, metrics: &Arc<Metrics>) -> Result<Self, StartError> {
        match &config.nats_url {
            None => Ok(Self::Notify(store.clone(), Arc::clone(metrics))),
            #[cfg(feature = "nats")]
            Some(url) => {
                let nats = bus::Nats::connect(secrecy::ExposeSecret::expose_secret(url), epoch.as_str()).await.map_err(StartError::Nats)?;
                Ok(Self::Nats(nats, Arc::clone(metrics)))
            }
            #[cfg(not(feature = "nats"))]
            Some(_) => Err(StartError::WithoutNats),
        }
    }

    /// False: they did not arrive.
    async fn carry(&self, letters: Letters) -> bool {
        let (told, metrics) = match self {
            Self::Notify(store, metrics) => {
                let told = store.notify(letters.into_iter().map(|(node, letter)| (bus::channel(node), letter))).await;
                if let Err(cause) = &told {
                    debug!(?cause, "other nodes could not be notified");
                }
                (told.is_ok(), metrics)
            }
            #[cfg(feature = "nats")]
            Self::Nats(nats, metrics) => (nats.carry(letters).await, metrics),
        };
        if !told {
            metrics.bus_degraded.of("publish").inc();
        }
        told
    }
}

impl Nodes {
    /// Starts to listen and to publish, until `stop` is cancelled.
    pub(super) fn start(self, tasks: &TaskTracker, stop: &CancellationToken) {
        let (publishing, end) = (self.clone(), stop.clone());
        tasks.spawn(async move { publishing.publish(end.cancelled()).await });
        let notifier = self.notifier.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move { notifier.wake_in_rounds().await }));
        #[cfg(feature = "nats")]
        tasks.spawn(stop.clone().run_until_cancelled_owned(self.clone().listen_to_nats()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(self.listen()));
    }

    /// Publishes what is told until `end`, and then what is left. False: the sessions of other nodes have to check for what did not arrive.
    async fn publish(&self, end: impl Future<Output = ()>) -> bool {
        bus::publish(&self.bus, end, |letters| self.carrier.carry(letters)).await
    }

    /// Goes on to publish until `end`, the end of everything that may tell something. Then tells the other nodes that nothing is
    /// left: else their sessions check everything once this one is gone.
    pub(super) async fn farewell(&self, end: impl Future<Output = ()>) {
        if !self.publish(end).await || !bus::part(&self.bus, |letters| self.carrier.carry(letters)).await {
            debug!("other nodes may not have been told everything; their sessions check everything once this one is gone");
        }
    }

    #[cfg(feature = "nats")]
    async fn listen_to_nats(self) {
        let Carrier::Nats(nats, _) = &self.carrier else { return };
        nats.listen(&self.bus, |event| self.notifier.received(event)).await;
    }

    /// Passes on what is received.
    async fn listen(self) {
        let received = |event: BusEvent| {
            if let BusEvent::Missed = event {
                self.metrics.listener_connects.inc();
            }
            self.notifier.received(event);
        };
        let say = |channel: String, word: String| async { self.store.notify([(channel, word)]).await.is_ok() };
        let (pool, connect_to) = (self.listens.clone(), self.connect_to.clone());
        let (bus, wakes) = (self.bus.clone(), self.wakes.clone());
        let settings = ListenerSettings { bus, wakes, pool, connect_to, beat_interval: BEAT_INTERVAL, silence_max: SILENCE_MAX };
        bus::listen(settings, say, received).await;
    }
}
