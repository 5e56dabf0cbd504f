//! Runs a job at one node: when a pass is due, whether this node may make it, what came of it.
//!
//! A lease lasts for seconds and is renewed by each pass, so another node takes a job over soon after its holder has died or
//! hangs. The number of the lease fences the cursor: a pass that ends after its lease stores nothing. An error ends a pass, and never
//! the runner; a node whose passes fail for as long as a lease lasts lets another node try.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{DoneBy, Job, Passed, Rest};
use crate::domain::NodeId;
use crate::store::{self, Acquired, JobLease, Store};
use crate::telemetry::Metrics;

/// A job that has failed for that long is told of.
const LONG: Duration = Duration::from_secs(60);
/// A node that stops waits this long for the pass in progress, and then this long for the release of its lease.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// The times of leases.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// From the last renewal to the end of a lease.
    pub length: Duration,
    /// The interval at which a node checks a lease. It renews its own lease in time, and takes a job over when another node's lease
    /// has run out.
    pub look_interval: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self { length: Duration::from_secs(8), look_interval: Duration::from_secs(2) }
    }
}

/// The parts of a node that a runner uses.
#[derive(Debug, Clone)]
pub struct JobNode {
    store: Store,
    id: NodeId,
    metrics: Arc<Metrics>,
    times: LeaseTimes,
}

impl JobNode {
    /// A node with the usual times.
    pub fn new(store: Store, id: NodeId, metrics: Arc<Metrics>) -> Self {
        Self { store, id, metrics, times: LeaseTimes::default() }
    }

    /// The same with other times.
    pub fn with_times(self, times: LeaseTimes) -> Self {
        Self { times, ..self }
    }
}

/// A job at one node.
#[derive(Debug)]
pub struct Runner<J> {
    job: J,
    node: JobNode,
    held: Option<Held>,
    /// When the next pass begins.
    due: Instant,
    /// Until then this node leaves the lease to others.
    asks_from: Instant,
    failures: Failures,
}

/// A lease that this node has, as far as it knows.
#[derive(Debug)]
struct Held {
    lease: JobLease,
    /// Shortly before the database renewed it.
    renewed: Instant,
}

/// The outcome of a pass, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    More,
    Fenced,
    Failed,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::More => "more",
            Self::Fenced => "fenced",
            Self::Failed => "failed",
        }
    }
}

impl<J: Job> Runner<J> {
    /// A runner that has not begun.
    pub fn new(job: J, node: JobNode) -> Self {
        // Made now, so that they show a job whose first pass never ends.
        node.metrics.job_success_age.of(job.name());
        if job.done_by() == DoneBy::OneNode {
            node.metrics.job_held.of(job.name());
        }
        let now = Instant::now();
        Self { job, node, held: None, due: now, asks_from: now, failures: Failures::default() }
    }

    /// Makes pass after pass until `stop` is cancelled; then gives the lease back, within two seconds.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let next = tokio::select! {
                next = self.step() => next,
                () = async { stop.cancelled().await; sleep(STOP_PATIENCE).await } => break,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep_until(next) => {}
            }
        }
        self.release().await;
    }

    /// Renews the lease or asks for it, and makes a pass if one is due. Returns when to do so again.
    async fn step(&mut self) -> Instant {
        let now = Instant::now();
        let done = match self.may_pass(now).await {
            Ok(may_pass) if may_pass && now >= self.due => self.pass(now).await,
            looked => looked.map(drop),
        };
        if let Err(cause) = done {
            self.failed(&cause, now).await;
        }
        match self.job.done_by() {
            DoneBy::OneNode => self.due.min(now + self.node.times.look_interval).max(now),
            DoneBy::AnyNode => self.due,
        }
    }

    async fn may_pass(&mut self, now: Instant) -> store::Result<bool> {
        match self.job.done_by() {
            DoneBy::OneNode => self.hold(now).await,
            DoneBy::AnyNode => Ok(true),
        }
    }

    /// Asks for the job, or renews the lease, unless a pass has just renewed it. True: this node holds the job.
    async fn hold(&mut self, now: Instant) -> store::Result<bool> {
        let LeaseTimes { length, look_interval } = self.node.times;
        if self.held.as_ref().is_some_and(|held| now.duration_since(held.renewed) < look_interval * 3 / 2) {
            return Ok(true);
        }
        if self.held.is_none() && now < self.asks_from {
            self.due = self.asks_from;
            return Ok(false);
        }
        let Acquired { lease, passed_ago } = self.node.store.acquire_job(self.job.name(), self.node.id, length).await?;
        if let Some(age) = passed_ago {
            self.node.metrics.job_success_age.of(self.job.name()).set(age);
        }
        let Some(lease) = lease else {
            self.lose();
            self.due = now + look_interval;
            if self.failures.began_before(now, passed_ago) {
                self.recovered();
            }
            return Ok(false);
        };
        if self.held.as_ref().is_none_or(|held| held.lease.number != lease.number) {
            debug!(job = self.job.name(), lease = lease.number, "this node does the job from now on");
            self.job.forget();
            self.due = now;
        }
        self.held = Some(Held { lease, renewed: now });
        self.node.metrics.job_held.of(self.job.name()).set(1);
        Ok(true)
    }

    /// Makes a pass, and says when the next one is due.
    async fn pass(&mut self, now: Instant) -> store::Result<()> {
        let cursor = self.held.as_ref().map_or("", |held| held.lease.cursor.as_str());
        let passed = self.job.pass(cursor).await;
        self.node.metrics.job_pass_duration.of(self.job.name()).observe(now.elapsed().as_secs_f64());
        let Passed { rows, rest, cursor } = passed?;
        self.node.metrics.job_rows.of(self.job.name()).inc_by(u64::try_from(rows).unwrap_or_default());
        if !self.advance(cursor).await? {
            self.count(Outcome::Fenced);
            debug!(job = self.job.name(), "another node has taken the job over in the middle of a pass, which took longer than the lease");
            self.lose();
            self.due = now;
            return Ok(());
        }
        self.node.metrics.job_success_age.of(self.job.name()).set(Duration::ZERO);
        self.recovered();
        let (outcome, due) = match rest {
            Rest::More => (Outcome::More, now),
            Rest::Later(pause) => (Outcome::More, Instant::now() + pause),
            Rest::Nothing => (Outcome::Done, now + self.job.interval()),
        };
        self.count(outcome);
        self.due = due;
        Ok(())
    }

    /// Stores how far the job has got, and renews the lease. False: this node does not hold it any more.
    async fn advance(&mut self, cursor: Option<String>) -> store::Result<bool> {
        let Some(held) = &mut self.held else { return Ok(true) };
        if let Some(cursor) = cursor {
            held.lease.cursor = cursor;
        }
        let asked = Instant::now();
        let is_holder = self.node.store.advance_job(self.job.name(), self.node.id, &held.lease, self.node.times.length).await?;
        held.renewed = asked;
        Ok(is_holder)
    }

    async fn failed(&mut self, cause: &store::Error, now: Instant) {
        self.count(Outcome::Failed);
        self.due = now + self.job.interval();
        if self.held.as_ref().is_some_and(|held| held.renewed.elapsed() >= self.node.times.length) {
            self.lose();
        }
        debug!(job = self.job.name(), ?cause, "a pass of the job has failed; it is made again");
        if self.failures.failed(now) {
            warn!(job = self.job.name(), ?cause, seconds = LONG.as_secs(), "the job has failed for long; it is tried again and again");
        }
        if self.held.is_some() && self.failures.lasted(now) >= self.node.times.length {
            // The cause may be this node's alone.
            self.asks_from = now + self.node.times.look_interval * 2;
            self.release().await;
        }
    }

    fn recovered(&mut self) {
        if self.failures.recovered() {
            info!(job = self.job.name(), "the job goes on again");
        }
    }

    fn lose(&mut self) {
        self.held = None;
        self.node.metrics.job_held.of(self.job.name()).set(0);
    }

    async fn release(&mut self) {
        let Some(held) = self.held.take() else { return };
        self.lose();
        let released = self.node.store.release_job(self.job.name(), self.node.id, held.lease.number);
        match timeout(STOP_PATIENCE, released).await {
            Ok(Ok(_)) => {}
            Ok(Err(cause)) => debug!(job = self.job.name(), ?cause, "the job was not given back; its lease runs out"),
            Err(_) => debug!(job = self.job.name(), "the job was not given back in time; its lease runs out"),
        }
    }

    fn count(&self, outcome: Outcome) {
        self.node.metrics.job_passes.of_all([self.job.name(), outcome.as_str()]).inc();
    }
}

/// Passes that failed one after the other.
#[derive(Debug, Default)]
struct Failures {
    since: Option<Instant>,
    is_told: bool,
}

impl Failures {
    /// One more. True once, when they have gone on for long.
    fn failed(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_news = !self.is_told && now.duration_since(since) >= LONG;
        self.is_told |= is_news;
        is_news
    }

    /// The time since the first one.
    fn lasted(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// Returns whether the failures began before a pass of another node. That pass succeeded `passed_ago`.
    fn began_before(&self, now: Instant, passed_ago: Option<Duration>) -> bool {
        passed_ago.is_some_and(|ago| ago < self.lasted(now))
    }

    /// The last one was none. True if somebody was told of those before.
    fn recovered(&mut self) -> bool {
        std::mem::take(self).is_told
    }
}

#[cfg(test)]
mod tests;
