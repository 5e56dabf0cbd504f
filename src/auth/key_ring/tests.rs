//! The ring with a clock of the test's own, and a task that stands for a server of keys.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;

const PAUSE: Duration = Duration::from_secs(10);

fn ring() -> KeyRing {
    KeyRing::new(Vec::new(), Some(ServerLimits { pause: PAUSE, keep: Duration::from_secs(60) }))
}

/// Fetches when it is asked, and never by itself. `succeeds` says whether it brings a set, which is empty.
fn serve(ring: &KeyRing, succeeds: bool) -> Arc<AtomicUsize> {
    let (ring, fetches) = (ring.clone(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&fetches);
    tokio::spawn(async move {
        loop {
            ring.fetch_due(Instant::now() + Duration::from_secs(86_400)).await;
            ring.begin();
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await;
            if succeeds { ring.fetched(Vec::new()) } else { ring.not_fetched() }
        }
    });
    fetches
}

async fn seek_many(ring: &KeyRing, count: usize) -> Vec<Sought> {
    join_all((0..count).map(|_| ring.seek())).await
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_unknown_keys_cause_one_fetch_in_ten_seconds() {
    let ring = ring();
    let fetches = serve(&ring, true);
    let begun = Instant::now();
    assert!(seek_many(&ring, 10_000).await.iter().all(|sought| *sought == Sought::Fetched), "all wait for the one that begins");
    assert_eq!(fetches.load(Ordering::Relaxed), 1);
    for _ in 0..9 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let sought = seek_many(&ring, 10_000).await;
        assert!(sought.iter().all(|sought| !matches!(sought, Sought::Fetched)), "no fetch is due, and nobody waits");
    }
    assert_eq!((fetches.load(Ordering::Relaxed), begun.elapsed() < PAUSE), (1, true));
    tokio::time::advance(Duration::from_secs(1)).await;
    seek_many(&ring, 10_000).await;
    assert_eq!(fetches.load(Ordering::Relaxed), 2);
}

/// Broken by asking a client to keep a token with a key that the server has just not given: it would come again and again.
#[tokio::test(start_paused = true)]
async fn a_key_that_a_fetch_has_not_brought_is_nowhere_until_another_may_begin() {
    let ring = ring();
    serve(&ring, true);
    assert_eq!(ring.seek().await, Sought::Fetched);
    assert_eq!(ring.seek().await, Sought::Nowhere);
    tokio::time::advance(PAUSE / 2).await;
    assert_eq!(ring.seek().await, Sought::Nowhere);
    tokio::time::advance(PAUSE / 2).await;
    assert_eq!(ring.seek().await, Sought::Fetched);
}

#[tokio::test(start_paused = true)]
async fn while_fetches_fail_no_key_is_nowhere() {
    let ring = ring();
    serve(&ring, false);
    for _ in 0..3 {
        let Sought::NotYet(retry_after) = ring.seek().await else { panic!("nobody can say if there is such a key") };
        assert!(retry_after <= PAUSE && retry_after >= RETRY_MIN, "{retry_after:?}");
        tokio::time::advance(PAUSE / 3).await;
    }
    assert_eq!(ring.server_keys(), Some(ServerKeys::Missing));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_does_not_end_is_waited_for_within_a_bound() {
    let ring = ring();
    let begun = Instant::now();
    assert!(matches!(ring.seek().await, Sought::NotYet(_)), "nobody fetches at all");
    assert_eq!(begun.elapsed(), WAIT_MAX);
    assert_eq!(KeyRing::default().seek().await, Sought::Nowhere, "there is no server");
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_for_their_time_after_the_last_fetch_that_succeeded() {
    let ring = ring();
    let key = || vec![Arc::new(Key::of_secret(b"of a test"))];
    let count = || ring.current().candidates(None, jsonwebtoken::Algorithm::HS256).count();
    ring.begin();
    ring.fetched(key());
    assert_eq!((count(), ring.server_keys()), (1, Some(ServerKeys::Fresh)));
    tokio::time::advance(Duration::from_secs(59)).await;
    ring.begin();
    ring.not_fetched();
    assert_eq!((ring.drop_old(), count(), ring.server_keys()), (false, 1, Some(ServerKeys::Kept)));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!((ring.drop_old(), count(), ring.server_keys()), (true, 0, Some(ServerKeys::Missing)));
    assert_eq!(ring.kept_until(), None);
    ring.begin();
    ring.fetched(key());
    assert_eq!((count(), ring.server_keys()), (1, Some(ServerKeys::Fresh)));
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_a_fetch_outlives_a_wait_that_was_given_up() {
    let ring = ring();
    let seeking = ring.clone();
    let sought = tokio::spawn(async move { seeking.seek().await });
    let far = Instant::now() + Duration::from_secs(86_400);
    // The ring has been rung, and whoever waited has gone before it could begin.
    tokio::time::timeout(Duration::from_millis(1), ring.fetch_due(far)).await.ok();
    tokio::time::timeout(Duration::from_millis(1), ring.fetch_due(far)).await.expect("the wish is still there");
    ring.begin();
    ring.fetched(Vec::new());
    assert_eq!(sought.await.unwrap(), Sought::Fetched);
}
