//! The room that a node has when it starts: connections that the server has for all nodes, and files that this process may open. It
//! warns where there is less than the settings want, and where a crash of the server's machine would lose confirmed messages.

use tracing::{debug, info, warn};

use super::Database;
use crate::config::{Config, for_half_the_processors};
use crate::open_files;
use crate::store::Store;
use crate::telemetry::Metrics;

/// For the questions that are asked over connections of their own, when something takes long.
const SPARE: u32 = 2;

/// Open files of a node beside those of its clients and its connections to the database: the log, the listener, the runtime, NATS,
/// what a name is looked up with, a client that is refused.
const FILES_BESIDE: u64 = 64;

/// The number of clients' connections for which there is room: that of the settings, or what the limit of open files leaves. Says so
/// where that is less.
pub(super) fn connections_max(config: &Config) -> usize {
    let allowed = open_files::allowed();
    let room = room_for_clients(allowed, connections(config));
    let wanted = u64::from(config.connections_max);
    if room < wanted {
        warn!(
            connections_max = wanted,
            open_files = allowed,
            there_is_room_for = room,
            "CONNECTIONS_MAX is more than the limit of open files allows beside the database, the bus and the log: raise the limit \
             (ulimit -Hn, LimitNOFILE), or lower CONNECTIONS_MAX"
        );
    }
    usize::try_from(room.min(wanted)).unwrap_or(usize::MAX)
}

/// Connections of clients beside so many to the database, where so many files may be open. One at least: a node without would be none.
fn room_for_clients(allowed: u64, database: u32) -> u64 {
    allowed.saturating_sub(u64::from(database) + FILES_BESIDE).max(1)
}

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
fn connections(config: &Config) -> u32 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_take_the_files_that_the_node_needs_for_itself() {
        assert_eq!(room_for_clients(1_024, 23), 937);
        assert_eq!(room_for_clients(80, 23), 1);
        for allowed in [256, 1_024, 65_536] {
            let clients = room_for_clients(allowed, 23);
            assert_eq!(clients + 23 + FILES_BESIDE, allowed);
        }
        assert!(room_for_clients(u64::MAX, 23) > u64::from(u32::MAX), "no limit is none");
    }
}
