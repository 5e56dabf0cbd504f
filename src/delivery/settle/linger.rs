//! A few acks, right after others, wait a moment for more: a transaction costs several times what an ack in it costs, and each
//! has the disk to itself while messages wait to be stored. Nobody waits for it but the sender's receipt, since what is
//! delivered was delivered before its ack came.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::job::Job;
use super::queue::Queue;

/// From the beginning of one transaction of a lane to that of the next, while there are few acks.
const LINGER: Duration = Duration::from_millis(5);
/// A queue with this number of jobs or rows does not wait.
const MANY: usize = 16;
/// After a wait that brought no job, this number of transactions begin without a wait. A client that sends one ack at a time
/// waits for each `ack:ok`, so no further ack can come, and a wait would only slow it down.
const ALONE: u32 = 32;

/// Keeps when the last transaction began, and decides whether the next one waits.
#[derive(Debug)]
pub(super) struct Linger {
    began: Option<Instant>,
    /// Transactions that do not wait.
    alone: u32,
}

impl Linger {
    pub(super) const fn new() -> Self {
        Self { began: None, alone: 0 }
    }

    /// Returns when the next transaction is to begin, with what came meanwhile in `queue`.
    pub(super) async fn wait(&mut self, queue: &mut Queue, jobs: &mut mpsc::Receiver<Job>) {
        let until = self.began.map_or_else(Instant::now, |began| began + LINGER);
        if self.alone > 0 {
            self.alone -= 1;
        } else if Instant::now() < until && are_few(queue) {
            let before = queue.len();
            let mut timer = std::pin::pin!(sleep_until(until));
            while are_few(queue) {
                tokio::select! {
                    job = jobs.recv() => match job {
                        Some(job) => queue.push(job),
                        None => break,
                    },
                    () = &mut timer => break,
                }
            }
            if queue.len() == before {
                self.alone = ALONE;
            }
        }
        self.began = Some(Instant::now());
    }
}

/// Returns whether the queue holds only acks, and few of them. A caller waits for the outcome of every other job.
fn are_few(queue: &Queue) -> bool {
    let first: Vec<&Job> = queue.ready().take(MANY).collect();
    first.len() < MANY && first.iter().all(|job| matches!(job, Job::Ack(_))) && first.iter().map(|job| job.rows()).sum::<usize>() < MANY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::ReadUpTo;
    use crate::delivery::settle::job::samples;
    use crate::domain::ChatSeq;

    fn acks(rows: i64) -> Job {
        Job::Ack(samples::ack_job(samples::acks(1, 1..=rows)).0)
    }

    fn read() -> Job {
        Job::Read(samples::read_job(1, ReadUpTo::Seq(ChatSeq(1))).0)
    }

    fn queued(job: Job) -> Queue {
        let mut queue = Queue::default();
        queue.push(job);
        queue
    }

    /// A lane that has just written, and its queue.
    async fn just_written() -> (Linger, mpsc::Sender<Job>, mpsc::Receiver<Job>) {
        let (queue, mut jobs) = mpsc::channel(100);
        let mut linger = Linger::new();
        linger.wait(&mut queued(acks(1)), &mut jobs).await;
        (linger, queue, jobs)
    }

    /// The time for which `linger` holds the waiting jobs, and the number of jobs after it.
    async fn kept(linger: &mut Linger, jobs: &mut mpsc::Receiver<Job>, first: Job) -> (Duration, usize) {
        let (began, mut waiting) = (Instant::now(), queued(first));
        linger.wait(&mut waiting, jobs).await;
        (began.elapsed(), waiting.len())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_ack_after_a_silence_does_not_wait_and_the_next_one_waits_for_company() {
        let (mut linger, queue, mut jobs) = just_written().await;
        tokio::time::advance(LINGER * 2).await;
        assert_eq!(kept(&mut linger, &mut jobs, acks(1)).await, (Duration::ZERO, 1));
        for _ in 0..3 {
            queue.send(acks(1)).await.unwrap();
        }
        assert_eq!(kept(&mut linger, &mut jobs, acks(1)).await, (LINGER, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn many_acks_and_whatever_else_somebody_waits_for_go_at_once() {
        let (mut linger, queue, mut jobs) = just_written().await;
        assert_eq!(kept(&mut linger, &mut jobs, acks(i64::try_from(MANY).unwrap())).await, (Duration::ZERO, 1));
        assert_eq!(kept(&mut linger, &mut jobs, read()).await, (Duration::ZERO, 1));
        queue.send(read()).await.unwrap();
        assert_eq!(kept(&mut linger, &mut jobs, acks(1)).await, (Duration::ZERO, 2));
        for _ in 0..MANY {
            queue.send(acks(1)).await.unwrap();
        }
        assert_eq!(kept(&mut linger, &mut jobs, acks(1)).await, (Duration::ZERO, MANY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_acks_one_by_one_waits_once_in_a_while() {
        let (mut linger, _queue, mut jobs) = just_written().await;
        let mut waits = 0;
        for _ in 0..=ALONE {
            waits += u32::from(kept(&mut linger, &mut jobs, acks(1)).await.0 > Duration::ZERO);
        }
        assert_eq!(waits, 1);
        assert!(kept(&mut linger, &mut jobs, acks(1)).await.0 > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_closes_ends_the_wait() {
        let (mut linger, queue, mut jobs) = just_written().await;
        drop(queue);
        assert_eq!(kept(&mut linger, &mut jobs, acks(1)).await, (Duration::ZERO, 1));
    }
}
