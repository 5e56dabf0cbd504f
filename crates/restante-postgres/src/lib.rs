//! The embedded server: a PostgreSQL of the service's own, made from the server binaries of the machine,
//! for whoever sets no `DATABASE_URL`.
//!
//! It listens on a Unix socket in its own directory only: no port to collide, no password to keep. Several
//! processes may share a directory: the first one starts the server, the others adopt it, and so does the
//! next start after a crash. It knows nothing of messages, schemas or settings files.

#![warn(missing_docs)]

mod account;
mod children;
mod condition;
mod environment;
mod error;
mod installation;
mod layout;
mod options;
mod postmaster;
mod standby;
mod throwaway;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

pub use account::default_data_dir;
pub use children::{EndedChild, pass_on, reap};
pub use condition::Condition;
pub use environment::{begin_again_without, is_libpq_variable, left_behind, libpq_variables};
pub use error::Error;
pub use options::ServerOptions;
pub use postmaster::Started;
pub use throwaway::{Throwaway, ThrowawayDir};

use layout::Layout;
use postmaster::Postmaster;

/// The port is only a part of the socket's name, so it is the same for everybody.
const PORT: u16 = 5432;
/// The superuser of the cluster. The directory of the socket decides who may connect.
const SUPERUSER: &str = "postgres";
/// A backend outlives the close of its socket by a moment, on a busy machine by a long one. The last user of the server waits this long
/// for the backends to end.
const BACKENDS_LINGER: Duration = Duration::from_secs(3);
/// A process that starts another one shares its files with it until the other's program runs, a claim that was just given up too. The
/// last user of the server waits this long for such a claim to end.
const CLAIMS_LINGER: Duration = Duration::from_millis(500);

/// A running embedded server and this process's claim on it.
///
/// Dropping it gives up the claim and leaves the server running; see [`Embedded::stop_if_unused`].
#[derive(Debug)]
pub struct Embedded {
    postmaster: Postmaster,
    started: Started,
    /// The options that it is started with again.
    extra: ServerOptions,
    /// Held shared for as long as this process may connect, so that nobody else stops the server meanwhile.
    claim: File,
}

/// The end of the server's use by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastOut {
    /// No other process used it, so it was stopped.
    Stopped,
    /// Another process uses it: it was left running.
    InUse,
}

/// Returns whether a cluster was made under `root` before, by whichever version.
pub fn has_cluster(root: &Path) -> bool {
    installation::major_of_cluster(&root.join("postgres/data")).is_some()
}

/// A program of the newest installation, such as `pg_dump`. Where the server's programs are links, it may stand beside what they lead
/// to; and it may be anywhere in `PATH`.
pub fn program(name: &str) -> Result<PathBuf, Error> {
    let dir = installation::find(None, Path::new(""))?.bin_dir;
    let origin = dir.join("postgres").canonicalize().ok();
    let beside = [Some(dir.as_path()), origin.as_deref().and_then(Path::parent)].into_iter().flatten().map(|dir| dir.join(name));
    Ok(beside.into_iter().find(|program| program.is_file()).unwrap_or_else(|| PathBuf::from(name)))
}

impl Embedded {
    /// Makes the cluster under `root` where there is none, and starts the server or adopts the running one.
    ///
    /// Blocks for about a second on a fresh directory, else for a fraction of one. May be called by any number
    /// of processes at once. `extra` counts for a server that is started here; an adopted one keeps its own.
    pub fn start(root: &Path, extra: &ServerOptions) -> Result<Self, Error> {
        let root = layout::make_root(root)?;
        let _starting = layout::start_lock(&root)?;
        let layout = Layout::prepare(root)?;
        let postmaster = Postmaster::of(layout, extra)?;
        let started = postmaster.start(extra)?;
        let claim = postmaster.layout.claim()?;
        Ok(Self { postmaster, started, extra: extra.clone(), claim })
    }

    /// Tells whether the server was started or already ran.
    pub fn started(&self) -> Started {
        self.started
    }

    /// The postmaster's process id; none when it does not run.
    pub fn pid(&self) -> Option<u32> {
        self.postmaster.pid()
    }

    /// The server's log, to be named wherever a failure of the server is reported.
    pub fn log_file(&self) -> &Path {
        &self.postmaster.layout.log
    }

    /// Options to connect to the database `db`.
    pub fn options(&self, db: &str) -> PgConnectOptions {
        options(&self.postmaster.layout.socket_dir, db)
    }

    /// Makes the database `db` where it is missing. May be called by any number of processes at once.
    pub async fn ensure_database(&self, db: &str) -> Result<(), Error> {
        let mut admin = self.options("postgres").connect().await?;
        let there: bool =
            sqlx::query_scalar("select exists (select from pg_database where datname = $1)").bind(db).fetch_one(&mut admin).await?;
        if !there {
            let create = format!("create database \"{}\" encoding 'UTF8' template template0", db.replace('"', "\"\""));
            match sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await {
                Err(e) if !made_meanwhile(&e) => return Err(e.into()),
                _ => {}
            }
        }
        Ok(admin.close().await?)
    }

    /// Stops the server, also when other processes use it. It blocks. A server that does not run stays stopped.
    pub fn stop(&self) -> Result<(), Error> {
        let _starting = self.postmaster.layout.start_lock()?;
        self.postmaster.stop()
    }

    /// Gives up this process's claim and, when it was the last user, stops the server.
    ///
    /// Close your own pools first: they count as users. Others are found twice over: a process of this service
    /// by its claim, since it may be between two connections, and anybody else (`psql`) by its backend.
    pub async fn stop_if_unused(self) -> Result<LastOut, Error> {
        let Self { postmaster, claim, .. } = self;
        drop(claim);
        let layout = postmaster.layout.clone();
        let _starting = blocking(move || layout.start_lock()).await?;
        let in_use = is_claimed(&postmaster.layout).await?
            || match has_clients(&postmaster).await {
                // It serves nobody any more.
                Err(Error::Sql(error)) if error::is_unfit(&error) => false,
                answer => answer?,
            };
        if in_use {
            return Ok(LastOut::InUse);
        }
        blocking(move || postmaster.stop()).await?;
        Ok(LastOut::Stopped)
    }
}

/// Nothing of the environment counts but `PGOPTIONS`, which cannot be taken back (see [`begin_again_without`]).
fn options(socket_dir: &Path, db: &str) -> PgConnectOptions {
    let here = PgConnectOptions::new_without_pgpass().socket(socket_dir).port(PORT).ssl_mode(PgSslMode::Disable);
    here.username(SUPERUSER).password("").database(db).application_name("restante")
}

/// Two sessions that make the same database at once: the later one gets "duplicate database" or, when the first
/// had not committed yet, a violation of the catalogue's unique index. Either way the database is there now.
fn made_meanwhile(e: &sqlx::Error) -> bool {
    e.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == "42P04" || code == "23505")
}

/// Returns whether another process relies on the server. Only a claim that lasts counts.
async fn is_claimed(layout: &Layout) -> Result<bool, Error> {
    let until = Instant::now() + CLAIMS_LINGER;
    while layout.is_claimed()? {
        if Instant::now() >= until {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(false)
}

async fn has_clients(postmaster: &Postmaster) -> Result<bool, Error> {
    if !postmaster.is_ready() {
        return Ok(false);
    }
    let mut admin = options(&postmaster.layout.socket_dir, "postgres").connect().await?;
    let until = Instant::now() + BACKENDS_LINGER;
    loop {
        let others: bool = sqlx::query_scalar(
            "select exists (select from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid())",
        )
        .fetch_one(&mut admin)
        .await?;
        if !others || Instant::now() >= until {
            admin.close().await?;
            return Ok(others);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
