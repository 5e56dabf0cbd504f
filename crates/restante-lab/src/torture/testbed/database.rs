//! PostgreSQL of the run, in a directory that is removed at the end, and the faults that are done to it. One fault at a time: the
//! task that stops or kills the server starts it again before another one touches it. [`super::failover`] has the faults of the
//! standby.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::process::Signal;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Mutex as Turn, watch};
use tokio::time::sleep;
use uuid::Uuid;

use super::server::{NAME, POLL_INTERVAL, Server, StandbyMode, blocking, signal};
use super::standby::{Standby, release_commits};
use super::stopped::Stopped;
use crate::torture::rng::Rng;
use restante_postgres::{Embedded, ServerOptions, ThrowawayDir};

/// A way to end PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGINT: it ends its clients' sessions first.
    Fast,
    /// SIGQUIT: it recovers at its next start.
    Immediate,
    /// SIGKILL of the postmaster.
    Kill,
}

/// The backends that a fault may pick from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// All backends of nodes.
    Any,
    /// The ones that listen.
    Listener,
}

/// PostgreSQL recovers in seconds; after this time it will not.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// The server that takes writes, the standby if there is one, and their directories.
#[derive(Debug)]
pub struct Database {
    dir: ThrowawayDir,
    primary: Mutex<Server>,
    pub(super) standby: Option<Standby>,
    /// The socket that the nodes' proxies lead to.
    pub(super) route: watch::Sender<PathBuf>,
    /// A task that holds it may end a server, and has to start it again.
    pub(super) turn: Turn<()>,
}

/// Without a standby a confirmed commit is on disk. With one it is in two servers, and `fsync` is off, so that copying the
/// primary again and again does not wait for the disk: no run cuts the power, and the kernel keeps the writes of a killed process.
fn options(standby: StandbyMode) -> ServerOptions {
    let durable = if standby == StandbyMode::None { "on" } else { "off" };
    ServerOptions::default()
        .set("fsync", durable)
        .set("shared_buffers", "128MB")
        .set("log_min_messages", "error")
        .set("max_connections", "150")
        // A standby may be stopped for a while: the primary keeps WAL for it, and it soon tries to connect again.
        .set("wal_keep_size", "1GB")
        .set("wal_retrieve_retry_interval", "200ms")
        // A fenced server leaves no shared memory outside its directory.
        .set("dynamic_shared_memory_type", "mmap")
}

impl Database {
    /// Makes and starts it, with its standby.
    ///
    /// # Errors
    /// When a server cannot be made or started.
    pub async fn start(standby: StandbyMode) -> anyhow::Result<Self> {
        let (dir, server) = blocking(move || {
            let (dir, options) = (ThrowawayDir::new()?, options(standby));
            let embedded = Arc::new(Embedded::start(dir.path(), &options)?);
            let server = Server { root: dir.path().to_owned(), options, embedded };
            Ok((dir, server))
        })
        .await?;
        server.embedded.ensure_database(NAME).await?;
        let standby = Standby::start(&server, standby).await?;
        let route = watch::Sender::new(server.socket());
        Ok(Self { dir, primary: Mutex::new(server), standby, route, turn: Turn::new(()) })
    }

    /// A directory that is removed with the database.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of the socket of the server that takes writes. It changes with a promotion.
    pub fn route(&self) -> watch::Receiver<PathBuf> {
        self.route.subscribe()
    }

    /// Options to connect past all proxies.
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
        self.primary().connect().await
    }

    /// Ends the server, and starts it again after a pause.
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

    /// Starts the servers that do not run.
    pub async fn ensure(&self) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        self.start_again().await?;
        let Some(standby) = &self.standby else { return Ok(()) };
        if !standby.ensure().await {
            release_commits(&mut self.connect().await?).await?;
        }
        Ok(())
    }

    async fn start_again(&self) -> anyhow::Result<()> {
        self.replace_primary(self.primary().started_again().await?);
        Ok(())
    }

    /// Stops the postmaster for this time: connected clients go on, new ones cannot connect.
    pub async fn stop_postmaster(&self, time: Duration) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let pid = self.postmaster().ok_or_else(|| anyhow!("there is no postmaster"))?;
        let stopped = Stopped::hold(pid)?;
        sleep(time).await;
        stopped.release().await;
        Ok(())
    }

    /// Stops a backend for this time: everybody waits for its locks. Returns the backend's last query.
    pub async fn stop_backend(&self, rng: &mut Rng, time: Duration) -> anyhow::Result<String> {
        // A starting server waits for the backends of the one before, and would wait for this one.
        let _turn = self.turn.lock().await;
        let (pid, does) = self.backend(Backend::Any, rng).await?;
        let stopped = Stopped::hold(pid)?;
        sleep(time).await;
        stopped.release().await;
        Ok(does)
    }

    /// kill -9 of a backend: PostgreSQL ends all others and recovers. No other fault stops the server before it has recovered:
    /// a fast stop in the middle of a recovery has been seen to wait for ever (PostgreSQL 15).
    pub async fn kill_backend(&self, rng: &mut Rng) -> anyhow::Result<String> {
        let _turn = self.turn.lock().await;
        let (pid, does) = self.backend(Backend::Any, rng).await?;
        signal(pid, Signal::KILL)?;
        let give_up = Instant::now() + RECOVERY_MAX;
        sleep(POLL_INTERVAL).await;
        while self.connect().await.is_err() && Instant::now() < give_up {
            sleep(POLL_INTERVAL).await;
        }
        Ok(does)
    }

    /// `pg_terminate_backend`.
    pub async fn end_backend(&self, which: Backend, rng: &mut Rng) -> anyhow::Result<String> {
        let (pid, does) = self.backend(which, rng).await?;
        signal(pid, Signal::TERM)?;
        Ok(does)
    }

    /// A message that has failed, with its recipient.
    pub async fn failed(&self, rng: &mut Rng) -> anyhow::Result<Option<(Uuid, String)>> {
        let mut database = self.connect().await?;
        let failed = "select s.message_id, u.external_id from message_status s join users u on u.id = s.user_id
                       where s.status = 'failed' order by s.message_id, u.external_id limit 100";
        let failed: Vec<(Uuid, String)> = rows(&mut database, failed).await?;
        Ok(rng.one_of(&failed).cloned())
    }

    /// Puts a failed message back, as an operator would.
    pub async fn requeue(&self, message: Uuid, user: &str) -> anyhow::Result<()> {
        let mut database = self.connect().await?;
        let done = sqlx::query("select restante_requeue($1, $2)").bind(message).bind(user).execute(&mut database).await;
        done.context("restante_requeue").map(drop)
    }

    /// One of the newest messages, with its sender.
    pub async fn recallable(&self, rng: &mut Rng) -> anyhow::Result<Option<(Uuid, String)>> {
        let mut database = self.connect().await?;
        let newest = "select m.id, u.external_id from messages m join users u on u.id = m.sender_id
                       where m.seq > 0 and m.recalled_at is null and m.chat_id not in (select chat_id from feeds)
                       order by m.created_at desc, m.id limit 20";
        let newest: Vec<(Uuid, String)> = rows(&mut database, newest).await?;
        Ok(rng.one_of(&newest).cloned())
    }

    /// Recalls a message, as an application would.
    pub async fn recall(&self, message: Uuid, sender: &str) -> anyhow::Result<()> {
        let mut database = self.connect().await?;
        let done = sqlx::query("select restante_recall($1, $2)").bind(message).bind(sender).execute(&mut database).await;
        done.context("restante_recall").map(drop)
    }

    /// Counts what waits, except for users that stay away: rows, and rows of events that a job has still to write. Rows that expire
    /// within minutes count in any case, and so do recalls that have not come to all.
    pub async fn waiting(&self, away: &[String]) -> anyhow::Result<i64> {
        let mut database = self.connect().await?;
        let waiting =
            "select (select count(*) from message_status s join users u on u.id = s.user_id join messages m on m.id = s.message_id
                        where s.status = 'sent' and (u.external_id <> all ($1) or m.expires_at < clock_timestamp() + interval '5 minutes'))
                     + (select count(*) from fan_out_recipients) + (select count(*) from recalls)";
        Ok(sqlx::query_scalar(waiting).bind(away).fetch_one(&mut database).await?)
    }

    /// Removes what a user has finished of its alerts and events, as if that had been months ago. Returns the user and the number of rows.
    pub async fn purge(&self, rng: &mut Rng) -> anyhow::Result<Option<(String, i64)>> {
        let mut database = self.connect().await?;
        let users = "select u.id, u.external_id from users u
                      where exists (select from message_status s where s.user_id = u.id and s.class <> 'chat') order by u.id";
        let users: Vec<(i64, String)> = rows(&mut database, users).await?;
        let Some((id, name)) = rng.one_of(&users).cloned() else { return Ok(None) };
        let purge = "select rows_gone::bigint from restante_purge_inboxes(0, $1, 'chat', 2, 200)";
        let gone: Option<i64> = sqlx::query_scalar(purge).bind(id).fetch_one(&mut database).await.context("restante_purge_inboxes")?;
        Ok(Some((name, gone.unwrap_or_default())))
    }

    fn postmaster(&self) -> Option<u32> {
        self.primary().embedded.pid()
    }

    async fn backend(&self, which: Backend, rng: &mut Rng) -> anyhow::Result<(u32, String)> {
        let mut database = self.connect().await?;
        let all = "select pid, left(regexp_replace(query, '\\s+', ' ', 'g'), 60) from pg_stat_activity
                    where backend_type = 'client backend' and pid <> pg_backend_pid() and datname = current_database() order by pid";
        let mut all: Vec<(i32, String)> = rows(&mut database, all).await?;
        all.retain(|(_, query)| which == Backend::Any || query.to_lowercase().starts_with("listen"));
        let (pid, query) = rng.one_of(&all).ok_or_else(|| anyhow!("there is no such backend"))?;
        Ok((u32::try_from(*pid)?, query.clone()))
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
