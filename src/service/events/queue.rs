//! The events that wait to be written, per publisher and in the order in which they came. Whatever has come while the last batch of a
//! publisher was written is its next batch: alone an event waits for nobody, and many share one commit.
//!
//! It knows nothing of the database. While a publisher has an entry here, one task writes for it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Published;
use crate::delivery::Refusal;
use crate::domain::{MessageId, UserId, limits};
use crate::protocol::publish::{PublishRequest, PublishRight};
use crate::store::EventBatch;

/// Events of a publisher that wait, beyond those of one request.
const WAITING_MAX: usize = 2_000;
/// Users that they name together.
const WAITING_NAMES_MAX: usize = limits::EVENT_NAMES_MAX;

/// The answer to one event.
pub(super) type Answer = Result<Published, Refusal>;

/// An event that waits to be written.
#[derive(Debug)]
pub(super) struct Queued {
    /// Its id.
    pub(super) event: MessageId,
    /// The rest of it.
    pub(super) request: PublishRequest,
    /// The right that the token gives its publisher.
    pub(super) right: PublishRight,
    /// Where the answer goes. The caller may be gone.
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The events of all publishers of a node. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct PublishQueue(Arc<Mutex<HashMap<UserId, Waiting>>>);

/// Those of one publisher. It is there as long as a task writes for this publisher.
#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Queued>,
    names: usize,
}

/// The work to be done once events are queued.
#[derive(Debug)]
pub(super) enum Next {
    /// A task writes for this publisher already.
    Nothing,
    /// None does: the caller starts one.
    Write(Turn),
}

/// The right and the duty to write for a publisher. Dropped early, it takes what still waits with it.
#[derive(Debug)]
pub(super) struct Turn {
    queue: PublishQueue,
    publisher: UserId,
    is_over: bool,
}

impl PublishQueue {
    /// Queues the events of a request, all of them or none.
    ///
    /// # Errors
    /// The events again: as many of this publisher wait already as may.
    pub(super) fn put(&self, publisher: UserId, events: Vec<Queued>) -> Result<Next, Vec<Queued>> {
        let mut queue = self.lock();
        let is_new = !queue.contains_key(&publisher);
        let waiting = queue.entry(publisher).or_default();
        if waiting.events.len() > WAITING_MAX || waiting.names > WAITING_NAMES_MAX {
            return Err(events);
        }
        waiting.names += events.iter().map(|event| event.request.names()).sum::<usize>();
        waiting.events.extend(events);
        drop(queue);
        Ok(if is_new { Next::Write(Turn { queue: self.clone(), publisher, is_over: false }) } else { Next::Nothing })
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The next batch. Empty: nothing waits, and the turn is over; whoever queues next starts another task.
    pub(super) fn next_batch(&mut self) -> Vec<Queued> {
        let mut queue = self.queue.lock();
        let batch = queue.get_mut(&self.publisher).map(Waiting::cut).unwrap_or_default();
        if batch.is_empty() {
            // Under the same lock: an event that is queued after this look finds no entry.
            queue.remove(&self.publisher);
            self.is_over = true;
        }
        batch
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            self.queue.lock().remove(&self.publisher);
        }
    }
}

impl Waiting {
    /// Takes the first events: as many as fit into one transaction.
    fn cut(&mut self) -> Vec<Queued> {
        let mut transaction = EventBatch::default();
        let fits = |next: &&Queued| transaction.take([(next.event, next.request.names())]);
        let count = self.events.iter().take_while(fits).count();
        let batch: Vec<Queued> = self.events.drain(..count).collect();
        self.names -= batch.iter().map(|event| event.request.names()).sum::<usize>();
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::ExternalId;
    use crate::protocol::publish::{PublishTarget, Urgency};

    const ANNA: UserId = UserId(1);

    fn queued(event: MessageId, users: usize) -> (Queued, oneshot::Receiver<Answer>) {
        let users = (0..users).map(|n| ExternalId::try_from(format!("user-{n}")).unwrap()).collect();
        let request = PublishRequest {
            event_id: Some(event),
            event_type: "test".to_owned(),
            data: None,
            target: PublishTarget::Users(users),
            except: Vec::new(),
            ttl: Duration::from_secs(1),
            collapse_key: None,
            merge: None,
            urgency: Urgency::Normal,
        };
        let (answer, answered) = oneshot::channel();
        (Queued { event, request, right: PublishRight::Anywhere, answer }, answered)
    }

    fn events(sizes: &[usize]) -> Vec<Queued> {
        sizes.iter().map(|users| queued(MessageId::generate(), *users).0).collect()
    }

    fn begun(queue: &PublishQueue, events: Vec<Queued>) -> Turn {
        match queue.put(ANNA, events) {
            Ok(Next::Write(turn)) => turn,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_task_writes_for_a_publisher_until_nothing_waits_and_the_next_event_starts_another() {
        let queue = PublishQueue::default();
        let mut turn = begun(&queue, events(&[1]));
        assert!(matches!(queue.put(ANNA, events(&[1, 1])), Ok(Next::Nothing)));
        assert!(matches!(queue.put(UserId(2), events(&[1])), Ok(Next::Write(_))), "each publisher has a task of its own");
        assert_eq!(turn.next_batch().len(), 3);
        assert_eq!(turn.next_batch().len(), 0);
        let mut next = begun(&queue, events(&[1]));
        drop(turn);
        assert!(matches!(queue.put(ANNA, events(&[1])), Ok(Next::Nothing)), "a turn that is over ends no other");
        assert_eq!(next.next_batch().len(), 2);
    }

    #[test]
    fn a_turn_that_ends_early_leaves_no_publisher_behind() {
        let queue = PublishQueue::default();
        let (event, mut answered) = queued(MessageId::generate(), 1);
        drop(begun(&queue, vec![event]));
        assert!(matches!(answered.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        begun(&queue, events(&[1]));
    }

    #[test]
    fn batches_are_bounded_by_events_and_names_and_keep_the_order() {
        let queue = PublishQueue::default();
        let sizes: Vec<usize> = [vec![1; 600], vec![10_000, 1, 6_000, 6_000], vec![500; 11]].concat();
        let all = events(&sizes);
        let order: Vec<MessageId> = all.iter().map(|event| event.event).collect();
        let mut turn = begun(&queue, all);
        let (mut counts, mut seen) = (Vec::new(), Vec::new());
        loop {
            let batch = turn.next_batch();
            if batch.is_empty() {
                break;
            }
            counts.push(batch.len());
            seen.extend(batch.iter().map(|event| event.event));
        }
        assert_eq!(counts, [vec![500, 100], vec![1; 4 + 11]].concat());
        assert_eq!(seen, order);
    }

    #[test]
    fn an_id_comes_once_in_a_batch() {
        let queue = PublishQueue::default();
        let id = MessageId::generate();
        let mut turn = begun(&queue, vec![queued(id, 1).0, queued(MessageId::generate(), 1).0, queued(id, 1).0]);
        assert_eq!((turn.next_batch().len(), turn.next_batch().len(), turn.next_batch().len()), (2, 1, 0));
    }

    #[test]
    fn what_waits_for_one_publisher_is_bounded() {
        let queue = PublishQueue::default();
        let _turn = begun(&queue, events(&[1; 500]));
        let taken = (0..100).take_while(|_| queue.put(ANNA, events(&[1; 500])).is_ok()).count();
        assert_eq!(taken, 4);
        let names = PublishQueue::default();
        let _turn = begun(&names, events(&[10_000]));
        let taken = (0..100).take_while(|_| names.put(ANNA, events(&[10_000])).is_ok()).count();
        assert_eq!(taken, 10);
    }
}
