//! Checks what sessions of this node watch, where it may be outdated: a user whom the asker may not see any more is watched no more, and a
//! change that was not told is told.

use std::time::Duration;

use tokio::time::sleep;
use tracing::debug;

use super::Node;
use crate::domain::UserId;
use crate::protocol::event::Notice;
use crate::store;

/// Pairs of one statement.
const PAIRS_AT_ONCE: usize = 200;
/// Between two tries when the database refuses.
const PAUSE: Duration = Duration::from_secs(1);

/// Checks until it is dropped.
pub(super) async fn run(node: Node) {
    loop {
        node.hub.watches_outdated().await;
        while let Err(cause) = check(&node).await {
            debug!(?cause, "what sessions watch could not be checked; once more");
            sleep(PAUSE).await;
        }
    }
}

/// Checks all that is outdated. After an error the rest is left.
async fn check(node: &Node) -> store::Result<()> {
    loop {
        let outdated = node.hub.take_outdated_watches(PAIRS_AT_ONCE);
        if outdated.is_empty() {
            return Ok(());
        }
        let pairs: Vec<(UserId, UserId)> = outdated.iter().map(|pair| (pair.asker, pair.watched)).collect();
        let seen = match node.store.watched(&pairs).await {
            Ok(seen) => seen,
            Err(cause) => {
                node.hub.put_back_watches(&outdated);
                return Err(cause);
            }
        };
        for pair in outdated {
            let found = seen.iter().find(|seen| (seen.asker, seen.user) == (pair.asker, pair.watched));
            match found.filter(|seen| seen.is_visible) {
                None => node.hub.end_watch(pair),
                Some(seen) => {
                    let is_online = seen.online || node.hub.is_here(seen.user);
                    let (user, at) = (seen.external.clone(), seen.at);
                    node.hub.confirm_watch(pair, is_online, || match is_online {
                        true => Notice::Online { user, at },
                        false => Notice::Offline { user, last_seen: at },
                    });
                }
            }
        }
    }
}
