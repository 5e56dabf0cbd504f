//! The leases of this node's users: made when a user comes, removed a grace after the last connection went, so that a
//! reconnect, also to another node, is told to nobody.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::Node;
use crate::domain::UserId;

/// Changes that come within this time are written together.
const GATHERED: Duration = Duration::from_millis(50);
/// Users in one statement.
const USERS_AT_ONCE: usize = 1_000;
/// Between two tries when the database refuses.
const PAUSE: Duration = Duration::from_secs(1);

/// The arrivals and departures that connections have reported. Each user who is here or left a moment ago has one entry at most.
#[derive(Debug, Default)]
pub(super) struct Pending {
    came: HashSet<UserId>,
    /// Since when a user is gone.
    went: HashMap<UserId, Instant>,
    /// The same in order; entries that `went` does not confirm are outdated.
    order: VecDeque<(Instant, UserId)>,
    renew: bool,
}

impl Pending {
    pub(super) fn came(&mut self, user: UserId) {
        self.came.insert(user);
        self.went.remove(&user);
    }

    pub(super) fn went(&mut self, user: UserId, now: Instant) {
        self.went.insert(user, now);
        self.order.push_back((now, user));
    }

    pub(super) const fn renew(&mut self) {
        self.renew = true;
    }

    fn take_came(&mut self) -> Vec<UserId> {
        let users: Vec<UserId> = self.came.iter().copied().take(USERS_AT_ONCE).collect();
        for user in &users {
            self.came.remove(user);
        }
        users
    }

    /// The users who went before this instant.
    fn take_went(&mut self, before: Instant) -> Vec<(UserId, Instant)> {
        let mut users = Vec::new();
        while let Some((at, user)) = self.order.front().copied()
            && at <= before
            && users.len() < USERS_AT_ONCE
        {
            self.order.pop_front();
            if self.went.get(&user) == Some(&at) {
                self.went.remove(&user);
                users.push((user, at));
            }
        }
        users
    }
}

pub(super) fn locked(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    // Code under the lock cannot panic half-way: a panicking thread leaves the value whole.
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task behind it.
pub(super) struct Keeper {
    node: Node,
    grace: Duration,
    pending: Arc<Mutex<Pending>>,
    ring: Arc<Notify>,
    leased: HashSet<UserId>,
}

impl Keeper {
    pub(super) fn new(node: Node, grace: Duration, pending: Arc<Mutex<Pending>>, ring: Arc<Notify>) -> Self {
        Self { node, grace, pending, ring, leased: HashSet::new() }
    }

    pub(super) async fn run(mut self) {
        loop {
            let due = locked(&self.pending).order.front().map(|(at, _)| *at + self.grace);
            tokio::select! {
                () = self.ring.notified() => sleep(GATHERED).await,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            self.renew();
            let (came, went) = (self.arrive().await, self.depart().await);
            let leases = i64::try_from(self.leased.len()).unwrap_or(i64::MAX);
            self.node.metrics.presence_leases.set(leases);
            if let Err(cause) = came.and(went) {
                debug!(?cause, "who is online could not be noted; once more");
                sleep(PAUSE).await;
                self.ring.notify_one();
            }
        }
    }

    fn renew(&mut self) {
        let mut pending = locked(&self.pending);
        if std::mem::take(&mut pending.renew) {
            self.leased.clear();
            pending.came.extend(self.node.hub.users());
        }
    }

    async fn arrive(&mut self) -> crate::store::Result<()> {
        loop {
            let mut users = locked(&self.pending).take_came();
            if users.is_empty() {
                return Ok(());
            }
            users.retain(|user| !self.leased.contains(user));
            if users.is_empty() {
                continue;
            }
            match self.node.store.arrive(self.node.me(), &users).await {
                Ok(online) => {
                    self.leased.extend(users);
                    online.iter().for_each(|user| self.node.say_online(user));
                }
                Err(cause) => {
                    locked(&self.pending).came.extend(users);
                    return Err(cause);
                }
            }
        }
    }

    async fn depart(&mut self) -> crate::store::Result<()> {
        loop {
            let Some(before) = Instant::now().checked_sub(self.grace) else { return Ok(()) };
            let went = locked(&self.pending).take_went(before);
            if went.is_empty() {
                return Ok(());
            }
            // A user who came back has reported it, or reports it at this moment. The hub knows.
            let gone: Vec<(UserId, Duration)> = went
                .iter()
                .filter(|(user, _)| self.leased.contains(user) && !self.node.hub.is_here(*user))
                .map(|(user, at)| (*user, at.elapsed()))
                .collect();
            if gone.is_empty() {
                continue;
            }
            match self.node.store.depart(self.node.me(), &gone).await {
                Ok(offline) => {
                    for (user, _) in &gone {
                        self.leased.remove(user);
                    }
                    let gone_still = offline.iter().filter(|user| !self.node.hub.is_here(user.user));
                    gone_still.for_each(|user| self.node.say_offline(user));
                }
                Err(cause) => {
                    let mut pending = locked(&self.pending);
                    for (user, at) in went.into_iter().rev() {
                        pending.went.entry(user).or_insert(at);
                        pending.order.push_front((at, user));
                    }
                    return Err(cause);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_back_within_the_grace_has_not_gone_and_who_goes_again_has_gone_since_then() {
        let mut pending = Pending::default();
        let (anna, ben, cleo) = (UserId(1), UserId(2), UserId(3));
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        pending.went(anna, begun);
        pending.went(ben, begun);
        pending.went(cleo, begun);
        pending.came(anna);
        pending.came(cleo);
        pending.went(anna, begun + second);
        assert_eq!(pending.take_went(begun), [(ben, begun)]);
        assert_eq!(pending.take_went(begun + second), [(anna, begun + second)]);
        assert!(pending.order.is_empty() && pending.went.is_empty());
    }
}
