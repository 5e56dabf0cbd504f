//! Hashing of passwords beside the tasks of the service: on threads that may block, a few at once. Each hash takes memory and a processor, so a crowd that
//! logs in waits in a queue of bounded length, for a bounded time, and what is beyond it is refused before anything is hashed.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::error;

use crate::auth::{Password, PasswordHasher, Verified};
use crate::delivery::Refusal;

/// Hashes that wait or run, for each that may run.
const QUEUE_OF_EACH: usize = 64;
/// The time for which a hash waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The time after which a client that found the queue full comes again.
const RETRY: Duration = Duration::from_secs(2);

/// The hasher of a node, and how many may run. Clones share both.
#[derive(Debug, Clone)]
pub(super) struct Hashing {
    hasher: PasswordHasher,
    running: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Hashing {
    pub(super) fn new(hasher: PasswordHasher, at_once: u16) -> Self {
        let at_once = usize::from(at_once.max(1));
        Self { hasher, running: Arc::new(Semaphore::new(at_once)), queue: Arc::new(Semaphore::new(at_once * QUEUE_OF_EACH)) }
    }

    /// The same, which counts here each hash that is computed.
    pub(super) fn counted_by(self, computed: Counter) -> Self {
        Self { hasher: self.hasher.counted_by(computed), ..self }
    }

    /// The hash of a password.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: too many wait.
    pub(super) async fn hash(&self, password: Password) -> Result<String, Refusal> {
        self.run(move |hasher| hasher.hash(&password)).await
    }

    /// Judges a password by a hash, or by none, which takes as long. The second value is a hash at the current cost where the first one's is another.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub(super) async fn verify(&self, password: Password, hash: Option<String>) -> Result<(Verified, Option<String>), Refusal> {
        self.run(move |hasher| {
            let verified = hasher.verify(&password, hash.as_deref());
            let new_hash = (verified == Verified::RightButOutdated).then(|| hasher.hash(&password));
            (verified, new_hash)
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&PasswordHasher) -> T + Send + 'static) -> Result<T, Refusal> {
        let busy = Refusal::Busy(RETRY);
        let queued = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| busy)?;
        let turn = timeout(WAIT_MAX, Arc::clone(&self.running).acquire_owned()).await.map_err(|_| busy)?.map_err(|_| busy)?;
        let hasher = self.hasher.clone();
        // The work cannot be taken back: where its caller has gone, it holds its turn until it has ended.
        let working = tokio::task::spawn_blocking(move || {
            let done = work(&hasher);
            drop((turn, queued));
            done
        });
        working.await.map_err(|cause| {
            error!(%cause, "hashing a password failed");
            Refusal::Internal
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::auth::HashCost;

    fn hashing(at_once: u16) -> Hashing {
        Hashing::new(PasswordHasher::new(HashCost { memory_kib: 8, passes: 1 }).unwrap(), at_once)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_run_at_once_than_may() {
        let (hashing, most, now) = (hashing(2), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let runs = (0..20).map(|_| {
            let (hashing, most, now) = (hashing.clone(), Arc::clone(&most), Arc::clone(&now));
            tokio::spawn(async move {
                let work = move |_: &PasswordHasher| {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                    now.fetch_sub(1, Ordering::SeqCst);
                };
                hashing.run(work).await
            })
        });
        for run in runs.collect::<Vec<_>>() {
            run.await.unwrap().unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn one_that_finds_the_queue_full_is_told_when_to_come_again() {
        let hashing = hashing(1);
        let all = Arc::clone(&hashing.queue).acquire_many_owned(u32::try_from(QUEUE_OF_EACH).unwrap()).await.unwrap();
        assert_eq!(hashing.run(|_| ()).await, Err(Refusal::Busy(RETRY)));
        drop(all);
        assert_eq!(hashing.run(|_| ()).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_its_turn_longer_than_five_seconds() {
        let hashing = hashing(1);
        let _turn = Arc::clone(&hashing.running).acquire_owned().await.unwrap();
        assert_eq!(hashing.run(|_| ()).await, Err(Refusal::Busy(RETRY)));
        assert_eq!(hashing.queue.available_permits(), QUEUE_OF_EACH, "its place in the queue is free again");
    }
}
