//! Messages that a user has sent at another node: its sessions here read those that did not fit into a notification.

use std::time::Duration;

use tracing::{debug, error};

use super::Service;
use crate::domain::{Message, MessageId, Profile};
use crate::store;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

impl Service {
    /// Those of these messages that this user has sent, in the order asked for. However long the database is away or busy, the session
    /// gets its answer. A message that cannot be read is left out.
    pub async fn own_messages(&self, user: &Profile, messages: Vec<MessageId>) -> Vec<Message> {
        match self.read_own(user, &messages).await {
            Ok(read) => read,
            // One of them cannot be read: it costs itself only.
            Err(_) if messages.len() > 1 => {
                let mut read = Vec::with_capacity(messages.len());
                for message in messages {
                    read.extend(self.read_own(user, &[message]).await.unwrap_or_default());
                }
                read
            }
            Err(cause) => {
                error!(?messages, ?cause, "a message cannot be read");
                Vec::new()
            }
        }
    }

    /// # Errors
    /// [`store::Error::Failed`]: a defect, perhaps of one message.
    async fn read_own(&self, user: &Profile, messages: &[MessageId]) -> store::Result<Vec<Message>> {
        loop {
            let read = match self.bounds.admission.admit_request(&user.external).await {
                Ok(_admission) => self.store.own_messages(user.user, messages).await,
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            match read {
                Err(error) if error.could_not_run() => self.health().back().await,
                Err(cause @ (store::Error::Busy(_) | store::Error::Held(_))) => {
                    debug!(?cause, "messages of the user's own could not be read; once more");
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }
}
