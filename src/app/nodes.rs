//! The bus between this node and the others: NOTIFY and LISTEN, or NATS.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::StartError;
use crate::bus::{self, Bus, Heard, ListenerSettings};
use crate::config::Config;
use crate::domain::NodeId;
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

/// The transport of payloads to other nodes.
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
    async fn carry(&self, to: &[NodeId], payloads: &[String]) -> bool {
        let (told, metrics) = match self {
            Self::Notify(store, metrics) => {
                let channels: Vec<String> = to.iter().copied().map(bus::channel).collect();
                let told = store.notify(&channels, payloads).await;
                if let Err(cause) = &told {
                    debug!(?cause, "other nodes could not be notified");
                }
                (told.is_ok(), metrics)
            }
            #[cfg(feature = "nats")]
            Self::Nats(nats, metrics) => (nats.carry(to, payloads).await, metrics),
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
        tasks.spawn(stop.clone().run_until_cancelled_owned(self.clone().publish()));
        #[cfg(feature = "nats")]
        tasks.spawn(stop.clone().run_until_cancelled_owned(self.clone().listen_to_nats()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(self.listen()));
    }

    async fn publish(self) {
        let carrier = &self.carrier;
        bus::publish(self.bus.clone(), |to, payloads| async move { carrier.carry(&to, &payloads).await }).await;
    }

    #[cfg(feature = "nats")]
    async fn listen_to_nats(self) {
        let Carrier::Nats(nats, _) = &self.carrier else { return };
        nats.listen(self.bus.me(), || self.bus.lost(), |heard| self.notifier.heard(heard)).await;
    }

    /// Passes on what is heard.
    async fn listen(self) {
        let heard = |heard: Heard| {
            if let Heard::Missed = heard {
                self.metrics.listener_connects.inc();
            }
            self.notifier.heard(heard);
        };
        let say = |channel: String, word: String| async { self.store.notify(&[channel], &[word]).await.is_ok() };
        let (pool, connect_to) = (self.listens.clone(), self.connect_to.clone());
        let (me, wakes) = (self.bus.me(), self.wakes.clone());
        let settings = ListenerSettings { me, wakes, pool, connect_to, beat_interval: BEAT_INTERVAL, silence_max: SILENCE_MAX };
        bus::listen(settings, say, heard).await;
    }
}
