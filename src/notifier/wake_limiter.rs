//! A limit on how often users are woken by notifications that nobody has signed. Anybody who may connect to the database can send
//! them, and each wakes sessions that then read. A user is woken at once, and again after a round at the earliest; of all users
//! only so many in a round. The others wait for a later round, in their order: none is left out. It knows no clock and no hub.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::domain::UserId;

/// The time of a round.
pub(super) const ROUND: Duration = Duration::from_millis(500);
/// Wakes of one round.
const WAKES_MAX: usize = 1_000;

/// The thing that a user's sessions are to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Check {
    /// The inboxes.
    Inboxes,
    /// The marks of the user's messages.
    Marks,
}

/// Wakes that are told, and those that wait. The caller names users who are connected only: each waits once for each thing.
#[derive(Debug, Default)]
pub(super) struct WakeLimiter {
    /// Woken in this round.
    woken: HashSet<(UserId, Check)>,
    waiting: VecDeque<(UserId, Check)>,
    listed: HashSet<(UserId, Check)>,
}

impl WakeLimiter {
    /// True: this user is to be woken now. False: a later round wakes it.
    pub(super) fn admit(&mut self, user: UserId, check: Check) -> bool {
        let wake = (user, check);
        let is_now = self.waiting.is_empty() && self.woken.len() < WAKES_MAX && self.woken.insert(wake);
        if !is_now && self.listed.insert(wake) {
            self.waiting.push_back(wake);
        }
        is_now
    }

    /// A round has passed: those who are to be woken now. Empty: nothing waits, and no round is to be counted until another wake.
    pub(super) fn next_round(&mut self) -> Vec<(UserId, Check)> {
        let wakes: Vec<(UserId, Check)> = self.waiting.drain(..self.waiting.len().min(WAKES_MAX)).collect();
        for wake in &wakes {
            self.listed.remove(wake);
        }
        self.woken = wakes.iter().copied().collect();
        if wakes.is_empty() {
            (self.waiting, self.listed) = (VecDeque::new(), HashSet::new());
        }
        wakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: UserId = UserId(1);

    #[test]
    fn a_user_is_woken_at_once_and_again_in_the_next_round_however_often_it_is_named() {
        let mut limiter = WakeLimiter::default();
        assert!(limiter.admit(ANNA, Check::Inboxes) && limiter.admit(ANNA, Check::Marks));
        assert!((0..100_000).all(|_| !limiter.admit(ANNA, Check::Inboxes)));
        assert_eq!(limiter.next_round(), [(ANNA, Check::Inboxes)]);
        assert!(!limiter.admit(ANNA, Check::Inboxes), "the round has woken it already");
        assert_eq!(limiter.next_round(), [(ANNA, Check::Inboxes)]);
        assert_eq!(limiter.next_round(), []);
        assert!(limiter.admit(ANNA, Check::Inboxes));
    }

    #[test]
    fn of_many_users_only_so_many_are_woken_in_a_round_and_none_is_left_out() {
        let users = i64::try_from(WAKES_MAX).unwrap() * 5 / 2;
        let mut limiter = WakeLimiter::default();
        let now = (0..users).filter(|user| limiter.admit(UserId(*user), Check::Inboxes)).count();
        assert_eq!(now, WAKES_MAX);
        // The others come in their order, although the first ones are named again and again.
        assert!((0..10).all(|user| !limiter.admit(UserId(user), Check::Inboxes)));
        let mut woken = Vec::new();
        loop {
            let round = limiter.next_round();
            assert!(round.len() <= WAKES_MAX);
            if round.is_empty() {
                break;
            }
            woken.extend(round.into_iter().map(|(user, _)| user.0));
        }
        let late = i64::try_from(WAKES_MAX).unwrap()..users;
        assert_eq!(woken, late.chain(0..10).collect::<Vec<_>>());
        assert!(limiter.listed.is_empty() && limiter.waiting.is_empty());
    }
}
