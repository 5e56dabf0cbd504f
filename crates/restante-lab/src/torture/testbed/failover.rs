//! The faults of the standby: it is promoted, stopped and killed. A failover here is done with care: only a standby that has
//! everything is promoted, and only when no process of the old primary is left that could answer. The old primary's directory then
//! becomes that of the new standby.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::process::Signal;
use tokio::time::sleep;

use super::database::Database;
use super::server::{POLL_INTERVAL, Server, blocking, signal};
use super::standby::{QUIT_MAX, Standby, State, await_current, connect};
use super::stopped::Stopped;
use crate::torture::outcome::FaultOutcome;
use crate::torture::rng::Rng;

/// A way in which the primary is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// SIGKILL of the postmaster and of its processes.
    Killed,
    /// SIGQUIT.
    Quit,
    /// SIGSTOP of all its processes, as a machine that hangs: connections stay open and silent until the server is fenced.
    Frozen,
}

impl Database {
    /// The primary is lost, its standby takes its place, and the lost server comes back as the new standby.
    ///
    /// # Errors
    /// When a step fails: the run then has no verdict on failovers.
    pub async fn promote(&self, rng: &mut Rng, pause: Duration) -> anyhow::Result<FaultOutcome> {
        let standby = self.standby()?;
        let Ok(_only) = standby.promoting.try_lock() else {
            return Ok(FaultOutcome::PassedOver("the last one is not done yet".to_owned()));
        };
        let _turn = self.turn.lock().await;
        let old = self.primary();
        let new = match standby.server(&old).await {
            Ok(server) => server,
            Err(passed_over) => return Ok(passed_over),
        };
        let loss = *rng.one_of(&[Loss::Killed, Loss::Quit, Loss::Frozen]).context("there are three")?;
        let is_early = rng.chance(500);
        standby.prepare_promotion(&old, &new, pause).await?;
        old.lose(loss, pause).await?;
        if is_early {
            // The nodes get the standby while it still refuses writes.
            self.route.send_replace(new.socket());
        }
        sleep(pause).await;
        let promoted = Arc::clone(&new.embedded);
        blocking(move || promoted.promote()).await?;
        self.route.send_replace(new.socket());
        self.replace_primary(new.clone());
        let began = Instant::now();
        standby.make(&new, old.root).await.context("it was promoted, but there is no new standby")?;
        let early = if is_early { ", nodes led to the standby before" } else { "" };
        Ok(FaultOutcome::Done(format!("{loss:?}{early}; a new standby after {} ms more", began.elapsed().as_millis())))
    }

    /// SIGSTOP of the standby's receiver: commits wait for it.
    ///
    /// # Errors
    /// When the standby does not receive.
    pub async fn stop_standby(&self, time: Duration) -> anyhow::Result<FaultOutcome> {
        let _turn = self.turn.lock().await;
        let standby = self.standby()?;
        let server = match standby.server(&self.primary()).await {
            Ok(server) => server,
            Err(passed_over) => return Ok(passed_over),
        };
        // After an end of the primary the standby needs a moment until it receives again.
        await_current(&mut self.connect().await?, standby.is_synchronous()).await?;
        let mut connection = connect(&server).await?;
        let receiver: Option<i32> = sqlx::query_scalar("select pid from pg_stat_wal_receiver").fetch_optional(&mut connection).await?;
        let stopped = Stopped::hold(u32::try_from(receiver.ok_or_else(|| anyhow!("the standby does not receive"))?)?)?;
        sleep(time).await;
        stopped.release().await;
        Ok(FaultOutcome::Done(String::new()))
    }

    /// kill -9 of the standby's processes, and a new start.
    ///
    /// # Errors
    /// When the standby does not start or does not follow.
    pub async fn kill_standby(&self, pause: Duration) -> anyhow::Result<FaultOutcome> {
        let _turn = self.turn.lock().await;
        let standby = self.standby()?;
        let server = match standby.server(&self.primary()).await {
            Ok(server) => server,
            Err(passed_over) => return Ok(passed_over),
        };
        let killed = Arc::clone(&server.embedded);
        blocking(move || killed.fence()).await?;
        sleep(pause).await;
        standby.replace(State::Exists(server.started_again().await?));
        await_current(&mut self.connect().await?, standby.is_synchronous()).await?;
        Ok(FaultOutcome::Done(String::new()))
    }

    fn standby(&self) -> anyhow::Result<&Standby> {
        self.standby.as_ref().ok_or_else(|| anyhow!("there is no standby"))
    }
}

impl Server {
    /// Loses the server in this way. Afterwards none of its processes answers or writes.
    async fn lose(&self, loss: Loss, pause: Duration) -> anyhow::Result<()> {
        let server = Arc::clone(&self.embedded);
        let held = match (loss, server.pid()) {
            (Loss::Quit, Some(postmaster)) => {
                signal(postmaster, Signal::QUIT)?;
                let give_up = Instant::now() + QUIT_MAX;
                while !server.processes()?.is_empty() && Instant::now() < give_up {
                    sleep(POLL_INTERVAL).await;
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
