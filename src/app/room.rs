//! Warnings about the server when a node has started: it has too few connections for all nodes, or a crash of its machine
//! would lose confirmed messages.

use tracing::{debug, info, warn};

use super::Database;
use crate::config::{Config, for_half_the_processors};
use crate::store::Store;
use crate::telemetry::Metrics;

/// For the questions that are asked over connections of their own, when something takes long.
const SPARE: u32 = 2;

/// Looks once. Where it cannot, nothing is said: this is advice.
pub(super) async fn look(config: &Config, database: &Database, store: &Store, metrics: &Metrics) {
    let room = match store.room().await {
        Ok(room) => room,
        Err(cause) => return debug!(?cause, "the server was not asked how many connections it has"),
    };
    if room.is_fragile {
        info!("fsync or full_page_writes is off: a crash of the database's machine may cost messages that were confirmed");
    }
    let nodes = metrics.live_nodes.get();
    let wanted = nodes.saturating_mul(i64::from(connections(config)));
    if !is_pooled(database) && wanted > i64::from(room.connections) {
        warn!(
            nodes,
            wanted,
            there_are = room.connections,
            "PostgreSQL has fewer connections than the nodes may need together: raise max_connections (or the limit of the role or the database), \
             or lower POOL_SIZE"
        );
    }
}

/// Connections of a node at most: the pool, the lanes, one for large chats, one that listens, one that asks whether the database answers.
pub(super) fn connections(config: &Config) -> u32 {
    config.pool_size
        + u32::from(for_half_the_processors(config.accept_lanes))
        + 1
        + u32::from(for_half_the_processors(config.settle_lanes))
        + 2
        + SPARE
}

/// Behind a pooler it is the pooler's number that counts.
fn is_pooled(database: &Database) -> bool {
    let place =
        |options: &sqlx::postgres::PgConnectOptions| (options.get_host().to_owned(), options.get_socket().cloned(), options.get_port());
    place(&database.options) != place(&database.direct)
}
