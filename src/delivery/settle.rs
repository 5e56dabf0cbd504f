//! The lanes that settle: acks, counted attempts and reads, by user, so that those of one user stay in order.
//!
//! Acks wait for the database however long it is away: they have been taken from clients and are never dropped. What
//! somebody else's lock keeps from being written is pinned on its user and put aside; the others go on.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::item::{Acks, Attempt, AttemptTarget, ReadDone, ReadUpTo};
use super::link::{Line, Link, Shared};
use super::receipts::Receipts;
use super::{LaneSettings, Refusal, Writing, lane_of_user};
use crate::domain::{AttemptOutcome, ChatId, ChatSeq, Class, DeviceId, InboxSeq, MessageId, Profile, Status, UserId};
use crate::store::{self, AttemptBatch, DeviceCursor, Error, ExactMark, Located, LockPatience, MarkProposal, ReadRequest, SettleBatch};

mod linger;
mod work;

use linger::Linger;

/// Jobs that may wait for one lane.
const QUEUE_MAX: usize = 4_096;
/// Jobs, and rows, in one transaction.
const JOBS_MAX: usize = 500;
const ROWS_MAX: usize = 5_000;
/// Rows one read marks in one transaction.
const READ_ROWS_MAX: i32 = 2_000;
/// How long a user whose rows somebody holds is left alone before the next try.
const ASIDE_PAUSE: Duration = Duration::from_millis(200);

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Something to write for one user.
#[derive(Debug)]
enum Job {
    Acks(Acks, Reply<()>),
    Attempt(Attempt, Reply<AttemptOutcome>),
    Read { user: Arc<Profile>, chat: ChatId, up_to: ReadUpTo, reply: Reply<ReadDone> },
}

impl Job {
    fn user(&self) -> UserId {
        match self {
            Self::Acks(acks, _) => acks.user.user,
            Self::Attempt(attempt, _) => attempt.user.user,
            Self::Read { user, .. } => user.user,
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Acks(acks, _) => acks.rows.len() + acks.by_id.len(),
            Self::Attempt(..) | Self::Read { .. } => 1,
        }
    }

    fn fail(self, refusal: Refusal) {
        // Whoever asked may be gone.
        match self {
            Self::Acks(_, reply) => drop(reply.send(Err(refusal))),
            Self::Attempt(_, reply) => drop(reply.send(Err(refusal))),
            Self::Read { reply, .. } => drop(reply.send(Err(refusal))),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct SettleLanes {
    lanes: Arc<[mpsc::Sender<Job>]>,
}

impl SettleLanes {
    pub(super) fn start(settings: &LaneSettings, shared: &Shared, receipts: &Receipts, tasks: &TaskTracker) -> Self {
        let lanes = (0..settings.settle_lanes.max(1))
            .map(|_| {
                let (queue, jobs) = mpsc::channel(QUEUE_MAX);
                let lane = Lane {
                    jobs,
                    waiting: VecDeque::new(),
                    aside: HashMap::new(),
                    next_try: None,
                    linger: Linger::new(),
                    link: Link::new(settings.connect_to.clone(), shared),
                    patience: LockPatience::Usual,
                    shared: shared.clone(),
                    receipts: receipts.clone(),
                    attempts_max: settings.attempts_max,
                };
                tasks.spawn(lane.run());
                queue
            })
            .collect();
        Self { lanes }
    }

    pub(super) fn settle(&self, acks: Acks) -> Result<Writing, Writing> {
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(acks.user.user);
        match lane.try_send(Job::Acks(acks, reply)) {
            Ok(()) => Ok(Box::pin(async move { answer.await.unwrap_or(Err(Refusal::Unavailable)) })),
            Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) => {
                Err(Box::pin(put(lane.clone(), job, answer)))
            }
        }
    }

    pub(super) fn attempt(&self, attempt: Attempt) -> impl Future<Output = Result<AttemptOutcome, Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(attempt.user.user).clone();
        put(lane, Job::Attempt(attempt, reply), answer)
    }

    pub(super) fn read(
        &self,
        user: Arc<Profile>,
        chat: ChatId,
        up_to: ReadUpTo,
    ) -> impl Future<Output = Result<ReadDone, Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(user.user).clone();
        put(lane, Job::Read { user, chat, up_to, reply }, answer)
    }

    fn lane(&self, user: UserId) -> &mpsc::Sender<Job> {
        &self.lanes[lane_of_user(user, self.lanes.len())]
    }
}

/// Queues a job at once, or as soon as there is room, and waits for its answer: what a client said right before it went
/// counts, although nobody waits for this future any more. A closed queue answers `Unavailable`.
fn put<T: Send>(
    lane: mpsc::Sender<Job>,
    job: Job,
    answer: oneshot::Receiver<Result<T, Refusal>>,
) -> impl Future<Output = Result<T, Refusal>> + Send + use<T> {
    let left = match lane.try_send(job) {
        Ok(()) => None,
        Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) => Some(job),
    };
    async move {
        if let Some(job) = left {
            lane.send(job).await.map_err(|_| Refusal::Unavailable)?;
        }
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }
}

#[derive(Debug)]
struct Lane {
    jobs: mpsc::Receiver<Job>,
    waiting: VecDeque<Job>,
    /// Users whose rows somebody else holds, with their jobs in order.
    aside: HashMap<UserId, VecDeque<Job>>,
    next_try: Option<Instant>,
    linger: Linger,
    link: Link,
    /// With somebody else's lock.
    patience: LockPatience,
    shared: Shared,
    receipts: Receipts,
    attempts_max: u16,
}

impl Lane {
    async fn run(mut self) {
        while self.gather().await {
            self.retry_aside().await;
            while !self.waiting.is_empty() {
                self.linger.wait(&mut self.waiting, &mut self.jobs).await;
                // Here too: under load nothing else would be reached, and what was put aside would wait for its end.
                self.retry_aside().await;
                let batch = self.take();
                self.write(batch).await;
                while self.waiting.len() < JOBS_MAX {
                    let Ok(job) = self.jobs.try_recv() else { break };
                    self.waiting.push_back(job);
                }
                let queued = i64::try_from(self.jobs.len() + self.waiting.len()).unwrap_or(i64::MAX);
                self.shared.metrics.lane_queue_items.of("settle").set(queued);
            }
        }
        self.link.close().await;
    }

    /// Waits for something to do. False: the lane ends.
    async fn gather(&mut self) -> bool {
        let retry = self.next_try;
        let mut incoming = Vec::new();
        // While users are put aside their jobs stay bounded by not taking more than a queue's worth.
        let has_room = self.aside.values().map(VecDeque::len).sum::<usize>() < QUEUE_MAX;
        tokio::select! {
            taken = self.jobs.recv_many(&mut incoming, JOBS_MAX), if has_room => {
                self.waiting.extend(incoming);
                if taken == 0 && let Some(at) = retry {
                    sleep_until(at).await;
                }
                taken > 0 || retry.is_some()
            }
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => true,
            () = self.shared.stop.cancelled(), if !self.jobs.is_closed() => {
                self.jobs.close();
                true
            }
        }
    }

    /// What the next transaction takes: jobs of a user who is put aside join those that wait there.
    fn take(&mut self) -> Vec<Job> {
        let (mut batch, mut rows) = (Vec::new(), 0);
        while let Some(job) = self.waiting.front() {
            if !batch.is_empty() && (batch.len() >= JOBS_MAX || rows + job.rows() > ROWS_MAX) {
                break;
            }
            rows += job.rows();
            let Some(job) = self.waiting.pop_front() else { break };
            match self.aside.get_mut(&job.user()) {
                Some(theirs) => theirs.push_back(job),
                None => batch.push(job),
            }
        }
        batch
    }

    async fn retry_aside(&mut self) {
        if self.next_try.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.next_try = None;
        // These are known to be held: look whether they still are, but do not wait for it at everybody's cost.
        self.patience = LockPatience::Retry;
        for (_, jobs) in std::mem::take(&mut self.aside) {
            self.write(jobs.into()).await;
        }
        self.patience = LockPatience::Usual;
    }

    fn put_aside(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            self.aside.entry(job.user()).or_default().push_back(job);
        }
        self.next_try.get_or_insert_with(|| Instant::now() + ASIDE_PAUSE);
    }
}

/// One user's jobs out of many, in order.
fn by_user(jobs: Vec<Job>) -> BTreeMap<UserId, Vec<Job>> {
    let mut users: BTreeMap<UserId, Vec<Job>> = BTreeMap::new();
    for job in jobs {
        users.entry(job.user()).or_default().push(job);
    }
    users
}
