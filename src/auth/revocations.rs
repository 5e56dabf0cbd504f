//! The revocations that count, as a node keeps them in memory: verifying a token asks no database. They are put in when the node starts, when it
//! hears of one, and every few seconds should it have heard nothing; and they go when the tokens have expired. Logins that clients have ended are
//! counted apart from what operators revoke, so that neither takes the other's room.
//!
//! It does not know where they are kept, and closes nothing: whoever holds a token asks again when something has been put in. A process that
//! was stopped for a while, or whose reads do not succeed, knows less than it should: it says so, and whoever asks may wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain::{DeviceId, ExternalId, HeldToken, Revocation, Revoked};

/// Revocations of operators that count at once, at most. An operator that wants more gives them times at which they end.
pub const REVOCATIONS_MAX: usize = 100_000;

/// A node whose reader was not at work for so long may not know of a revocation. Nodes read every 5 s, and an erasure looks again after 10 s.
const KNOWN_FOR: Duration = Duration::from_secs(8);

/// The revocations. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    kept: Arc<RwLock<Kept>>,
    last_read: Arc<LastRead>,
}

/// The last read that has succeeded.
#[derive(Debug)]
struct LastRead {
    /// The time that others are counted from.
    began: Instant,
    /// Until then it is new enough.
    known_until_ms: AtomicU64,
    succeeded: Notify,
    /// Somebody waits for the next one.
    wanted: Notify,
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Default for LastRead {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            known_until_ms: AtomicU64::new(milliseconds(KNOWN_FOR)),
            succeeded: Notify::new(),
            wanted: Notify::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Kept {
    users: HashMap<ExternalId, OfUser>,
    tokens: HashMap<String, OffsetDateTime>,
    /// Clients make these, so each takes little: some 50 bytes.
    logins: HashMap<Uuid, OffsetDateTime>,
    devices: usize,
}

/// The revocations of one user.
#[derive(Debug, Default)]
struct OfUser {
    whole: Option<Times>,
    devices: HashMap<DeviceId, Times>,
}

/// The time of a revocation, and its end.
#[derive(Debug, Clone, Copy)]
struct Times {
    at: OffsetDateTime,
    expires_at: OffsetDateTime,
}

impl Times {
    fn of(revocation: &Revocation) -> Self {
        Self { at: revocation.at, expires_at: revocation.expires_at }
    }

    /// Both in one: the later time, and the later end.
    fn and(self, other: Option<Self>) -> Self {
        let other = other.unwrap_or(self);
        Self { at: self.at.max(other.at), expires_at: self.expires_at.max(other.expires_at) }
    }
}

/// Puts one in, or prolongs it. Returns whether it is new.
fn prolong<K: Eq + Hash>(kept: &mut HashMap<K, OffsetDateTime>, id: K, expires_at: OffsetDateTime) -> bool {
    let before = kept.len();
    kept.entry(id).and_modify(|end| *end = expires_at.max(*end)).or_insert(expires_at);
    kept.len() > before
}

impl Revocations {
    /// A read that began at this time has brought everything.
    pub fn read_at(&self, asked: Instant) {
        let until = asked.saturating_duration_since(self.last_read.began) + KNOWN_FOR;
        self.last_read.known_until_ms.store(milliseconds(until), Ordering::Release);
        self.last_read.succeeded.notify_waiters();
    }

    /// The reader is at work, so nothing was stopped: where it was new enough until now, it is so for some seconds more, also if a read fails.
    pub fn go_on(&self) {
        if self.are_known() {
            self.last_read.known_until_ms.store(milliseconds(self.last_read.began.elapsed() + KNOWN_FOR), Ordering::Release);
        }
    }

    /// Everything known counts as old until the next read has succeeded: this node may have missed something.
    pub fn outdate(&self) {
        self.last_read.known_until_ms.store(0, Ordering::Release);
    }

    /// Returns whether what is known is of the last seconds.
    pub fn are_known(&self) -> bool {
        milliseconds(self.last_read.began.elapsed()) < self.last_read.known_until_ms.load(Ordering::Acquire)
    }

    /// Waits until somebody waits for a read.
    pub async fn wanted(&self) {
        self.last_read.wanted.notified().await;
    }

    /// Waits until what is known is of the last seconds.
    pub async fn known(&self) {
        loop {
            let succeeded = self.last_read.succeeded.notified();
            if self.are_known() {
                return;
            }
            self.last_read.wanted.notify_one();
            succeeded.await;
        }
    }

    /// Puts a revocation in. Harmless for one that is in already. Returns whether something has changed.
    pub fn put(&self, revocation: &Revocation) -> bool {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let times = Times::of(revocation);
        match &revocation.revoked {
            Revoked::Token(id) => prolong(&mut kept.tokens, id.clone(), times.expires_at),
            Revoked::Login(id) => prolong(&mut kept.logins, *id, times.expires_at),
            Revoked::User(user) => {
                let of_user = kept.users.entry(user.clone()).or_default();
                let before = of_user.whole.replace(times.and(of_user.whole));
                before.is_none_or(|before| before.at < times.at)
            }
            Revoked::Device(user, device) => {
                let of_user = kept.users.entry(user.clone()).or_default();
                let before = of_user.devices.get(device).copied();
                of_user.devices.insert(device.clone(), times.and(before));
                kept.devices += usize::from(before.is_none());
                before.is_none_or(|before| before.at < times.at)
            }
        }
    }

    /// Returns whether this token is worth nothing: in the hands of this device, if there is one.
    pub fn concern(&self, token: &HeldToken, device: Option<&DeviceId>) -> bool {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let has_ended = |login: &String| Uuid::try_parse(login).is_ok_and(|login| kept.logins.contains_key(&login));
        if token.id.iter().chain(&token.login_id).any(|id| kept.tokens.contains_key(id)) || token.login_id.as_ref().is_some_and(has_ended) {
            return true;
        }
        let Some(of_user) = kept.users.get(&token.external) else { return false };
        let of_device = device.and_then(|device| of_user.devices.get(device));
        of_user.whole.iter().chain(of_device).any(|times| token.is_older_than(times.at))
    }

    /// Drops those whose tokens have expired.
    pub fn forget_expired(&self, now: OffsetDateTime) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.tokens.retain(|_, expires_at| *expires_at > now);
        kept.logins.retain(|_, expires_at| *expires_at > now);
        kept.users.retain(|_, of_user| {
            of_user.whole = of_user.whole.filter(|times| times.expires_at > now);
            of_user.devices.retain(|_, times| times.expires_at > now);
            of_user.whole.is_some() || !of_user.devices.is_empty()
        });
        kept.devices = kept.users.values().map(|of_user| of_user.devices.len()).sum();
    }

    /// The time of the last revocation of all tokens of this user.
    pub fn of_user(&self, user: &ExternalId) -> Option<OffsetDateTime> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.users.get(user)?.whole.map(|times| times.at)
    }

    /// The revocations of operators that are kept. A user without a revocation of its own but with devices counts as one more.
    pub fn by_operators(&self) -> usize {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.tokens.len() + kept.users.len() + kept.devices
    }

    /// The logins that have ended and whose tokens may not have expired.
    pub fn ended_logins(&self) -> usize {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).logins.len()
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-01 12:00 UTC);

    fn user(name: &str) -> ExternalId {
        ExternalId::try_from(name.to_owned()).unwrap()
    }

    fn phone() -> DeviceId {
        DeviceId::try_from("phone".to_owned()).unwrap()
    }

    fn revoked(revoked: Revoked, at: OffsetDateTime) -> Revocation {
        Revocation { number: 1, revoked, at, expires_at: at + Duration::HOUR, reason: None, by: "op".to_owned() }
    }

    fn token(name: &str, id: Option<&str>, issued: Option<i64>) -> HeldToken {
        let issued_from = issued.map(|seconds| NOW + Duration::seconds(seconds));
        HeldToken { external: user(name), id: id.map(str::to_owned), login_id: None, issued_from }
    }

    #[test]
    fn a_user_is_revoked_for_tokens_that_are_older() {
        let revocations = Revocations::default();
        assert!(revocations.put(&revoked(Revoked::User(user("anna")), NOW + Duration::milliseconds(500))));
        for (held, expected) in [
            (token("anna", None, Some(-1)), true),
            (token("anna", None, Some(0)), true),
            (token("anna", None, Some(1)), false),
            (token("anna", Some("x"), None), true),
            (token("ben", None, Some(-1)), false),
        ] {
            assert_eq!(revocations.concern(&held, None), expected, "{held:?}");
        }
    }

    #[test]
    fn a_device_is_revoked_for_what_it_holds_itself() {
        let revocations = Revocations::default();
        revocations.put(&revoked(Revoked::Device(user("anna"), phone()), NOW));
        let tablet = DeviceId::try_from("tablet".to_owned()).unwrap();
        let old = token("anna", None, Some(-1));
        assert!(revocations.concern(&old, Some(&phone())));
        assert!(!revocations.concern(&old, Some(&tablet)) && !revocations.concern(&old, None));
        assert!(!revocations.concern(&token("anna", None, Some(0)), Some(&phone())), "the device has logged in again");
        assert!(!revocations.concern(&token("ben", None, Some(-1)), Some(&phone())));
    }

    #[test]
    fn a_token_is_revoked_by_its_id_whenever_it_was_issued() {
        let revocations = Revocations::default();
        revocations.put(&revoked(Revoked::Token("id-1".to_owned()), NOW));
        assert!(revocations.concern(&token("anna", Some("id-1"), Some(3_600)), None));
        assert!(
            !revocations.concern(&token("anna", Some("id-2"), Some(-9)), None) && !revocations.concern(&token("anna", None, None), None)
        );
    }

    #[test]
    fn the_tokens_of_a_login_are_revoked_by_the_id_of_the_login() {
        let revocations = Revocations::default();
        revocations.put(&revoked(Revoked::Token("login-1".to_owned()), NOW));
        let of = |login: &str| HeldToken { login_id: Some(login.to_owned()), ..token("anna", Some("id-1"), Some(3_600)) };
        assert!(revocations.concern(&of("login-1"), None) && !revocations.concern(&of("login-2"), None));
        let (ended, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        revocations.put(&revoked(Revoked::Login(ended), NOW));
        assert!(revocations.concern(&of(&ended.to_string()), None) && !revocations.concern(&of(&other.to_string()), None));
    }

    /// Broken by one count for both: clients would take the room of operators.
    #[test]
    fn logins_that_have_ended_are_counted_apart() {
        let revocations = Revocations::default();
        for number in 0..3 {
            assert!(revocations.put(&revoked(Revoked::Login(Uuid::from_u128(number)), NOW)));
        }
        revocations.put(&revoked(Revoked::Token(Uuid::from_u128(0).to_string()), NOW));
        assert_eq!((revocations.by_operators(), revocations.ended_logins()), (1, 3));
        revocations.forget_expired(NOW + Duration::HOUR);
        assert_eq!((revocations.by_operators(), revocations.ended_logins()), (0, 0));
    }

    #[test]
    fn what_comes_twice_counts_once_and_the_later_time_stays() {
        let revocations = Revocations::default();
        let (early, late) = (revoked(Revoked::User(user("anna")), NOW), revoked(Revoked::User(user("anna")), NOW + Duration::MINUTE));
        assert_eq!([&late, &early, &late].map(|revocation| revocations.put(revocation)), [true, false, false]);
        assert!(revocations.concern(&token("anna", None, Some(30)), None));
        let of_device = revoked(Revoked::Device(user("anna"), phone()), NOW);
        assert_eq!([&of_device, &of_device].map(|revocation| revocations.put(revocation)), [true, false]);
        let of_token = revoked(Revoked::Token("id".to_owned()), NOW);
        assert_eq!([&of_token, &of_token].map(|revocation| revocations.put(revocation)), [true, false]);
        assert_eq!(revocations.by_operators(), 3);
    }

    #[test]
    fn what_has_expired_is_forgotten() {
        let revocations = Revocations::default();
        for (subject, at) in [
            (Revoked::User(user("anna")), NOW),
            (Revoked::Device(user("anna"), phone()), NOW + Duration::MINUTE),
            (Revoked::Device(user("ben"), phone()), NOW),
            (Revoked::Token("id".to_owned()), NOW),
        ] {
            revocations.put(&revoked(subject, at));
        }
        // Prolonged: by whichever of two is the later end, whichever comes first.
        let late = Revocation { expires_at: NOW + Duration::HOUR * 2, ..revoked(Revoked::Token("prolonged".to_owned()), NOW) };
        for one in [&revoked(late.revoked.clone(), NOW), &late, &revoked(late.revoked.clone(), NOW)] {
            revocations.put(one);
        }
        revocations.forget_expired(NOW + Duration::HOUR);
        assert!(revocations.concern(&token("anna", Some("prolonged"), Some(0)), None));
        assert!(revocations.concern(&token("anna", None, Some(0)), Some(&phone())), "that of the device is younger");
        assert!(!revocations.concern(&token("anna", Some("id"), Some(-1)), None));
        revocations.forget_expired(NOW + Duration::HOUR * 2);
        assert_eq!((revocations.by_operators(), revocations.of_user(&user("anna"))), (0, None));
    }
}
