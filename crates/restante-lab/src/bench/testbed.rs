//! The testbed of a scenario: a service and its database in processes of their own, or ones that run already.

mod meter;
pub mod open_files;

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};
use uuid::Uuid;

use crate::program::{self, Program};
use crate::service_process::{LastWords, ServiceProcess};
use crate::token::Signer;
pub use meter::{Cost, Meter};
use restante::cli::exit::UsageError;
use restante_client::{Door, Options};
use restante_postgres::{ServerOptions, Throwaway};

/// The database's name in a server that the lab starts.
pub const DATABASE: &str = "restante";

/// Options for a service that runs already.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Given {
    /// Measure the service that runs here, with SEND_RATE=0, EVENT_RATE=0 and (but for flood) REQUEST_RATE=0, instead of one of the benchmark's own; its database gets many users and messages
    #[arg(long, value_name = "URL", requires = "database")]
    url: Option<String>,
    /// Its database, where the benchmark makes users and chats
    #[arg(long, value_name = "URL", requires = "url")]
    database: Option<String>,
    /// The secret that its tokens are signed with
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    secret: Option<String>,
    /// Clients speak Socket.IO over WebSocket, and not the service's own frames
    #[arg(long)]
    socketio: bool,
    #[command(flatten)]
    program: Program,
    /// The service's process id, where it runs on this machine, so that its CPU time and memory can be read
    #[arg(long, value_name = "PID")]
    service_pid: Option<u32>,
    /// The process id of its database's postmaster, likewise
    #[arg(long, value_name = "PID")]
    database_pid: Option<u32>,
}

impl Given {
    /// True when a running service is given.
    pub const fn is_given(&self) -> bool {
        self.url.is_some()
    }

    const fn door(&self) -> Door {
        if self.socketio { Door::SocketIo } else { Door::Frames }
    }
}

/// The service that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// This one.
    Service,
    /// The one it is compared with: [`super::naive`].
    Naive,
}

impl Subject {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Naive => "naive",
        }
    }

    /// The program of it: the service's, or this one.
    fn program(self, given: &Given) -> anyhow::Result<PathBuf> {
        match self {
            Self::Service => given.program.path(),
            Self::Naive => program::this(),
        }
    }

    /// The arguments of that program.
    const fn args(self) -> &'static [&'static str] {
        match self {
            Self::Service => &["serve"],
            Self::Naive => &["bench", "--naive-service"],
        }
    }
}

/// A service and its database, ready to be driven.
#[derive(Debug)]
pub struct Testbed {
    /// The service.
    pub subject: Subject,
    /// The database, for setting up users and chats and for counting afterwards.
    pub database: PgPool,
    /// Reads the CPU time of service and database.
    pub meter: Meter,
    /// The nodes' addresses.
    urls: Vec<String>,
    door: Door,
    signer: Signer,
    processes: Vec<ServiceProcess>,
    server: Option<Throwaway>,
    last_words: LastWords,
}

impl Testbed {
    /// Starts a service with `nodes` nodes on a fresh database, or takes the one that is given. `request_rate` is a setting of the
    /// service; none: its default, or that of the environment.
    pub async fn start(given: &Given, subject: Subject, nodes: usize, request_rate: Option<&str>) -> anyhow::Result<Self> {
        match (&given.url, &given.database) {
            (Some(_), Some(_)) if nodes > 1 => Err(UsageError("with --url there is one node: leave out `nodes`".to_owned()).into()),
            (Some(url), Some(database)) => Self::of_given(given, url, database).await,
            _ => Self::own(given, subject, nodes, request_rate).await,
        }
    }

    async fn of_given(given: &Given, url: &str, database: &str) -> anyhow::Result<Self> {
        let secret = given.secret.clone().ok_or_else(|| UsageError("--url needs the service's JWT_SECRET, or --secret".to_owned()))?;
        let options: PgConnectOptions = database.parse().map_err(|_| UsageError("--database is no address of a PostgreSQL".to_owned()))?;
        Ok(Self {
            subject: Subject::Service,
            database: pool(options).await?,
            meter: Meter::new(given.service_pid.into_iter().collect(), given.database_pid),
            urls: vec![url.to_owned()],
            door: given.door(),
            signer: Signer::new(&secret),
            processes: Vec::new(),
            server: None,
            last_words: LastWords::default(),
        })
    }

    async fn own(given: &Given, subject: Subject, nodes: usize, request_rate: Option<&str>) -> anyhow::Result<Self> {
        let program = subject.program(given)?;
        let server = tokio::task::spawn_blocking(|| Throwaway::start(&ServerOptions::default())).await??;
        server.server().ensure_database(DATABASE).await?;
        let options = server.server().options(DATABASE);
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let last_words = LastWords::default();
        let database_url = options.to_url_lossy().to_string();
        let settings = [
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("DATABASE_URL", &*database_url),
            ("JWT_SECRET", &*secret),
            ("SEND_RATE", "0"),
            ("EVENT_RATE", "0"),
            ("RUST_LOG", "warn"),
        ];
        let settings: Vec<_> = settings.into_iter().chain(request_rate.map(|rate| ("REQUEST_RATE", rate))).collect();
        let mut processes = Vec::new();
        for _ in 0..nodes {
            let process = ServiceProcess::start(&program, subject.args(), &settings, &last_words).await;
            processes.push(process.with_context(|| last_words.text())?);
        }
        Ok(Self {
            subject,
            database: pool(options).await?,
            meter: Meter::new(processes.iter().filter_map(ServiceProcess::pid).collect(), server.server().pid()),
            urls: processes.iter().map(|process| format!("http://{}", process.addr())).collect(),
            door: given.door(),
            signer: Signer::new(&secret),
            processes,
            server: Some(server),
            last_words,
        })
    }

    /// Options to connect as this user at the first node.
    pub fn options(&self, user: &str) -> anyhow::Result<Options> {
        self.options_at(0, user)
    }

    /// Options to connect as this user at a node. Nodes are counted from 0 and round, so a node number may be too high.
    pub fn options_at(&self, node: usize, user: &str) -> anyhow::Result<Options> {
        let token = self.signer.token(user)?;
        Ok(Options { door: self.door, ..Options::new(&self.urls[node % self.urls.len()], token)? })
    }

    /// The database's version, and the settings that decide over the cost of a commit.
    pub async fn version(&self) -> anyhow::Result<String> {
        let words = "select format('PostgreSQL %s (fsync %s, synchronous_commit %s, shared_buffers %s)', current_setting('server_version'),
                     current_setting('fsync'), current_setting('synchronous_commit'), current_setting('shared_buffers'))";
        Ok(sqlx::query_scalar(words).fetch_one(&self.database).await?)
    }

    /// A request of this user to the first node, to be sent as often as wanted.
    pub fn get(&self, client: &reqwest::Client, user: &str, path: &str) -> anyhow::Result<reqwest::RequestBuilder> {
        Ok(client.get(format!("{}{path}", self.urls[0])).bearer_auth(self.signer.token(user)?))
    }

    /// The metrics of the first node, as text.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let answer = reqwest::get(format!("{}/metrics", self.urls[0])).await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    /// Ends the processes that were started here, and removes their data. Returns the last lines of the service's log.
    pub async fn remove(self) -> String {
        self.database.close().await;
        for process in self.processes {
            process.stop().await;
        }
        // Dropping it stops the server, which blocks.
        let _ = tokio::task::spawn_blocking(move || drop(self.server)).await;
        self.last_words.text()
    }
}

/// A pool of four connections.
pub async fn pool(options: PgConnectOptions) -> anyhow::Result<PgPool> {
    PgPoolOptions::new().max_connections(4).connect_with(options).await.context("the database cannot be reached")
}
