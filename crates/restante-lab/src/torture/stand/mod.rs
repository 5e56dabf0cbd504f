//! What is tortured: a PostgreSQL, nodes on it, and a proxy on every way between them. All of it ends with this process,
//! however that ends.

pub mod database;
pub mod node;
mod standby;
mod stopped;

use std::path::Path;

use uuid::Uuid;

use crate::token::Signer;
pub use database::{Backend, Database, End, Standby};
pub use node::Node;
use restante_client::Http;

/// All of it.
#[derive(Debug)]
pub struct Stand {
    /// PostgreSQL.
    pub database: Database,
    /// The nodes.
    pub nodes: Vec<Node>,
    signer: Signer,
}

impl Stand {
    /// Starts PostgreSQL and so many nodes of this program.
    pub async fn start(program: &Path, nodes: usize, standby: Standby) -> anyhow::Result<Self> {
        let database = Database::start(standby).await?;
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut started = Vec::new();
        for number in 0..nodes {
            started.push(Node::start(program, number, &database, &secret).await?);
        }
        Ok(Self { database, nodes: started, signer: Signer::new(&secret) })
    }

    /// A token for this user.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        self.signer.token(user)
    }

    /// Makes a group.
    pub async fn group(&self, admin: &str, title: &str, members: &[String]) -> anyhow::Result<Uuid> {
        let http = Http::new(&self.nodes[0].url)?;
        Ok(http.create_group(&self.token(admin)?, title, members).await?.0)
    }

    /// Ends the nodes. PostgreSQL stays, to be looked into.
    pub async fn end_nodes(&self) {
        for node in &self.nodes {
            node.end().await;
        }
    }

    /// Ends and removes all of it.
    pub async fn remove(self) {
        self.end_nodes().await;
        // It waits for the server's end.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}
