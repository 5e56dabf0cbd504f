//! The lane of events: what small batches of many publishers have come together while its last transaction ran becomes the next one. Alone
//! a batch waits for nobody; where many publish, they share one commit, and the lock of a stream that they have in common.
//!
//! A publisher has one batch here, so its events stay in order. Where something is wrong with a transaction it has stored nothing, and each
//! batch goes on by itself: so an event that fails takes no other along. After a lock that somebody held, all do so for a while.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::delivery::Refusal;
use crate::domain::UserId;
use crate::service::{AdmissionQueue, Purpose};
use crate::store::{self, Error, EventBatch, EventBy, EventOutcome, EventRequest, Store};
use crate::telemetry::Metrics;

/// Events and names of a batch that goes this way. A larger one fills a transaction of its own well.
const SMALL_EVENTS: usize = 50;
const SMALL_NAMES: usize = 100;
/// Batches that may wait. Beyond it each goes by itself.
const QUEUE_MAX: usize = 1_024;
/// The time for which each batch goes by itself, after a wait for a lock has failed.
const CAUTIOUS: Duration = Duration::from_secs(1);

/// The outcome of a batch.
#[derive(Debug)]
pub(super) enum Stored {
    /// The outcome of each event.
    Outcomes(Vec<EventOutcome>),
    /// The events may be stored, or not.
    Refused(Refusal),
    /// Nothing of it is stored: the caller stores it alone.
    Alone,
}

/// The way in. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::service) struct PublishLane(mpsc::Sender<Waiting>);

/// A batch that waits.
#[derive(Debug)]
struct Waiting {
    publisher: UserId,
    events: Arc<[EventRequest]>,
    answer: oneshot::Sender<Stored>,
}

/// The task behind it.
struct Lane {
    store: Store,
    admission: AdmissionQueue,
    metrics: Arc<Metrics>,
    incoming: mpsc::Receiver<Waiting>,
    waiting: VecDeque<Waiting>,
    cautious_until: Option<Instant>,
}

impl PublishLane {
    /// Starts the task. It ends when `stop` is cancelled, and what comes later goes by itself.
    pub(in crate::service) fn start(
        store: Store,
        admission: AdmissionQueue,
        metrics: Arc<Metrics>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (queue, incoming) = mpsc::channel(QUEUE_MAX);
        let lane = Lane { store, admission, metrics, incoming, waiting: VecDeque::new(), cautious_until: None };
        tasks.spawn(lane.run(stop.clone()));
        Self(queue)
    }

    /// Stores a batch together with those of others, if it is small.
    pub(super) async fn store(&self, publisher: UserId, events: &Arc<[EventRequest]>) -> Stored {
        if events.len() > SMALL_EVENTS || names(events) > SMALL_NAMES {
            return Stored::Alone;
        }
        let (answer, answered) = oneshot::channel();
        match self.0.try_send(Waiting { publisher, events: Arc::clone(events), answer }) {
            // A lane that has ended gives an answer to all that it has begun.
            Ok(()) => answered.await.unwrap_or(Stored::Alone),
            Err(_) => Stored::Alone,
        }
    }
}

impl Lane {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let next = tokio::select! {
                next = self.incoming.recv() => next,
                () = stop.cancelled() => None,
            };
            let Some(next) = next else { return };
            self.waiting.push_back(next);
            while !self.waiting.is_empty() {
                while self.waiting.len() < QUEUE_MAX
                    && let Ok(next) = self.incoming.try_recv()
                {
                    self.waiting.push_back(next);
                }
                let batches = cut(&mut self.waiting);
                self.write(batches).await;
            }
        }
    }

    /// Stores these batches as one transaction, and answers each.
    async fn write(&mut self, batches: Vec<Waiting>) {
        if self.cautious_until.is_some_and(|until| Instant::now() < until) {
            return batches.into_iter().for_each(|batch| answer(batch, Stored::Alone));
        }
        let started = Instant::now();
        let items: Vec<EventBy<'_>> = batches.iter().flat_map(|batch| batch.events.iter().map(|event| (batch.publisher, event))).collect();
        let items_count = f64::from(u32::try_from(items.len()).unwrap_or(u32::MAX));
        let stored = self.ask(&items).await;
        drop(items);
        match stored {
            Err(refusal) => batches.into_iter().for_each(|batch| answer(batch, Stored::Refused(refusal))),
            Ok(Ok(outcomes)) => {
                self.metrics.lane_batch_items.of("publish").observe(items_count);
                self.metrics.lane_batch_duration.of("publish").observe(started.elapsed().as_secs_f64());
                let mut outcomes = outcomes.into_iter();
                for batch in batches {
                    let of_batch = outcomes.by_ref().take(batch.events.len()).collect();
                    answer(batch, Stored::Outcomes(of_batch));
                }
            }
            Ok(Err(cause)) if cause.could_not_run() => {
                let refusal = Refusal::of(&cause, "publishing events");
                batches.into_iter().for_each(|batch| answer(batch, Stored::Refused(refusal)));
            }
            Ok(Err(cause)) => {
                if matches!(cause, Error::Held(_)) {
                    self.cautious_until = Some(Instant::now() + CAUTIOUS);
                }
                batches.into_iter().for_each(|batch| answer(batch, Stored::Alone));
            }
        }
    }

    /// It has one permit at most, of those that the node itself has. A batch that goes by itself waits for that of its publisher.
    /// [`Refusal::Unavailable`]: the database is away, or went while a permit was waited for. Nothing was asked then.
    async fn ask(&self, items: &[EventBy<'_>]) -> Result<store::Result<Vec<EventOutcome>>, Refusal> {
        let _admission = tokio::select! {
            biased;
            () = self.store.health().gone() => return Err(Refusal::Unavailable),
            admission = self.admission.admit(Purpose::Live, None) => admission,
        };
        Ok(self.store.publish_each(items).await)
    }
}

/// Takes the first batches: as many as fit into one transaction.
fn cut(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut transaction = EventBatch::default();
    let fits = |next: &&Waiting| transaction.take(next.events.iter().map(|event| (event.id, event.names())));
    let count = waiting.iter().take_while(fits).count();
    waiting.drain(..count).collect()
}

fn names(events: &[EventRequest]) -> usize {
    events.iter().map(EventRequest::names).sum()
}

/// The caller may be gone.
fn answer(batch: Waiting, stored: Stored) {
    let _ = batch.answer.send(stored);
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use futures_util::FutureExt;
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
    use tokio::time::timeout;

    use super::*;
    use crate::domain::MessageId;
    use crate::store::EventTarget;

    fn event(id: MessageId, names: usize) -> EventRequest {
        EventRequest {
            id,
            event_type: "test".to_owned(),
            data: None,
            to: EventTarget::Users((0..).map(UserId).take(names).collect()),
            except: Vec::new(),
            ttl: Duration::from_secs(1),
            collapse_key: None,
            merge: None,
            urgent: false,
            may_publish_anywhere: true,
        }
    }

    fn batch(publisher: i64, events: impl IntoIterator<Item = EventRequest>) -> Waiting {
        Waiting { publisher: UserId(publisher), events: events.into_iter().collect(), answer: oneshot::channel().0 }
    }

    fn batches(count: i64, events: usize, names: usize) -> VecDeque<Waiting> {
        (1..=count).map(|publisher| batch(publisher, (0..events).map(|_| event(MessageId::generate(), names)))).collect()
    }

    fn publishers(batches: &[Waiting]) -> Vec<i64> {
        batches.iter().map(|batch| batch.publisher.0).collect()
    }

    #[test]
    fn a_transaction_takes_whole_batches_in_their_order_up_to_its_bounds() {
        let mut by_events = batches(25, 50, 0);
        assert_eq!(publishers(&cut(&mut by_events)), (1..=10).collect::<Vec<_>>());
        assert_eq!(publishers(&cut(&mut by_events)), (11..=20).collect::<Vec<_>>());
        assert_eq!((cut(&mut by_events).len(), cut(&mut by_events).len()), (5, 0));
        let mut by_names = batches(7, 1, 100);
        assert_eq!((cut(&mut by_names).len(), cut(&mut by_names).len()), (5, 2));
        let mut uneven: VecDeque<Waiting> =
            [(1, 450), (2, 51), (3, 1)].map(|(publisher, names)| batch(publisher, [event(MessageId::generate(), names)])).into();
        assert_eq!((publishers(&cut(&mut uneven)), publishers(&cut(&mut uneven))), (vec![1], vec![2, 3]), "no later one goes before");
    }

    #[tokio::test]
    async fn a_batch_goes_by_itself_that_is_not_small_or_finds_no_place() {
        let (queue, mut incoming) = mpsc::channel(2);
        let lane = PublishLane(queue);
        let sized = |events, names| batches(1, events, names).remove(0).unwrap().events;
        for large in [sized(SMALL_EVENTS + 1, 0), sized(1, SMALL_NAMES + 1)] {
            assert!(matches!(lane.store(UserId(1), &large).now_or_never(), Some(Stored::Alone)), "it waits for nobody");
        }
        assert!(incoming.is_empty());
        let small = [sized(SMALL_EVENTS, 0), sized(1, SMALL_NAMES)];
        let (mut first, mut second) = (Box::pin(lane.store(UserId(1), &small[0])), Box::pin(lane.store(UserId(2), &small[1])));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        assert!(matches!(lane.store(UserId(3), &sized(1, 1)).now_or_never(), Some(Stored::Alone)), "the queue is full");
        answer(incoming.recv().now_or_never().flatten().expect("the first waits"), Stored::Refused(Refusal::BUSY));
        assert!(matches!(first.now_or_never(), Some(Stored::Refused(Refusal::Busy(_)))));
        drop(incoming);
        assert!(matches!(second.now_or_never(), Some(Stored::Alone)), "the lane has ended");
        assert!(matches!(lane.store(UserId(3), &sized(1, 1)).now_or_never(), Some(Stored::Alone)));
    }

    #[tokio::test]
    async fn while_the_database_is_away_batches_are_refused_and_nothing_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let to = PgConnectOptions::new().host("127.0.0.1").port(listener.local_addr().unwrap().port()).ssl_mode(PgSslMode::Disable);
        let (store, metrics) = (Store::new(PgPoolOptions::new().connect_lazy_with(to)), Arc::<Metrics>::default());
        let admission = AdmissionQueue::new(1, 1, Arc::clone(&metrics));
        let only_permit = admission.admit(Purpose::Live, None).await;
        let stop = CancellationToken::new();
        let lane = PublishLane::start(store.clone(), admission, Arc::clone(&metrics), &TaskTracker::new(), &stop);
        let events: Arc<[EventRequest]> = [event(MessageId::generate(), 1)].into();
        let goes_away = async {
            while metrics.turns_waiting.of("live").get() == 0 {
                tokio::task::yield_now().await;
            }
            let _ = store.health().learn(Err::<(), _>(sqlx::Error::Io(ErrorKind::ConnectionReset.into())));
        };
        let refused = |stored| matches!(stored, Ok(Stored::Refused(Refusal::Unavailable)));
        let (stored, ()) = tokio::join!(timeout(Duration::from_secs(60), lane.store(UserId(1), &events)), goes_away);
        assert!(refused(stored), "it waits for a permit");
        drop(only_permit);
        assert!(refused(timeout(Duration::from_secs(60), lane.store(UserId(1), &events)).await), "a permit is free");
        assert_eq!(listener.accept().map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    }

    #[test]
    fn an_id_comes_once_in_a_transaction_whoever_publishes_it() {
        let id = MessageId::generate();
        let mut waiting: VecDeque<Waiting> = [1, 2, 3].map(|publisher| batch(publisher, [event(id, 1)])).into();
        waiting.push_back(batch(4, [event(MessageId::generate(), 1)]));
        let cuts: Vec<Vec<i64>> = (0..3).map(|_| publishers(&cut(&mut waiting))).collect();
        assert_eq!(cuts, [vec![1], vec![2], vec![3, 4]]);
    }
}
