//! A meter: what each user has left of an allowance that time fills again (the generic cell rate algorithm, ITU-T I.371), at one node of
//! several. Pure: the time, the number of nodes and the factor of the user come with each call.
//!
//! A user has two accounts here. One has everything: what is spent at this node, and what other nodes tell. The other has what is spent at
//! this node alone, at the price that a user would pay who has one part of the rate at each node. Either of them may pay. So whatever other
//! nodes tell, or somebody forges, a user keeps its part of the rate at each node; and where nothing is told, it has the whole rate.
//!
//! A node tells the others what is spent at it, once that is more than a small part. Of a user of whom no other node tells, it is told seldom: one
//! telling is enough for the others to answer, should they know of it too.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// All that came together in this time is told together.
pub(super) const TELL_EVERY: Duration = Duration::from_millis(250);
/// Users of one meter that are remembered. Beyond it those go first who owe least.
const USERS_MAX: usize = 100_000;
/// Users that are remembered at least before those who have paid for everything are forgotten.
const USERS_MIN: usize = 1_024;
/// Of a user that is not near its limit at all nodes together, one part in so many of the rate, and of a burst, stays untold.
const UNTOLD_PARTS: u64 = 8;
/// A user of whom another node has told in this time is known to use several.
const SHARED_FOR: Duration = Duration::from_secs(10);
/// In so long nodes that share a user come to know all that it owes.
const JOINING_FOR: Duration = Duration::from_secs(2);
/// A user that uses no other node is told of once in this time.
const QUIET_FOR: Duration = Duration::from_secs(30);
/// The time that a caller is told to wait who asks for more than ever fits.
const NEVER: Duration = Duration::from_secs(3_600);

/// So many in a time, and so many at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// The time that pays for one, in nanoseconds.
    price: u64,
    burst: u32,
    /// None: as many bursts as there are nodes.
    debt_max: Option<Duration>,
}

impl Rate {
    /// `count` in `period`, and `burst` at once.
    pub(super) fn new(count: NonZeroU32, period: Duration, burst: NonZeroU32) -> Self {
        Self { price: nanoseconds(period / count.get()).max(1), burst: burst.get(), debt_max: None }
    }

    /// The same, and nobody owes for longer.
    pub(super) const fn with_debt_max(self, debt_max: Duration) -> Self {
        Self { debt_max: Some(debt_max), ..self }
    }

    /// The time that pays for one.
    pub(super) const fn price(&self) -> Duration {
        Duration::from_nanos(self.price)
    }

    fn terms(&self, conditions: Conditions) -> Terms {
        let (nodes, factor) = (u64::from(conditions.nodes.max(1)), u64::from(conditions.factor.max(1)));
        let (price, burst) = ((self.price / factor).max(1), u64::from(self.burst) * factor);
        let allowance = price.saturating_mul(burst);
        let debt_max = self.debt_max.map_or_else(|| allowance.saturating_mul(nodes), nanoseconds);
        Terms { now: nanoseconds(conditions.now), nodes, price, burst, allowance, debt_max }
    }
}

/// The conditions of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    /// The time since some beginning. It never goes back.
    pub(super) now: Duration,
    /// Nodes that live, this one too.
    pub(super) nodes: u32,
    /// The rate of the user is so many times that of others.
    pub(super) factor: u32,
}

/// The rate of one user now. Times are in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Terms {
    now: u64,
    nodes: u64,
    price: u64,
    burst: u64,
    /// The time that pays for a burst.
    allowance: u64,
    debt_max: u64,
}

impl Terms {
    const fn cost(&self, count: u32) -> u64 {
        self.price.saturating_mul(count as u64)
    }

    /// The price at a node of a user that has one part of the rate at each.
    const fn cost_of_part(&self, count: u32) -> u64 {
        self.cost(count).saturating_mul(self.nodes)
    }

    /// An account after it was charged.
    fn charged(&self, paid_at: u64, cost: u64) -> u64 {
        let latest = self.now.saturating_add(self.allowance).saturating_add(self.debt_max);
        paid_at.max(self.now).saturating_add(cost).min(latest)
    }

    fn has_been(&self, at: Option<u64>, time: Duration) -> bool {
        at.is_none_or(|at| self.now.saturating_sub(at) >= nanoseconds(time))
    }
}

/// The accounts of one user.
#[derive(Debug, Default, Clone, Copy)]
struct Accounts {
    /// When everything is paid that was spent here, or that others have told of.
    paid_at: u64,
    /// When everything is paid that was spent here, for one part of the rate.
    part_paid_at: u64,
    /// Spent here, and not told. The part of it that nobody needs to know goes with time.
    untold: u64,
    untold_since: u64,
    told_at: Option<u64>,
    heard_at: Option<u64>,
    /// Since then other nodes have told of the user again and again.
    shared_since: u64,
}

impl Accounts {
    /// The time until so many fit.
    fn wait(&self, count: u32, terms: &Terms) -> u64 {
        let after = self.paid_at.max(terms.now).saturating_add(terms.cost(count));
        let until_it_fits = after.saturating_sub(terms.now.saturating_add(terms.allowance));
        until_it_fits.min(self.until_part_is_paid(terms))
    }

    /// The time that is owed beyond the allowance.
    fn debt(&self, terms: &Terms) -> u64 {
        let owed = self.paid_at.saturating_sub(terms.now.saturating_add(terms.allowance));
        owed.min(self.until_part_is_paid(terms))
    }

    /// The part of the rate has no bursts: each node would give one.
    const fn until_part_is_paid(&self, terms: &Terms) -> u64 {
        self.part_paid_at.saturating_sub(terms.now)
    }

    fn spend(&mut self, count: u32, terms: &Terms) {
        self.paid_at = terms.charged(self.paid_at, terms.cost(count));
        self.part_paid_at = terms.charged(self.part_paid_at, terms.cost_of_part(count));
        self.forget_untold(terms);
        if terms.nodes > 1 {
            self.untold = self.untold.saturating_add(count.into());
        }
    }

    const fn give_back(&mut self, count: u32, terms: &Terms) {
        self.paid_at = self.paid_at.saturating_sub(terms.cost(count));
        self.part_paid_at = self.part_paid_at.saturating_sub(terms.cost_of_part(count));
        self.untold = self.untold.saturating_sub(count as u64);
    }

    /// Another node tells. For a while the tellings also bring what was spent before this node could hear of it, and what the two have spent before
    /// either had heard. Later ones do not: what nodes know of one another would come back older each time, and never be paid.
    fn add(&mut self, told: Told, terms: &Terms) {
        if terms.has_been(self.heard_at, SHARED_FOR) {
            self.shared_since = terms.now;
        }
        self.paid_at = terms.charged(self.paid_at, terms.cost(told.count));
        if !terms.has_been(Some(self.shared_since), JOINING_FOR) {
            self.paid_at = self.paid_at.max(terms.charged(0, terms.cost(told.unpaid)));
        }
        if self.heard_at.is_none() {
            // Its part has to be earned here: else each node that a user comes to would give one more.
            self.part_paid_at = terms.charged(self.part_paid_at, terms.cost_of_part(1));
        }
        self.heard_at = Some(terms.now);
    }

    /// Returns whether the user is near its limit, and uses several nodes. Then everything is told of it.
    fn is_contended(&self, terms: &Terms) -> bool {
        let is_shared = !terms.has_been(self.heard_at, SHARED_FOR);
        is_shared && self.paid_at >= terms.now.saturating_add(terms.allowance / UNTOLD_PARTS)
    }

    fn forget_untold(&mut self, terms: &Terms) {
        if self.is_contended(terms) {
            self.untold_since = terms.now;
            return;
        }
        let time_of_one = terms.price.saturating_mul(UNTOLD_PARTS).saturating_mul(terms.nodes);
        let forgotten = terms.now.saturating_sub(self.untold_since) / time_of_one;
        self.untold = self.untold.saturating_sub(forgotten);
        self.untold_since = if self.untold == 0 { terms.now } else { self.untold_since + forgotten * time_of_one };
    }

    fn is_due(&self, terms: &Terms) -> bool {
        let least = if self.is_contended(terms) { 1 } else { (terms.burst / (UNTOLD_PARTS * terms.nodes)).max(1) };
        terms.nodes > 1 && self.untold >= least
    }

    fn tell(&mut self, terms: &Terms) -> Telling {
        self.forget_untold(terms);
        if !self.is_due(terms) {
            return Telling::Nothing;
        }
        if terms.has_been(self.heard_at, SHARED_FOR) && !terms.has_been(self.told_at, QUIET_FOR) {
            return Telling::Later;
        }
        // A part that time has paid meanwhile concerns nobody.
        let unpaid = self.paid_at.saturating_sub(terms.now);
        let concerns = (unpaid + nanoseconds(TELL_EVERY)) / terms.price + 1;
        let count = self.untold.min(concerns);
        (self.untold, self.untold_since, self.told_at) = (0, terms.now, Some(terms.now));
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Telling::Now(Told { count: small(count), unpaid: small(unpaid / terms.price) })
    }

    const fn is_at_rest(&self, now: u64) -> bool {
        self.paid_at <= now && self.part_paid_at <= now
    }
}

/// The next telling of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    Nothing,
    Later,
    Now(Told),
}

/// The words of a node about a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// So many were spent there, since it told of the user last.
    pub(super) count: u32,
    /// So many were spent, as far as it knows, and are not paid by time yet.
    pub(super) unpaid: u32,
}

/// The meter of one limit. Times begin when the node does.
#[derive(Debug)]
pub(super) struct Meter<K> {
    rate: Rate,
    users: Mutex<Users<K>>,
}

#[derive(Debug)]
struct Users<K> {
    accounts: HashMap<K, Accounts>,
    /// Of these something may be to be told.
    due: HashSet<K>,
    /// At so many users those at rest are forgotten.
    sweep_at: usize,
}

impl<K: Clone + Eq + Hash> Meter<K> {
    /// A meter of which nobody has spent anything.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, users: Mutex::new(Users { accounts: HashMap::new(), due: HashSet::new(), sweep_at: USERS_MIN }) }
    }

    /// The rate of a user without a factor.
    pub(super) const fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Spends so many.
    ///
    /// # Errors
    /// Nothing was spent: so many will fit after this time.
    pub(super) fn take(&self, user: &K, count: u32, conditions: Conditions) -> Result<(), Duration> {
        let terms = self.rate.terms(conditions);
        if u64::from(count) > terms.burst {
            return Err(NEVER);
        }
        self.users().with(user, &terms, |accounts| match accounts.wait(count, &terms) {
            0 => {
                accounts.spend(count, &terms);
                Ok(())
            }
            wait => Err(Duration::from_nanos(wait)),
        })
    }

    /// Spends so many, whether or not they fit. Returns the time that is owed afterwards.
    pub(super) fn charge(&self, user: &K, count: u32, conditions: Conditions) -> Duration {
        let terms = self.rate.terms(conditions);
        self.users().with(user, &terms, |accounts| {
            accounts.spend(count, &terms);
            Duration::from_nanos(accounts.debt(&terms))
        })
    }

    /// Takes so many back that were spent here a moment ago. What has been told of them stays told, and is paid by time.
    pub(super) fn give_back(&self, user: &K, count: u32, conditions: Conditions) {
        let terms = self.rate.terms(conditions);
        self.users().with(user, &terms, |accounts| accounts.give_back(count, &terms));
    }

    /// The time that is owed.
    pub(super) fn debt(&self, user: &K, conditions: Conditions) -> Duration {
        let accounts = self.users().accounts.get(user).copied().unwrap_or_default();
        Duration::from_nanos(accounts.debt(&self.rate.terms(conditions)))
    }

    /// Another node tells of a user.
    pub(super) fn add(&self, user: &K, told: Told, conditions: Conditions) {
        let terms = self.rate.terms(conditions);
        self.users().with(user, &terms, |accounts| accounts.add(told, &terms));
    }

    /// Takes what is to be told to the other nodes now, of `users_max` users at most.
    pub(super) fn untold(&self, users_max: usize, conditions: impl Fn(&K) -> Conditions) -> Vec<(K, Told)> {
        let mut users = self.users();
        let Users { accounts, due, .. } = &mut *users;
        let mut told = Vec::new();
        due.retain(|user| {
            let Some(accounts) = accounts.get_mut(user) else { return false };
            if told.len() >= users_max {
                return true;
            }
            match accounts.tell(&self.rate.terms(conditions(user))) {
                Telling::Nothing => false,
                Telling::Later => true,
                Telling::Now(what) => {
                    told.push((user.clone(), what));
                    false
                }
            }
        });
        told
    }

    fn users(&self) -> MutexGuard<'_, Users<K>> {
        // Code under the lock cannot panic half-way: a panicking thread leaves the value whole.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Users<K> {
    /// Changes the accounts of a user.
    fn with<T>(&mut self, user: &K, terms: &Terms, change: impl FnOnce(&mut Accounts) -> T) -> T {
        if let Some(accounts) = self.accounts.get_mut(user) {
            let done = change(accounts);
            if accounts.is_due(terms) && !self.due.contains(user) {
                self.due.insert(user.clone());
            }
            return done;
        }
        self.make_room(terms.now);
        let mut accounts = Accounts { untold_since: terms.now, ..Accounts::default() };
        let done = change(&mut accounts);
        if accounts.is_due(terms) {
            self.due.insert(user.clone());
        }
        self.accounts.insert(user.clone(), accounts);
        done
    }

    fn make_room(&mut self, now: u64) {
        if self.accounts.len() < self.sweep_at {
            return;
        }
        self.accounts.retain(|_, accounts| !accounts.is_at_rest(now));
        let left_max = USERS_MAX - USERS_MAX / 8;
        if self.accounts.len() > left_max {
            let mut ends: Vec<u64> = self.accounts.values().map(|accounts| accounts.paid_at).collect();
            let surplus = ends.len() - left_max;
            let (_, last_to_go, _) = ends.select_nth_unstable(surplus - 1);
            let last_to_go = *last_to_go;
            let mut left_to_go = surplus;
            self.accounts.retain(|_, accounts| {
                let goes = accounts.paid_at <= last_to_go && left_to_go > 0;
                left_to_go -= usize::from(goes);
                !goes
            });
        }
        self.due.retain(|user| self.accounts.contains_key(user));
        self.sweep_at = (2 * self.accounts.len()).clamp(USERS_MIN, USERS_MAX);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
