//! The lanes that accept messages.
//!
//! A batch is one transaction. Whatever keeps it from being written is pinned on as few items as possible: a chat
//! that somebody holds is deferred with its messages, an item that PostgreSQL refuses is found by halving, and when
//! the connection dies in the middle the same batch is repeated with the same ids.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;
use tracing::{debug, error_span};
use uuid::Uuid;

use super::batch::{ITEMS_MAX, Queued, columns, keep_sealed, take};
use super::deferred::{Deferred, Held};
use super::item::{Accepted, SendItem};
use super::link::{Line, Link, Shared};
use super::policy::{Answer, Other, Policy};
use super::routes::Routes;
use super::turns::Turns;
use super::{LaneSettings, Refusal};
use crate::domain::{Extension, Message, MessageId};
use crate::store::{self, AcceptBatch, AcceptOutcome, AcceptedRow, Error, LockTimeout};

/// Items that may wait for one lane: half a second's work of a lane on a small machine. A crowd that sends a message each
/// at the same moment finds room; who keeps sending while the database is slow is told so.
const QUEUE_MAX: usize = 16_384;
/// Tries of a batch that may meet an id which another node stores at that moment; each may meet another one.
const TAKEN_MAX: u32 = 5;
/// The time for which no lock is waited for, after a wait for a lock has failed.
const CAUTIOUS: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct AcceptLanes {
    lanes: Arc<[mpsc::Sender<Queued>]>,
    routes: Arc<Routes>,
}

impl AcceptLanes {
    pub(super) fn start(settings: &LaneSettings, shared: &Shared, policy: &Policy, tasks: &TaskTracker) -> Self {
        let small = usize::from(settings.accept_lanes);
        let routes = Routes::new(small);
        let lanes = (0..=small)
            .map(|_| {
                let (queue, items) = mpsc::channel(QUEUE_MAX);
                tasks.spawn(Lane::new(items, settings, shared, policy, &routes).run());
                queue
            })
            .collect();
        Self { lanes, routes }
    }

    /// The turns of those who change chats.
    pub(super) fn turns(&self) -> Turns {
        Turns::new(Arc::clone(&self.routes))
    }

    /// Queues an item in the order of these calls.
    pub(super) fn queue(&self, item: SendItem, reply: oneshot::Sender<Result<Accepted, Refusal>>) -> Result<(), Refusal> {
        let chat = item.chat;
        let lane = &self.lanes[self.routes.enter(chat)];
        let queued = Queued { item, reply, since: Instant::now(), uncertain: None, sealed: None };
        lane.try_send(queued).map_err(|refused| {
            self.routes.leave(chat);
            match refused {
                mpsc::error::TrySendError::Full(_) => Refusal::BUSY,
                mpsc::error::TrySendError::Closed(_) => Refusal::Unavailable,
            }
        })
    }
}

/// The reason for which a transaction did not commit.
#[derive(Debug)]
enum Failure {
    /// The database is away; certainly nothing was stored, or that is not known.
    Away { is_certain: bool },
    /// It answered, and stored nothing.
    Refused(Error),
}

#[derive(Debug)]
struct Lane {
    items: mpsc::Receiver<Queued>,
    waiting: VecDeque<Queued>,
    deferred: Deferred,
    link: Link,
    shared: Shared,
    policy: Policy,
    routes: Arc<Routes>,
    cautious_until: Option<Instant>,
    held_timeout: Duration,
    /// The database's clock as it was seen last: what is older was not written by a try after it.
    clock: Option<OffsetDateTime>,
}

impl Lane {
    fn new(items: mpsc::Receiver<Queued>, settings: &LaneSettings, shared: &Shared, policy: &Policy, routes: &Arc<Routes>) -> Self {
        Self {
            items,
            waiting: VecDeque::new(),
            deferred: Deferred::default(),
            link: Link::new(settings.connect_to.clone(), shared),
            shared: shared.clone(),
            policy: policy.clone(),
            routes: Arc::clone(routes),
            cautious_until: None,
            held_timeout: settings.held_timeout,
            clock: None,
        }
    }

    async fn run(mut self) {
        while self.gather().await {
            loop {
                // At each turn: under load nothing else would be reached, and what is deferred would wait for its end.
                self.retry_deferred().await;
                if self.waiting.is_empty() {
                    break;
                }
                self.defer_what_must_wait();
                let batch = take(&mut self.waiting, &self.routes);
                let cautious = self.cautious_until.is_some_and(|until| Instant::now() < until);
                self.write(batch, cautious).await;
                self.gather_more();
            }
        }
        self.link.close().await;
    }

    /// Waits for something to do: an item, or the time to try again what is deferred. False: the lane ends.
    async fn gather(&mut self) -> bool {
        let retry = self.deferred.next_try();
        let mut incoming = Vec::new();
        tokio::select! {
            taken = self.items.recv_many(&mut incoming, ITEMS_MAX) => {
                self.waiting.extend(incoming);
                taken > 0 || self.wait_for_deferred().await
            }
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => true,
            () = self.shared.stop.cancelled(), if !self.items.is_closed() => {
                // Queued items are still written; no new item comes in.
                self.items.close();
                true
            }
        }
    }

    /// The queue is closed and empty: only what is deferred is left.
    async fn wait_for_deferred(&self) -> bool {
        let Some(at) = self.deferred.next_try() else { return false };
        sleep_until(at).await;
        true
    }

    fn gather_more(&mut self) {
        while self.waiting.len() < ITEMS_MAX {
            let Ok(queued) = self.items.try_recv() else { break };
            self.waiting.push_back(queued);
        }
        self.shared.metrics.lane_queue_items.of("accept").set(i64::try_from(self.items.len() + self.waiting.len()).unwrap_or(i64::MAX));
    }

    /// A chat's messages stay in order: behind one that is deferred come all later ones.
    fn defer_what_must_wait(&mut self) {
        if self.deferred.chats() == 0 {
            return;
        }
        let now = Instant::now();
        for queued in std::mem::take(&mut self.waiting) {
            if !self.deferred.holds(queued.item.chat) {
                self.waiting.push_back(queued);
            } else if let Some(excess) = self.deferred.put(queued, now) {
                self.refuse(excess, Refusal::BUSY);
            }
        }
    }

    fn defer(&mut self, held: Held) {
        let excess = self.deferred.put_held(held, Instant::now());
        excess.into_iter().for_each(|queued| self.refuse(queued, Refusal::BUSY));
        self.shared.metrics.held_chats.set(i64::try_from(self.deferred.chats()).unwrap_or(i64::MAX));
    }

    /// Tries a transaction's worth of what is deferred, when it is time.
    async fn retry_deferred(&mut self) {
        let now = Instant::now();
        if self.deferred.next_try().is_none_or(|at| at > now) {
            return;
        }
        let late = self.deferred.take_late(now, self.held_timeout);
        late.into_iter().for_each(|queued| self.refuse(queued, Refusal::BUSY));
        let batch = self.deferred.take(&self.routes);
        self.write(batch, true).await;
        self.deferred.tried(Instant::now());
    }

    /// Writes a batch, in as many transactions as it takes, until every item has its answer or is deferred.
    async fn write(&mut self, batch: Vec<Queued>, skip_held: bool) {
        let mut parts = vec![batch];
        let (mut skip_held, mut taken, mut held) = (skip_held, 0, Held::default());
        while let Some(part) = parts.pop() {
            let mut part = held.keep_behind(self.without_broken(part));
            if part.is_empty() {
                continue;
            }
            match self.try_once(&mut part, skip_held).await {
                Ok(rows) => self.answer(part, rows, &mut held).await,
                Err(Failure::Away { is_certain }) => {
                    let part = self.wait_for_database(part, is_certain).await;
                    if !part.is_empty() {
                        parts.push(part);
                    }
                }
                // Another session holds a lock. The second try does not wait, and returns the held items as held.
                Err(Failure::Refused(Error::Held(_))) if !skip_held => {
                    self.cautious_until = Some(Instant::now() + CAUTIOUS);
                    skip_held = true;
                    parts.push(part);
                }
                Err(Failure::Refused(Error::Held(_))) if part.len() == 1 => part.into_iter().for_each(|queued| held.put(queued)),
                // Another node has just stored one of these ids, for another chat: this time it will be seen.
                Err(Failure::Refused(Error::Taken(_))) if taken < TAKEN_MAX => {
                    taken += 1;
                    parts.push(part);
                }
                Err(Failure::Refused(cause)) if part.len() == 1 => part.into_iter().for_each(|queued| self.refuse_for(queued, &cause)),
                Err(Failure::Refused(_)) => {
                    let mut first = part;
                    let second = first.split_off(first.len() / 2);
                    parts.push(second);
                    parts.push(first);
                }
            }
        }
        self.link.pause();
        self.defer(held);
    }

    async fn try_once(&mut self, part: &mut [Queued], skip_held: bool) -> Result<Vec<AcceptedRow>, Failure> {
        let sealer = self.shared.store.sealer().await.map_err(|_| Failure::Away { is_certain: true })?;
        let mut batch = columns(part, sealer.as_ref());
        let tried = self.try_to_store(part, &mut batch, skip_held).await;
        keep_sealed(part, batch);
        tried
    }

    async fn try_to_store(&mut self, part: &[Queued], batch: &mut AcceptBatch, skip_held: bool) -> Result<Vec<AcceptedRow>, Failure> {
        let started = std::time::Instant::now();
        let nothing_sent = |_| Failure::Away { is_certain: true };
        let Line { connection, stall_detector } = self.link.get().await.map_err(nothing_sent)?;
        if self.clock.is_none() {
            match stall_detector.answer(store::database_clock(connection)).await {
                Ok(now) => self.clock = Some(now),
                Err(cause) => {
                    self.link.broken();
                    return Err(nothing_sent(cause));
                }
            }
        }
        batch.verdicts = part.iter().map(|queued| self.policy.verdict(queued.item.sender.user, queued.item.chat)).collect();
        let rows = match stall_detector.answer(store::accept(connection, batch, skip_held, LockTimeout::Usual)).await {
            Ok(rows) if skip_held => self.stand_on_duplicates(part, rows).await,
            Ok(rows) => rows,
            Err(cause) if cause.could_not_run() => {
                self.link.broken();
                return Err(Failure::Away { is_certain: cause.is_certainly_undone() });
            }
            Err(cause) => return Err(Failure::Refused(cause)),
        };
        self.clock = rows.iter().map(|row| row.created_at).chain(self.clock).max();
        self.shared.metrics.lane_batch_items.of("accept").observe(f64::from(u32::try_from(part.len()).unwrap_or(u32::MAX)));
        self.shared.metrics.lane_batch_duration.of("accept").observe(started.elapsed().as_secs_f64());
        Ok(rows)
    }

    /// The database is away. Items that were certainly not stored are refused; the others wait until it is back and
    /// are then repeated. Meanwhile whatever comes in is refused: nothing is accepted in memory only.
    async fn wait_for_database(&mut self, part: Vec<Queued>, is_certain: bool) -> Vec<Queued> {
        let mut unknown = Vec::new();
        for mut queued in part {
            if is_certain && queued.uncertain.is_none() {
                self.refuse(queued, Refusal::Unavailable);
            } else {
                queued.uncertain = queued.uncertain.or(self.clock).or(Some(OffsetDateTime::UNIX_EPOCH));
                unknown.push(queued);
            }
        }
        let health = self.shared.store.health().clone();
        let back = health.back();
        tokio::pin!(back);
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().for_each(|queued| self.refuse(queued, Refusal::Unavailable));
        loop {
            tokio::select! {
                () = &mut back => return unknown,
                Some(queued) = self.items.recv() => self.refuse(queued, Refusal::Unavailable),
                () = self.shared.stop.cancelled() => {
                    unknown.into_iter().for_each(|queued| self.refuse(queued, Refusal::Unavailable));
                    return Vec::new();
                }
            }
        }
    }

    async fn answer(&mut self, part: Vec<Queued>, rows: Vec<AcceptedRow>, held: &mut Held) {
        let mut repeated: Vec<MessageId> = Vec::new();
        let mut queued: Vec<Option<Queued>> = part.into_iter().map(Some).collect();
        for row in rows {
            let Some(item) = queued.get_mut(row.place).and_then(Option::take) else { continue };
            match row.outcome {
                AcceptOutcome::Accepted => self.accepted(item, &row),
                AcceptOutcome::Duplicate => {
                    // A message that this lane stored in a try whose outcome it did not learn is no duplicate.
                    // At that clock exactly lies what its last known try stored.
                    let is_own = item.uncertain.is_some_and(|before| row.created_at > before);
                    if is_own {
                        repeated.push(item.item.id);
                        self.shared.metrics.messages_accepted.inc();
                    } else {
                        self.shared.metrics.messages_duplicate.inc();
                    }
                    self.confirm(item, &row, !is_own);
                }
                AcceptOutcome::Conflict => self.refuse(item, Refusal::Conflict),
                AcceptOutcome::NotAMember => self.refuse(item, Refusal::NotAMember),
                AcceptOutcome::Purged => self.refuse(item, Refusal::Purged),
                AcceptOutcome::NotAccepted => {
                    // A node that has missed it learns it here. The next message finds the chat by the name.
                    self.shared.notifier.found_closed(row.chat);
                    self.refuse(item, Refusal::NotAccepted);
                }
                AcceptOutcome::TooLate => self.refuse(item, Refusal::TooLate),
                AcceptOutcome::Undecided => match self.policy.ask(item.item.sender.user, Other::Of(item.item.chat)) {
                    Answer::Failed => self.refuse(item, Refusal::PolicyUnavailable),
                    // It is written again when there is an answer.
                    Answer::Yes | Answer::No | Answer::Pending => held.put(item),
                },
                AcceptOutcome::Held => held.put(item),
            }
        }
        if !repeated.is_empty() {
            self.wake_recipients(&repeated).await;
        }
    }

    /// After the commit: offers the stored message to the connected recipients, and answers the sender.
    fn accepted(&self, queued: Queued, row: &AcceptedRow) {
        self.shared.metrics.messages_accepted.inc();
        self.routes.learn(row.chat, row.recipients.len());
        let item = &queued.item;
        self.shared.notifier.offer(row.class, item.sender.user, item.origin, &row.recipients, || message(item, row));
        self.confirm(queued, row, false);
    }

    fn confirm(&self, queued: Queued, row: &AcceptedRow, duplicate: bool) {
        self.routes.leave(queued.item.chat);
        let accepted = Accepted { message: queued.item.id, chat: row.chat, seq: row.seq, created_at: row.created_at, duplicate };
        // The caller may be gone; the message is stored all the same.
        let _ = queued.reply.send(Ok(accepted));
    }

    /// Refuses what would overtake a message of its chain that was refused. Returns the rest.
    fn without_broken(&self, mut part: Vec<Queued>) -> Vec<Queued> {
        let broken: Vec<Queued> = part.extract_if(.., |queued| queued.item.chain.is_behind().is_some()).collect();
        for queued in broken {
            if let Some(first) = queued.item.chain.is_behind() {
                self.refuse(queued, Refusal::Behind(first));
            }
        }
        part
    }

    fn refuse(&self, queued: Queued, refusal: Refusal) {
        if refusal.is_for_now() {
            queued.item.chain.break_at(queued.item.id);
        }
        self.routes.leave(queued.item.chat);
        self.shared.metrics.refused(refusal.code());
        let _ = queued.reply.send(Err(refusal));
    }

    fn refuse_for(&self, queued: Queued, cause: &Error) {
        let refusal = error_span!("message", message.id = %queued.item.id).in_scope(|| Refusal::of(cause, "storing a message"));
        self.refuse(queued, refusal);
    }

    /// The hints that went missing with the connection. If this fails too, the fallback polls of the sessions find the messages.
    async fn wake_recipients(&mut self, messages: &[MessageId]) {
        let ids: Vec<_> = messages.iter().map(|message| message.0).collect();
        let Ok(Line { connection, stall_detector }) = self.link.get().await else { return };
        match stall_detector.answer(store::recipients_waiting(connection, &ids)).await {
            Ok(waiting) => waiting.into_iter().for_each(|(user, class)| self.shared.notifier.wake(user, class)),
            Err(_) => self.link.broken(),
        }
    }

    /// A duplicate is found under the lock of its chat, and a transaction that locks waits for a synchronous standby. Where
    /// what is held is skipped, it may be found without. One that cannot be stood on is as good as held: the rest of the
    /// batch is committed and has its answers.
    async fn stand_on_duplicates(&mut self, part: &[Queued], mut rows: Vec<AcceptedRow>) -> Vec<AcceptedRow> {
        let duplicates: Vec<usize> = (0..rows.len()).filter(|place| rows[*place].outcome == AcceptOutcome::Duplicate).collect();
        let found: Vec<_> = duplicates.iter().filter_map(|place| Some(part.get(rows[*place].place)?.item.id.0)).collect();
        if !found.is_empty()
            && let Err(cause) = self.wait_for_replication(&found).await
        {
            debug!(?cause, "duplicates are looked for once more");
            if cause.could_not_run() {
                self.link.broken();
            }
            duplicates.into_iter().for_each(|place| rows[place].outcome = AcceptOutcome::Held);
        }
        rows
    }

    async fn wait_for_replication(&mut self, messages: &[Uuid]) -> Result<(), Error> {
        let Line { connection, stall_detector } = self.link.get().await?;
        stall_detector.answer(store::wait_for_replication(connection, messages)).await
    }
}

fn message(item: &SendItem, row: &AcceptedRow) -> Message {
    Message {
        id: item.id,
        chat: row.chat,
        seq: row.seq,
        sender: Arc::clone(&item.sender),
        message_type: item.message_type.clone(),
        content: item.content.clone(),
        metadata: item.metadata.clone(),
        created_at: row.created_at,
        expires_at: item.expires_at,
        recall: None,
        is_unreadable: false,
        extension: Extension::default(),
    }
}
