//! The testbed of a torture run: PostgreSQL, nodes on it, and a proxy on every connection between them. All processes end with this
//! one, however it ends.

pub mod database;
mod failover;
pub mod node;
mod policies;
mod server;
mod standby;
mod stopped;

use std::path::Path;
use std::time::Duration;

use tokio::sync::Mutex;
use uuid::Uuid;

use crate::token::{LEEWAY_SECS, Signer};
pub use database::{Backend, Database, End};
pub use node::Node;
use restante_client::Http;
use restante_session::domain::FeedId;
pub use server::StandbyMode;

/// The setting of a node with its master keys.
const MASTER_KEYS: &str = "ENCRYPTION_KEY";

/// The things that a run may have beside its nodes.
#[derive(Debug, Clone, Copy)]
pub struct Features {
    /// PostgreSQL's standby.
    pub standby: StandbyMode,
    /// Messages and events are encrypted at rest.
    pub encryption: bool,
    /// Only contacts may write to one another.
    pub contacts: bool,
}

/// PostgreSQL and the nodes of a run.
#[derive(Debug)]
pub struct Testbed {
    /// PostgreSQL.
    pub database: Database,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Signs tokens that the nodes take.
    pub signer: Signer,
    /// The master keys of the nodes, the first one first. None: nothing is encrypted.
    masters: Mutex<Vec<String>>,
}

impl Testbed {
    /// Starts PostgreSQL and `nodes` nodes of this program.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start(program: &Path, nodes: usize, features: Features) -> anyhow::Result<Self> {
        let database = Database::start(features.standby).await?;
        let secret = random_key();
        let masters = if features.encryption { vec![random_key(), random_key()] } else { Vec::new() };
        let mut settings = vec![("JWT_SECRET".to_owned(), secret.clone()), ("JWT_LEEWAY_SECS".to_owned(), LEEWAY_SECS.to_string())];
        if features.encryption {
            settings.extend([("ENCRYPTION".to_owned(), "on".to_owned()), (MASTER_KEYS.to_owned(), masters.join(","))]);
        }
        if features.contacts {
            settings.push(("DIRECT_MESSAGES".to_owned(), "contacts".to_owned()));
        }
        let mut started = Vec::new();
        for number in 0..nodes {
            started.push(Node::start(program, number, &database, &settings).await?);
        }
        Ok(Self { database, nodes: started, signer: Signer::new(&secret), masters: Mutex::new(masters) })
    }

    /// Kills all nodes, one after another, and starts each with the master keys in another order: data keys are then wrapped with another one.
    ///
    /// # Errors
    /// When a node does not start again.
    pub async fn turn_master_keys(&self, pause: Duration) -> anyhow::Result<()> {
        let mut masters = self.masters.lock().await;
        masters.rotate_left(1);
        for node in &self.nodes {
            node.kill_and_set(pause, MASTER_KEYS, &masters.join(",")).await?;
        }
        Ok(())
    }

    /// A token for this user.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        self.signer.token(user)
    }

    /// Makes a feed at the first node.
    ///
    /// # Errors
    /// When the node refuses or does not answer.
    pub async fn feed(&self, maker: &str, feed: Uuid, publishers: &[String]) -> anyhow::Result<()> {
        let http = Http::new(&self.nodes[0].url)?;
        Ok(http.make_feed(&self.token(maker)?, FeedId(feed), publishers).await?)
    }

    /// Makes a group at the first node, and returns its chat.
    ///
    /// # Errors
    /// When the node refuses or does not answer.
    pub async fn group(&self, admin: &str, title: &str, members: &[String]) -> anyhow::Result<Uuid> {
        let http = Http::new(&self.nodes[0].url)?;
        Ok(http.create_group(&self.token(admin)?, title, members).await?.0)
    }

    /// Ends the nodes. PostgreSQL stays, so that the judge can read it.
    pub async fn end_nodes(&self) {
        for node in &self.nodes {
            node.end().await;
        }
    }

    /// Ends everything and removes its directories.
    pub async fn remove(self) {
        self.end_nodes().await;
        // Dropping it waits for the end of the server, which blocks.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

/// 32 bytes as hexadecimal digits.
fn random_key() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
