//! The wiring: from settings and a database to a running node, and back to a quiet end.
//!
//! Nothing is global: two nodes can run in one process, each with its own lanes, hub, metrics and port.

mod accounts;
mod master_keys;
mod nodes;
mod parts;
mod room;
mod schema;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use sqlx::PgConnection;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::auth;
use crate::config::Config;
use crate::connection;
use crate::delivery::Delivery;
use crate::domain::Clock;
use crate::driver::Context;
use crate::http;
use crate::jobs;
use crate::store::{self, CannotUse, Epoch, KeyRing, Shape, Store, Unfit, UnfitKeys};
pub use master_keys::KeyError;
use nodes::Nodes;
use parts::{Parts, SharedParts};
pub use schema::{LockHolders, MIGRATIONS, MigrationLockTimeouts, migrate, migrate_within, needs_migration};
use tokens::TokenKeys;

/// For the stop of a node whose epoch is over.
const GRACE_WITHOUT_DATABASE: Duration = Duration::from_secs(2);
/// A start anew that takes longer is given up, and tried again.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// The database that stores the messages.
#[derive(Debug, Clone)]
pub struct Database {
    /// For lanes and the pool; may lead through a pooler.
    pub options: PgConnectOptions,
    /// The same database without a pooler: for LISTEN and migrations.
    pub direct: PgConnectOptions,
}

impl Database {
    /// A database without a pooler in front.
    pub fn new(options: PgConnectOptions) -> Self {
        Self { direct: options.clone(), options }
    }

    /// The same, asking at each connection for what the service needs and this server knows.
    pub async fn with_settings(self) -> Result<Self, StartError> {
        let version = store::server_version(&self.direct).await.map_err(StartError::Database)?;
        let direct = store::with_direct_settings(self.direct, version);
        Ok(Self { options: store::with_settings(self.options, version), direct })
    }
}

/// The reason for which a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken, or not ours to take.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The database does not answer, or refuses.
    #[error("cannot reach the database")]
    Database(#[source] sqlx::Error),
    /// The database answers, but a statement failed.
    #[error("the database is there, but cannot be used")]
    Store(#[from] store::Error),
    /// The database answers through something that does not keep what the service needs.
    #[error(transparent)]
    CannotUse(#[from] CannotUse),
    /// The address for migrations and LISTEN leads through a pooler.
    #[error(
        "DATABASE_DIRECT_URL, or DATABASE_URL where it is not set, leads through a pooler in transaction mode: \
         migrations and LISTEN need PostgreSQL's own address there (docs/operations.md, Poolers)"
    )]
    NotDirect,
    /// `DATABASE_DIRECT_URL` is another database.
    #[error("DATABASE_URL and DATABASE_DIRECT_URL lead to different databases")]
    TwoDatabases,
    /// A way to the database sees another schema than the other.
    #[error(
        "the connections of DATABASE_URL see the schema {there}, and those of DATABASE_DIRECT_URL {here}: both need the same search_path, and a \
         pooler drops that of an address. Run this in PostgreSQL, then make the pooler connect anew (docs/operations.md, Poolers):\n  {mends};"
    )]
    TwoSchemas {
        /// That of the direct connection.
        here: String,
        /// That of the others.
        there: String,
        /// The statement that gives the role the search path of the direct connection.
        mends: String,
    },
    /// The database cannot be used, or belongs to another application. Nothing in it was changed.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// There are no master keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database has encrypted messages that this node could not read.
    #[error(transparent)]
    UnfitKeys(#[from] UnfitKeys),
    /// Another session holds a lock that the migrations need.
    #[error("the migrations waited for {seconds} s for a lock, {held}")]
    Waited {
        /// Time that it waited.
        seconds: f32,
        /// The sessions that held the locks.
        held: LockHolders,
    },
    /// The database that took the place of the one before has not all of it.
    #[error(
        "the database is not whole: it is being restored, or is from before an upgrade. A node that starts anew waits for what was there \
         and migrates nothing; if this is all there will be, start the process again"
    )]
    NotWhole,
    /// It took too long.
    #[error("the node could not be started in time")]
    TooSlow,
    /// `NATS_URL` is set, and this program knows no NATS.
    #[error("NATS_URL is set, but this program was built without NATS: build it with `cargo build --release --features nats`")]
    WithoutNats,
    /// `NATS_URL` cannot be used as it is.
    #[cfg(feature = "nats")]
    #[error("cannot use the server of NATS_URL")]
    Nats(#[source] crate::bus::NatsError),
    /// `JWT_KEYS_FILE` cannot be used.
    #[error("JWT_KEYS_FILE cannot be used")]
    Keys(#[from] auth::FileError),
    /// `ACCOUNTS` is on, and there is no secret of the service's own, or there are keys of an issuer.
    #[error(
        "ACCOUNTS is on: it needs JWT_SECRET, and neither JWT_KEYS_FILE nor JWKS_URL, since a name must not belong to an account and to a user of an issuer"
    )]
    AccountsNeedTheSecret,
    /// No hash of passwords has the cost of the settings.
    #[error("PASSWORD_MEMORY_KIB and PASSWORD_PASSES cannot be used")]
    HashCost(#[from] argon2::Error),
    /// Nothing can be fetched from `JWKS_URL`.
    #[error("JWKS_URL cannot be used: this machine may have no certificates to trust")]
    KeyServer(#[source] reqwest::Error),
    /// The schema cannot be brought to this version.
    #[error("the migrations failed")]
    Migrate(#[source] MigrateError),
}

impl StartError {
    /// Returns whether a later start may succeed, because the database is away or is starting.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Database(_) | Self::Migrate(MigrateError::Execute(_)) | Self::NotWhole | Self::TooSlow => true,
            Self::Waited { .. } => true,
            // A session that was stopped may hold what a start writes.
            Self::Store(error) => error.could_not_run() || matches!(error, store::Error::Held(_)),
            // It may not be made yet, or its name be under way from one to the other.
            Self::CannotUse(CannotUse::Database(_) | CannotUse::ReadOnly) => true,
            // While it fails over one way may lead to the old one.
            Self::TwoDatabases => true,
            Self::Key(error) => error.may_pass(),
            Self::Unfit(_) | Self::UnfitKeys(_) | Self::TwoSchemas { .. } => false,
            Self::Listen(..) | Self::CannotUse(_) | Self::NotDirect | Self::WithoutNats | Self::Migrate(_) => false,
            Self::Keys(_) | Self::KeyServer(_) | Self::AccountsNeedTheSecret | Self::HashCost(_) => false,
            #[cfg(feature = "nats")]
            Self::Nats(_) => false,
        }
    }
}

/// A running node.
#[derive(Debug)]
pub struct App {
    addr: SocketAddr,
    shape: Shape,
    store: Store,
    delivery: Delivery,
    shared: connection::Shared,
    nodes: Nodes,
    running: Running,
    listening: JoinHandle<()>,
    grace: Duration,
}

/// The tasks of a node, and the signals that end them.
#[derive(Debug, Default)]
struct Running {
    connections: TaskTracker,
    tasks: TaskTracker,
    /// Cancelled when connections are gone: the port is closed, requests that are under way are answered.
    stop_listening: CancellationToken,
    /// Cancelled after that: lanes write what is queued and end.
    stop_lanes: CancellationToken,
}

/// State that a stopped node hands to the node that starts in its place.
#[derive(Debug, Clone)]
pub struct Predecessor {
    clock: Clock,
    shape: Shape,
}

/// The treatment of the schema at the start.
#[derive(Debug, Clone, Copy)]
enum Schema {
    /// Brings it up to date.
    Migrate,
    /// Wants all of it to be there, as it was in a database before: a restore makes the tables.
    AsBefore(Shape),
}

/// A database that is fit to be served.
struct Opened {
    store: Store,
    epoch: Epoch,
    shape: Shape,
    /// The channel on which the schema's functions notify every node.
    wakes: String,
}

impl Opened {
    fn with_keys(self, keys: KeyRing) -> Self {
        Self { store: self.store.with_keys(keys), ..self }
    }
}

/// The database with its schema, and its epoch. Both ways to it are looked at before anything relies on them.
async fn open(config: &Config, database: &Database, schema: Schema) -> Result<Opened, StartError> {
    let mut direct = schema::direct(database).await?;
    match schema {
        Schema::Migrate => schema::bring_up_to_date(&mut direct, database, MigrationLockTimeouts::default()).await?,
        Schema::AsBefore(before) => check_as_before(&mut direct, database, &before).await?,
    }
    let (epoch, shape) = (Epoch::of(&mut direct).await?, Shape::of(&mut direct).await?);
    let (here, wakes) = (store::schema_of(&mut direct, "").await?.name.unwrap_or_default(), store::wake_channel(&mut direct).await?);
    let options = database.options.clone();
    let mut through = store::check_connections(&options).await?;
    match epoch.admit(&mut through).await {
        Ok(()) => Ok(Opened {
            store: Store::connect_lazily(admitting(&epoch, config.pool_size), options).under(config.direct_messages),
            epoch,
            shape,
            wakes,
        }),
        Err(_) if epoch.is_over() => {
            let there = store::schema_of(&mut through, &here).await?;
            let is_same = there.name.as_ref() == Some(&here);
            Err(if is_same {
                StartError::TwoDatabases
            } else {
                StartError::TwoSchemas { here, there: there.or_none(), mends: there.mends }
            })
        }
        Err(cause) => Err(StartError::Database(cause)),
    }
}

/// A database in the place of one before has everything that was there, or is left alone.
async fn check_as_before(direct: &mut PgConnection, database: &Database, before: &Shape) -> Result<(), StartError> {
    if !schema::is_whole(direct, before).await? {
        return Err(StartError::NotWhole);
    }
    store::judge_collations(store::changed_collations(direct).await?)?;
    schema::catch_up(direct, database, MigrationLockTimeouts::default()).await
}

impl App {
    /// Migrates the database and starts a node on it. `secret`: tokens are signed with it; none: with other keys of the settings only.
    pub async fn start(config: &Config, database: Database, secret: Option<&SecretString>) -> Result<Self, StartError> {
        Self::start_by(Clock::default(), config, database, secret).await
    }

    /// The same with a clock that may be off, for tests.
    pub async fn start_by(clock: Clock, config: &Config, database: Database, secret: Option<&SecretString>) -> Result<Self, StartError> {
        Self::start_on(Schema::Migrate, clock, config, database, secret).await
    }

    /// Starts a node in the place of one whose epoch is over. It migrates nothing: an error that may pass says that not all is
    /// there that was there before.
    pub async fn start_anew(
        predecessor: &Predecessor,
        config: &Config,
        database: Database,
        secret: Option<&SecretString>,
    ) -> Result<Self, StartError> {
        let started = Self::start_on(Schema::AsBefore(predecessor.shape), predecessor.clock.clone(), config, database, secret);
        // The server for which it waits may have gone without closing the connection.
        tokio::time::timeout(START_TIME_MAX, started).await.unwrap_or(Err(StartError::TooSlow))
    }

    async fn start_on(
        schema: Schema,
        clock: Clock,
        config: &Config,
        database: Database,
        secret: Option<&SecretString>,
    ) -> Result<Self, StartError> {
        let keys = TokenKeys::open(config, secret)?;
        let accounts = accounts::accounts(config, secret)?;
        let data_keys = master_keys::key_ring(config).await?;
        let database = database.with_settings().await?;
        let opened = open(config, &database, schema).await?.with_keys(data_keys);
        opened.store.begin_encryption(config.encryption_allow_sql).await??;
        let listener = TcpListener::bind(config.listen_addr).await.map_err(|error| StartError::Listen(config.listen_addr, error))?;
        let addr = listener.local_addr().map_err(|error| StartError::Listen(config.listen_addr, error))?;
        let running = Running::default();
        // Should the start fail, or be given up, nothing of it goes on.
        let unless_started = running.stop_lanes.clone().drop_guard();

        let parts = Parts::start(config, &database, &opened, &clock, &running);
        let nodes = parts.connect_nodes(config, &database, &opened, &running).await?;
        let presence = parts.start_presence(&running).await?;
        room::look(config, &database, &opened.store, &parts.node.metrics).await;
        let verifier = Arc::new(keys.start(&parts.node.metrics, &running.tasks, &running.stop_lanes));
        let revocations = parts.start_revocations(config, &verifier, &clock, &running).await?;
        let shared = parts.shared(config, SharedParts { verifier, revocations, accounts, clock, presence, epoch: opened.epoch }, &running);
        let settings = jobs::JobSettings { retention_days: config.retention_days, events_max: config.events_max };
        jobs::start(&parts.node, &parts.delivery, settings, &running.tasks, &running.stop_lanes);
        unless_started.disarm();
        let serving = http::serve(
            listener,
            http::router(shared.clone(), parts::socketio(config, &shared)),
            parts::serve_settings(config),
            Arc::clone(&parts.node.metrics),
            running.stop_listening.clone(),
        );
        let listening = tokio::spawn(serving);
        info!(%addr, "listening");
        let (store, delivery, grace) = (opened.store, parts.delivery, config.shutdown_grace);
        Ok(Self { addr, shape: opened.shape, store, delivery, shared, nodes, running, listening, grace })
    }

    /// The address on which the node listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The parts that its sessions share, for tests that look inside.
    pub const fn context(&self) -> &Context {
        &self.shared.context
    }

    /// The database, for tests that look inside.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The lanes, for tests that look inside.
    pub const fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// For [`App::start_anew`].
    pub fn predecessor(&self) -> Predecessor {
        Predecessor { clock: self.shared.context.clock.clone(), shape: self.shape }
    }

    /// Waits until the database turns out to be another one, or to have been restored or promoted: what this node has given
    /// its clients means nothing there. It refuses such a database whatever it is asked, so all there is to do is to
    /// stop, and to start anew.
    pub async fn epoch_over(&self) {
        self.shared.context.epoch.over().await;
    }

    /// Stops in order, within the grace: not ready, sockets closed with 1012 one after the other, then the port closed,
    /// then lanes written out. Once the epoch is over there is nothing to wait for, and it is quick.
    pub async fn stop(self) {
        let begun = Instant::now();
        let grace = if self.shared.context.epoch.is_over() { self.grace.min(GRACE_WITHOUT_DATABASE) } else { self.grace };
        let plan = self.shared.shutdown.begin(self.running.connections.len(), grace);
        self.shared.context.metrics.draining.set(1);
        info!(connections = self.running.connections.len(), pace_ms = plan.pace.as_millis(), "stopping: connections take leave");
        self.running.connections.close();
        if timeout_at(begun + grace * 3 / 4, self.running.connections.wait()).await.is_err() {
            warn!(connections = self.running.connections.len(), "some connections did not end in time");
        }
        // Until here a load balancer is told that this node is not ready, and requests are served.
        self.running.stop_listening.cancel();
        if timeout_at(begun + grace * 7 / 8, self.listening).await.is_err() {
            warn!("some requests did not end in time");
        }
        self.running.stop_lanes.cancel();
        self.running.tasks.close();
        let rest = async {
            if self.shared.context.epoch.is_over() {
                self.running.tasks.wait().await;
            } else {
                // Lanes that write out tell of it still. Once all has ended nothing is told any more.
                self.nodes.farewell(async { self.running.tasks.wait().await }).await;
                self.running.tasks.wait().await;
            }
            if !self.shared.context.epoch.is_over()
                && let Err(cause) = self.shared.context.presence.leave().await
            {
                debug!(?cause, "other nodes were not told that this one ends; they will notice");
            }
            self.store.pool().close().await;
        };
        if timeout_at(begun + grace, rest).await.is_err() {
            warn!("some work did not end in time; what was not confirmed is repeated by its sender");
        }
    }
}

/// A pool with this number of connections, each of them to the database of this epoch.
fn admitting(epoch: &Epoch, connections: u32) -> PgPoolOptions {
    let epoch = epoch.clone();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        // A ping for each statement would double the round trips; a broken connection shows in the statement itself.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let epoch = epoch.clone();
            Box::pin(async move { epoch.admit(connection).await })
        })
}
