//! One PostgreSQL server of a run and its processes. It knows neither the other server nor which of the two takes writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{ConnectOptions, PgConnection};
use tokio::task::spawn_blocking;

use restante_postgres::{Embedded, ServerOptions};

/// The database of the run.
pub const NAME: &str = "restante";
/// The name of the server's socket in its directory.
pub const SOCKET: &str = ".s.PGSQL.5432";

pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The standby that a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandbyMode {
    /// There is no standby.
    None,
    /// Commits wait until the standby has them.
    Synchronous,
    /// Commits do not wait, so a promoted standby may lack confirmed messages. A run with it shows that the judge finds the loss.
    Asynchronous,
}

/// A server and the root directory that it was started in.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) root: PathBuf,
    pub(super) options: ServerOptions,
    pub(super) embedded: Arc<Embedded>,
}

impl Server {
    /// The path of its socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.root.join("postgres").join(SOCKET)
    }

    /// A connection to it, past all proxies.
    pub(super) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = self.embedded.options(NAME);
        let connected = tokio::time::timeout(Duration::from_secs(5), options.connect()).await;
        connected.context("PostgreSQL does not answer")?.context("PostgreSQL refuses")
    }

    /// Starts the server if it does not run, and returns the running one.
    pub(super) async fn started_again(self) -> anyhow::Result<Self> {
        blocking(move || {
            let embedded = Arc::new(Embedded::start(&self.root, &self.options)?);
            Ok(Self { embedded, ..self })
        })
        .await
    }
}

/// Runs work that blocks, on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, restante_postgres::Error> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(spawn_blocking(work).await??)
}

pub(super) fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).ok_or_else(|| anyhow!("no process"))?;
    kill_process(pid, signal).context("cannot send a signal")
}
