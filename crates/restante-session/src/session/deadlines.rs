//! Deadlines: what a session does when no input comes. Time-outs tell a client that skips an envelope from one that is gone: the
//! first costs the envelope an attempt, the second the connection. No deadline fires while the database is away, for acks could
//! not be committed then, and none for an ack while acks are not read.

use std::time::{Duration, Instant};

use crate::domain::{AttemptOutcome, Class, GapReason, InboxSeq, Status};

use super::fallback_poll::FallbackPoll;
use super::window::{Cause, Phase};
use super::{CloseReason, Effect, Life, Scope, Session};

/// A pause that is over while the database is asked what became of the row goes on for this long.
const HELD_BACK: Duration = Duration::from_millis(200);

/// The client's last sign of life, and the states in which no deadline fires.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// The last ack, reject or read that named something.
    acked_at: Option<Instant>,
    /// The newest emission that was acked. An older one that was not has been skipped.
    newest_acked: u64,
    /// The database has been away since then.
    away_since: Option<Instant>,
    /// The socket has not been read since then.
    unread_since: Option<Instant>,
}

impl Liveness {
    pub(super) fn acked(&mut self, now: Instant) {
        self.acked_at = Some(now);
    }

    pub(super) fn acked_emission(&mut self, emission: u64) {
        self.newest_acked = self.newest_acked.max(emission);
    }
}

/// The decision on an envelope whose time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Something emitted later was acked: this one was skipped.
    Skipped,
    /// The client acks, only nothing later than this one yet.
    CheckAgain(Instant),
    /// Nothing at all was acked for the whole time.
    Gone,
    /// The pause after a reject is over.
    PauseOver,
}

impl Session {
    pub(super) fn first_deadline(&self) -> Option<Instant> {
        if self.liveness.away_since.is_some() {
            return None;
        }
        if let Some(since) = self.liveness.unread_since {
            return Some(since + self.settings.stalled_max);
        }
        let polls = self.polls.values().filter_map(FallbackPoll::due);
        polls.chain(self.window.first_due()).min()
    }

    /// Performs everything that is due by now.
    pub(super) fn deadline(&mut self, now: Instant) {
        if self.next_deadline().is_none_or(|due| due > now) {
            return;
        }
        if self.liveness.unread_since.is_some() {
            return self.close(CloseReason::Stalled);
        }
        self.expire_in_flight(now);
        let due: Vec<_> = self.window.all_due(now).into_iter().filter_map(|at| Some((at, self.verdict(now, at)?))).collect();
        if due.iter().any(|(_, verdict)| *verdict == Verdict::Gone) {
            return self.close(CloseReason::NoAcks);
        }
        for ((class, seq), verdict) in due {
            match verdict {
                Verdict::Skipped => self.count_attempt(now, class, seq, Cause::Timeout, "ack timeout".to_owned(), None),
                Verdict::CheckAgain(due) => self.window.set_phase(class, seq, Phase::AwaitingAck { due }),
                Verdict::PauseOver if self.inboxes[class].check.holds_back() => {
                    self.window.set_phase(class, seq, Phase::BackingOff { until: now + HELD_BACK });
                }
                Verdict::PauseOver => self.emit_again(now, class, seq),
                Verdict::Gone => {}
            }
        }
        for class in Class::ALL {
            self.poll_when_due(now, class);
        }
    }

    fn verdict(&mut self, now: Instant, (class, seq): (Class, InboxSeq)) -> Option<Verdict> {
        let flight = self.window.get(class, seq)?;
        match flight.phase() {
            Phase::Counting(_) => None,
            Phase::BackingOff { .. } => Some(Verdict::PauseOver),
            Phase::AwaitingAck { .. } if self.liveness.newest_acked > flight.emission => Some(Verdict::Skipped),
            Phase::AwaitingAck { .. } => {
                let quiet_since = self.liveness.acked_at.map_or(flight.since, |acked| acked.max(flight.since));
                let due = quiet_since + self.settings.ack_timeout;
                Some(if due > now { Verdict::CheckAgain(due) } else { Verdict::Gone })
            }
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.life = Life::Closed;
        self.out.push(Effect::Close(reason));
    }

    /// Takes the database's answer to an attempt. Of an envelope that has been acked meanwhile only the rejects are answered.
    pub(super) fn attempted(&mut self, now: Instant, class: Class, seq: InboxSeq, outcome: Option<AttemptOutcome>) {
        let flight = self.window.get(class, seq);
        let counting = flight.and_then(|flight| flight.counting().map(|counting| (counting.cause, counting.final_next.take())));
        match (outcome, counting) {
            (Some(AttemptOutcome::Counted(attempts)), Some((cause, final_next))) => {
                self.counted(now, class, seq, attempts, cause, final_next);
            }
            (_, None) => self.commits.release_all(class, seq, outcome),
            (outcome, Some((cause, final_next))) => {
                self.commits.release_all(class, seq, outcome);
                let cause = if final_next.is_some() { Cause::FinalReject } else { cause };
                self.not_counted(now, class, seq, outcome, cause);
            }
        }
    }

    /// An attempt was counted, and the row still waits.
    fn counted(&mut self, now: Instant, class: Class, seq: InboxSeq, attempts: u16, cause: Cause, final_next: Option<String>) {
        if let Some(flight) = self.window.get(class, seq) {
            flight.envelope.attempts = attempts;
            flight.attempt = attempts.saturating_add(1);
        }
        let outcome = Some(AttemptOutcome::Counted(attempts));
        match (cause, final_next) {
            (_, Some(reason)) => {
                self.commits.release(class, seq, outcome);
                return self.count_attempt(now, class, seq, Cause::FinalReject, reason, None);
            }
            (Cause::Timeout, None) => self.emit_again(now, class, seq),
            (Cause::Reject | Cause::FinalReject, None) => self.back_off(now, class, seq, attempts),
        }
        self.commits.release_all(class, seq, outcome);
    }

    /// The row does not wait any more, or nothing is known of it: it is failed, settled by another connection, or ended.
    fn not_counted(&mut self, now: Instant, class: Class, seq: InboxSeq, outcome: Option<AttemptOutcome>, cause: Cause) {
        match (outcome, self.scope) {
            (Some(AttemptOutcome::Settled(Status::Failed, _)), _) => self.end_in_flight(class, seq, GapReason::Failed),
            (Some(AttemptOutcome::Settled(Status::Expired, _)), _) => self.end_in_flight(class, seq, GapReason::Expired),
            (Some(AttemptOutcome::Settled(status, _)), Scope::Everything) => {
                if let Some(flight) = self.window.get(class, seq) {
                    flight.envelope.status = status;
                }
                self.redeliver_settled(now, class, seq, cause);
            }
            (Some(AttemptOutcome::Settled(..)), Scope::Waiting)
            | (Some(AttemptOutcome::Counted(_) | AttemptOutcome::Failed(_)) | None, _) => {
                self.free(class, seq);
            }
        }
    }

    pub(super) fn free(&mut self, class: Class, seq: InboxSeq) {
        if let Some(flight) = self.window.remove(class, seq) {
            self.ended(&flight);
        }
    }

    /// Redelivers a row that is past `sent`: for this client only, within this session only, and not for ever.
    pub(super) fn redeliver_settled(&mut self, now: Instant, class: Class, seq: InboxSeq, cause: Cause) {
        let Some(flight) = self.window.get(class, seq) else { return };
        if cause == Cause::FinalReject {
            // Its client does not want it, and the row is settled: there is nothing to come back for.
            return self.free(class, seq);
        }
        if flight.redeliveries >= self.settings.attempts_max {
            return self.give_up(class, seq);
        }
        flight.redeliveries += 1;
        flight.attempt = flight.attempt.saturating_add(1);
        let redeliveries = flight.redeliveries;
        match cause {
            Cause::Timeout => self.emit_again(now, class, seq),
            Cause::Reject | Cause::FinalReject => self.back_off(now, class, seq, redeliveries),
        }
    }

    fn give_up(&mut self, class: Class, seq: InboxSeq) {
        if let (Some(device), Some(flight)) = (&mut self.device, self.window.get(class, seq)) {
            device[class].give_up(seq, flight.envelope.message.id);
        }
        self.free(class, seq);
    }

    /// From now on no deadline fires.
    pub(super) fn database_away(&mut self, now: Instant) {
        self.liveness.away_since.get_or_insert(now);
    }

    /// Deadlines count again, those of acks from now.
    pub(super) fn database_back(&mut self, now: Instant) {
        let Some(since) = self.liveness.away_since.take() else { return };
        let away = now.saturating_duration_since(since);
        // Postponed rather than started anew, so that not all sessions poll at once.
        self.polls.values_mut().for_each(|poll| poll.postpone(away));
        self.window.restart(now);
        self.liveness.unread_since = self.liveness.unread_since.map(|_| now);
    }

    /// Notices when the socket is no longer read, and when it is again.
    pub(super) fn watch_reading(&mut self, now: Instant) {
        match (self.liveness.unread_since, self.may_read()) {
            (None, false) => self.liveness.unread_since = Some(now),
            (Some(_), true) => {
                self.liveness.unread_since = None;
                // No ack could arrive meanwhile: it is not the client's silence.
                self.window.restart(now);
            }
            (None, true) | (Some(_), false) => {}
        }
    }
}
