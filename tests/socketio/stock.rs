//! The unchanged client from npm, in a process of its own under the test's control. A machine without Node.js has none, and then the tests say
//! that they skip it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::PATIENCE;

/// The environment variable with which a missing client fails the tests.
const MUST: &str = "SOCKETIO_TESTS";
/// Time for `npm ci`.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(120);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/socketio")
}

/// Says why there is no client; installs it first where that is all that is missing.
async fn missing() -> Option<&'static str> {
    static FOUND: tokio::sync::OnceCell<Option<&'static str>> = tokio::sync::OnceCell::const_new();
    *FOUND.get_or_init(look).await
}

async fn look() -> Option<&'static str> {
    let works = |mut command: Command| async move {
        let run =
            command.current_dir(folder()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).status();
        matches!(timeout(INSTALL_TIME_MAX, run).await, Ok(Ok(status)) if status.success())
    };
    let mut node = Command::new("node");
    node.arg("--version");
    if !works(node).await {
        return Some("there is no Node.js (node)");
    }
    if folder().join("node_modules/socket.io-client/package.json").exists() {
        return None;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]);
    if works(npm).await { None } else { Some("`npm ci` in tests/socketio cannot install socket.io-client") }
}

/// A client of this machine. None: there is none, and that is said once.
///
/// # Panics
/// There is none, and the environment asks for it.
pub async fn stock() -> Option<Stock> {
    static SAID: OnceLock<()> = OnceLock::new();
    let Some(why) = missing().await else { return Some(Stock::start()) };
    assert!(std::env::var_os(MUST).is_none(), "{why}");
    SAID.get_or_init(|| eprintln!("skipped: the tests with the unchanged socket.io-client, since {why}"));
    None
}

/// Runs a script of the folder with this argument, and returns what it has to tell. None: it has told nothing in time.
pub async fn run_script(script: &str, argument: &Value) -> Option<Value> {
    let mut command = Command::new("node");
    command.arg(script).arg(argument.to_string()).current_dir(folder()).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let ran = timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    serde_json::from_slice(&ran.stdout).ok()
}

/// One client.
pub struct Stock {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Lines that came while the test waited for something else.
    skipped: VecDeque<Value>,
    last_ack: u64,
}

impl Stock {
    fn start() -> Self {
        let mut command = Command::new("node");
        command.arg("client.mjs").current_dir(folder()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let (input, output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()).lines());
        Self { _process: process, input, output, skipped: VecDeque::new(), last_ack: 0 }
    }

    async fn command(&mut self, command: Value) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// Connects, and does not wait for it. `token` is a token, an `auth`, or null: none.
    pub async fn connect(&mut self, url: &str, options: Value, token: Value) {
        let token = if token.is_null() { json!({}) } else { json!({"token": token}) };
        let mut connect = json!({"command": "connect", "url": url, "options": options, "acksAtOnce": true});
        connect.as_object_mut().unwrap().extend(token.as_object().unwrap().clone());
        self.command(connect).await;
    }

    /// From now on `auth` has this token.
    pub async fn renew(&mut self, token: &str) {
        self.command(json!({"command": "renew", "token": token})).await;
    }

    /// Says whether every callback is called at once.
    pub async fn acking(&mut self, at_once: bool) {
        self.command(json!({"command": "acking", "atOnce": at_once})).await;
    }

    /// A command without details: `cut`, `drop`, `again`, `leave`.
    pub async fn act(&mut self, command: &str) {
        self.command(json!({"command": command})).await;
    }

    /// Emits without a callback.
    pub async fn emit(&mut self, event: &str, data: Value) {
        self.command(json!({"command": "emit", "event": event, "args": [data]})).await;
    }

    /// Emits with a callback, and waits for its arguments.
    pub async fn ask(&mut self, event: &str, args: Value) -> Value {
        let ack = self.ask_later("emit", event, args).await;
        self.answered(ack).await
    }

    /// Emits with a callback. `emit`, or `retried` where the client repeats by itself.
    pub async fn ask_later(&mut self, command: &str, event: &str, args: Value) -> u64 {
        self.last_ack += 1;
        self.command(json!({"command": command, "event": event, "args": args, "ack": self.last_ack})).await;
        self.last_ack
    }

    /// The one argument that a callback was called with.
    pub async fn answered(&mut self, ack: u64) -> Value {
        let called = self.wait(&format!("the callback {ack}"), |line| line["ack"] == ack).await;
        assert_eq!(called["answer"].as_array().map(Vec::len), Some(1), "{called}");
        called["answer"][0].clone()
    }

    /// Calls the callback of an event.
    pub async fn answer(&mut self, event: &Value, args: Value) {
        self.command(json!({"command": "answer", "callback": event["callback"], "args": args})).await;
    }

    /// The next event of this name: its data.
    pub async fn event(&mut self, name: &str) -> Value {
        self.whole(name).await["args"][0].clone()
    }

    /// The next event of this name, with its callback.
    pub async fn whole(&mut self, name: &str) -> Value {
        self.wait(name, |line| line["event"] == name).await
    }

    /// The next of `connect`, `disconnect`, `connect_error`, `upgrade`.
    pub async fn life(&mut self, what: &str) -> Value {
        self.wait(what, |line| line["life"] == what).await
    }

    /// Returns whether something like this has come before what the test has waited for last.
    pub fn has_skipped(&self, fits: impl Fn(&Value) -> bool) -> bool {
        self.skipped.iter().any(fits)
    }

    async fn wait(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(place) = self.skipped.iter().position(&fits) {
            return self.skipped.remove(place).unwrap();
        }
        let arrives = async {
            loop {
                let line = self.output.next_line().await.unwrap().expect("the client has ended");
                let line: Value = serde_json::from_str(&line).unwrap();
                if fits(&line) {
                    return line;
                }
                self.skipped.push_back(line);
            }
        };
        let arrived = timeout(PATIENCE, arrives).await;
        arrived.unwrap_or_else(|_| panic!("{what} did not come; there is {:#?}", self.skipped))
    }
}
