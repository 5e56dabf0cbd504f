//! Processes that are stopped (SIGSTOP) while this value lives. They go on (SIGCONT) also when this program is killed: a shell waits
//! on a pipe that only this program holds open, and lets them go when the pipe closes.

use std::process::Stdio;

use anyhow::Context;
use tokio::process::{Child, Command};

const KEEPER: &str = r#"trap '' HUP INT TERM; kill -STOP "$@"; read -r _; kill -CONT "$@""#;

/// Stopped processes.
#[derive(Debug)]
pub struct Stopped {
    keeper: Child,
}

impl Stopped {
    /// Stops this process.
    pub fn hold(pid: u32) -> anyhow::Result<Self> {
        Self::hold_all(&[pid])
    }

    /// Stops these processes.
    pub fn hold_all(pids: &[u32]) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "restante-keeper"]).args(pids.iter().map(u32::to_string));
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self { keeper: command.spawn().context("cannot start sh")? })
    }

    /// Lets the processes go on, and returns when they do.
    pub async fn release(mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pid: u32) -> String {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("State:\t")).unwrap()[..1].to_owned()
    }

    #[tokio::test]
    async fn process_stands_still_until_it_is_released() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let pid = child.id().unwrap();
        let held = Stopped::hold(pid).unwrap();
        while state(pid) != "T" {
            tokio::task::yield_now().await;
        }
        held.release().await;
        assert_ne!(state(pid), "T");
        child.kill().await.unwrap();
    }
}
