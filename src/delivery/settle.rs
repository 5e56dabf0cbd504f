//! The lanes that settle: acks, counted attempts and reads, by user, so that those of one user stay in order.
//!
//! Acks wait for the database however long it is away: they have been taken from clients and are never dropped. A user whose
//! rows another session holds is deferred with its jobs; the others go on. A long job is written in parts, and after
//! each part the other users have their turn.
//!
//! In reading order: `job` what is asked, `queue` in which order it is written, `linger` when, `pace` how much of it at once,
//! `lane` the task that writes, `acks`, `attempts` and `reads` the batches of one transaction.

mod acks;
mod attempts;
mod job;
mod lane;
mod linger;
mod pace;
mod queue;
mod reads;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::item::{Acks, Attempt, ReadDone, ReadUpTo};
use super::link::Shared;
use super::receipts::Receipts;
use super::{LaneSettings, Refusal, Writing, lane_of_user};
use crate::domain::{AttemptOutcome, ChatId, Profile, SessionId, UserId};
use job::{AckJob, AttemptJob, Job, ReadJob};
use lane::Lane;
use queue::QUEUE_MAX;

#[derive(Debug, Clone)]
pub(super) struct SettleLanes {
    lanes: Arc<[mpsc::Sender<Job>]>,
}

impl SettleLanes {
    pub(super) fn start(settings: &LaneSettings, shared: &Shared, receipts: &Receipts, tasks: &TaskTracker) -> Self {
        let lanes = (0..settings.settle_lanes.max(1))
            .map(|_| {
                let (queue, jobs) = mpsc::channel(QUEUE_MAX);
                tasks.spawn(Lane::new(jobs, settings, shared, receipts).run());
                queue
            })
            .collect();
        Self { lanes }
    }

    pub(super) fn settle(&self, acks: Acks) -> Result<Writing, Writing> {
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(acks.user.user);
        match lane.try_send(Job::Ack(AckJob { acks, reply })) {
            Ok(()) => Ok(Box::pin(async move { answer.await.unwrap_or(Err(Refusal::Unavailable)) })),
            Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) => {
                Err(Box::pin(put(lane.clone(), job, answer)))
            }
        }
    }

    pub(super) fn attempt(&self, attempt: Attempt) -> impl Future<Output = Result<AttemptOutcome, Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(attempt.user.user).clone();
        put(lane, Job::Attempt(AttemptJob { attempt, reply }), answer)
    }

    pub(super) fn read(
        &self,
        user: Arc<Profile>,
        chat: ChatId,
        up_to: ReadUpTo,
        origin: Option<SessionId>,
    ) -> impl Future<Output = Result<ReadDone, Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(user.user).clone();
        put(lane, Job::Read(ReadJob { user, chat, up_to, origin, is_begun: false, reply }), answer)
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
