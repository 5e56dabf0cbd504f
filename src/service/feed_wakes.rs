//! News for followers: streams of feeds that have moved are looked at, and those users who are connected to this node and follow them
//! get what is new. As a rule that is one event, which is nothing but a row for each of them: these rows are made here, a hundred users in one
//! transaction, and offered. All others are woken, and make theirs when they read a page.
//!
//! A wake is a hint, and anybody who may connect to the database can notify: so a stream wakes somebody only where the
//! database shows that it has moved since it was looked at last.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hashlink::LruCache;
use tracing::warn;

use super::{AdmissionQueue, Purpose};
use crate::domain::{ChatId, Class, Envelope, FeedId, FeedPlace, FeedSeq, InboxSeq, Message, MessageId, Status, UserId};
use crate::hub::Hub;
use crate::notifier::{MovedFeeds, Notifier};
use crate::store::{self, EVENTS_TOGETHER_MAX, Store, StreamHead};
use crate::telemetry::Metrics;

/// Between two looks. What moves meanwhile is looked at together.
const PAUSE: Duration = Duration::from_millis(50);
/// After a look that failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// Connected users that one statement asks for.
const USERS_AT_ONCE: usize = 1_000;
/// Users whose rows one transaction makes. It holds their inboxes meanwhile, some 5 ms.
const TAKERS_AT_ONCE: usize = 100;
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
        // One stream after the other: alerts first.
        let mut moved: Vec<StreamHead> =
            found.into_iter().filter(|head| heads.get(&head.stream).is_none_or(|known| *known < head.last_seq)).collect();
        moved.sort_unstable_by_key(|head| (head.class, head.stream));
        moved.dedup_by_key(|head| head.stream);
        for head in &moved {
            let lacks_little = heads.get(&head.stream).is_none_or(|known| head.last_seq.0 - known.0 <= i64::from(EVENTS_TOGETHER_MAX));
            match head.feed {
                // Those whose rows were written are woken by name.
                FeedId::DIRECT => {}
                FeedId::EVERYONE if lacks_little => self.take_for(head, &self.hub.users()).await?,
                FeedId::EVERYONE => self.wake_everybody(head.class),
                _ => self.tell_followers(head, lacks_little).await?,
            }
            // Not before they are told: after an error they are looked for once more.
            heads.insert(head.stream, head.last_seq);
        }
        Ok(())
    }

    /// A session that registers after the users were listed reads what was committed before.
    async fn tell_followers(&self, head: &StreamHead, lacks_little: bool) -> store::Result<()> {
        for users in self.hub.users().chunks(USERS_AT_ONCE) {
            let followers = {
                let _admission = self.admission.admit(Purpose::Live, None).await;
                self.store.followers_among(head.stream, users).await?
            };
            if lacks_little {
                self.take_for(head, &followers).await?;
            } else {
                followers.into_iter().for_each(|user| self.wake(user, head.class));
            }
        }
        Ok(())
    }

    /// Makes rows for these followers and offers them. Those of whom nothing was taken are woken, wherever their rows were made.
    async fn take_for(&self, head: &StreamHead, followers: &[UserId]) -> store::Result<()> {
        let mut known = HashMap::new();
        for users in followers.chunks(TAKERS_AT_ONCE) {
            let taken = {
                let _admission = self.admission.admit(Purpose::Events, None).await;
                self.store.take_together(head.stream, users).await
            };
            match taken {
                Ok(taken) => {
                    self.offer(head, taken.rows, &mut known).await?;
                    taken.others.into_iter().for_each(|user| self.wake(user, head.class));
                }
                Err(error) if error.is_unavailable() => return Err(error),
                Err(error) => {
                    warn!(cause = ?error, "rows of an event could not be made for many at once; each makes its own");
                    users.iter().for_each(|user| self.wake(*user, head.class));
                }
            }
        }
        Ok(())
    }

    /// Offers rows that were made. Where an event cannot be read its users are woken, and their pages name it.
    async fn offer(&self, head: &StreamHead, rows: Vec<(UserId, InboxSeq, MessageId)>, known: &mut Known) -> store::Result<()> {
        let unknown: BTreeSet<MessageId> = rows.iter().map(|(_, _, event)| *event).filter(|event| !known.contains_key(event)).collect();
        if !unknown.is_empty() {
            let unknown: Vec<MessageId> = unknown.into_iter().collect();
            let _admission = self.admission.admit(Purpose::Events, None).await;
            let found = self.store.events_of_stream(head.stream, &unknown).await?;
            known.extend(unknown.into_iter().map(|event| (event, None)));
            known.extend(found.into_iter().map(|message| (message.id, Some(Arc::new(message)))));
        }
        for (user, seq, event) in rows {
            match known.get(&event) {
                Some(Some(message)) => {
                    self.metrics.wakes.of("offer").inc();
                    self.hub.offer(user, &envelope(head, seq, message));
                }
                Some(None) | None => self.wake(user, head.class),
            }
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

/// Events by their ids. None: it cannot be read.
type Known = HashMap<MessageId, Option<Arc<Message>>>;

fn envelope(head: &StreamHead, seq: InboxSeq, message: &Arc<Message>) -> Envelope {
    Envelope {
        class: head.class,
        inbox_seq: seq,
        status: Status::Sent,
        attempts: 0,
        message: Arc::clone(message),
        feed: Some(FeedPlace { feed: head.feed, seq: FeedSeq(message.seq.0) }),
        merged: None,
        is_muted: false,
    }
}
