//! The PostgreSQL of the run, in a directory that goes away, and what can be done to it. One thing at a time: whoever
//! stops or kills it, starts it again before anybody else touches it. What concerns its standby is in [`super::standby`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::sync::{Mutex as Turn, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use uuid::Uuid;

use super::standby::Second;
use super::stopped::Stopped;
use crate::torture::dice::Dice;
use restante_postgres::{Embedded, ServerOptions, ThrowawayDir};

/// The database of the run.
pub const NAME: &str = "restante";
/// The name of the socket in its directory.
pub const SOCKET: &str = ".s.PGSQL.5432";

/// How PostgreSQL is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGINT: it takes leave of its clients.
    Fast,
    /// SIGQUIT: it recovers at its next start.
    Immediate,
    /// SIGKILL of the postmaster.
    Kill,
}

/// Which backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Any of a node's.
    Any,
    /// One that listens.
    Listener,
}

/// PostgreSQL recovers in seconds; after this it will not.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Is there a standby?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standby {
    /// One server.
    None,
    /// Commits wait until the standby has them.
    Synchronous,
    /// They do not: what is promoted may lack what was confirmed. To see that it is found.
    Asynchronous,
}

/// A server and the root it was started in.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) root: PathBuf,
    pub(super) options: ServerOptions,
    pub(super) embedded: Arc<Embedded>,
}

/// The server that takes writes, perhaps one that follows it, and their directories.
#[derive(Debug)]
pub struct Database {
    dir: ThrowawayDir,
    primary: Mutex<Server>,
    pub(super) second: Option<Second>,
    /// The socket that nodes are led to.
    pub(super) way: watch::Sender<PathBuf>,
    /// Whoever holds it may end a server, and has to start it.
    pub(super) turn: Turn<()>,
}

/// Without a standby what is confirmed is on disk. With one it is in two processes' hands, and what is copied again and again
/// is not: no run takes the power away, and whoever is killed leaves to the kernel what it has written.
fn options(standby: Standby) -> ServerOptions {
    let durable = if standby == Standby::None { "on" } else { "off" };
    ServerOptions::default()
        .set("fsync", durable)
        .set("shared_buffers", "128MB")
        .set("log_min_messages", "error")
        .set("max_connections", "150")
        // For the standby: what it may lack while it is stopped, and how soon it comes back.
        .set("wal_keep_size", "1GB")
        .set("wal_retrieve_retry_interval", "200ms")
        // Fenced, it leaves nothing outside its directory.
        .set("dynamic_shared_memory_type", "mmap")
}

/// Does what blocks.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, restante_postgres::Error> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(spawn_blocking(work).await??)
}

impl Database {
    /// Makes and starts it.
    pub async fn start(standby: Standby) -> anyhow::Result<Self> {
        let (dir, server) = blocking(move || {
            let (dir, options) = (ThrowawayDir::new()?, options(standby));
            let embedded = Arc::new(Embedded::start(dir.path(), &options)?);
            let server = Server { root: dir.path().to_owned(), options, embedded };
            Ok((dir, server))
        })
        .await?;
        server.embedded.ensure_database(NAME).await?;
        let way = watch::Sender::new(server.socket());
        let mut database = Self { dir, primary: Mutex::new(server), second: None, way, turn: Turn::new(()) };
        database.second = Second::start(&database, standby).await?;
        Ok(database)
    }

    /// A place for whatever goes away with the database.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The way to PostgreSQL's socket, which leads to the server that takes writes.
    pub fn way(&self) -> watch::Receiver<PathBuf> {
        self.way.subscribe()
    }

    /// How to connect past all proxies.
    pub fn options(&self) -> PgConnectOptions {
        self.primary().embedded.options(NAME)
    }

    pub(super) fn primary(&self) -> Server {
        self.primary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn replace_primary(&self, server: Server) {
        *self.primary.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    /// A connection past all proxies.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        let connected = tokio::time::timeout(Duration::from_secs(5), self.options().connect()).await;
        connected.context("PostgreSQL does not answer")?.context("PostgreSQL refuses")
    }

    /// Ends it, and starts it again after a pause.
    pub async fn restart(&self, end: End, pause: Duration) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        match (end, self.postmaster()) {
            (End::Fast, pid) => {
                let server = self.primary().embedded;
                let stopped = blocking(move || server.stop()).await;
                if let (Err(_), Some(pid)) = (stopped, pid) {
                    signal(pid, Signal::KILL)?;
                }
            }
            (End::Immediate, Some(pid)) => signal(pid, Signal::QUIT)?,
            (End::Kill, Some(pid)) => signal(pid, Signal::KILL)?,
            (End::Immediate | End::Kill, None) => {}
        }
        sleep(pause).await;
        self.start_again().await
    }

    /// Starts it where it does not run.
    pub async fn ensure(&self) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        self.start_again().await?;
        self.ensure_standby().await
    }

    async fn start_again(&self) -> anyhow::Result<()> {
        self.replace_primary(self.primary().started_again().await?);
        Ok(())
    }

    /// Stops the postmaster for so long: who is connected goes on, nobody else comes in.
    pub async fn stop_postmaster(&self, time: Duration) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let pid = self.postmaster().ok_or_else(|| anyhow!("there is no postmaster"))?;
        let stopped = Stopped::hold(pid)?;
        sleep(time).await;
        stopped.release().await;
        Ok(())
    }

    /// Stops a backend for so long. What it holds, everybody waits for.
    pub async fn stop_backend(&self, dice: &mut Dice, time: Duration) -> anyhow::Result<String> {
        // A start waits for the backends of the server before, and would wait for this one.
        let _turn = self.turn.lock().await;
        let (pid, does) = self.backend(Backend::Any, dice).await?;
        let stopped = Stopped::hold(pid)?;
        sleep(time).await;
        stopped.release().await;
        Ok(does)
    }

    /// kill -9 of a backend: PostgreSQL ends all others and recovers. Until it has, nobody stops it: a fast stop in the middle
    /// of that has been seen to wait for ever (PostgreSQL 15).
    pub async fn kill_backend(&self, dice: &mut Dice) -> anyhow::Result<String> {
        let _turn = self.turn.lock().await;
        let (pid, does) = self.backend(Backend::Any, dice).await?;
        signal(pid, Signal::KILL)?;
        let give_up = Instant::now() + RECOVERY_MAX;
        sleep(LOOK_EVERY).await;
        while self.connect().await.is_err() && Instant::now() < give_up {
            sleep(LOOK_EVERY).await;
        }
        Ok(does)
    }

    /// `pg_terminate_backend`.
    pub async fn end_backend(&self, which: Backend, dice: &mut Dice) -> anyhow::Result<String> {
        let (pid, does) = self.backend(which, dice).await?;
        signal(pid, Signal::TERM)?;
        Ok(does)
    }

    /// A message that has failed, and for whom.
    pub async fn failed(&self, dice: &mut Dice) -> anyhow::Result<Option<(Uuid, String)>> {
        let mut database = self.connect().await?;
        let failed = "select s.message_id, u.external_id from message_status s join users u on u.id = s.user_id
                       where s.status = 'failed' order by s.message_id, u.external_id limit 100";
        let failed: Vec<(Uuid, String)> = rows(&mut database, failed).await?;
        Ok(dice.one_of(&failed).cloned())
    }

    /// Puts a failed message back, as an operator would.
    pub async fn requeue(&self, message: Uuid, user: &str) -> anyhow::Result<()> {
        let mut database = self.connect().await?;
        let done = sqlx::query("select restante_requeue($1, $2)").bind(message).bind(user).execute(&mut database).await;
        done.context("restante_requeue").map(drop)
    }

    /// Rows that wait for anybody but these, or whose time will come whoever is there.
    pub async fn waiting(&self, away: &[String]) -> anyhow::Result<i64> {
        let mut database = self.connect().await?;
        let waiting = "select count(*) from message_status s join users u on u.id = s.user_id join messages m on m.id = s.message_id
                        where s.status = 'sent' and (u.external_id <> all ($1) or m.expires_at is not null)";
        Ok(sqlx::query_scalar(waiting).bind(away).fetch_one(&mut database).await?)
    }

    fn postmaster(&self) -> Option<u32> {
        self.primary().embedded.pid()
    }

    async fn backend(&self, which: Backend, dice: &mut Dice) -> anyhow::Result<(u32, String)> {
        let mut database = self.connect().await?;
        let all = "select pid, left(regexp_replace(query, '\\s+', ' ', 'g'), 60) from pg_stat_activity
                    where backend_type = 'client backend' and pid <> pg_backend_pid() and datname = current_database() order by pid";
        let mut all: Vec<(i32, String)> = rows(&mut database, all).await?;
        all.retain(|(_, query)| which == Backend::Any || query.to_lowercase().starts_with("listen"));
        let (pid, query) = dice.one_of(&all).ok_or_else(|| anyhow!("there is no such backend"))?;
        Ok((u32::try_from(*pid)?, query.clone()))
    }
}

impl Server {
    pub(super) fn socket(&self) -> PathBuf {
        self.root.join("postgres").join(SOCKET)
    }

    /// It runs: it did, or it is started.
    pub(super) async fn started_again(self) -> anyhow::Result<Self> {
        blocking(move || {
            let embedded = Arc::new(Embedded::start(&self.root, &self.options)?);
            Ok(Self { embedded, ..self })
        })
        .await
    }
}

async fn rows<A, B>(database: &mut PgConnection, statement: &'static str) -> anyhow::Result<Vec<(A, B)>>
where
    for<'r> A: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    for<'r> B: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    use sqlx::Row;
    let rows = sqlx::query(statement).fetch_all(database).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

pub(super) fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).ok_or_else(|| anyhow!("no process"))?;
    kill_process(pid, signal).context("cannot send a signal")
}
