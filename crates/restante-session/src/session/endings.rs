//! Rows that end while the session holds them, buffered or in flight: their time comes, the user leaves the chat, somebody
//! gives them up. An ended row is not emitted (again), and its place in the window is free at once.
//!
//! The time of a message is known here. Anything else is told by a hint that names no row. Then the database is asked what
//! became of the rows that are held, and nothing that is held is emitted before the answer.

use std::time::Instant;

use crate::domain::{ChatId, ChatSeq, Class, Envelope, GapReason, InboxSeq, RowState, Status};

use super::check::Check;
use super::inbox::Supply;
use super::{Effect, Emission, Scope, Session};

impl Session {
    /// Something may have ended: what is held is looked at.
    pub(super) fn something_ended(&mut self) {
        self.inboxes.values_mut().for_each(|inbox| inbox.check.hint());
    }

    /// The user has left a chat. Offers of it that come late are not trusted from now on.
    pub(super) fn left(&mut self, chat: ChatId, up_to: ChatSeq) {
        self.inboxes.chat.leave(chat, up_to);
        self.something_ended();
    }

    /// Asks what became of the rows that are held, if it is to be asked.
    pub(super) fn check_when_wanted(&mut self, class: Class) {
        let inbox = &self.inboxes[class];
        if inbox.check != Check::Wanted || self.is_leaving() {
            return;
        }
        let is_reading = matches!(inbox.supply, Supply::Reading { .. });
        let seqs: Vec<InboxSeq> = match self.scope {
            Scope::Waiting => self.window.waiting(class).chain(inbox.buffered_waiting()).collect(),
            // A row that another connection has acked still comes to this client, unless its message is recalled.
            Scope::Everything => self.window.numbers(class).chain(inbox.buffered_envelopes()).collect(),
        };
        let inbox = &mut self.inboxes[class];
        inbox.check = match (seqs.is_empty(), is_reading) {
            (true, true) => Check::AfterPage,
            (true, false) => Check::Idle,
            (false, again) => Check::UnderWay { again },
        };
        if !seqs.is_empty() {
            self.out.push(Effect::CheckRows { class, seqs });
        }
    }

    /// Takes the database's answer.
    pub(super) fn checked(&mut self, class: Class, rows: Vec<(InboxSeq, RowState)>) {
        let inbox = &mut self.inboxes[class];
        inbox.check = match (inbox.check, inbox.supply) {
            (Check::UnderWay { again: true }, Supply::Reading { .. }) => Check::AfterPage,
            (Check::UnderWay { again: true }, Supply::MayWait | Supply::Live) => Check::Wanted,
            (Check::UnderWay { again: false }, _) => Check::Idle,
            // It was not asked for.
            (Check::Idle | Check::Wanted | Check::AfterPage, _) => return,
        };
        for (seq, state) in rows {
            match state {
                RowState::Waits => {}
                RowState::Settled(status) => self.settled_elsewhere(class, seq, status),
                RowState::Ended(reason) => self.end_row(class, seq, reason),
            }
        }
    }

    /// A row was acked or read on another connection.
    fn settled_elsewhere(&mut self, class: Class, seq: InboxSeq, status: Status) {
        match self.scope {
            Scope::Waiting => {
                self.free(class, seq);
                if let Some(envelope) = self.inboxes[class].drop_row(seq) {
                    self.marks.pass(&envelope);
                }
            }
            // It still comes to this client.
            Scope::Everything => {
                let is_row = |envelope: &Envelope| (envelope.class, envelope.inbox_seq) == (class, seq);
                self.note_status(is_row, status);
            }
        }
    }

    /// Notes the status that rows have by now. A status never goes back.
    pub(super) fn note_status(&mut self, is_row: impl Fn(&Envelope) -> bool, status: Status) {
        let buffered = self.inboxes.values_mut().flat_map(super::inbox::Inbox::envelopes_mut);
        for envelope in self.window.envelopes_mut().chain(buffered).filter(|envelope| is_row(envelope)) {
            if envelope.status.may_become(status) {
                envelope.status = status;
            }
        }
    }

    /// Returns whether such a row is in flight or buffered.
    pub(super) fn holds(&mut self, is_row: impl Fn(&Envelope) -> bool) -> bool {
        let buffered = self.inboxes.values_mut().flat_map(super::inbox::Inbox::envelopes_mut);
        self.window.envelopes_mut().chain(buffered).any(|envelope| is_row(envelope))
    }

    /// A row has ended in the database: a gap stands for it, and an envelope in flight frees its place.
    fn end_row(&mut self, class: Class, seq: InboxSeq, reason: GapReason) {
        self.end_in_flight(class, seq, reason);
        if let Some(envelope) = self.inboxes[class].end_row(seq, reason) {
            self.marks.pass(&envelope);
        }
    }

    /// An envelope in flight has ended in the database.
    pub(super) fn end_in_flight(&mut self, class: Class, seq: InboxSeq, reason: GapReason) {
        if let Some(flight) = self.window.remove(class, seq) {
            self.ended(&flight);
            self.emit_gap(class, seq, reason);
        }
    }

    /// The time of envelopes in flight has come. The database ends their rows a moment later.
    pub(super) fn expire_in_flight(&mut self, now: Instant) {
        for (class, seq) in self.window.all_expired(now) {
            if let Some(flight) = self.window.remove(class, seq) {
                self.expired(now, &flight.envelope);
            }
        }
    }

    /// A row that is held is past its time: a gap stands for it.
    pub(super) fn expired(&mut self, now: Instant, envelope: &Envelope) {
        self.marks.doubt(now, envelope);
        self.emit_gap(envelope.class, envelope.inbox_seq, GapReason::Expired);
    }

    /// See [`Window::is_expired`](super::window::Window::is_expired).
    pub(super) fn is_expired(&self, now: Instant, envelope: &Envelope) -> bool {
        self.window.is_expired(now, envelope)
    }

    fn emit_gap(&mut self, class: Class, seq: InboxSeq, reason: GapReason) {
        if !self.is_leaving() {
            self.out.emit(Emission::Gap { class, from: seq, to: seq, reason, feed: None });
        }
    }
}
