//! News for followers: streams of feeds that have moved are looked at, and those users who are connected to this node and follow them
//! get what is new. As a rule that is one event, which is nothing but a row for each of them: these rows are made here, a hundred users in one
//! transaction, and offered. All others are woken, and make theirs when they read a page. Alerts are told by a task of their own, so that
//! none waits until an event is told to all who follow its feed.
//!
//! A wake is a hint, and anybody who may connect to the database can notify: so a stream wakes somebody only where the
//! database shows that it has moved since it was looked at last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::LruCache;
use tokio::sync::Notify;
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
/// Streams whose ends are remembered: the one that was not looked at for longest goes first. As many may wait to be told.
const HEADS_MAX: usize = 10_000;

/// The tasks: one finds what has moved and tells alerts, the other tells events.
pub(super) struct FeedWakes {
    pub(super) store: Store,
    pub(super) hub: Arc<Hub>,
    pub(super) notifier: Notifier,
    pub(super) metrics: Arc<Metrics>,
    pub(super) admission: AdmissionQueue,
}

/// Streams that were told, and up to which event.
type Told = LruCache<ChatId, FeedSeq>;

impl FeedWakes {
    /// Wakes followers until it is dropped.
    pub(super) async fn run(self) {
        let events = MovedEnds::default();
        tokio::join!(self.find(&events), self.tell_events(&events));
    }

    /// Finds streams that have moved, tells alerts, and hands over events.
    async fn find(&self, events: &MovedEnds) {
        let mut told = LruCache::new(HEADS_MAX);
        loop {
            let pause = match self.notifier.moved_feeds().await {
                MovedFeeds::All => {
                    [Class::Alert, Class::Event].into_iter().for_each(|class| self.wake_everybody(class));
                    PAUSE
                }
                MovedFeeds::Streams(streams) => {
                    let outcome = self.look(&streams, &mut told, events).await;
                    self.pause_after(outcome, &streams).await
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells events that were handed over.
    async fn tell_events(&self, events: &MovedEnds) {
        let mut told = LruCache::new(HEADS_MAX);
        loop {
            let heads = events.take().await;
            let streams: Vec<ChatId> = heads.iter().map(|head| head.stream).collect();
            let outcome = self.tell(heads, &mut told).await;
            if outcome.is_err() {
                let pause = self.pause_after(outcome, &streams).await;
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Returns the time until the next look. After an error these streams are looked at once more.
    async fn pause_after(&self, outcome: store::Result<()>, streams: &[ChatId]) -> Duration {
        let Err(error) = outcome else { return PAUSE };
        self.notifier.look_again_at_feeds(streams);
        if error.could_not_run() {
            self.store.health().back().await;
        } else {
            warn!(cause = ?error, "who follows some feeds could not be read");
        }
        PAUSE_AFTER_ERROR
    }

    /// Looks where these streams end.
    async fn look(&self, streams: &[ChatId], told: &mut Told, events: &MovedEnds) -> store::Result<()> {
        if self.hub.sessions() == 0 {
            // A user that comes later reads what is there.
            return Ok(());
        }
        let found = {
            let _admission = self.admission.admit(Purpose::Live, None).await;
            self.store.stream_heads(streams).await?
        };
        let (alerts, others) = found.into_iter().partition(|head| head.class == Class::Alert);
        if !events.put(others) {
            self.wake_everybody(Class::Event);
        }
        self.tell(alerts, told).await
    }

    /// Wakes those who follow these streams, one stream after the other, as far as they have moved.
    async fn tell(&self, mut heads: Vec<StreamHead>, told: &mut Told) -> store::Result<()> {
        heads.sort_unstable_by_key(|head| head.stream);
        heads.dedup_by_key(|head| head.stream);
        for head in heads {
            let known = told.get(&head.stream).copied();
            if known.is_some_and(|known| known >= head.last_seq) {
                continue;
            }
            let lacks_little = known.is_none_or(|known| head.last_seq.0 - known.0 <= i64::from(EVENTS_TOGETHER_MAX));
            match head.feed {
                // Those whose rows were written are woken by name.
                FeedId::DIRECT => {}
                FeedId::EVERYONE if lacks_little => self.take_for(&head, &self.hub.users()).await?,
                FeedId::EVERYONE => self.wake_everybody(head.class),
                _ => self.tell_followers(&head, lacks_little).await?,
            }
            // Not before they are told: after an error they are looked for once more.
            told.insert(head.stream, head.last_seq);
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
                Err(error) if error.could_not_run() => return Err(error),
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

/// Ends of streams of events that are to be told, from one task to the other. A stream that moves often waits once.
#[derive(Debug, Default)]
struct MovedEnds {
    heads: Mutex<BTreeMap<ChatId, StreamHead>>,
    ring: Notify,
}

impl MovedEnds {
    /// Returns whether there was room. Where there was none, nothing waits any more, and everybody is to look.
    fn put(&self, heads: Vec<StreamHead>) -> bool {
        let mut waiting = self.heads();
        for head in heads {
            waiting.entry(head.stream).and_modify(|known| known.last_seq = known.last_seq.max(head.last_seq)).or_insert(head);
        }
        let has_room = waiting.len() <= HEADS_MAX;
        if !has_room {
            waiting.clear();
        }
        drop(waiting);
        self.ring.notify_one();
        has_room
    }

    /// Waits until there are some. One task calls this.
    async fn take(&self) -> Vec<StreamHead> {
        loop {
            let heads = std::mem::take(&mut *self.heads());
            if !heads.is_empty() {
                return heads.into_values().collect();
            }
            self.ring.notified().await;
        }
    }

    fn heads(&self) -> MutexGuard<'_, BTreeMap<ChatId, StreamHead>> {
        // Code under the lock cannot panic half-way: a panicking thread leaves the value whole.
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
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
