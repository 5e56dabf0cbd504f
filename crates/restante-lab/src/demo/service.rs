//! A service of the demo's own: its program as a child, with a PostgreSQL in a directory that goes away.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use uuid::Uuid;

use crate::service_process::{LastWords, ServiceProcess};
use crate::token::Signer;
use restante::cli::exit::UsageError;
use restante_postgres::{Embedded, ServerOptions, ThrowawayDir};

/// The directory of its data.
enum Home {
    /// Goes away by itself, even when this process is killed.
    Throwaway(ThrowawayDir),
    /// The caller's choice.
    Named(PathBuf),
}

/// The service, running or not.
pub struct OwnService {
    program: PathBuf,
    home: Home,
    secret: String,
    addr: Option<SocketAddr>,
    process: Option<ServiceProcess>,
    last_words: LastWords,
}

impl OwnService {
    /// Makes room for a service; nothing is started yet.
    pub fn new(program: PathBuf, data_dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let home = match data_dir {
            Some(dir) if dir.exists() => return Err(UsageError(format!("{} exists; name a directory that does not", dir.display())).into()),
            Some(dir) => Home::Named(std::path::absolute(dir)?),
            None => Home::Throwaway(ThrowawayDir::new()?),
        };
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Ok(Self { program, home, secret, addr: None, process: None, last_words: LastWords::default() })
    }

    /// Starts it, for the first time or again; then at the same address.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let listen = self.addr.map_or_else(|| "127.0.0.1:0".to_owned(), |addr| addr.to_string());
        let dir = self.dir().to_str().context("the name of the directory is not UTF-8")?.to_owned();
        let settings =
            [("LISTEN_ADDR", &*listen), ("DATA_DIR", &*dir), ("JWT_SECRET", &*self.secret), ("SEND_RATE", "0"), ("RUST_LOG", "warn")];
        let process = ServiceProcess::start(&self.program, &["serve"], &settings, &self.last_words).await?;
        self.addr = Some(process.addr());
        self.process = Some(process);
        Ok(())
    }

    /// kill -9.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Its address.
    pub fn url(&self) -> anyhow::Result<String> {
        self.addr.map(|addr| format!("http://{addr}")).ok_or_else(|| anyhow!("the service is not running"))
    }

    /// The directory of its data.
    pub fn dir(&self) -> &Path {
        match &self.home {
            Home::Throwaway(dir) => dir.path(),
            Home::Named(dir) => dir,
        }
    }

    /// A token for this user.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        Signer::new(&self.secret).token(user)
    }

    /// The last things it logged.
    pub fn log(&self) -> String {
        self.last_words.text()
    }

    /// Stops it and its database, and removes its data. Called however the story ended.
    pub async fn remove(mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.stop().await;
        }
        tokio::task::spawn_blocking(move || match self.home {
            Home::Throwaway(dir) => {
                drop(dir);
                Ok(())
            }
            Home::Named(dir) => remove_named(&dir),
        })
        .await?
    }
}

fn remove_named(dir: &Path) -> anyhow::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    // A service that was killed has left its database running; who adopts it may stop it.
    Embedded::start(dir, &ServerOptions::default())?.stop()?;
    std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_that_exists_is_not_taken() {
        let there = tempfile::tempdir().unwrap();
        assert!(OwnService::new("restante".into(), Some(there.path().to_owned())).is_err());
    }
}
