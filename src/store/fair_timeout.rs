//! A time limit for others that counts only the time in which this process could run. A node without a processor, or one that was
//! stopped for a while, would else take its own lateness for silence of the database.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;

/// The limit is counted in pieces of this length. Of a piece that takes longer than that only this much counts.
const PIECE: Duration = Duration::from_millis(50);

/// Waits for the future. None: it has not ended within `limit`, which is rounded up to whole pieces of 50 ms.
pub async fn fair_timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..limit.as_millis().div_ceil(PIECE.as_millis()) {
        tokio::select! {
            biased;
            done = &mut future => return Some(done),
            () = sleep(PIECE) => {}
        }
    }
    future.now_or_never()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{Instant, advance};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_time_in_which_this_process_did_not_run_does_not_count() {
        let mut waits = pin!(fair_timeout(Duration::from_secs(5), pending::<()>()));
        for _ in 0..10 {
            assert!(waits.as_mut().now_or_never().is_none(), "it takes its own lateness for the other's silence");
            advance(Duration::from_secs(10)).await;
        }
        let begun = Instant::now();
        assert_eq!(waits.await, None);
        assert!(begun.elapsed() >= Duration::from_secs(4), "ten pieces of the limit are over");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_counts_and_silence_ends_after_the_limit() {
        assert_eq!(fair_timeout(Duration::from_secs(5), async { 7 }).await, Some(7));
        let begun = Instant::now();
        assert_eq!(fair_timeout(Duration::from_secs(5), pending::<()>()).await, None);
        assert!(begun.elapsed() < Duration::from_secs(6));
    }
}
