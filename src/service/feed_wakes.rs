//! Wakes of followers: streams of feeds that have moved are looked at, and those users who are connected to this node and follow them
//! are woken. What was told is a hint, and anybody who may connect to the database can notify: so a stream wakes somebody only where the
//! database shows that it has moved since it was looked at last.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hashlink::LruCache;
use tracing::warn;

use super::{AdmissionQueue, Purpose};
use crate::domain::{ChatId, Class, FeedId, FeedSeq, UserId};
use crate::hub::Hub;
use crate::notifier::{MovedFeeds, Notifier};
use crate::store::{self, Store, StreamHead};
use crate::telemetry::Metrics;

/// Between two looks. What moves meanwhile is looked at together.
const PAUSE: Duration = Duration::from_millis(50);
/// After a look that failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// Connected users that one statement asks for.
const USERS_AT_ONCE: usize = 1_000;
/// Streams whose ends are remembered. The one that was not looked at for longest goes first.
const HEADS_MAX: usize = 10_000;

/// The task, and what it remembers.
pub(super) struct FeedWakes {
    pub(super) store: Store,
    pub(super) hub: Arc<Hub>,
    pub(super) notifier: Notifier,
    pub(super) metrics: Arc<Metrics>,
    pub(super) admission: AdmissionQueue,
}

impl FeedWakes {
    /// Wakes followers until it is dropped.
    pub(super) async fn run(self) {
        let mut heads = LruCache::new(HEADS_MAX);
        loop {
            let pause = match self.notifier.moved_feeds().await {
                MovedFeeds::All => {
                    [Class::Alert, Class::Event].into_iter().for_each(|class| self.wake_everybody(class));
                    PAUSE
                }
                MovedFeeds::Streams(streams) => match self.look(&streams, &mut heads).await {
                    Ok(()) => PAUSE,
                    Err(error) => {
                        self.notifier.look_again_at_feeds(&streams);
                        if error.is_unavailable() {
                            self.store.health().back().await;
                        } else {
                            warn!(cause = ?error, "who follows some feeds could not be read");
                        }
                        PAUSE_AFTER_ERROR
                    }
                },
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Wakes those who follow these streams, as far as they have moved.
    async fn look(&self, streams: &[ChatId], heads: &mut LruCache<ChatId, FeedSeq>) -> store::Result<()> {
        if self.hub.sessions() == 0 {
            // A user that comes later reads what is there.
            return Ok(());
        }
        let found = {
            let _admission = self.admission.admit(Purpose::Live, None).await;
            self.store.stream_heads(streams).await?
        };
        let moved: HashMap<ChatId, StreamHead> = found.into_iter().map(|head| (head.stream, head)).collect();
        for head in moved.values() {
            if heads.get(&head.stream).is_some_and(|known| *known >= head.last_seq) {
                continue;
            }
            match head.feed {
                FeedId::EVERYONE => self.wake_everybody(head.class),
                // Those whose rows were written are woken by name.
                FeedId::DIRECT => {}
                _ => self.wake_followers(head).await?,
            }
            // Not before they are woken: after an error they are looked for once more.
            heads.insert(head.stream, head.last_seq);
        }
        Ok(())
    }

    /// A session that registers after the users were listed reads what was committed before.
    async fn wake_followers(&self, head: &StreamHead) -> store::Result<()> {
        for users in self.hub.users().chunks(USERS_AT_ONCE) {
            let followers = {
                let _admission = self.admission.admit(Purpose::Live, None).await;
                self.store.followers_among(head.stream, users).await?
            };
            followers.into_iter().for_each(|user| self.wake(user, head.class));
        }
        Ok(())
    }

    fn wake(&self, user: UserId, class: Class) {
        self.metrics.wakes.of("feed").inc();
        self.hub.wake(user, class);
    }

    fn wake_everybody(&self, class: Class) {
        self.metrics.wakes.of("feed").inc_by(u64::try_from(self.hub.sessions()).unwrap_or(u64::MAX));
        self.hub.wake_everybody(class);
    }
}
