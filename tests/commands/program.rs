//! The program in a process of its own: a service that runs, with its log, or a command up to its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use restante_postgres::ThrowawayDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::{PATIENCE, SECRET, kill};

/// The program with these settings and no others, in the folder of temporary files.
pub fn restante(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restante"));
    for name in ["DATABASE_URL", "DATABASE_DIRECT_URL", "DATA_DIR", "JWT_SECRET", "RESTANTE_URL", "RESTANTE_TOKEN"] {
        command.env_remove(name);
    }
    command.envs(settings.iter().copied()).current_dir(std::env::temp_dir()).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The output of a command that ends.
pub async fn ended(command: &mut Command) -> Output {
    // `output` of tokio would take stdout and stderr from where the test has led them.
    let child = command.spawn().unwrap();
    timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap()
}

/// The words of a command on stderr.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The settings of every service here.
const SETTINGS: [(&str, &str); 4] = [("JWT_SECRET", SECRET), ("LISTEN_ADDR", "127.0.0.1:0"), ("RUST_LOG", "info"), ("SEND_RATE", "0")];

type Log = Option<Lines<BufReader<ChildStderr>>>;

/// A service on a PostgreSQL of its own.
pub struct Service {
    child: Child,
    pub addr: SocketAddr,
    pub stdout: Lines<BufReader<ChildStdout>>,
    log: Log,
    heard: Vec<String>,
    data_dir: PathBuf,
}

impl Service {
    /// Starts it in this directory, and waits until it listens.
    pub async fn start(dir: &ThrowawayDir, settings: &[(&str, &str)]) -> Self {
        Self::start_with(dir, settings, Stdio::piped()).await
    }

    /// The same with a log that goes elsewhere.
    pub async fn start_with(dir: &ThrowawayDir, settings: &[(&str, &str)], log: Stdio) -> Self {
        let mut command = restante(&SETTINGS);
        command.arg("serve").envs(settings.iter().copied());
        Self::spawned(command.stderr(log), dir).await
    }

    /// The same as the child of another program.
    pub async fn start_under(program: &str, args: &[&str], dir: &ThrowawayDir) -> Self {
        let mut command = Command::new(program);
        command.args(args).args([env!("CARGO_BIN_EXE_restante"), "serve"]).env_remove("DATABASE_URL").envs(SETTINGS);
        command.current_dir(std::env::temp_dir()).stdin(Stdio::null()).kill_on_drop(true);
        Self::spawned(command.stderr(Stdio::piped()), dir).await
    }

    async fn spawned(command: &mut Command, dir: &ThrowawayDir) -> Self {
        let mut child = command.env("DATA_DIR", dir.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut log = child.stderr.take().map(|log| BufReader::new(log).lines());
        let line = timeout(PATIENCE, stdout.next_line()).await.expect("it starts").unwrap();
        let Some(line) = line else { panic!("it did not start: {}", rest(&mut log).await) };
        let addr = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        Self { child, addr, stdout, log, heard: Vec::new(), data_dir: dir.path().to_owned() }
    }

    /// The process id of its one child, as this process sees it.
    pub fn first_child(&self) -> String {
        let pid = self.pid();
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().trim().to_owned()
    }

    /// The next line of its log that holds these words.
    pub async fn logs(&mut self, words: &str) -> String {
        let found = timeout(PATIENCE, async {
            while let Some(line) = self.log.as_mut().unwrap().next_line().await.unwrap() {
                self.heard.push(line.clone());
                if line.contains(words) {
                    return line;
                }
            }
            panic!("its log has ended without {words:?}: {:#?}", self.heard)
        });
        found.await.unwrap_or_else(|_| panic!("waited in vain for {words:?} in {:#?}", self.heard))
    }

    /// The status of `/readyz`.
    pub async fn readyz(&self) -> u16 {
        let asked = reqwest::get(format!("http://{}/readyz", self.addr));
        timeout(PATIENCE, asked).await.expect("/readyz answers").unwrap().status().as_u16()
    }

    /// Waits until `/readyz` says this.
    pub async fn until_readyz_is(&self, status: u16) {
        let waited = timeout(PATIENCE, async { while self.readyz().await != status {} });
        waited.await.unwrap_or_else(|_| panic!("/readyz never says {status}"));
    }

    /// The process id of its PostgreSQL, as its pid file says.
    pub fn postmaster(&self) -> u32 {
        postmaster(&self.data_dir).unwrap()
    }

    /// Its own process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// kill -9.
    pub async fn killed(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Stops it with this signal; its exit code, and the rest of its log.
    pub async fn stopped(mut self, signal: &str) -> (Option<i32>, String) {
        if self.child.try_wait().unwrap().is_none() {
            kill(signal, self.pid());
        }
        self.end().await
    }

    /// Waits for its end: its exit code, and the rest of its log.
    pub async fn end(mut self) -> (Option<i32>, String) {
        let rest = timeout(PATIENCE, rest(&mut self.log)).await.expect("it ends");
        (timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code(), rest)
    }
}

async fn rest(log: &mut Log) -> String {
    let mut rest = String::new();
    if let Some(log) = log {
        while let Some(line) = log.next_line().await.unwrap() {
            rest += &(line + "\n");
        }
    }
    rest
}

/// The process id of the PostgreSQL in this directory; none when it does not run.
pub fn postmaster(data_dir: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data_dir.join("postgres/data/postmaster.pid")).ok()?;
    text.lines().next()?.parse().ok()
}
