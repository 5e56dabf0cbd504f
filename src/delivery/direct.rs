//! Direct chats by the name of the other user, for all connections of the node: one task asks for whatever has come together
//! while its last statement ran. What was found is remembered ([`known`]).
//!
//! A chat is first looked for, then charged to the one who begins it, then made: the second statement is the next one of the
//! task, in which others are looked for. A pair stands in a statement once, however many wait for it. What somebody else
//! holds is put aside and asked for again, and what PostgreSQL refuses is found by halving, so that neither takes others along.

mod known;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error_span;

use super::policy::{Answer, Policy};
use super::{LaneSettings, Limits, Refusal, link};
use crate::domain::{ChatId, ExternalId, UserId};
use crate::notifier::ChangedChat;
use crate::store::{self, DirectBatch, DirectChat, DirectLookup, Error, Health, LockTimeout, Store};
use crate::telemetry::Metrics;
use known::Known;

/// Pairs in one statement: 300 new ones take about 35 ms.
const ITEMS_MAX: usize = 300;
/// Questions that may wait for the task.
const QUEUE_MAX: usize = 8_192;
/// Pairs that are put aside at most.
const ASIDE_MAX: usize = 1_000;
/// Questions for one pair that may wait at once.
const REPLIES_MAX: usize = 1_000;
/// The pause between two tries of a pair that another session holds.
const HELD_PAUSE: Duration = Duration::from_millis(50);
/// The time for which every wait is short, after a wait for a lock has failed.
const CAUTIOUS: Duration = Duration::from_secs(1);
/// Tries of what meets a row that another node writes at that moment.
const TAKEN_MAX: u32 = 5;

/// A user, and the name of the other one.
type Pair = (UserId, ExternalId);
type Reply = oneshot::Sender<Result<DirectChat, Refusal>>;

/// The queue for lookups of direct chats. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct DirectChats {
    ask: mpsc::Sender<(Pair, Reply)>,
    known: Known,
    health: Health,
}

impl DirectChats {
    /// Starts the task. It ends, with every question answered that was queued, once `stop` is cancelled.
    pub(super) fn start(settings: &LaneSettings, limits: &Limits, policy: &Policy, shared: &link::Shared, tasks: &TaskTracker) -> Self {
        let (ask, asked) = mpsc::channel(QUEUE_MAX);
        let known = Known::new(Arc::clone(&shared.metrics));
        tasks.spawn(forget_changed(known.clone(), shared.notifier.changed_chats(), shared.stop.clone()));
        let resolver = Resolver {
            store: shared.store.clone(),
            limits: limits.clone(),
            policy: policy.clone(),
            metrics: Arc::clone(&shared.metrics),
            stop: shared.stop.clone(),
            known: known.clone(),
            asked,
            open: HashMap::new(),
            waiting: VecDeque::new(),
            aside: VecDeque::new(),
            cautious_until: None,
            held_timeout: settings.held_timeout,
        };
        tasks.spawn(resolver.run());
        Self { ask, known, health: shared.store.health().clone() }
    }

    pub(super) fn known(&self, user: UserId, other: &ExternalId) -> Option<ChatId> {
        self.known.find(&(user, other.clone()))
    }

    pub(super) fn ask(&self, user: UserId, other: ExternalId) -> impl Future<Output = Result<DirectChat, Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let queued = if self.health.is_away() { Err(Refusal::Unavailable) } else { self.queue((user, other), reply) };
        async move {
            queued?;
            answer.await.unwrap_or(Err(Refusal::Unavailable))
        }
    }

    fn queue(&self, pair: Pair, reply: Reply) -> Result<(), Refusal> {
        self.ask.try_send((pair, reply)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Refusal::BUSY,
            mpsc::error::TrySendError::Closed(_) => Refusal::Unavailable,
        })
    }
}

/// The callers that wait for a pair, and how far it has come.
#[derive(Debug)]
struct Open {
    replies: Vec<Reply>,
    step: Step,
    /// The time since which another session holds a lock that it needs.
    held_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The next statement looks whether the chat exists.
    Look,
    /// It is not, and its beginner may begin it. With whether there is a user of the other name.
    Make { is_other_known: bool },
}

struct Resolver {
    store: Store,
    limits: Limits,
    policy: Policy,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    known: Known,
    asked: mpsc::Receiver<(Pair, Reply)>,
    open: HashMap<Pair, Open>,
    /// Pairs for the next statement.
    waiting: VecDeque<Pair>,
    /// Pairs for later, in the order of their times.
    aside: VecDeque<(Instant, Pair)>,
    cautious_until: Option<Instant>,
    held_timeout: Duration,
}

/// Forgets chats in which nothing is accepted any more: the name of their other member may lead to another user now.
async fn forget_changed(known: Known, mut changes: broadcast::Receiver<ChangedChat>, stop: CancellationToken) {
    while let Some(change) = stop.run_until_cancelled(changes.recv()).await {
        match change {
            Ok(ChangedChat::Closing(chat)) => known.forget(chat),
            Ok(ChangedChat::Members(_)) => {}
            Ok(ChangedChat::Any) | Err(RecvError::Lagged(_)) => known.forget_all(),
            Err(RecvError::Closed) => return,
        }
    }
}

impl Resolver {
    async fn run(mut self) {
        while self.gather().await {
            loop {
                self.gather_more();
                let batch = self.next_batch();
                if batch.is_empty() {
                    break;
                }
                self.resolve(batch).await;
            }
        }
    }

    /// Waits for something to do. False: the task ends.
    async fn gather(&mut self) -> bool {
        let again = self.aside.front().map(|(at, _)| *at);
        let mut asked = Vec::new();
        tokio::select! {
            taken = self.asked.recv_many(&mut asked, ITEMS_MAX) => {
                asked.into_iter().for_each(|(pair, reply)| self.take(pair, reply));
                taken > 0 || self.wait_for_aside().await
            }
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => true,
            () = self.stop.cancelled(), if !self.asked.is_closed() => {
                // Queued requests are still answered; no new request comes in.
                self.asked.close();
                true
            }
        }
    }

    /// Nothing new will come: only what was put aside is left.
    async fn wait_for_aside(&self) -> bool {
        let Some((at, _)) = self.aside.front() else { return false };
        sleep_until(*at).await;
        true
    }

    fn gather_more(&mut self) {
        while self.waiting.len() < ITEMS_MAX {
            let Ok((pair, reply)) = self.asked.try_recv() else { break };
            self.take(pair, reply);
        }
        let waiting = self.asked.len() + self.waiting.len();
        self.metrics.lane_queue_items.of("direct").set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    fn take(&mut self, pair: Pair, reply: Reply) {
        let open = self.open.entry(pair.clone()).or_insert_with(|| {
            self.waiting.push_back(pair);
            Open { replies: Vec::new(), step: Step::Look, held_since: None }
        });
        if open.replies.len() < REPLIES_MAX {
            open.replies.push(reply);
        } else {
            let _ = reply.send(Err(Refusal::BUSY));
        }
    }

    /// The pairs of the next statement. A pair that no caller waits for any more is left out.
    fn next_batch(&mut self) -> Vec<Pair> {
        let now = Instant::now();
        while let Some((_, pair)) = self.aside.pop_front_if(|(at, _)| *at <= now) {
            self.waiting.push_back(pair);
        }
        let mut batch = Vec::new();
        while batch.len() < ITEMS_MAX {
            let Some(pair) = self.waiting.pop_front() else { break };
            if self.open.get(&pair).is_some_and(|open| open.replies.iter().any(|reply| !reply.is_closed())) {
                batch.push(pair);
            } else {
                self.open.remove(&pair);
            }
        }
        batch
    }

    /// Asks for a batch, in as many statements as it takes, until each pair has come a step further or is put aside.
    async fn resolve(&mut self, batch: Vec<Pair>) {
        let (mut parts, mut taken) = (vec![batch], 0);
        while let Some(mut part) = parts.pop() {
            match self.try_once(&part).await {
                Ok(found) => part.into_iter().zip(found).for_each(|(pair, chat)| self.found(pair, chat)),
                // The database is there, and has no connection to spare for now.
                Err(Error::Busy(_)) => part.into_iter().for_each(|pair| self.put_aside(pair)),
                Err(cause) if cause.could_not_run() => return self.refuse_all(),
                Err(Error::Held(_)) if !self.is_cautious() => {
                    self.cautious_until = Some(Instant::now() + CAUTIOUS);
                    parts.push(part);
                }
                // Another node has just made the same: this time it will be seen.
                Err(Error::Taken(_)) if taken < TAKEN_MAX => {
                    taken += 1;
                    parts.push(part);
                }
                Err(cause) if part.len() <= 1 => part.into_iter().for_each(|pair| self.failed(pair, &cause)),
                Err(_) => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
            }
        }
    }

    async fn try_once(&self, part: &[Pair]) -> store::Result<Vec<DirectLookup>> {
        let started = Instant::now();
        let mut batch = DirectBatch::default();
        for pair in part {
            let may_make = self.open.get(pair).is_some_and(|open| open.step != Step::Look);
            batch.push(pair.0, &pair.1, may_make);
        }
        let lock_timeout = if self.is_cautious() { LockTimeout::Retry } else { LockTimeout::Usual };
        let found = self.store.direct_chats(&batch, lock_timeout).await?;
        self.metrics.lane_batch_items.of("direct").observe(f64::from(u32::try_from(part.len()).unwrap_or(u32::MAX)));
        self.metrics.lane_batch_duration.of("direct").observe(started.elapsed().as_secs_f64());
        Ok(found)
    }

    fn is_cautious(&self) -> bool {
        self.cautious_until.is_some_and(|until| Instant::now() < until)
    }

    /// A chat has its answer; one that is missing may be made, if its beginner may.
    fn found(&mut self, pair: Pair, found: DirectLookup) {
        let Some(open) = self.open.get_mut(&pair) else { return };
        match (found, open.step) {
            (DirectLookup::Found(found), step) => {
                let made_other = found.is_new && step == Step::Make { is_other_known: false };
                self.metrics.users_named.inc_by(made_other.into());
                self.known.remember(pair.clone(), found.chat);
                self.answer(&pair, &Ok(found));
            }
            (DirectLookup::Missing { is_other_known }, Step::Look) => match self.policy.may_begin(pair.0, &pair.1) {
                Answer::Pending => self.put_aside(pair),
                Answer::Failed => self.answer(&pair, &Err(Refusal::PolicyUnavailable)),
                Answer::No => self.answer(&pair, &Err(Refusal::NotAccepted)),
                Answer::Yes => match may_begin(&self.limits, pair.0, is_other_known) {
                    Ok(()) => {
                        open.step = Step::Make { is_other_known };
                        self.waiting.push_back(pair);
                    }
                    Err(refusal) => self.answer(&pair, &Err(refusal)),
                },
            },
            (DirectLookup::Missing { .. }, Step::Make { .. }) => {
                // Every other chat that may be made is made.
                self.answer(&pair, &Err(Refusal::NotAccepted));
            }
        }
    }

    /// By itself it cannot be had.
    fn failed(&mut self, pair: Pair, cause: &Error) {
        match cause {
            Error::Held(_) => self.put_aside(pair),
            Error::Unavailable(_) | Error::Busy(_) | Error::Taken(_) | Error::Invalid(_) | Error::Failed(_) => {
                let refused =
                    error_span!("direct chat", user.id = pair.0.0).in_scope(|| Refusal::of(cause, "finding or making a direct chat"));
                self.answer(&pair, &Err(refused));
            }
        }
    }

    /// To be asked for again a little later, unless that has been done for long enough.
    fn put_aside(&mut self, pair: Pair) {
        let now = Instant::now();
        let Some(open) = self.open.get_mut(&pair) else { return };
        let since = *open.held_since.get_or_insert(now);
        if now - since > self.held_timeout || self.aside.len() >= ASIDE_MAX {
            return self.answer(&pair, &Err(Refusal::BUSY));
        }
        self.aside.push_back((now + HELD_PAUSE, pair));
    }

    /// The database is away: refuses every caller that waits. New callers are refused as well.
    fn refuse_all(&mut self) {
        self.waiting.clear();
        self.aside.clear();
        for (_, open) in self.open.drain() {
            send(open.replies, &Err(Refusal::Unavailable));
        }
    }

    fn answer(&mut self, pair: &Pair, answer: &Result<DirectChat, Refusal>) {
        if let Some(open) = self.open.remove(pair) {
            send(open.replies, answer);
        }
    }
}

/// Charges a user for a chat that it begins, and for the other user where it is made with it.
fn may_begin(limits: &Limits, user: UserId, is_other_known: bool) -> Result<(), Refusal> {
    limits.check_direct_chat(user)?;
    limits.check_named_users(user, usize::from(!is_other_known))
}

/// Gives everybody the answer. Only the first is told that a chat is new.
fn send(replies: Vec<Reply>, answer: &Result<DirectChat, Refusal>) {
    let mut answer = *answer;
    for reply in replies {
        // The caller may be gone.
        let was_heard = reply.send(answer).is_ok();
        if let (true, Ok(found)) = (was_heard, &mut answer) {
            found.is_new = false;
        }
    }
}
