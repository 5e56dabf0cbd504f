//! From the inbox through the window to the wire. There is one way: pages fill the buffer, the buffer is emitted while
//! the window has room, the client's acks make room. An offer that is exactly the next row skips the read, nothing else.

use std::time::Instant;

use crate::domain::{Class, Envelope, InboxSeq, Page, PageRow};

use super::commits::Waiter;
use super::inbox::{Drain, Offered};
use super::progress::Pace;
use super::window::{InFlight, Phase};
use super::{Effect, Emission, Session};

impl Session {
    /// Performs everything that the last input made possible. Classes go in the order of [`Class::ALL`], in the window and on the wire.
    pub(super) fn carry_on(&mut self, now: Instant) {
        for class in Class::ALL {
            self.check_when_wanted(class);
            self.emit_buffered(now, class);
        }
        self.out.end_emissions();
        for class in Class::ALL {
            self.watch_drain(class);
        }
        self.tell_waiters();
        for class in Class::ALL {
            self.read_ahead(class);
        }
        self.watch_reading(now);
        self.write_device_cursor();
    }

    /// Takes a page.
    pub(super) fn page(&mut self, page: Page) {
        let class = page.class;
        for (chat, seq) in self.inboxes[class].page(page) {
            self.marks.hold(class, chat, seq);
        }
    }

    /// Takes an offer, or remembers that something waits.
    pub(super) fn offer(&mut self, now: Instant, envelope: Envelope) {
        let has_room = self.has_room(envelope.class);
        match self.inboxes[envelope.class].offer(envelope, has_room) {
            Offered::Emit(envelope) => {
                self.marks.hold(envelope.class, envelope.message.chat, envelope.message.seq);
                self.emit_first(now, envelope);
            }
            Offered::Nothing => {}
        }
    }

    fn has_room(&self, class: Class) -> bool {
        if self.is_leaving() {
            return false;
        }
        let room = match self.progress.pace() {
            Pace::Alone => self.window.is_empty(),
            Pace::Windowed => self.window.len(class) < usize::from(self.settings.window.max(1)),
        };
        room && !self.is_paused(class)
    }

    /// Too many acks of the class are under way to the database: what is emitted now would only add to them. Those of one class
    /// do not keep another one back.
    fn is_paused(&self, class: Class) -> bool {
        self.commits.uncommitted_of(class) >= self.settings.uncommitted_acks_max
    }

    fn emit_buffered(&mut self, now: Instant, class: Class) {
        while !self.is_paused(class) && !self.is_leaving() && !self.inboxes[class].check.holds_back() {
            match self.inboxes[class].buffer.front() {
                Some(PageRow::Envelope(envelope)) if self.is_expired(now, envelope) => {}
                Some(PageRow::Envelope(_)) if !self.has_room(class) => return,
                Some(PageRow::Envelope(_) | PageRow::Gap { .. }) => {}
                None => return,
            }
            match self.inboxes[class].buffer.pop_front() {
                Some(PageRow::Envelope(envelope)) => self.emit_first(now, envelope),
                Some(PageRow::Gap { from, to, reason, feed }) => {
                    self.note_emitted(class, to);
                    self.out.emit(Emission::Gap { class, from, to, reason, feed });
                }
                None => return,
            }
        }
    }

    /// Emits an envelope that this session has not emitted before, or a gap where its time has come.
    fn emit_first(&mut self, now: Instant, envelope: Envelope) {
        let attempt = envelope.attempts.saturating_add(1);
        let behind = self.inboxes[envelope.class].emitted;
        self.note_emitted(envelope.class, envelope.inbox_seq);
        if self.is_expired(now, &envelope) {
            return self.expired(now, &envelope);
        }
        self.progress.emit();
        self.out.emit(Emission::Envelope { envelope: envelope.clone(), attempt });
        if let Some(replaced) = self.window.emit(now, envelope, attempt, behind) {
            self.ended(&replaced);
        }
    }

    /// Emits an envelope in flight again.
    pub(super) fn emit_again(&mut self, now: Instant, class: Class, seq: InboxSeq) {
        if self.is_leaving() {
            // Its row waits, and the next session has it.
            return self.window.set_phase(class, seq, Phase::BackingOff { until: now });
        }
        self.window.emit_again(now, class, seq);
        if let Some(flight) = self.window.get(class, seq) {
            self.out.emit(Emission::Envelope { envelope: flight.envelope.clone(), attempt: flight.attempt });
        }
    }

    fn note_emitted(&mut self, class: Class, seq: InboxSeq) {
        let emitted = &mut self.inboxes[class].emitted;
        *emitted = seq.max(*emitted);
    }

    /// A slot was freed without an ack here: the row failed, moved, or somebody else settled it.
    pub(super) fn ended(&mut self, flight: &InFlight) {
        self.marks.pass(&flight.envelope);
    }

    fn read_ahead(&mut self, class: Class) {
        if self.is_leaving() {
            return;
        }
        if let Some(after) = self.inboxes[class].wants_page() {
            let limit = self.settings.page_rows;
            self.out.push(Effect::ReadPage { class, after, limit, scope: self.scope });
        }
    }

    /// Once nothing that waited at connect is buffered or in flight, `queue:drained` waits for the commits made so far.
    fn watch_drain(&mut self, class: Class) {
        let inbox = &mut self.inboxes[class];
        let is_acked = self.window.lowest(class).is_none_or(|seq| seq > inbox.target);
        match inbox.drain {
            Drain::UnderWay if is_acked && inbox.emitted_what_waited() => {
                inbox.drain = Drain::Settling;
                self.commits.wait(Waiter::Drained(class));
            }
            Drain::UnderWay | Drain::Settling | Drain::Told => {}
        }
    }

    fn tell_waiters(&mut self) {
        while let Some(waiter) = self.commits.next_ready() {
            match waiter {
                Waiter::Ticket(ticket) => self.out.push(Effect::Confirm(ticket)),
                Waiter::Reject(ticket, outcome) => self.out.push(Effect::ConfirmReject(ticket, outcome)),
                Waiter::Drained(class) => {
                    let inbox = &mut self.inboxes[class];
                    inbox.drain = Drain::Told;
                    let (up_to, is_settled) = (inbox.target, inbox.low_watermark.seq() >= inbox.target);
                    self.out.push(Effect::Drained { class, up_to });
                    // Nothing waited in the first place.
                    if !is_settled {
                        self.advance_low_watermark(class);
                    }
                }
            }
        }
    }

    /// Asks the database to move the low watermark on, unless it has been asked.
    pub(super) fn advance_low_watermark(&mut self, class: Class) {
        if self.inboxes[class].low_watermark.ask() {
            self.out.push(Effect::AdvanceLowWatermark(class));
        }
    }

    /// After so many acks since the last time, and not before the drain has ended.
    pub(super) fn advance_low_watermark_when_due(&mut self, class: Class) {
        let inbox = &self.inboxes[class];
        if inbox.drain == Drain::Told && inbox.low_watermark.is_due(self.settings.low_watermark_every) {
            self.advance_low_watermark(class);
        }
    }

    /// Takes the answer.
    pub(super) fn low_watermark_advanced(&mut self, class: Class, seq: InboxSeq) {
        self.inboxes[class].low_watermark.answer(seq);
        self.marks.settled(class, seq);
        self.advance_low_watermark_when_due(class);
    }
}
