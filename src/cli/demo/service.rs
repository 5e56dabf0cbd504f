//! A service of the demo's own: this very program as a child, with a PostgreSQL in a directory that goes away.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use uuid::Uuid;

use crate::auth::TokenVerifier;
use crate::cli::exit::UsageError;
use crate::domain::ExternalId;
use crate::postgres::{Embedded, ServerOptions, ThrowawayDir};

const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(15);
const LOG_LINES_MAX: usize = 20;
const LISTENING: &str = "listening on http://";

/// Ends the service when this process is killed and cannot: reads until the pipe, which only this process holds, is closed.
const WATCHDOG: &str = r#"trap '' HUP INT TERM; read -r _; kill -KILL "$1""#;

/// Where its data is.
enum Home {
    /// Goes away by itself, even when this process is killed.
    Throwaway(ThrowawayDir),
    /// The caller's choice.
    Named(PathBuf),
}

/// The service, running or not.
pub struct OwnService {
    home: Home,
    secret: String,
    addr: Option<SocketAddr>,
    child: Option<Child>,
    watchdog: Option<Child>,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl OwnService {
    /// Makes room for a service; nothing is started yet.
    pub fn new(data_dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let home = match data_dir {
            Some(dir) if dir.exists() => return Err(UsageError(format!("{} exists; name a directory that does not", dir.display())).into()),
            Some(dir) => Home::Named(std::path::absolute(dir)?),
            None => Home::Throwaway(ThrowawayDir::new()?),
        };
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Ok(Self { home, secret, addr: None, child: None, watchdog: None, log: Arc::default() })
    }

    /// Starts it, for the first time or again; then at the same address.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let listen = self.addr.map_or_else(|| "127.0.0.1:0".to_owned(), |addr| addr.to_string());
        let mut child = Command::new(std::env::current_exe().context("cannot find this program")?)
            .arg("serve")
            .env("LISTEN_ADDR", listen)
            .env("DATA_DIR", self.dir())
            .env("JWT_SECRET", &self.secret)
            .env("SEND_RATE", "0")
            .env("RUST_LOG", "warn")
            .env_remove("DATABASE_URL")
            .env_remove("DATABASE_DIRECT_URL")
            .env_remove("NATS_URL")
            // A `.env` of whoever runs the demo must not speak to this service.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // An interrupt from the terminal is for the demo, which then ends the service itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the service")?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep_last(stderr, Arc::clone(&self.log)));
        }
        let stdout = child.stdout.take();
        self.watchdog = child.id().map(watch).transpose()?;
        self.child = Some(child);
        self.addr = Some(timeout(START_MAX, listening(stdout)).await.context("the service did not start in time")??);
        Ok(())
    }

    /// kill -9.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.dismiss_watchdog().await;
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("cannot kill the service")?;
        }
        Ok(())
    }

    /// Where it is.
    pub fn url(&self) -> anyhow::Result<String> {
        self.addr.map(|addr| format!("http://{addr}")).ok_or_else(|| anyhow!("the service is not running"))
    }

    /// Where its data is.
    pub fn dir(&self) -> &Path {
        match &self.home {
            Home::Throwaway(dir) => dir.path(),
            Home::Named(dir) => dir,
        }
    }

    /// A token for this user.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        let user = ExternalId::try_from(user.to_owned())?;
        Ok(TokenVerifier::new(&self.secret.clone().into()).mint(&user, time::Duration::HOUR, SystemTime::now().into()))
    }

    /// The last things it logged.
    pub fn log(&self) -> String {
        let lines = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Stops it and its database, and removes its data. Called however the story ended.
    pub async fn remove(mut self) -> anyhow::Result<()> {
        self.dismiss_watchdog().await;
        if let Some(child) = &mut self.child {
            terminate(child).await;
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

impl OwnService {
    /// Before the service ends: afterwards its process id could be somebody else's.
    async fn dismiss_watchdog(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            let _ = watchdog.kill().await;
        }
    }
}

fn watch(pid: u32) -> anyhow::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", WATCHDOG, "restante-watchdog", &pid.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).kill_on_drop(true);
    command.spawn().context("cannot start sh")
}

fn remove_named(dir: &Path) -> anyhow::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    // A service that was killed has left its database running; who adopts it may stop it.
    Embedded::start(dir, &ServerOptions::default())?.stop()?;
    std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

async fn terminate(child: &mut Child) {
    let Some(pid) = child.id() else { return };
    let asked = Command::new("kill").arg(pid.to_string()).status().await;
    if asked.is_err() || timeout(STOP_MAX, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Waits for the line that says where the service listens; later lines are read and dropped, so that it can write them.
async fn listening(stdout: Option<impl AsyncRead + Unpin + Send + 'static>) -> anyhow::Result<SocketAddr> {
    let mut lines = BufReader::new(stdout.context("the service has no stdout")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(addr) = line.strip_prefix(LISTENING) {
            let addr = addr.trim().parse().with_context(|| format!("not an address: {addr}"))?;
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(addr);
        }
    }
    bail!("the service did not start")
}

async fn keep_last(stderr: impl AsyncRead + Unpin, log: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_back(line);
        if log.len() > LOG_LINES_MAX {
            log.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn address_is_found_among_other_lines() {
        let found = listening(Some(&b"hello\nlistening on http://127.0.0.1:4711\nmore\n"[..])).await.unwrap();
        assert_eq!(found, "127.0.0.1:4711".parse().unwrap());
        assert!(listening(Some(&b"no\n"[..])).await.is_err());
    }

    #[test]
    fn directory_that_exists_is_not_taken() {
        let there = tempfile::tempdir().unwrap();
        assert!(OwnService::new(Some(there.path().to_owned())).is_err());
    }
}
