//! A service in a process of its own. It ends with this program, also when this program is killed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(15);
const LOG_LINES_MAX: usize = 20;
const LISTENING: &str = "listening on http://";

/// Ends the service when this program is killed: it reads until the pipe, which only this program holds, is closed.
const WATCHDOG: &str = r#"trap '' HUP INT TERM; read -r _; kill -KILL "$1""#;

/// Settings in the environment of the caller that are not meant for this service.
const NOT_INHERITED: [&str; 4] = ["DATABASE_URL", "DATABASE_DIRECT_URL", "DATA_DIR", "NATS_URL"];

/// The last lines of a service's log. They outlive its process, so that a second process goes on with them.
#[derive(Debug, Clone, Default)]
pub struct LastWords(Arc<Mutex<VecDeque<String>>>);

/// A running service.
#[derive(Debug)]
pub struct ServiceProcess {
    child: Child,
    watchdog: Child,
    addr: SocketAddr,
}

impl ServiceProcess {
    /// Starts this program with these arguments and settings, and waits up to 20 s until it says its address.
    ///
    /// # Errors
    /// When it does not start, or says no address in time.
    pub async fn start(program: &Path, args: &[&str], settings: &[(&str, &str)], last_words: &LastWords) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(args).envs(settings.iter().copied());
        for name in NOT_INHERITED.iter().filter(|name| settings.iter().all(|(set, _)| set != *name)) {
            command.env_remove(name);
        }
        let mut child = command
            // The service must not read a `.env` in the caller's directory.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // An interrupt from the terminal goes to this program only, which then ends the service.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the service")?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep_last(stderr, last_words.clone()));
        }
        let pid = child.id().context("the service ended at once")?;
        let watchdog = watch(pid)?;
        let addr = timeout(START_MAX, listening(child.stdout.take())).await.context("the service did not start in time")??;
        Ok(Self { child, watchdog, addr })
    }

    /// The address on which it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process id; `None` when it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Tells whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// kill -9.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.dismiss_watchdog().await;
        self.child.kill().await.context("cannot kill the service")
    }

    /// Asks it to stop, waits up to 15 s for its end, and then kills it.
    pub async fn stop(mut self) {
        self.dismiss_watchdog().await;
        let Some(pid) = self.child.id() else { return };
        let asked = Command::new("kill").arg(pid.to_string()).status().await;
        if asked.is_err() || timeout(STOP_MAX, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// Ends the watchdog. It has to end before the service, because another process may get the service's process id later.
    async fn dismiss_watchdog(&mut self) {
        let _ = self.watchdog.kill().await;
    }
}

impl LastWords {
    /// The lines.
    pub fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        if lines.len() > LOG_LINES_MAX {
            lines.pop_front();
        }
    }
}

fn watch(pid: u32) -> anyhow::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", WATCHDOG, "restante-watchdog", &pid.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).kill_on_drop(true);
    command.spawn().context("cannot start sh")
}

/// Waits for the line with the service's address. Later lines are read and dropped, so that the service can write them.
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

async fn keep_last(stderr: impl AsyncRead + Unpin, last_words: LastWords) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        last_words.push(line);
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
    fn only_the_last_words_are_kept() {
        let words = LastWords::default();
        (0..100).for_each(|line| words.push(line.to_string()));
        assert!(words.text().starts_with("80\n") && words.text().ends_with("99"));
    }
}
