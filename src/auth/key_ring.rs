//! The keys of a node, from every place that they come from: secrets of the settings, a file, a server. The verifier takes the set as it
//! is now; the tasks that read the file and ask the server put new keys in.
//!
//! A token whose key is not known may be signed with one that is new. Then it asks for a fetch, and waits for its end. Fetches never begin
//! within [`ServerLimits::pause`] of one another, however many tokens ask. Between two, a key that the last one has not brought is nowhere. Where
//! that one has failed nobody can say, and the token is refused in a way that lets the client keep it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::key::Key;
use super::key_set::KeySet;

/// Time that a token waits for a fetch.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// A client that is to come back when keys may be there again comes no sooner.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The limits of a server of keys.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Between the beginnings of two fetches, at least.
    pub pause: Duration,
    /// Time for which keys count without a fetch that succeeds.
    pub keep: Duration,
}

/// The state of the keys of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKeys {
    /// The last fetch has brought them.
    Fresh,
    /// The last fetch has failed, and those of an earlier one count still.
    Kept,
    /// There are none: no fetch has succeeded for too long.
    Missing,
}

/// The outcome for a token whose key is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// Keys were fetched: it may be among them.
    Fetched,
    /// No key can be found for it.
    Nowhere,
    /// It is not known yet. To be tried again after this time.
    NotYet(Duration),
}

/// The keys of a node. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    current: RwLock<Arc<KeySet>>,
    parts: Mutex<Parts>,
    /// Rung when a fetch is asked for.
    asked: Notify,
}

/// The keys by their places.
#[derive(Debug, Default)]
struct Parts {
    secrets: Vec<Arc<Key>>,
    file: Vec<Arc<Key>>,
    server: Option<Server>,
}

/// A server of keys, as the last fetches have left it.
#[derive(Debug)]
struct Server {
    limits: ServerLimits,
    keys: Vec<Arc<Key>>,
    /// The end of the last fetch that succeeded, as long as its keys count.
    good_at: Option<Instant>,
    last_failed: bool,
    is_wanted: bool,
    is_fetching: bool,
    begun_at: Option<Instant>,
    /// Counts the fetches that have ended.
    ended: watch::Sender<u64>,
}

impl KeyRing {
    /// A ring of the keys of secrets and, with limits, of a server that was not asked yet.
    pub fn new(secrets: Vec<Key>, server: Option<ServerLimits>) -> Self {
        let ring = Self::default();
        let server = server.map(Server::new);
        ring.change(|parts| (parts.secrets, parts.server) = (secrets.into_iter().map(Arc::new).collect(), server));
        ring
    }

    /// The keys as they are now.
    pub fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// These are the keys of the file.
    pub fn put_file(&self, keys: Vec<Arc<Key>>) {
        self.change(|parts| parts.file = keys);
    }

    /// Returns whether keys may come from a server.
    pub fn has_server(&self) -> bool {
        self.parts().server.is_some()
    }

    /// The state of the keys of the server; none without one.
    pub fn server_keys(&self) -> Option<ServerKeys> {
        self.parts().server.as_ref().map(|server| match server.good_at {
            Some(_) if server.last_failed => ServerKeys::Kept,
            Some(_) => ServerKeys::Fresh,
            None => ServerKeys::Missing,
        })
    }

    /// Looks for the key of a token that no key that is known has verified. Waits for a fetch, at most 5 s, where one may begin now or is
    /// under way.
    pub async fn seek(&self) -> Sought {
        let mut ended = {
            let mut parts = self.parts();
            let Some(server) = &mut parts.server else { return Sought::Nowhere };
            if let Some(outcome) = server.want(Instant::now()) {
                return outcome;
            }
            self.shared.asked.notify_one();
            server.ended.subscribe()
        };
        let is_over = matches!(timeout(WAIT_MAX, ended.changed()).await, Ok(Ok(())));
        let parts = self.parts();
        match &parts.server {
            Some(server) if is_over && !server.last_failed => Sought::Fetched,
            Some(server) => Sought::NotYet(server.retry_after(Instant::now())),
            None => Sought::Nowhere,
        }
    }

    /// Waits until a token asks for a fetch, or until `due`, and then until a fetch may begin. One task calls this, then [`Self::begin`].
    /// May be dropped and called again.
    pub async fn fetch_due(&self, due: Instant) {
        loop {
            let (is_wanted, allowed_at) = {
                let parts = self.parts();
                let Some(server) = &parts.server else { return };
                (server.is_wanted, server.allowed_at())
            };
            if is_wanted || due <= Instant::now() {
                return tokio::time::sleep_until(allowed_at.unwrap_or_else(Instant::now)).await;
            }
            let _ = tokio::time::timeout_at(due, self.shared.asked.notified()).await;
        }
    }

    /// A fetch begins.
    pub fn begin(&self) {
        self.change(|parts| {
            let Some(server) = &mut parts.server else { return };
            (server.is_wanted, server.is_fetching, server.begun_at) = (false, true, Some(Instant::now()));
        });
    }

    /// The fetch has brought these keys.
    pub fn fetched(&self, keys: Vec<Arc<Key>>) {
        self.change(|parts| {
            let Some(server) = &mut parts.server else { return };
            (server.keys, server.good_at, server.last_failed) = (keys, Some(Instant::now()), false);
            server.end();
        });
    }

    /// The fetch has failed. Earlier keys count on for their time.
    pub fn not_fetched(&self) {
        self.change(|parts| {
            let Some(server) = &mut parts.server else { return };
            server.last_failed = true;
            server.end();
        });
    }

    /// The instant at which the keys of the server count no more, unless others are fetched. None: there are none.
    pub fn kept_until(&self) -> Option<Instant> {
        let parts = self.parts();
        parts.server.as_ref().and_then(|server| Some(server.good_at? + server.limits.keep))
    }

    /// Drops the keys of the server if their time is over. Returns whether it has.
    pub fn drop_old(&self) -> bool {
        let is_over = self.kept_until().is_some_and(|end| end <= Instant::now());
        if is_over {
            self.change(|parts| {
                let Some(server) = &mut parts.server else { return };
                (server.keys, server.good_at) = (Vec::new(), None);
            });
        }
        is_over
    }

    /// Changes the parts, and then the set. Both under one lock, so that the later change is the later set.
    fn change(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts();
        change(&mut parts);
        let of_server = parts.server.iter().flat_map(|server| &server.keys);
        let keys = parts.secrets.iter().chain(&parts.file).chain(of_server).cloned().collect();
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(KeySet::new(keys));
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // Code under the lock cannot panic half-way: a panicking thread leaves the value whole.
        self.shared.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    fn new(limits: ServerLimits) -> Self {
        Self {
            limits,
            keys: Vec::new(),
            good_at: None,
            last_failed: false,
            is_wanted: false,
            is_fetching: false,
            begun_at: None,
            ended: watch::Sender::new(0),
        }
    }

    /// A token wants a key. None: a fetch is under way, or begins now.
    fn want(&mut self, now: Instant) -> Option<Sought> {
        if self.is_fetching || self.allowed_at().is_none_or(|at| at <= now) {
            self.is_wanted = !self.is_fetching;
            return None;
        }
        let has_answered = self.good_at.is_some() && !self.last_failed;
        Some(if has_answered { Sought::Nowhere } else { Sought::NotYet(self.retry_after(now)) })
    }

    /// The instant from which on a fetch may begin; none: at any time.
    fn allowed_at(&self) -> Option<Instant> {
        self.begun_at.map(|at| at + self.limits.pause)
    }

    fn retry_after(&self, now: Instant) -> Duration {
        self.allowed_at().map_or(RETRY_MIN, |at| at.saturating_duration_since(now)).max(RETRY_MIN)
    }

    fn end(&mut self) {
        self.is_fetching = false;
        self.ended.send_modify(|fetches| *fetches += 1);
    }
}

#[cfg(test)]
mod tests;
