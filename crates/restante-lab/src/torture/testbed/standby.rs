//! The standby of the run: how it is made, kept current and started again. [`super::failover`] has the faults that are done to it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex as Turn;
use tokio::time::sleep;

use super::server::{NAME, POLL_INTERVAL, Server, StandbyMode, blocking};
use crate::torture::outcome::FaultOutcome;
use restante::cli::exit::words;
use restante_postgres::{Embedded, ThrowawayDir};

/// The standby's `application_name` at the primary.
const APPLICATION: &str = "standby";
/// A standby catches up within moments, also when it has just been copied.
const CURRENT_MAX: Duration = Duration::from_secs(60);
/// An immediate stop takes no longer.
pub(super) const QUIT_MAX: Duration = Duration::from_secs(2);

const IS_CURRENT: &str = "select exists (select from pg_stat_replication
    where application_name = 'standby' and state = 'streaming' and (sync_state = 'sync' or not $2) and flush_lsn >= $1::pg_lsn)";

/// The standby's server and its directory.
#[derive(Debug)]
pub struct Standby {
    _dir: ThrowawayDir,
    state: Mutex<State>,
    mode: StandbyMode,
    /// Promotions run one after the other; one that comes meanwhile is passed over.
    pub(super) promoting: Turn<()>,
}

/// Tells whether there is a server that can follow the primary.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// There is one. It may be stopped.
    Exists(Server),
    /// There is none, because the last one could not be made. The next one is made in this directory.
    Missing(PathBuf),
}

impl Standby {
    /// Copies the primary and follows it. `None` when the run has no standby.
    pub(super) async fn start(primary: &Server, mode: StandbyMode) -> anyhow::Result<Option<Self>> {
        if mode == StandbyMode::None {
            return Ok(None);
        }
        let copied = primary.clone();
        let (dir, server) = blocking(move || {
            let dir = ThrowawayDir::new()?;
            let server = follow(dir.path(), &copied)?;
            Ok((dir, server))
        })
        .await?;
        let standby = Self { _dir: dir, state: Mutex::new(State::Exists(server)), mode, promoting: Turn::new(()) };
        standby.hold_commits(primary).await?;
        Ok(Some(standby))
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn replace(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// True when commits wait for the standby.
    pub(super) fn is_synchronous(&self) -> bool {
        self.mode == StandbyMode::Synchronous
    }

    /// The standby's server. Where the last one could not be made, this tries once more. The caller has to hold the turn.
    pub(super) async fn server(&self, primary: &Server) -> Result<Server, FaultOutcome> {
        match self.state() {
            State::Exists(server) => Ok(server),
            State::Missing(root) => {
                let made = self.make(primary, root).await;
                made.map_err(|error| FaultOutcome::PassedOver(format!("there is no standby: {}", words(error.as_ref()))))
            }
        }
    }

    /// Makes a standby of the primary in this directory. When that fails there is none, and commits wait for none.
    pub(super) async fn make(&self, primary: &Server, root: PathBuf) -> anyhow::Result<Server> {
        self.replace(State::Missing(root.clone()));
        let copied = primary.clone();
        let server = blocking(move || follow(&root, &copied)).await?;
        if let Err(error) = self.hold_commits(primary).await {
            // When this fails too, the end of the faults does it.
            if let Ok(mut primary) = primary.connect().await {
                let _ = release_commits(&mut primary).await;
            }
            return Err(error);
        }
        self.replace(State::Exists(server.clone()));
        Ok(server)
    }

    /// Starts the server if it does not run. Returns false when there is no server that can be started.
    pub(super) async fn ensure(&self) -> bool {
        let started = match self.state() {
            State::Exists(server) => server.started_again().await.ok(),
            State::Missing(_) => None,
        };
        let is_started = started.is_some();
        started.into_iter().for_each(|server| self.replace(State::Exists(server)));
        is_started
    }

    /// From now on commits wait for the standby. A standby that does not stream yet would only stop them, so this waits for it.
    async fn hold_commits(&self, primary: &Server) -> anyhow::Result<()> {
        let mut primary = primary.connect().await?;
        await_current(&mut primary, false).await?;
        if !self.is_synchronous() {
            return Ok(());
        }
        sqlx::query("alter system set synchronous_standby_names = 'standby'").execute(&mut primary).await?;
        sqlx::query("select pg_reload_conf()").execute(&mut primary).await?;
        await_current(&mut primary, true).await?;
        // The checkpointer makes the others wait. When it has made a checkpoint, it has read the setting before.
        sqlx::query("checkpoint").execute(&mut primary).await?;
        Ok(())
    }

    /// Makes sure that the primary may be lost. The standby then has everything that was visible at this moment, and so every
    /// confirmed message; later messages are confirmed only when the standby has them. An asynchronous standby is cut off from the
    /// primary instead, so that the judge has a loss to find.
    pub(super) async fn prepare_promotion(&self, primary: &Server, server: &Server, pause: Duration) -> anyhow::Result<()> {
        if self.is_synchronous() {
            return await_current(&mut primary.connect().await?, true).await;
        }
        let mut standby = connect(server).await?;
        sqlx::query("alter system set primary_conninfo = ''").execute(&mut standby).await?;
        sqlx::query("select pg_reload_conf()").execute(&mut standby).await?;
        sleep(pause + QUIT_MAX).await;
        Ok(())
    }
}

/// From now on the primary's commits wait for no standby.
pub(super) async fn release_commits(primary: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::query("alter system reset synchronous_standby_names").execute(&mut *primary).await?;
    sqlx::query("select pg_reload_conf()").execute(primary).await?;
    Ok(())
}

fn follow(root: &Path, primary: &Server) -> Result<Server, restante_postgres::Error> {
    let options = primary.options.clone();
    let embedded = Arc::new(Embedded::start_standby(root, &primary.embedded, APPLICATION, &options)?);
    Ok(Server { root: root.to_owned(), options, embedded })
}

/// Connects to a standby as soon as it has replayed enough to take connections.
pub(super) async fn connect(server: &Server) -> anyhow::Result<PgConnection> {
    let give_up = Instant::now() + CURRENT_MAX;
    loop {
        match PgConnection::connect_with(&server.embedded.options(NAME)).await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > give_up => return Err(error).context("the standby does not answer"),
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

/// Waits until the standby has on disk what the primary had at the call, and, with `is_synchronous`, until commits wait for it.
pub(super) async fn await_current(primary: &mut PgConnection, is_synchronous: bool) -> anyhow::Result<()> {
    let give_up = Instant::now() + CURRENT_MAX;
    let up_to: String = sqlx::query_scalar("select pg_current_wal_lsn()::text").fetch_one(&mut *primary).await?;
    while !sqlx::query_scalar::<_, bool>(IS_CURRENT).bind(&up_to).bind(is_synchronous).fetch_one(&mut *primary).await? {
        if Instant::now() > give_up {
            bail!("the standby does not follow");
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
