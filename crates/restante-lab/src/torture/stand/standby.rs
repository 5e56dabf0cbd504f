//! The standby of the run, and what can be done with it: it is stopped, killed, and takes the primary's place. It does so
//! as whoever fails over with care does it: only a standby that has everything is promoted, and only when nothing of the old
//! primary is left that could answer. The old one's directory then becomes the new standby's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex as Turn;
use tokio::time::sleep;

use super::database::{Database, LOOK_EVERY, Server, Standby, blocking, signal};
use super::stopped::Stopped;
use crate::torture::dice::Dice;
use crate::torture::outcome::Outcome;
use restante::cli::exit::words;
use restante_postgres::{Embedded, ThrowawayDir};

/// Its name, as the primary knows it.
const NAME: &str = "standby";
/// It follows within moments, also when it has just been copied.
const CURRENT_MAX: Duration = Duration::from_secs(60);
/// An immediate stop takes no longer.
const QUIT_MAX: Duration = Duration::from_secs(2);

const IS_CURRENT: &str = "select exists (select from pg_stat_replication
    where application_name = 'standby' and state = 'streaming' and (sync_state = 'sync' or not $2) and flush_lsn >= $1::pg_lsn)";

/// The server that follows, and its directory.
#[derive(Debug)]
pub struct Second {
    _dir: ThrowawayDir,
    follower: Mutex<Follower>,
    standby: Standby,
    /// One promotion after the other; what comes meanwhile is passed over.
    promoting: Turn<()>,
}

/// What follows the primary.
#[derive(Debug, Clone)]
enum Follower {
    /// It does, or would if it ran.
    There(Server),
    /// Nothing: the last one could not be made. The next one belongs here.
    Missing(PathBuf),
}

/// How the primary is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// SIGKILL of the postmaster and of all that belongs to it.
    Killed,
    /// SIGQUIT.
    Quit,
    /// SIGSTOP of all of it, as a machine that hangs: connections stay open and silent, until somebody fences it.
    Frozen,
}

impl Second {
    /// Copies the primary and follows it; none if there is to be none.
    pub(super) async fn start(database: &Database, standby: Standby) -> anyhow::Result<Option<Self>> {
        if standby == Standby::None {
            return Ok(None);
        }
        let primary = database.primary();
        let (dir, server) = blocking(move || {
            let dir = ThrowawayDir::new()?;
            let server = follow(dir.path(), &primary)?;
            Ok((dir, server))
        })
        .await?;
        let second = Self { _dir: dir, follower: Mutex::new(Follower::There(server)), standby, promoting: Turn::new(()) };
        second.confirm_commits(database).await?;
        Ok(Some(second))
    }

    fn follower(&self) -> Follower {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, follower: Follower) {
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = follower;
    }

    /// The standby; where the last one could not be made, that is tried once more. Asked by whoever has the turn.
    async fn server(&self, database: &Database) -> Result<Server, Outcome> {
        match self.follower() {
            Follower::There(server) => Ok(server),
            Follower::Missing(root) => {
                let made = self.make(database, root).await;
                made.map_err(|error| Outcome::PassedOver(format!("there is no standby: {}", words(error.as_ref()))))
            }
        }
    }

    /// Makes a standby of the primary, in this directory. Where that fails there is none, and commits wait for none.
    async fn make(&self, database: &Database, root: PathBuf) -> anyhow::Result<Server> {
        self.replace(Follower::Missing(root.clone()));
        let primary = database.primary();
        let server = blocking(move || follow(&root, &primary)).await?;
        if let Err(error) = self.confirm_commits(database).await {
            // Where this fails too, it is done when everything is mended.
            let _ = database.await_no_standby().await;
            return Err(error);
        }
        self.replace(Follower::There(server.clone()));
        Ok(server)
    }

    /// From now on commits wait for the standby. Before it streams that would only stop them, so it is waited for.
    async fn confirm_commits(&self, database: &Database) -> anyhow::Result<()> {
        let mut primary = database.connect().await?;
        await_current(&mut primary, false).await?;
        if self.standby == Standby::Asynchronous {
            return Ok(());
        }
        sqlx::query("alter system set synchronous_standby_names = 'standby'").execute(&mut primary).await?;
        sqlx::query("select pg_reload_conf()").execute(&mut primary).await?;
        await_current(&mut primary, true).await?;
        // It is the checkpointer that makes the others wait: when it has done this, it has read the setting before.
        sqlx::query("checkpoint").execute(&mut primary).await?;
        Ok(())
    }

    /// What must be so before the primary may be lost. The standby has what was visible at this moment, and with it all that
    /// was confirmed; of what comes later a sender is told when the standby has it. But if it is to be found out whether
    /// losses are found, the standby is parted from the primary for a while.
    async fn prepare(&self, database: &Database, server: &Server, pause: Duration) -> anyhow::Result<()> {
        if self.standby != Standby::Asynchronous {
            return await_current(&mut database.connect().await?, true).await;
        }
        let mut standby = connect(server).await?;
        sqlx::query("alter system set primary_conninfo = ''").execute(&mut standby).await?;
        sqlx::query("select pg_reload_conf()").execute(&mut standby).await?;
        sleep(pause + QUIT_MAX).await;
        Ok(())
    }
}

impl Database {
    /// The primary is lost, its standby takes its place, and it comes back as the standby of that one.
    pub async fn promote(&self, dice: &mut Dice, pause: Duration) -> anyhow::Result<Outcome> {
        let second = self.second()?;
        let Ok(_only) = second.promoting.try_lock() else {
            return Ok(Outcome::PassedOver("the last one is not done yet".to_owned()));
        };
        let _turn = self.turn.lock().await;
        let new = match second.server(self).await {
            Ok(server) => server,
            Err(passed_over) => return Ok(passed_over),
        };
        let old = self.primary();
        let loss = *dice.one_of(&[Loss::Killed, Loss::Quit, Loss::Frozen]).context("there are three")?;
        let is_early = dice.chance(500);
        second.prepare(self, &new, pause).await?;
        old.lose(loss, pause).await?;
        if is_early {
            // Nodes are led to it while it still refuses what writes.
            self.way.send_replace(new.socket());
        }
        sleep(pause).await;
        let promoted = Arc::clone(&new.embedded);
        blocking(move || promoted.promote()).await?;
        self.way.send_replace(new.socket());
        self.replace_primary(new);
        let began = Instant::now();
        second.make(self, old.root).await.context("it was promoted, but there is no new standby")?;
        let early = if is_early { ", nodes led to the standby before" } else { "" };
        Ok(Outcome::Done(format!("{loss:?}{early}; a new standby after {} ms more", began.elapsed().as_millis())))
    }

    /// SIGSTOP of the process that receives: what is committed waits for it.
    pub async fn stop_standby(&self, time: Duration) -> anyhow::Result<Outcome> {
        let _turn = self.turn.lock().await;
        let second = self.second()?;
        let server = match second.server(self).await {
            Ok(server) => server,
            Err(passed_over) => return Ok(passed_over),
        };
        // After an end of the primary it takes a moment until it receives again.
        await_current(&mut self.connect().await?, second.standby == Standby::Synchronous).await?;
        let mut standby = connect(&server).await?;
        let receiver: Option<i32> = sqlx::query_scalar("select pid from pg_stat_wal_receiver").fetch_optional(&mut standby).await?;
        let stopped = Stopped::hold(u32::try_from(receiver.ok_or_else(|| anyhow!("the standby does not receive"))?)?)?;
        sleep(time).await;
        stopped.release().await;
        Ok(Outcome::Done(String::new()))
    }

    /// kill -9 of the standby with all that belongs to it, and a new start.
    pub async fn kill_standby(&self, pause: Duration) -> anyhow::Result<Outcome> {
        let _turn = self.turn.lock().await;
        let second = self.second()?;
        let server = match second.server(self).await {
            Ok(server) => server,
            Err(passed_over) => return Ok(passed_over),
        };
        let killed = Arc::clone(&server.embedded);
        blocking(move || killed.fence()).await?;
        sleep(pause).await;
        second.replace(Follower::There(server.started_again().await?));
        await_current(&mut self.connect().await?, second.standby == Standby::Synchronous).await?;
        Ok(Outcome::Done(String::new()))
    }

    /// Where the standby does not run, it is started; where it cannot be, or there is none, commits no longer wait for it. An
    /// operator would do the same.
    pub(super) async fn ensure_standby(&self) -> anyhow::Result<()> {
        let Some(second) = &self.second else { return Ok(()) };
        let started = match second.follower() {
            Follower::There(server) => server.started_again().await.ok(),
            Follower::Missing(_) => None,
        };
        match started {
            Some(server) => second.replace(Follower::There(server)),
            None => self.await_no_standby().await?,
        }
        Ok(())
    }

    async fn await_no_standby(&self) -> anyhow::Result<()> {
        let mut primary = self.connect().await?;
        sqlx::query("alter system reset synchronous_standby_names").execute(&mut primary).await?;
        sqlx::query("select pg_reload_conf()").execute(&mut primary).await?;
        Ok(())
    }

    fn second(&self) -> anyhow::Result<&Second> {
        self.second.as_ref().ok_or_else(|| anyhow!("there is no standby"))
    }
}

impl Server {
    /// Afterwards nothing of it answers or writes.
    async fn lose(&self, loss: Loss, pause: Duration) -> anyhow::Result<()> {
        let server = Arc::clone(&self.embedded);
        let held = match (loss, server.pid()) {
            (Loss::Quit, Some(postmaster)) => {
                signal(postmaster, Signal::QUIT)?;
                let give_up = Instant::now() + QUIT_MAX;
                while !server.processes()?.is_empty() && Instant::now() < give_up {
                    sleep(LOOK_EVERY).await;
                }
                None
            }
            (Loss::Frozen, _) => {
                let held = Stopped::hold_all(&server.processes()?)?;
                sleep(pause).await;
                Some(held)
            }
            (Loss::Killed, _) | (Loss::Quit, None) => None,
        };
        blocking(move || server.fence()).await?;
        if let Some(held) = held {
            held.release().await;
        }
        Ok(())
    }
}

fn follow(root: &Path, primary: &Server) -> Result<Server, restante_postgres::Error> {
    let options = primary.options.clone();
    let embedded = Arc::new(Embedded::start_standby(root, &primary.embedded, NAME, &options)?);
    Ok(Server { root: root.to_owned(), options, embedded })
}

/// To a standby one connects as soon as it has replayed what it must.
async fn connect(server: &Server) -> anyhow::Result<PgConnection> {
    let give_up = Instant::now() + CURRENT_MAX;
    loop {
        match PgConnection::connect_with(&server.embedded.options(super::database::NAME)).await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > give_up => return Err(error).context("the standby does not answer"),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

/// Until the standby has on disk what the primary had when this was called, as one that commits wait for if it is to be.
async fn await_current(primary: &mut PgConnection, is_synchronous: bool) -> anyhow::Result<()> {
    let give_up = Instant::now() + CURRENT_MAX;
    let up_to: String = sqlx::query_scalar("select pg_current_wal_lsn()::text").fetch_one(&mut *primary).await?;
    while !sqlx::query_scalar::<_, bool>(IS_CURRENT).bind(&up_to).bind(is_synchronous).fetch_one(&mut *primary).await? {
        if Instant::now() > give_up {
            bail!("the standby does not follow");
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}
