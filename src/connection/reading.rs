//! Decides if a connection reads on. Each frame is counted against the budget of its user, and while the user owes nothing is read.
//!
//! Frames that the client sends meanwhile stay in its socket. An ack may lie there too, so a connection that has paused is behind until it has
//! read everything that has arrived: no ack is missing before that, and neither is the answer to a ping.

use std::sync::Arc;
use std::time::Instant;

use crate::service::Budget;
use crate::telemetry::Metrics;

/// The pauses of one connection.
#[derive(Debug)]
pub(super) struct Reading {
    budget: Budget,
    metrics: Arc<Metrics>,
    resumes_at: Option<Instant>,
    /// Frames may lie unread since a pause.
    is_behind: bool,
}

impl Reading {
    /// Reads at once.
    pub(super) const fn new(budget: Budget, metrics: Arc<Metrics>) -> Self {
        Self { budget, metrics, resumes_at: None, is_behind: false }
    }

    /// Counts what was read, in points. The connection pauses for what its user owes then.
    pub(super) fn count(&mut self, points: u32) {
        let debt = self.budget.count(points);
        if !debt.is_zero() {
            self.resumes_at = Some(Instant::now() + debt);
            self.is_behind = true;
            self.metrics.request_pauses.of("socket").inc();
        }
    }

    /// Returns whether the pause is over, if there was one.
    pub(super) fn may_go_on(&mut self) -> bool {
        if self.resumes_at.is_some_and(|at| at <= Instant::now()) {
            self.resumes_at = None;
        }
        self.resumes_at.is_none()
    }

    /// The end of the pause.
    pub(super) const fn resumes_at(&self) -> Option<Instant> {
        self.resumes_at
    }

    /// Everything that has arrived is read.
    pub(super) const fn caught_up(&mut self) {
        self.is_behind = false;
    }

    /// Returns whether something of the client may lie unread.
    pub(super) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Returns whether the user owes nothing now.
    pub(super) fn is_free(&self) -> bool {
        self.budget.debt().is_zero()
    }
}
