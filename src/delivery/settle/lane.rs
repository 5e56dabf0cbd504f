//! The task of a settle lane: it takes what waits, writes acks, attempts and reads in a transaction each, and gives back to
//! the queue what it could not finish.
//!
//! The order among the three does not matter to what ends up true: statuses and marks only move forward.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::acks::AckBatch;
use super::attempts::AttemptBatch;
use super::job::{Job, Try};
use super::linger::Linger;
use super::pace::Pace;
use super::queue::{JOBS_MAX, Queue, Unfinished};
use super::reads::ReadBatch;
use crate::delivery::LaneSettings;
use crate::delivery::Refusal;
use crate::delivery::link::{Link, Shared};
use crate::delivery::receipts::Receipts;
use crate::domain::UserId;
use crate::store::{Error, LockTimeout};

/// A user whose rows another session holds is left alone for this time before the next try.
const DEFERRED_PAUSE: Duration = Duration::from_millis(200);
/// Deferred users are tried again for this time at most, before the others have their turn.
const RETRY_TIME: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Lane {
    jobs: mpsc::Receiver<Job>,
    queue: Queue,
    linger: Linger,
    pace: Pace,
    link: Link,
    shared: Shared,
    receipts: Receipts,
    attempts_max: u16,
}

/// Jobs of one kind.
#[derive(Debug)]
enum Batch {
    Acks(AckBatch),
    Attempts(AttemptBatch),
    Reads(ReadBatch),
}

impl Batch {
    /// A batch for each kind that is among these jobs; acks stand last. Each settles at most so many rows.
    fn by_kind(jobs: Vec<Job>, rows_max: usize) -> Vec<Self> {
        let (mut acks, mut attempts, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs {
            match job {
                Job::Ack(job) => acks.push(job),
                Job::Attempt(job) => attempts.push(job),
                Job::Read(job) => reads.push(job),
            }
        }
        let (acks, reads) = (AckBatch::new(acks, rows_max), ReadBatch::new(reads, rows_max));
        let all = [Self::Reads(reads), Self::Attempts(AttemptBatch::new(attempts)), Self::Acks(acks)];
        all.into_iter().filter(|batch| batch.len() > 0).collect()
    }

    const fn len(&self) -> usize {
        match self {
            Self::Acks(batch) => batch.len(),
            Self::Attempts(batch) => batch.len(),
            Self::Reads(batch) => batch.len(),
        }
    }

    fn into_jobs(self) -> Vec<Job> {
        match self {
            Self::Acks(batch) => batch.into_jobs(),
            Self::Attempts(batch) => batch.into_jobs(),
            Self::Reads(batch) => batch.into_jobs(),
        }
    }
}

/// A batch that is to be written.
#[derive(Debug)]
struct Part {
    batch: Batch,
    which: Try,
}

impl Part {
    /// A part for each kind of these jobs, in the order in which they are popped: acks, attempts, reads.
    fn of(jobs: Vec<Job>, which: Try, rows_max: usize) -> impl Iterator<Item = Self> {
        Batch::by_kind(jobs, rows_max).into_iter().map(move |batch| Self { batch, which })
    }
}

/// Jobs that were not written, and why.
#[derive(Debug)]
struct Unwritten {
    jobs: Vec<Job>,
    cause: Error,
}

impl Lane {
    pub(super) fn new(jobs: mpsc::Receiver<Job>, settings: &LaneSettings, shared: &Shared, receipts: &Receipts) -> Self {
        Self {
            jobs,
            queue: Queue::default(),
            linger: Linger::new(),
            pace: Pace::new(),
            link: Link::new(settings.connect_to.clone(), shared),
            shared: shared.clone(),
            receipts: receipts.clone(),
            attempts_max: settings.attempts_max,
        }
    }

    pub(super) async fn run(mut self) {
        while self.gather().await {
            loop {
                // At each turn: under load nothing else would be reached, and deferred users would wait for its end.
                self.retry_deferred().await;
                if self.queue.is_idle() {
                    break;
                }
                self.linger.wait(&mut self.queue, &mut self.jobs).await;
                let jobs = self.queue.take(self.rows_max());
                self.write(jobs, Try::First, LockTimeout::Usual).await;
            }
        }
        self.link.close().await;
    }

    /// Waits for something to do. False: the lane ends.
    async fn gather(&mut self) -> bool {
        let retry = self.queue.next_try();
        let mut incoming = Vec::new();
        tokio::select! {
            taken = self.jobs.recv_many(&mut incoming, JOBS_MAX), if self.queue.has_room() => {
                incoming.into_iter().for_each(|job| self.queue.push(job));
                if taken == 0 && let Some(at) = retry {
                    sleep_until(at).await;
                }
                taken > 0 || retry.is_some()
            }
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => true,
            () = self.shared.stop.cancelled(), if !self.jobs.is_closed() => {
                // Queued jobs are still written; no new job comes in.
                self.jobs.close();
                true
            }
        }
    }

    fn gather_more(&mut self) {
        while self.queue.has_room() {
            let Ok(job) = self.jobs.try_recv() else { break };
            self.queue.push(job);
        }
        let queued = i64::try_from(self.jobs.len() + self.queue.len()).unwrap_or(i64::MAX);
        self.shared.metrics.lane_queue_items.of("settle").set(queued);
    }

    /// Looks whether the rows of deferred users are still held, without waiting for it at everybody's cost.
    async fn retry_deferred(&mut self) {
        let end = Instant::now() + RETRY_TIME;
        while Instant::now() < end
            && let Some(jobs) = self.queue.take_deferred(self.rows_max(), Instant::now())
        {
            // An earlier try may have ended with its outcome unknown.
            self.write(jobs, Try::Again, LockTimeout::Retry).await;
        }
    }

    /// Writes jobs until each has its answer or is given back to the queue.
    async fn write(&mut self, jobs: Vec<Job>, which: Try, lock_timeout: LockTimeout) {
        let rows_max = self.rows_max();
        let mut parts: Vec<Part> = Part::of(jobs, which, rows_max).collect();
        let mut unfinished = Unfinished::default();
        while let Some(Part { batch, which }) = parts.pop() {
            let Some(batch) = Batch::by_kind(unfinished.keep_behind(batch.into_jobs()), rows_max).pop() else { continue };
            match self.try_once(batch, which, lock_timeout).await {
                Ok(rest) => unfinished.rest(rest),
                Err(Unwritten { jobs, cause: Error::Unavailable(_) | Error::Busy(_) }) => {
                    let jobs = self.wait_for_database(jobs).await;
                    parts.extend(Part::of(jobs, Try::Again, rows_max));
                }
                Err(refused) => parts.extend(refuse(refused, which, rows_max, &mut unfinished)),
            }
        }
        self.link.pause();
        // Jobs that have come meanwhile go before the rests.
        self.gather_more();
        self.queue.give_back(unfinished, Instant::now() + DEFERRED_PAUSE);
    }

    /// Rows of the next transaction.
    fn rows_max(&self) -> usize {
        self.pace.rows(Instant::now())
    }

    /// The database is away: jobs wait until it is back. Returns none if the node stops meanwhile.
    async fn wait_for_database(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        self.link.broken();
        tokio::select! {
            () = self.shared.store.health().back() => jobs,
            () = self.shared.stop.cancelled() => {
                jobs.into_iter().for_each(|job| job.fail(Refusal::Unavailable));
                Vec::new()
            }
        }
    }

    /// Writes a batch. Returns the rests of jobs that were written in part.
    async fn try_once(&mut self, batch: Batch, which: Try, lock_timeout: LockTimeout) -> Result<Vec<Job>, Unwritten> {
        let (started, items) = (std::time::Instant::now(), batch.len());
        let written = match batch {
            Batch::Acks(batch) => self.settle(batch, which, lock_timeout).await,
            Batch::Attempts(batch) => self.count_attempts(batch, lock_timeout).await,
            Batch::Reads(batch) => self.read(batch, lock_timeout).await,
        };
        self.shared.metrics.lane_batch_items.of("settle").observe(f64::from(u32::try_from(items).unwrap_or(u32::MAX)));
        self.shared.metrics.lane_batch_duration.of("settle").observe(started.elapsed().as_secs_f64());
        written
    }

    async fn settle(&mut self, mut batch: AckBatch, which: Try, lock_timeout: LockTimeout) -> Result<Vec<Job>, Unwritten> {
        let ran = batch.run(&mut self.link, which, lock_timeout).await;
        batch.tell(&self.receipts);
        match ran {
            Ok(()) => {
                self.pace.measure(batch.rows(), batch.took, Instant::now());
                Ok(batch.answer())
            }
            Err(cause) => Err(Unwritten { jobs: batch.into_jobs(), cause }),
        }
    }

    async fn count_attempts(&mut self, batch: AttemptBatch, lock_timeout: LockTimeout) -> Result<Vec<Job>, Unwritten> {
        match batch.run(&mut self.link, self.attempts_max, lock_timeout).await {
            Ok(counted) => {
                self.pace.measure(batch.len(), counted.took(), Instant::now());
                self.shared.metrics.attempts.inc_by(counted.len() as u64);
                batch.answer(&counted, &self.receipts);
                Ok(Vec::new())
            }
            Err(cause) => Err(Unwritten { jobs: batch.into_jobs(), cause }),
        }
    }

    async fn read(&mut self, batch: ReadBatch, lock_timeout: LockTimeout) -> Result<Vec<Job>, Unwritten> {
        match batch.run(&mut self.link, lock_timeout).await {
            Ok(read) => {
                self.pace.measure(read.rows(batch.rows_max()), read.took(), Instant::now());
                Ok(batch.answer(&read, &self.receipts))
            }
            Err(cause) => Err(Unwritten { jobs: batch.into_jobs(), cause }),
        }
    }
}

/// The database refuses a batch. Of many users it is tried once more, each user for itself; the jobs of one are
/// deferred where its rows are held, and fail otherwise.
fn refuse(Unwritten { jobs, cause }: Unwritten, which: Try, rows_max: usize, unfinished: &mut Unfinished) -> Vec<Part> {
    let mut users: BTreeMap<UserId, Vec<Job>> = BTreeMap::new();
    for job in jobs {
        users.entry(job.user()).or_default().push(job);
    }
    let is_one = users.len() == 1;
    match cause {
        _ if !is_one => return users.into_values().rev().flat_map(|jobs| Part::of(jobs, which, rows_max)).collect(),
        Error::Held(_) => users.into_values().for_each(|jobs| unfinished.held(jobs)),
        cause => {
            let refusal = Refusal::of(&cause, "storing acks");
            users.into_values().flatten().for_each(|job| job.fail(refusal));
        }
    }
    Vec::new()
}
