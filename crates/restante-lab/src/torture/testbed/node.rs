//! A node: the service's program in a process of its own, between two proxies, and the faults that are done to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, anyhow};
use sqlx::ConnectOptions;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::database::Database;
use super::server::SOCKET;
use super::stopped::Stopped;
use crate::service_process::{LastWords, ServiceProcess};
use crate::torture::proxy::Proxy;

/// The nodes' settings. Polls are frequent and time-outs are short, so that much happens in a minute.
const SETTINGS: [(&str, &str); 11] = [
    ("SEND_RATE", "0"),
    ("EVENT_RATE", "0"),
    ("LOOK_INTERVAL_MS", "1000"),
    ("ACK_TIMEOUT_MS", "4000"),
    ("ATTEMPTS_MAX", "5"),
    ("HEARTBEAT_MS", "2000"),
    ("POOL_SIZE", "8"),
    ("SESSIONS_PER_USER_MAX", "100"),
    ("ACCEPT_LANES", "2"),
    ("SETTLE_LANES", "2"),
    ("RUST_LOG", "warn"),
];
/// `ATTEMPTS_MAX` of [`SETTINGS`], for the judge.
pub const ATTEMPTS_MAX: u16 = 5;
/// `ACK_TIMEOUT_MS` of [`SETTINGS`], for the judge.
pub const ACK_TIMEOUT_MS: u64 = 4_000;

/// The offset of a clock that is right, in milliseconds.
const RIGHT: i64 = 0;
const START_MAX: Duration = Duration::from_secs(90);

/// A node and its proxies.
#[derive(Debug)]
pub struct Node {
    /// The proxy between clients and the node.
    pub front: Proxy,
    /// The proxy between the node and PostgreSQL.
    pub back: Proxy,
    /// The address of the front proxy, for clients.
    pub url: String,
    addr: SocketAddr,
    program: PathBuf,
    settings: std::sync::Mutex<Vec<(String, String)>>,
    process: Mutex<Option<ServiceProcess>>,
    last_words: LastWords,
}

impl Node {
    /// Starts the node and its proxies. `settings` are those of the run.
    ///
    /// # Errors
    /// With the last lines of its log, when it does not start.
    pub async fn start(program: &Path, number: usize, database: &Database, settings: &[(String, String)]) -> anyhow::Result<Self> {
        let dir: PathBuf = database.dir().join(format!("node-{number}"));
        std::fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        let back = Proxy::unix(&dir.join(SOCKET), database.route())?;
        let url = database.options().socket(&dir).to_url_lossy().to_string();
        let own = settings.iter().cloned().chain([("DATABASE_URL".to_owned(), url)]);
        let settings: Vec<_> = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).chain(own).collect();
        let last_words = LastWords::default();
        let process = launch(program, &settings, "127.0.0.1:0", RIGHT, &last_words).await.with_context(|| last_words.text())?;
        let addr = process.addr();
        let (front, front_addr) = Proxy::tcp(addr).await?;
        let url = format!("http://{front_addr}");
        let (settings, process) = (std::sync::Mutex::new(settings), Mutex::new(Some(process)));
        Ok(Self { front, back, url, addr, program: program.to_owned(), settings, process, last_words })
    }

    /// kill -9, and a new start after a pause with a clock that is right.
    pub async fn kill(&self, pause: Duration) -> anyhow::Result<()> {
        self.kill_and_turn_clock(pause, RIGHT).await
    }

    /// The same, and from its start on this setting is another one.
    pub async fn kill_and_set(&self, pause: Duration, name: &str, value: &str) -> anyhow::Result<()> {
        let set = |settings: &mut Vec<(String, String)>| {
            settings.iter_mut().filter(|(of, _)| of == name).for_each(|(_, set)| value.clone_into(set));
        };
        set(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner));
        self.kill(pause).await
    }

    /// The same, but until its next start the clock is off by this many milliseconds.
    pub async fn kill_and_turn_clock(&self, pause: Duration, off_by_ms: i64) -> anyhow::Result<()> {
        let mut process = self.process.lock().await;
        if let Some(process) = process.take() {
            process.kill().await?;
        }
        sleep(pause).await;
        self.launch_again(&mut process, off_by_ms).await
    }

    /// Stops the process for this time; its sockets stay open.
    pub async fn stop(&self, time: Duration) -> anyhow::Result<()> {
        let process = self.process.lock().await;
        let pid = process.as_ref().and_then(ServiceProcess::pid).ok_or_else(|| anyhow!("it does not run"))?;
        let stopped = Stopped::hold(pid)?;
        sleep(time).await;
        stopped.release().await;
        Ok(())
    }

    /// If the node has ended by itself, starts it again and returns the last lines of its log. A fault that kills the node starts it
    /// again by itself, and holds the lock meanwhile.
    pub async fn look_after(&self) -> anyhow::Result<Option<String>> {
        let Ok(mut process) = self.process.try_lock() else { return Ok(None) };
        if !process.as_mut().is_some_and(ServiceProcess::has_ended) {
            return Ok(None);
        }
        let words = self.last_words.text();
        *process = None;
        self.launch_again(&mut process, RIGHT).await?;
        Ok(Some(words))
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        self.last_words.text()
    }

    /// Asks the node to end, and waits for its end.
    pub async fn end(&self) {
        let process = self.process.lock().await.take();
        if let Some(process) = process {
            process.stop().await;
        }
    }

    /// Starts the node. While PostgreSQL is away it does not start, so this tries again until it does.
    async fn launch_again(&self, process: &mut Option<ServiceProcess>, off_by_ms: i64) -> anyhow::Result<()> {
        let give_up = Instant::now() + START_MAX;
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        loop {
            match launch(&self.program, &settings, &self.addr.to_string(), off_by_ms, &self.last_words).await {
                Ok(launched) => {
                    *process = Some(launched);
                    return Ok(());
                }
                Err(error) if Instant::now() > give_up => return Err(error).with_context(|| self.last_words.text()),
                Err(_) => sleep(Duration::from_millis(300)).await,
            }
        }
    }
}

async fn launch(
    program: &Path,
    settings: &[(String, String)],
    listen: &str,
    off_by_ms: i64,
    last_words: &LastWords,
) -> anyhow::Result<ServiceProcess> {
    let all: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain([("LISTEN_ADDR", listen)]).collect();
    ServiceProcess::start(program, &["serve", "--clock-off-by-ms", &off_by_ms.to_string()], &all, last_words).await
}
