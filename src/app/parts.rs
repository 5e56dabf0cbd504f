//! The parts of a node in the order in which they start, and the settings of each.
//!
//! Each part takes the parts that it uses as values. None of them knows the node.

use std::sync::Arc;
use std::time::Duration;

use super::nodes::{Carrier, Nodes};
use super::{Database, Opened, Running, StartError, admitting, room};
use crate::auth::{Origins, TokenVerifier, TrustedProxies};
use crate::bus::Bus;
use crate::config::{Config, PresenceForm, SocketIoTransport, for_half_the_processors};
use crate::connection::{self, ConnectionSettings, Shutdown};
use crate::delivery::{AccountRates, ConnectTo, Delivery, LaneSettings, RateSettings};
use crate::domain::{Clock, NodeId, limits};
use crate::driver::{Context, CrashLoops};
use crate::http;
use crate::hub::Hub;
use crate::notifier::Notifier;
use crate::presence::{self, Presence, PresenceSettings};
use crate::protocol::socketio::Forms;
use crate::service::{self, Accounts, RevocationWatch, Service, ServiceSettings};
use crate::session;
use crate::socketio;
use crate::store::{self, Epoch};
use crate::telemetry::Metrics;

/// A node that dies is noticed within `lives` and a beat.
const PRESENCE: PresenceSettings = PresenceSettings {
    beat_interval: Duration::from_secs(2),
    lives: Duration::from_secs(8),
    grace: Duration::from_millis(limits::PRESENCE_GRACE_MS),
};

/// The parts that connections share beside those of [`Parts`].
pub(super) struct SharedParts {
    pub(super) verifier: Arc<TokenVerifier>,
    pub(super) revocations: RevocationWatch,
    pub(super) accounts: Option<Accounts>,
    pub(super) clock: Clock,
    pub(super) presence: Presence,
    pub(super) epoch: Epoch,
}

/// The parts that the service, the jobs and the doors use.
pub(super) struct Parts {
    pub(super) node: presence::Node,
    pub(super) delivery: Delivery,
}

impl Parts {
    /// Starts the lanes on an opened database.
    pub(super) fn start(config: &Config, database: &Database, opened: &Opened, clock: &Clock, running: &Running) -> Self {
        let (store, metrics) = (opened.store.clone(), Arc::new(Metrics::default()));
        let hub = Hub::new(usize::try_from(config.sessions_per_user_max).unwrap_or(usize::MAX));
        let bus = Bus::new(NodeId::generate_by(clock));
        let notifier = Notifier::new(Arc::clone(&hub), bus.clone(), Arc::clone(&metrics));
        let settings = lane_settings(config, database, &opened.epoch);
        let delivery = Delivery::start(&settings, &store, &notifier, &metrics, &running.tasks, &running.stop_lanes);
        Self { node: presence::Node { store, hub, notifier, bus, metrics }, delivery }
    }

    /// Starts to listen to the other nodes and to tell them.
    pub(super) async fn connect_nodes(
        &self,
        config: &Config,
        database: &Database,
        opened: &Opened,
        running: &Running,
    ) -> Result<Nodes, StartError> {
        let presence::Node { store, notifier, bus, metrics, .. } = self.node.clone();
        let carrier = Carrier::choose(config, &opened.epoch, &store, &metrics).await?;
        let (listens, connect_to, wakes) = (admitting(&opened.epoch, 1), database.direct.clone(), opened.wakes.clone());
        let nodes = Nodes { listens, connect_to, wakes, carrier, store, notifier, bus, metrics };
        nodes.clone().start(&running.tasks, &running.stop_lanes);
        Ok(nodes)
    }

    /// Lists the node, and keeps the leases of its users.
    pub(super) async fn start_presence(&self, running: &Running) -> store::Result<Presence> {
        Presence::start(self.node.clone(), PRESENCE, &running.tasks, &running.stop_lanes).await
    }

    /// Starts the service, and makes what every connection shares.
    pub(super) fn shared(&self, config: &Config, parts: SharedParts, running: &Running) -> connection::Shared {
        let SharedParts { verifier, revocations, accounts, clock, presence, epoch } = parts;
        let presence::Node { hub, notifier, metrics, .. } = self.node.clone();
        let context = Context {
            service: self.start_service(config, &clock, (revocations, accounts), running),
            hub,
            notifier,
            presence,
            crash_loops: Arc::new(CrashLoops::new(Arc::clone(&metrics))),
            metrics,
            verifier,
            clock,
            epoch,
            session: Arc::new(session_settings(config)),
            tasks: running.connections.clone(),
        };
        let settings = ConnectionSettings {
            auth_timeout: config.auth_timeout,
            heartbeat: config.heartbeat,
            has_compression: config.websocket_compression,
        };
        let proxies = Arc::new(TrustedProxies::new(config.trusted_proxies.clone()));
        let origins = Origins::of(&config.allowed_origins);
        connection::Shared { context, settings, origins, proxies, shutdown: Shutdown::default(), client: None }
    }

    /// Reads the revocations of tokens, and keeps them as the database has them.
    pub(super) async fn start_revocations(
        &self,
        config: &Config,
        verifier: &TokenVerifier,
        clock: &Clock,
        running: &Running,
    ) -> store::Result<RevocationWatch> {
        let presence::Node { store, hub, notifier, metrics, .. } = self.node.clone();
        let kept = verifier.revocations().clone();
        let ended_logins_max = usize::try_from(config.ended_logins_max).unwrap_or(usize::MAX);
        let watch = RevocationWatch { kept, ended_logins_max, hub, metrics };
        store.begin_tokens(config.token_lifetime_max).await?;
        let seen = watch.load(&store, clock).await?;
        let following = watch.clone().follow(store, notifier, clock.clone(), seen);
        running.tasks.spawn(running.stop_lanes.clone().run_until_cancelled_owned(following));
        Ok(watch)
    }

    fn start_service(
        &self,
        config: &Config,
        clock: &Clock,
        (revocations, accounts): (RevocationWatch, Option<Accounts>),
        running: &Running,
    ) -> Service {
        let presence::Node { store, hub, notifier, metrics, .. } = self.node.clone();
        let (delivery, clock) = (self.delivery.clone(), clock.clone());
        let parts = service::Parts { store, delivery, hub, notifier, metrics, clock, revocations, accounts };
        Service::start(parts, service_settings(config), &running.tasks, &running.stop_lanes)
    }
}

fn lane_settings(config: &Config, database: &Database, epoch: &Epoch) -> LaneSettings {
    LaneSettings {
        accept_lanes: for_half_the_processors(config.accept_lanes),
        settle_lanes: for_half_the_processors(config.settle_lanes),
        attempts_max: config.attempts_max,
        held_timeout: Duration::from_secs(10),
        connect_to: ConnectTo::new(database.options.clone(), epoch.clone()),
        rates: RateSettings {
            sends: config.send_rate,
            events: config.event_rate,
            direct_chats: config.direct_chats_per_hour,
            groups: config.groups_per_hour,
            named_users: config.named_users_per_hour,
            requests: config.request_rate,
            failed_tokens: config.failed_token_rate,
            handshakes: config.handshake_rate,
            accounts: config.accounts.then_some(AccountRates {
                requests_per_minute: config.account_requests_per_minute,
                registrations_per_hour: config.registrations_per_hour,
            }),
        },
    }
}

fn session_settings(config: &Config) -> session::Settings {
    session::Settings {
        window: limits::WINDOW_DEFAULT,
        page_rows: limits::PAGE_ROWS,
        ack_timeout: config.ack_timeout,
        attempts_max: config.attempts_max,
        uncommitted_acks_max: 500,
        stalled_max: Duration::from_secs(10),
        poll_interval: config.look_interval,
        low_watermark_every: 1_000,
    }
}

fn service_settings(config: &Config) -> ServiceSettings {
    ServiceSettings {
        pool_size: config.pool_size,
        openings_waiting_max: config.openings_waiting_max,
        look_interval: config.look_interval,
        recall_window: config.recall_window,
    }
}

/// The door of Socket.IO, if a transport is allowed.
pub(super) fn socketio(config: &Config, shared: &connection::Shared) -> Option<socketio::Door> {
    let transport = |transport: &SocketIoTransport| match transport {
        SocketIoTransport::WebSocket => socketio::Transport::WebSocket,
        SocketIoTransport::Polling => socketio::Transport::Polling,
    };
    let has = |form| config.socketio_presence.contains(&form);
    let forms = Forms {
        message_new: config.socketio_message_new,
        event_types: config.socketio_event_types.clone().into(),
        user_online: has(PresenceForm::Online),
        user_presence: has(PresenceForm::Presence),
    };
    let transports: Vec<_> = config.socketio_transports.iter().map(transport).collect();
    let settings = socketio::Settings { transports, forms, sessions_max: room::connections_max(config) };
    (!settings.transports.is_empty()).then(|| socketio::Door::new(shared.clone(), settings))
}

/// The settings of the port.
pub(super) fn serve_settings(config: &Config) -> http::ServeSettings {
    http::ServeSettings { connections_max: room::connections_max(config), head_timeout: config.head_timeout }
}
