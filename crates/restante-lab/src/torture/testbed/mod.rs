//! The testbed of a torture run: PostgreSQL, nodes on it, and a proxy on every connection between them. All processes end with this
//! one, however it ends.

pub mod database;
mod failover;
pub mod node;
mod server;
mod standby;
mod stopped;

use std::path::Path;

use uuid::Uuid;

use crate::token::Signer;
pub use database::{Backend, Database, End};
pub use node::Node;
use restante_client::Http;
use restante_session::domain::FeedId;
pub use server::StandbyMode;

/// PostgreSQL and the nodes of a run.
#[derive(Debug)]
pub struct Testbed {
    /// PostgreSQL.
    pub database: Database,
    /// The nodes.
    pub nodes: Vec<Node>,
    signer: Signer,
}

impl Testbed {
    /// Starts PostgreSQL and `nodes` nodes of this program.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start(program: &Path, nodes: usize, standby: StandbyMode) -> anyhow::Result<Self> {
        let database = Database::start(standby).await?;
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut started = Vec::new();
        for number in 0..nodes {
            started.push(Node::start(program, number, &database, &secret).await?);
        }
        Ok(Self { database, nodes: started, signer: Signer::new(&secret) })
    }

    /// A token for this user.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        self.signer.token(user)
    }

    /// A token for this user, which may publish events to everything.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn publisher_token(&self, user: &str) -> anyhow::Result<String> {
        self.signer.publisher(user)
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
