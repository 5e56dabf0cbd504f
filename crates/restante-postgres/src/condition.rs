//! The condition of a server that should run, and its repair. A server may die, and an upgrade of the distribution may replace its
//! programs and libraries while it runs: then the backends that are there go on, and each new one fails when it loads a library.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection};

use super::error::is_unfit;
use super::installation::major_of_cluster;
use super::postmaster::{Postmaster, Started};
use super::{Embedded, Error, blocking};

/// The time that a probe may take. A busy machine is not taken for a broken server.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// The condition of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It takes connections, and a new backend can load its libraries.
    Fit,
    /// No postmaster runs.
    Gone,
    /// The postmaster runs, but no new backend can load its libraries.
    Unfit {
        /// Its process id.
        pid: u32,
        /// The words of the backend.
        said: String,
    },
    /// It is starting, recovering or stopping, or it had no connection to give. There is nothing to do but to wait.
    Unclear(String),
}

impl Embedded {
    /// Tells cheaply whether the postmaster's process is there.
    pub fn lives(&self) -> bool {
        self.postmaster.lives()
    }

    /// Looks at the server over a new connection. Takes milliseconds, and 5 s at most.
    pub async fn look(&self) -> Condition {
        let Some(pid) = self.pid() else { return Condition::Gone };
        match tokio::time::timeout(PROBE_MAX, self.probe()).await {
            Ok(Ok(())) => Condition::Fit,
            Ok(Err(error)) if is_unfit(&error) => Condition::Unfit { pid, said: said(&error) },
            Ok(Err(_)) if !self.lives() => Condition::Gone,
            Ok(Err(error)) => Condition::Unclear(said(&error)),
            Err(_) => Condition::Unclear("it does not answer".to_owned()),
        }
    }

    /// Starts the server again after it has died, or was found unfit: then that one is stopped first. The programs are looked for
    /// anew, since an upgrade may have moved them. A server that somebody has started meanwhile is adopted.
    ///
    /// # Errors
    /// When it cannot be started now. An unfit one is stopped only once there are programs to start another with.
    pub async fn revive(&self, condition: &Condition) -> Result<Started, Error> {
        let (layout, extra) = (self.postmaster.layout.clone(), self.extra.clone());
        let unfit = if let Condition::Unfit { pid, .. } = condition { Some(*pid) } else { None };
        blocking(move || {
            let _starting = layout.start_lock()?;
            if major_of_cluster(&layout.data).is_none() {
                return Err(Error::Vanished { data: layout.data });
            }
            let postmaster = Postmaster::of(layout, &extra)?;
            if unfit.is_some() && postmaster.pid() == unfit {
                postmaster.stop()?;
            }
            postmaster.start_or_adopt(&extra)
        })
        .await
    }

    /// Every function of the schema that does something needs PL/pgSQL, which is a library.
    async fn probe(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.options("postgres").connect().await?;
        sqlx::raw_sql("do $$ begin end $$").execute(&mut connection).await?;
        connection.close().await
    }
}

fn said(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(refusal) => format!("{} ({})", refusal.message(), refusal.code().unwrap_or_default()),
        None => error.to_string(),
    }
}
