//! One line of the admission queue: users in the order in which they are next, and what each of them has waiting.
//!
//! Users take turns, however much each of them asks for. A user that has as many permits as one may hold keeps its place out of the
//! order until one of them is back. It knows nothing of other lines.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::sync::oneshot;

use super::{Admission, Name};

/// The bounds of one user in a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct PerUser {
    /// Permits at the same time.
    pub(super) running_max: usize,
    /// Tickets that wait.
    pub(super) waiting_max: usize,
}

/// A line. The node itself is one user of it, without a name and without a bound.
#[derive(Debug)]
pub(super) struct Line {
    per_user: PerUser,
    /// Users who may be given a permit, by their places.
    order: BTreeMap<u64, Name>,
    users: HashMap<Name, User>,
    next_no: u64,
}

/// The part of one user in a line.
#[derive(Debug, Default)]
struct User {
    running: usize,
    /// Its place in the order; none while nothing waits, or while it holds as many permits as it may.
    place: Option<u64>,
    tickets: VecDeque<(u64, oneshot::Sender<Admission>)>,
}

impl Line {
    pub(super) fn new(per_user: PerUser) -> Self {
        Self { per_user, order: BTreeMap::new(), users: HashMap::new(), next_no: 0 }
    }

    /// Returns whether no user of this line can be given a permit.
    pub(super) fn is_idle(&self) -> bool {
        self.order.is_empty()
    }

    /// Returns whether this user may hold another permit.
    pub(super) fn may_run(&self, user: &Name) -> bool {
        user.is_none() || self.users.get(user).is_none_or(|known| known.running < self.per_user.running_max)
    }

    /// Returns whether this user may have another waiting ticket.
    pub(super) fn may_wait(&self, user: &Name) -> bool {
        user.is_none() || self.users.get(user).is_none_or(|known| known.tickets.len() < self.per_user.waiting_max)
    }

    /// A permit was given to this user without waiting.
    pub(super) fn begin(&mut self, user: &Name) {
        self.users.entry(user.clone()).or_default().running += 1;
    }

    /// A permit of this user is back.
    pub(super) fn end(&mut self, user: &Name) {
        if let Some(known) = self.users.get_mut(user) {
            known.running = known.running.saturating_sub(1);
        }
        self.arrange(user);
    }

    /// Puts a ticket behind everybody else, or behind what this user has waiting already. Returns the number of the ticket.
    pub(super) fn enter(&mut self, user: &Name, sender: oneshot::Sender<Admission>) -> u64 {
        self.next_no += 1;
        let no = self.next_no;
        self.users.entry(user.clone()).or_default().tickets.push_back((no, sender));
        self.arrange(user);
        no
    }

    /// Takes a ticket out. Harmless for one that was admitted.
    pub(super) fn leave(&mut self, user: &Name, no: u64) {
        if let Some(known) = self.users.get_mut(user) {
            known.tickets.retain(|(ticket, _)| *ticket != no);
        }
        self.arrange(user);
    }

    /// The first ticket of the user who is next: the permit counts as given. The user goes to the end of the line if there is more.
    pub(super) fn next(&mut self) -> Option<(Name, oneshot::Sender<Admission>)> {
        let (_, user) = self.order.pop_first()?;
        let known = self.users.get_mut(&user)?;
        known.place = None;
        let (_, sender) = known.tickets.pop_front()?;
        known.running += 1;
        self.arrange(&user);
        Some((user, sender))
    }

    /// Gives this user a place if it wants one and may have it, takes away one that it does not need, and forgets a user of whom
    /// nothing is left.
    fn arrange(&mut self, user: &Name) {
        let may_run = self.may_run(user);
        let Some(known) = self.users.get_mut(user) else { return };
        match known.place {
            None if may_run && !known.tickets.is_empty() => {
                self.next_no += 1;
                known.place = Some(self.next_no);
                self.order.insert(self.next_no, user.clone());
            }
            Some(place) if known.tickets.is_empty() => {
                known.place = None;
                self.order.remove(&place);
            }
            None | Some(_) => {}
        }
        if known.running == 0 && known.tickets.is_empty() {
            self.users.remove(user);
        }
    }
}
