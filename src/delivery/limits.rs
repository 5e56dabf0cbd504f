//! The limits of what a user may do in a time, kept over all nodes: messages, events, new direct chats and groups, users that it makes by naming
//! them, and points for what it asks and reads; and what an address may ask before it is known who is there, and ask about accounts. Each node counts in memory
//! ([`meter`]) and asks no database.
//!
//! A node tells the others in batches what a user has spent at it ([`exchange`]), and they add it to what the user has spent there. A telling is a
//! hint, as everything between nodes: one that is lost costs a user nothing, and the service what the user spends twice. An operator may raise the
//! limits of a user ([`raised`]).

mod accounts;
mod budget;
mod exchange;
mod meter;
mod raised;
#[cfg(test)]
mod tests;

pub use accounts::AccountRates;
pub use budget::Budget;

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Refusal;
use crate::domain::{AddressBlock, ExternalId, LimitKind, LimitSubject, Spent, UserId, limits};
use crate::notifier::Notifier;
use crate::protocol::{Code, Fault};
use crate::store::Store;
use crate::telemetry::Metrics;
use accounts::AccountMeters;
use meter::{Conditions, Meter, Rate, Told};
use raised::RaisedLimits;

/// `SEND_RATE` is messages in this time, `EVENT_RATE` events, `REQUEST_RATE` points.
const RATE_PERIOD: Duration = Duration::from_secs(10);
/// Direct chats, groups and named users are counted in this time.
const HOUR: Duration = Duration::from_secs(3_600);
/// No user owes more points. So a connection that owes is read again in time.
const POINTS_DEBT_MAX: Duration = Duration::from_secs(10);
/// Users that one request may name.
const NAMED_AT_ONCE: u32 = limits::IDS_MAX as u32;

/// The rates.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateSettings {
    /// Messages in 10 s, with bursts of twice as many; 0: nothing is counted but points.
    pub sends: u32,
    /// Events in 10 s of a publisher without the scope for them, with bursts of twice as many; 0: as many as it likes.
    pub events: u32,
    /// New direct chats in an hour.
    pub direct_chats: u32,
    /// New groups in an hour.
    pub groups: u32,
    /// Users in an hour that are made because they are named; as many as one request may name at least.
    pub named_users: u32,
    /// Points in 10 s for requests, with bursts of half as many; 0: as many as it likes.
    pub requests: u32,
    /// Tokens in 10 s that are not valid, of an address, with bursts of twice as many; 0: as many as come.
    pub failed_tokens: u32,
    /// Connections in 10 s of an address, with bursts of twice as many; 0: as many as come.
    pub handshakes: u32,
    /// Requests about accounts; none: there are no accounts.
    pub accounts: Option<AccountRates>,
}

/// The limits. Clones share them.
#[derive(Debug, Clone)]
pub struct Limits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    meters: Meters,
    raised: RaisedLimits,
    notifier: Notifier,
    metrics: Arc<Metrics>,
    began: Instant,
}

/// A meter for each limit; none: there is no limit.
#[derive(Debug)]
struct Meters {
    sends: Option<Meter<UserId>>,
    events: Option<Meter<UserId>>,
    direct_chats: Option<Meter<UserId>>,
    groups: Option<Meter<UserId>>,
    named_users: Option<Meter<UserId>>,
    requests: Option<Meter<ExternalId>>,
    failed_tokens: Option<Meter<AddressBlock>>,
    handshakes: Option<Meter<AddressBlock>>,
    accounts: Option<AccountMeters>,
}

impl Meters {
    fn new(rates: RateSettings) -> Self {
        let (named_users, counts) = (rates.named_users.max(NAMED_AT_ONCE), rates.sends > 0);
        let in_hour = |count: u32| counts.then(|| Meter::new(per_hour(NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN))));
        Self {
            sends: NonZeroU32::new(rates.sends).map(|count| Meter::new(in_period(count))),
            events: NonZeroU32::new(rates.events).filter(|_| counts).map(|count| Meter::new(in_period(count))),
            direct_chats: in_hour(rates.direct_chats),
            groups: in_hour(rates.groups),
            named_users: in_hour(named_users),
            requests: NonZeroU32::new(rates.requests).map(|count| Meter::new(of_points(count))),
            failed_tokens: NonZeroU32::new(rates.failed_tokens).map(|count| Meter::new(in_period(count))),
            handshakes: NonZeroU32::new(rates.handshakes).map(|count| Meter::new(in_period(count))),
            accounts: rates.accounts.map(AccountMeters::new),
        }
    }

    /// Another node tells of this. What is counted here for subjects of another kind is another version's.
    fn add(&self, spent: &Spent, conditions: Conditions) {
        let (Spent { kind, subject, .. }, told) = (spent, Told { count: spent.count, unpaid: spent.unpaid });
        match (kind, subject) {
            (LimitKind::Messages, LimitSubject::User(user)) => add(self.sends.as_ref(), user, told, conditions),
            (LimitKind::Events, LimitSubject::User(user)) => add(self.events.as_ref(), user, told, conditions),
            (LimitKind::DirectChats, LimitSubject::User(user)) => add(self.direct_chats.as_ref(), user, told, conditions),
            (LimitKind::Groups, LimitSubject::User(user)) => add(self.groups.as_ref(), user, told, conditions),
            (LimitKind::NamedUsers, LimitSubject::User(user)) => add(self.named_users.as_ref(), user, told, conditions),
            (LimitKind::Requests, LimitSubject::Name(user)) => add(self.requests.as_ref(), user, told, conditions),
            (LimitKind::FailedTokens, LimitSubject::Address(address)) => add(self.failed_tokens.as_ref(), address, told, conditions),
            (LimitKind::Handshakes, LimitSubject::Address(address)) => add(self.handshakes.as_ref(), address, told, conditions),
            _ => self.accounts.iter().for_each(|accounts| accounts.add(spent, conditions)),
        }
    }
}

fn add<K: Clone + Eq + Hash>(meter: Option<&Meter<K>>, user: &K, told: Told, conditions: Conditions) {
    if let Some(meter) = meter {
        meter.add(user, told, conditions);
    }
}

impl Limits {
    /// Limits with these rates, told to the other nodes and heard of until `stop` is cancelled.
    pub fn start(
        rates: RateSettings,
        store: &Store,
        notifier: &Notifier,
        metrics: &Arc<Metrics>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let limits = Self::new(rates, notifier, metrics);
        let following = limits.0.raised.clone().follow(store.clone(), notifier.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(following));
        tasks.spawn(stop.clone().run_until_cancelled_owned(exchange::tell(limits.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(exchange::hear(limits.clone())));
        limits
    }

    fn new(rates: RateSettings, notifier: &Notifier, metrics: &Arc<Metrics>) -> Self {
        let (notifier, metrics) = (notifier.clone(), Arc::clone(metrics));
        Self(Arc::new(Shared { meters: Meters::new(rates), raised: RaisedLimits::default(), notifier, metrics, began: Instant::now() }))
    }

    /// Checks that this user may send a message now, and counts the message.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: the user has sent too many messages. It carries the time to wait.
    pub fn check_send(&self, user: UserId) -> Result<(), Refusal> {
        self.check(LimitKind::Messages, user, 1).map_err(Refusal::RateLimited)
    }

    /// The same for a caller that waits.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take_send(&self, user: UserId) -> Result<(), Duration> {
        self.take(LimitKind::Messages, user, 1)
    }

    /// Checks that this user may publish an event now, and counts the event.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: the user has published too many events. It carries the time to wait.
    pub fn check_event(&self, user: UserId) -> Result<(), Refusal> {
        self.check(LimitKind::Events, user, 1).map_err(Refusal::RateLimited)
    }

    /// The time that the rate leaves between two messages of this user; zero without a limit.
    pub fn pace(&self, user: UserId) -> Duration {
        self.0.meters.sends.as_ref().map_or(Duration::ZERO, |sends| sends.rate().price() / self.0.raised.of(user))
    }

    /// Checks that this user may begin a direct chat now, and counts the chat.
    ///
    /// # Errors
    /// [`Refusal::TooManyChats`]: the user has begun too many direct chats. It carries the time to wait.
    pub fn check_direct_chat(&self, user: UserId) -> Result<(), Refusal> {
        self.check(LimitKind::DirectChats, user, 1).map_err(Refusal::TooManyChats)
    }

    /// Checks that this user may make a group now, and counts the group.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: the user has made too many groups. It carries the time to wait.
    pub fn check_group(&self, user: UserId) -> Result<(), Refusal> {
        self.check(LimitKind::Groups, user, 1).map_err(Refusal::RateLimited)
    }

    /// Checks that this user may name so many users who are not known yet, and counts them. They are made afterwards.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: the user has named too many. It carries the time to wait.
    pub fn check_named_users(&self, user: UserId, count: usize) -> Result<(), Refusal> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count == 0 { Ok(()) } else { self.check(LimitKind::NamedUsers, user, count).map_err(Refusal::RateLimited) }
    }

    /// Checks that a client at this address may come now, and counts it.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: too many have come from there. It carries the time to wait.
    pub fn check_handshake(&self, address: AddressBlock) -> Result<(), Refusal> {
        let Some(handshakes) = &self.0.meters.handshakes else { return Ok(()) };
        let taken = handshakes.take(&address, 1, self.conditions(1)).inspect_err(|_| self.refused(LimitKind::Handshakes));
        taken.map_err(Refusal::RateLimited)
    }

    /// Judges a token that comes from this address, and counts it where it is worth nothing: every door asks here. None: the address is not known,
    /// and nothing is counted.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: too many have come from there that were worth nothing, and this one is not looked at. It carries the time to
    /// wait.
    pub async fn judge_token<T>(
        &self,
        address: Option<AddressBlock>,
        judging: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Fault>, Refusal> {
        let Some(address) = address else { return Ok(judging.await) };
        self.check_tokens_of(address)?;
        Ok(judging.await.inspect_err(|fault| self.token_judged(address, fault.code)))
    }

    /// Checks that tokens of this address are looked at now.
    fn check_tokens_of(&self, address: AddressBlock) -> Result<(), Refusal> {
        let Some(failed) = &self.0.meters.failed_tokens else { return Ok(()) };
        let owed = failed.debt(&address, self.conditions(1));
        if owed.is_zero() {
            return Ok(());
        }
        self.refused(LimitKind::FailedTokens);
        Err(Refusal::RateLimited(owed))
    }

    /// Counts a token of this address that was refused with this code, where the code is about the token: also where nobody can say if it is
    /// good, or anybody could have as many keys sought as it makes up.
    fn token_judged(&self, address: AddressBlock, code: Code) {
        let is_of_token = matches!(code, Code::NotAuthenticated | Code::TokenExpired | Code::TokenRevoked | Code::KeysUnavailable);
        if let Some(failed) = self.0.meters.failed_tokens.as_ref().filter(|_| is_of_token) {
            failed.charge(&address, 1, self.conditions(1));
        }
    }

    /// The request budget of this user.
    pub fn budget(&self, user: &ExternalId) -> Budget {
        Budget::new(self.clone(), user.clone())
    }

    /// Counts something that was refused, or had to wait, because a limit was used up.
    pub fn refused(&self, kind: LimitKind) {
        self.0.metrics.limited.of(kind.as_str()).inc();
    }

    /// Spends so many, and counts the refusal where they do not fit.
    fn check(&self, kind: LimitKind, user: UserId, count: u32) -> Result<(), Duration> {
        self.take(kind, user, count).inspect_err(|_| self.refused(kind))
    }

    fn take(&self, kind: LimitKind, user: UserId, count: u32) -> Result<(), Duration> {
        let meters = &self.0.meters;
        let meter = match kind {
            LimitKind::Messages => &meters.sends,
            LimitKind::Events => &meters.events,
            LimitKind::DirectChats => &meters.direct_chats,
            LimitKind::Groups => &meters.groups,
            LimitKind::NamedUsers => &meters.named_users,
            // These are not counted by the numbers of users.
            _ => return Ok(()),
        };
        meter.as_ref().map_or(Ok(()), |meter| meter.take(&user, count, self.conditions(self.0.raised.of(user))))
    }

    /// The conditions of a user with this factor.
    fn conditions(&self, factor: u32) -> Conditions {
        Conditions { now: self.0.began.elapsed(), nodes: self.0.notifier.live_nodes(), factor }
    }
}

/// So many in [`RATE_PERIOD`], with bursts of twice as many.
fn in_period(count: NonZeroU32) -> Rate {
    Rate::new(count, RATE_PERIOD, count.saturating_mul(NonZeroU32::MIN.saturating_add(1)))
}

fn per_hour(count: NonZeroU32) -> Rate {
    Rate::new(count, HOUR, count)
}

/// So many points in [`RATE_PERIOD`], with bursts of half as many.
fn of_points(count: NonZeroU32) -> Rate {
    let burst = NonZeroU32::new(count.get() / 2).unwrap_or(NonZeroU32::MIN);
    Rate::new(count, RATE_PERIOD, burst).with_debt_max(POINTS_DEBT_MAX)
}
