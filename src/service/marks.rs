//! Marks that moved: what a sender that was away, or was not told, reads of all its chats at once.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::Service;
use crate::domain::{DeviceId, Profile};
use crate::store::{MarksCursor, Overview, PageToken};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// An overview that a session wants.
#[derive(Debug, Clone)]
pub struct OverviewQuery {
    /// The user.
    pub user: Arc<Profile>,
    /// Only marks that have moved since then; none: the latest marks.
    pub since: Option<MarksCursor>,
    /// The place from which a look goes on; none: it begins.
    pub page_token: Option<PageToken>,
    /// The device of the connection.
    pub device: Option<DeviceId>,
}

impl Service {
    /// Looks at all chats of a user at once. However long the database is away or busy, the session gets its answer.
    pub async fn overview(&self, query: OverviewQuery) -> Overview {
        let OverviewQuery { user, since, page_token, device } = query;
        loop {
            let read = match self.bounds.admission.admit_request(&user.external).await {
                Ok(_admission) => self.store.overview(user.user, since.as_ref(), page_token.clone(), device.as_ref()).await,
                Err(_) => {
                    // The user asks for too much at once: this waits as what could not be read.
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            match read {
                Ok(overview) => return overview,
                Err(error) if error.could_not_run() => self.health().back().await,
                Err(cause) => {
                    debug!(?cause, "marks that moved could not be read; once more");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
