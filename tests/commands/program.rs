//! The program in a process of its own: a service that runs, with its log, or a command up to its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use restante_postgres::ThrowawayDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::{PATIENCE, kill, secret};

/// The program with these settings and no others, in the folder of temporary files.
pub fn restante(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restante"));
    for name in ["DATABASE_URL", "DATABASE_DIRECT_URL", "DATA_DIR", "JWT_SECRET", "RESTANTE_URL", "RESTANTE_TOKEN"] {
        command.env_remove(name);
    }
    command.envs(settings.iter().copied()).current_dir(std::env::temp_dir()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The output of a command that ends.
pub async fn ended(command: &mut Command) -> Output {
    timeout(PATIENCE, command.output()).await.expect("it ends").unwrap()
}

/// What a command said on stderr.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A service on a PostgreSQL of its own.
pub struct Service {
    child: Child,
    pub addr: SocketAddr,
    pub stdout: Lines<BufReader<ChildStdout>>,
    log: Lines<BufReader<ChildStderr>>,
    heard: Vec<String>,
    data_dir: PathBuf,
}

impl Service {
    /// Starts it in this directory, and waits until it listens.
    pub async fn start(dir: &ThrowawayDir, settings: &[(&str, &str)]) -> Self {
        let mut command = restante(&[("JWT_SECRET", secret()), ("LISTEN_ADDR", "127.0.0.1:0"), ("RUST_LOG", "info"), ("SEND_RATE", "0")]);
        command.arg("serve").env("DATA_DIR", dir.path()).envs(settings.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = timeout(PATIENCE, stdout.next_line()).await.expect("it starts").unwrap();
        let Some(line) = line else {
            let mut words = String::new();
            while let Ok(Some(line)) = log.next_line().await {
                words += &line;
            }
            panic!("it did not start: {words}")
        };
        let addr = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        Self { child, addr, stdout, log, heard: Vec::new(), data_dir: dir.path().to_owned() }
    }

    /// The next line of its log that holds these words.
    pub async fn logs(&mut self, words: &str) -> String {
        let found = timeout(PATIENCE, async {
            while let Some(line) = self.log.next_line().await.unwrap() {
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
        kill(signal, self.pid());
        let (mut rest, mut log) = (String::new(), self.log);
        timeout(PATIENCE, async {
            while let Some(line) = log.next_line().await.unwrap() {
                rest += &(line + "\n");
            }
        })
        .await
        .expect("it ends");
        (timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code(), rest)
    }
}

/// The process id of the PostgreSQL in this directory; none when it does not run.
pub fn postmaster(data_dir: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data_dir.join("postgres/data/postmaster.pid")).ok()?;
    text.lines().next()?.parse().ok()
}
