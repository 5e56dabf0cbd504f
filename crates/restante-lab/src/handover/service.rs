//! The service of a run: its program with a PostgreSQL in a directory that goes away. Its sessions look for themselves once an hour.

use std::path::Path;

use anyhow::Context;
use uuid::Uuid;

use crate::service_process::{LastWords, ServiceProcess};
use crate::token::Signer;
use restante_postgres::ThrowawayDir;

/// Settings beside addresses and secrets. Rates and the number of sessions are not what is looked at.
const SETTINGS: [(&str, &str); 6] = [
    ("LISTEN_ADDR", "127.0.0.1:0"),
    ("SEND_RATE", "0"),
    ("EVENT_RATE", "0"),
    ("LOOK_INTERVAL_MS", "3600000"),
    ("SESSIONS_PER_USER_MAX", "100"),
    ("RUST_LOG", "warn"),
];

/// The running service.
pub struct Service {
    dir: ThrowawayDir,
    signer: Signer,
    process: ServiceProcess,
    last_words: LastWords,
}

impl Service {
    /// Starts this program.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(program: &Path) -> anyhow::Result<Self> {
        let dir = ThrowawayDir::new()?;
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let place = dir.path().to_str().context("the name of the directory is not UTF-8")?.to_owned();
        let mut settings = SETTINGS.to_vec();
        settings.extend([("DATA_DIR", place.as_str()), ("JWT_SECRET", secret.as_str())]);
        let last_words = LastWords::default();
        let process = ServiceProcess::start(program, &["serve"], &settings, &last_words).await.with_context(|| last_words.text())?;
        Ok(Self { dir, signer: Signer::new(&secret), process, last_words })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.process.addr())
    }

    /// A token for this user.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        self.signer.token(user)
    }

    /// A token for this user, which may publish to everything.
    pub fn publisher_token(&self, user: &str) -> anyhow::Result<String> {
        self.signer.scoped(user, Some("events:write"))
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        self.last_words.text()
    }

    /// Ends it and its database, and removes their directory.
    pub async fn remove(self) -> anyhow::Result<()> {
        self.process.stop().await;
        tokio::task::spawn_blocking(move || drop(self.dir)).await.context("the directory was not removed")
    }
}
