//! Keys from a server: a JWK set that is fetched over HTTP. One task fetches, at the start, when the keys are no longer fresh, and when a
//! token asks. Everything about a fetch is bounded, and redirects are not followed: another address than that of the settings is never asked.
//!
//! Nothing that the server says is logged, and neither is its address.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::time::Instant;
use tracing::{info, warn};

use super::key::{Origin, Refused};
use super::key_ring::{KeyRing, ServerLimits};
use super::key_set::{NoSet, ReadSet, SET_BYTES_MAX};
use crate::telemetry::Metrics;

/// Time for a whole fetch.
const FETCH_TIME_MAX: Duration = Duration::from_secs(4);
/// Time after which keys are fetched again, whatever the server says.
const FRESH_MIN: Duration = Duration::from_secs(60);
const FRESH_MAX: Duration = Duration::from_secs(3_600);
/// The same where it says nothing.
const FRESH_DEFAULT: Duration = Duration::from_secs(600);
/// Time after failed fetches until the next, at most.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// A fetch that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum NotFetched {
    /// The server cannot be reached, or the answer broke off.
    #[error("the server cannot be reached, or its answer broke off")]
    Unreachable,
    /// It took too long.
    #[error("it took more than 4 s")]
    TooSlow,
    /// The answer has another status than 200.
    #[error("the answer has the status {0}")]
    Status(u16),
    /// The answer is no set, or is beyond a bound.
    #[error("{0}")]
    NoSet(#[from] NoSet),
    /// No key of it can be used.
    #[error("no key of the set can be used")]
    Empty,
}

impl NotFetched {
    /// The outcome as metrics name it.
    const fn outcome(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TooSlow => "too_slow",
            Self::Status(_) => "status",
            Self::NoSet(NoSet::TooLong | NoSet::TooMany) => "too_large",
            Self::NoSet(NoSet::Malformed) => "malformed",
            Self::Empty => "empty",
        }
    }
}

/// The way to a server of keys.
#[derive(Debug)]
pub struct KeyServer {
    client: Client,
    url: Url,
}

impl KeyServer {
    /// The way to the server at this address. Nothing is fetched yet.
    ///
    /// # Errors
    /// The client cannot be made: the machine has no certificates to trust.
    pub fn new(url: Url) -> Result<Self, reqwest::Error> {
        let client = Client::builder().redirect(Policy::none()).timeout(FETCH_TIME_MAX).referer(false).build()?;
        Ok(Self { client, url })
    }

    /// Keeps the keys of the server in the ring, until it is dropped. The first fetch begins at once.
    pub async fn keep(self, ring: KeyRing, limits: ServerLimits, metrics: Arc<Metrics>) {
        let (mut due, mut failures, mut told) = (Instant::now(), 0, Vec::new());
        loop {
            let end = ring.kept_until();
            tokio::select! {
                () = ring.fetch_due(due) => {}
                () = over(end) => {
                    if ring.drop_old() {
                        metrics.token_keys.of("server").set(0);
                        warn!("the keys of the server are too old and count no more: tokens that are signed with them are told to come back");
                    }
                    continue;
                }
            }
            ring.begin();
            let begun = Instant::now();
            due = begun
                + match self.fetch().await {
                    Ok((set, fresh)) => {
                        count(&metrics, &set);
                        tell(&set, failures > 0 || ring.kept_until().is_none(), &mut told);
                        ring.fetched(set.keys);
                        failures = 0;
                        refreshed_after(fresh, limits)
                    }
                    Err(why) => {
                        metrics.token_key_fetches.of(why.outcome()).inc();
                        ring.not_fetched();
                        if failures == 0 {
                            warn!(%why, state = ?ring.server_keys(), "the keys of the server could not be fetched; once more, after growing pauses");
                        }
                        failures += 1;
                        backoff(limits.pause, failures)
                    }
                };
        }
    }

    /// Fetches the set, and the time for which it is fresh.
    async fn fetch(&self) -> Result<(ReadSet, Duration), NotFetched> {
        let failed = |error: reqwest::Error| if error.is_timeout() { NotFetched::TooSlow } else { NotFetched::Unreachable };
        let request = self.client.get(self.url.clone()).header(ACCEPT, "application/jwk-set+json, application/json");
        let mut answer = request.send().await.map_err(failed)?;
        if answer.status().as_u16() != 200 {
            return Err(NotFetched::Status(answer.status().as_u16()));
        }
        let fresh = fresh_for(answer.headers());
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(failed)? {
            if body.len() + part.len() > SET_BYTES_MAX {
                return Err(NoSet::TooLong.into());
            }
            body.extend_from_slice(&part);
        }
        let text = String::from_utf8(body).map_err(|_| NoSet::Malformed)?;
        let set = ReadSet::parse(&text, Origin::Server)?;
        if set.keys.is_empty() { Err(NotFetched::Empty) } else { Ok((set, fresh)) }
    }
}

fn count(metrics: &Metrics, set: &ReadSet) {
    metrics.token_key_fetches.of("done").inc();
    metrics.token_keys.of("server").set(i64::try_from(set.keys.len()).unwrap_or(i64::MAX));
    metrics.token_keys_age.of("server").set(Duration::ZERO);
}

/// Logs what a fetch has brought: the set where it is the first one, or the first after failures, and keys that are not used once for each set.
fn tell(set: &ReadSet, is_first: bool, told: &mut Vec<(usize, Refused)>) {
    if is_first {
        info!(keys = set.keys.len(), refused = set.refused.len(), "the keys of the server were fetched");
    }
    if *told != set.refused {
        for (place, why) in &set.refused {
            warn!(place, %why, "a key of the server is not used");
        }
        told.clone_from(&set.refused);
    }
}

/// Waits for an instant; for ever without one.
async fn over(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The time until keys that were fetched are fetched again: well before they count no more, so that no failure alone ends them.
fn refreshed_after(fresh: Duration, limits: ServerLimits) -> Duration {
    fresh.min(limits.keep / 2).max(limits.pause)
}

/// The time until the next try after so many failures.
fn backoff(pause: Duration, failures: u32) -> Duration {
    pause.saturating_mul(1 << (failures - 1).min(10)).min(BACKOFF_MAX).max(pause)
}

/// The time for which an answer is fresh (RFC 9111 section 5.2.2), within bounds.
fn fresh_for(headers: &HeaderMap) -> Duration {
    let mut fresh = FRESH_DEFAULT;
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    for directive in lines.flat_map(|line| line.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return FRESH_MIN,
            "max-age" => fresh = value.trim().trim_matches('"').parse().map_or(FRESH_DEFAULT, Duration::from_secs),
            _ => {}
        }
    }
    fresh.clamp(FRESH_MIN, FRESH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(lines: &[&'static str]) -> u64 {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|line| _ = headers.append(CACHE_CONTROL, line.parse().unwrap()));
        fresh_for(&headers).as_secs()
    }

    #[test]
    fn the_server_says_how_long_keys_are_fresh_within_bounds() {
        assert_eq!(fresh(&["public, max-age=300"]), 300);
        assert_eq!(fresh(&["public", "Max-Age = \"300\""]), 300);
        assert_eq!(fresh(&[]), 600);
        for hurried in ["max-age=0", "max-age=1", "no-store", "max-age=3000, no-cache"] {
            assert_eq!(fresh(&[hurried]), 60, "{hurried}");
        }
        for absurd in ["max-age=-1", "max-age=soon", "max-age", "max-age=99999999999999999999999"] {
            assert_eq!(fresh(&[absurd]), 600, "{absurd}");
        }
        assert_eq!(fresh(&["max-age=31536000"]), 3_600);
    }

    #[test]
    fn keys_are_fetched_again_before_they_count_no_more() {
        let after = |fresh: u64, pause: u64, keep: u64| {
            let limits = ServerLimits { pause: Duration::from_secs(pause), keep: Duration::from_secs(keep) };
            refreshed_after(Duration::from_secs(fresh), limits).as_secs()
        };
        assert_eq!((after(600, 10, 86_400), after(600, 10, 60), after(60, 300, 86_400)), (600, 30, 300));
    }

    #[test]
    fn pauses_after_failures_grow_to_five_minutes() {
        let pauses: Vec<u64> = (1..9).map(|failures| backoff(Duration::from_secs(10), failures).as_secs()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(backoff(Duration::from_secs(10), u32::MAX), BACKOFF_MAX);
        assert_eq!(backoff(Duration::from_secs(900), 1).as_secs(), 900, "never sooner than fetches may begin");
    }
}
