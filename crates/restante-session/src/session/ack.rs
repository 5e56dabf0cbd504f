//! The client's answers to what it got: acks, rejects, reads. An ack frees its slot at once and goes to the database
//! as a settlement; reading is the stronger ack.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::domain::{AttemptOutcome, ChatId, ChatSeq, Class, Envelope, InboxSeq, MessageId, Status};

use super::commits::Waiter;
use super::window::{Cause, Counting, InFlight, Phase};
use super::{AckTarget, AckedRow, Effect, ReadTarget, Scope, Session, Settlement, SettlementNo, Ticket};

/// The rows that one frame settles.
#[derive(Debug, Default)]
struct Settling {
    rows: Vec<AckedRow>,
    by_id: Vec<MessageId>,
}

impl Session {
    /// Takes an ack frame: one settlement at most.
    pub(super) fn ack(&mut self, now: Instant, target: AckTarget, ticket: Option<Ticket>) {
        let mut settling = Settling::default();
        match target {
            AckTarget::Messages(ids) => self.ack_messages(now, ids, &mut settling),
            AckTarget::UpTo(class, n) => {
                let emitted = self.inboxes[class].emitted;
                if n > emitted {
                    self.out.push(Effect::AckAhead { ticket, emitted });
                    return;
                }
                self.ack_up_to(now, class, n, &mut settling);
            }
        }
        self.settle(settling);
        self.confirm_in_turn(ticket);
    }

    fn ack_messages(&mut self, now: Instant, ids: Vec<MessageId>, settling: &mut Settling) {
        let mut seen = HashSet::new();
        let repeats = ids.len() > 1;
        for id in ids {
            if repeats && !seen.insert(id) {
                continue;
            }
            match self.window.find(id) {
                Some((class, seq)) => self.ack_in_flight(now, class, seq, settling),
                // Acked here a moment ago: the answer to this frame waits for that commit too.
                None if self.commits.is_under_way(id) => {}
                None => {
                    self.device.iter_mut().flat_map(|device| device.values_mut()).for_each(|cursor| cursor.ack_late(id));
                    settling.by_id.push(id);
                }
            }
        }
        if !settling.by_id.is_empty() {
            self.liveness.acked(now);
        }
    }

    fn ack_up_to(&mut self, now: Instant, class: Class, n: InboxSeq, settling: &mut Settling) {
        for (class, seq) in self.window.up_to(class, n) {
            self.ack_in_flight(now, class, seq, settling);
        }
        if let Some(device) = &mut self.device {
            // The client counts the gaps up to `n` among what it has.
            device[class].ack_up_to(n);
        }
    }

    fn ack_in_flight(&mut self, now: Instant, class: Class, seq: InboxSeq, settling: &mut Settling) {
        let Some(flight) = self.window.remove(class, seq) else { return };
        self.heard(now, flight.emission);
        self.progress.count_ack();
        self.mark_acked(&flight.envelope, settling);
    }

    /// Takes acks that the client has brought by another way than its connection. The rows are settled: only the cursor is to be written.
    pub(super) fn ack_committed(&mut self, now: Instant, target: AckTarget) {
        match target {
            AckTarget::Messages(ids) => ids.into_iter().for_each(|id| self.free_acked_message(now, id)),
            AckTarget::UpTo(class, n) => {
                // The way without a connection takes every number that was given. The client has got none above this one here.
                let n = n.min(self.inboxes[class].emitted);
                for (class, seq) in self.window.up_to(class, n) {
                    self.free_acked(now, class, seq);
                }
                if let Some(device) = &mut self.device {
                    device[class].ack_up_to(n);
                }
            }
        }
        self.liveness.acked(now);
        self.settle(Settling::default());
    }

    fn free_acked_message(&mut self, now: Instant, id: MessageId) {
        match self.window.find(id) {
            Some((class, seq)) => self.free_acked(now, class, seq),
            None => self.device.iter_mut().flat_map(|device| device.values_mut()).for_each(|cursor| cursor.ack_late(id)),
        }
    }

    fn free_acked(&mut self, now: Instant, class: Class, seq: InboxSeq) {
        let Some(flight) = self.window.remove(class, seq) else { return };
        self.heard(now, flight.emission);
        self.progress.count_ack();
        self.ended(&flight);
        if let Some(device) = &mut self.device {
            device[class].ack(seq);
        }
        self.inboxes[class].low_watermark.count_acks(1);
        self.advance_low_watermark_when_due(class);
    }

    fn mark_acked(&mut self, envelope: &Envelope, settling: &mut Settling) {
        let message = envelope.message.clone();
        self.marks.ack(envelope);
        if let Some(device) = &mut self.device {
            device[envelope.class].ack(envelope.inbox_seq);
        }
        settling.rows.push(AckedRow { class: envelope.class, seq: envelope.inbox_seq, message });
    }

    /// The client spoke about something that is in flight: it is alive, and got past its first envelope.
    fn heard(&mut self, now: Instant, emission: u64) {
        self.liveness.acked(now);
        self.liveness.acked_emission(emission);
        self.progress.ack();
    }

    /// Writes the device's cursor where it has moved without an ack: a row below acked ones has ended. No ack may follow, and then all of
    /// them would come again at the next connect.
    pub(super) fn write_device_cursor(&mut self) {
        self.settle(Settling::default());
    }

    /// Makes a settlement of it, unless there is nothing to write.
    fn settle(&mut self, settling: Settling) {
        let Settling { rows, by_id } = settling;
        if rows.is_empty() && by_id.is_empty() && !self.device_has_news() {
            return;
        }
        let mut chats: Vec<_> = rows.iter().filter(|row| row.class == Class::Chat).map(|row| row.message.chat).collect();
        chats.sort_unstable();
        chats.dedup();
        let marks = chats.into_iter().filter_map(|chat| Some((chat, self.marks.propose(chat)?))).collect();
        self.device_has_news();
        let device_acked = self.device.as_mut().map(|device| device.as_mut().map(super::DeviceCursor::tell));
        let settlement = Settlement { no: self.commits.next_no(), rows, by_id, marks, device_acked };
        self.commits.add(&settlement);
        self.out.push(Effect::Settle(settlement));
    }

    /// Moves the device's cursors on and says whether the database has yet to hear of it.
    fn device_has_news(&mut self) -> bool {
        let Some(device) = &mut self.device else { return false };
        let mut news = false;
        for class in Class::ALL {
            let held = [self.window.lowest(class), self.inboxes[class].lowest_buffered()];
            let cursor = &mut device[class];
            cursor.advance(held.into_iter().flatten().min());
            news |= cursor.has_news();
        }
        news
    }

    /// The frame is answered when everything made so far is committed, also what earlier frames caused.
    fn confirm_in_turn(&mut self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            self.commits.wait(Waiter::Ticket(ticket));
        }
    }

    /// Takes a commit.
    pub(super) fn committed(&mut self, no: SettlementNo) {
        let rows = self.commits.commit(no);
        for class in Class::ALL {
            self.inboxes[class].low_watermark.count_acks(rows[class]);
            self.advance_low_watermark_when_due(class);
        }
    }

    /// Takes a read: everything of the chat up to there is acked, what is in flight and what is buffered, and then read. Alerts and
    /// events are not read: a frame that names their feed as a chat changes nothing of them.
    pub(super) fn read(&mut self, now: Instant, chat: ChatId, target: ReadTarget, ticket: Option<Ticket>) {
        let up_to = match target {
            ReadTarget::Seq(seq) => Some(seq),
            // Its number is known only while it is in flight; otherwise `ReadUpTo` brings it.
            ReadTarget::Message(id) => self.chat_seq_in_flight(chat, id),
        };
        if let Some(up_to) = up_to {
            self.ack_read(now, chat, up_to);
        }
        self.out.push(Effect::Read { chat, target, ticket });
    }

    fn chat_seq_in_flight(&mut self, chat: ChatId, id: MessageId) -> Option<ChatSeq> {
        let (class, seq) = self.window.find(id)?;
        let message = &self.window.get(class, seq)?.envelope.message;
        (class == Class::Chat && message.chat == chat && !message.seq.is_of_notice()).then_some(message.seq)
    }

    /// The rows are settled as acked, before and apart from the read: then the device's cursor and the mark that
    /// follow from it are true even if the read itself is never committed.
    fn ack_read(&mut self, now: Instant, chat: ChatId, up_to: ChatSeq) {
        let mut settling = Settling::default();
        for (class, seq) in self.window.of_chat(chat, up_to) {
            self.ack_in_flight(now, class, seq, &mut settling);
        }
        match self.scope {
            Scope::Waiting => {
                // The client never gets what expired in the buffer: a gap comes in its place, and the database ends its row.
                let window = &self.window;
                for envelope in self.inboxes.chat.drop_read(chat, up_to, |envelope| !window.is_expired(now, envelope)) {
                    self.mark_acked(&envelope, &mut settling);
                }
            }
            // Every number is emitted, also of what was read elsewhere: the client would see a hole.
            Scope::Everything => {}
        }
        self.settle(settling);
    }

    /// A read was committed, here or by another session of the user: the rows wait no more.
    pub(super) fn read_elsewhere(&mut self, chat: ChatId, up_to: ChatSeq) {
        match self.scope {
            Scope::Waiting => {}
            // This client has not acked them, and may never have got them: its cursor must not pass them.
            Scope::Everything => {
                let is_read = |envelope: &Envelope| envelope.is_of_chat(chat, up_to);
                self.note_status(|envelope| is_read(envelope) && envelope.message.expires_at.is_none(), Status::Read);
                // A read ends what expired unseen. Only the database knows on which side of that moment a row was.
                if self.holds(|envelope| is_read(envelope) && envelope.status.waits()) {
                    self.something_ended();
                }
                return;
            }
        }
        for (class, seq) in self.window.of_chat(chat, up_to) {
            if let Some(flight) = self.window.remove(class, seq) {
                self.ended(&flight);
            }
        }
        for envelope in self.inboxes.chat.drop_read(chat, up_to, |_| true) {
            self.marks.pass(&envelope);
        }
    }

    /// Takes a reject: an attempt is counted, and the envelope comes again after a pause.
    pub(super) fn reject(&mut self, now: Instant, message: MessageId, reason: String, is_final: bool, ticket: Option<Ticket>) {
        let Some((class, seq)) = self.window.find(message) else {
            self.out.push(Effect::RejectById { message, reason, is_final, ticket });
            return;
        };
        let Some(flight) = self.window.get(class, seq) else { return };
        let emission = flight.emission;
        let cause = if is_final { Cause::FinalReject } else { Cause::Reject };
        match (flight.phase(), cause) {
            // One emission, rejected twice: it is counted once.
            (Phase::BackingOff { .. }, Cause::Reject | Cause::Timeout) => {
                let outcome = outcome_so_far(&flight.envelope);
                self.confirm_reject(ticket, outcome);
            }
            (Phase::Counting(_), _) => match join_count(flight, cause, reason) {
                Joined::ThisCount => self.confirm_when_counted(class, seq, ticket),
                Joined::NextCount => ticket.into_iter().for_each(|ticket| self.commits.hold_for_next(class, seq, ticket)),
            },
            (Phase::AwaitingAck { .. }, _) | (Phase::BackingOff { .. }, Cause::FinalReject) => {
                self.count_attempt(now, class, seq, cause, reason, ticket);
            }
        }
        self.heard(now, emission);
    }

    /// Takes a reject that the client has brought by another way than its connection: the envelope comes again after a pause.
    pub(super) fn reject_committed(&mut self, now: Instant, message: MessageId, attempts: u16) {
        let Some((class, seq)) = self.window.find(message) else { return };
        let Some(flight) = self.window.get(class, seq) else { return };
        let emission = flight.emission;
        match flight.phase() {
            // The answer to its own attempt brings the number.
            Phase::Counting(_) => {}
            Phase::AwaitingAck { .. } | Phase::BackingOff { .. } => {
                flight.envelope.attempts = attempts;
                flight.attempt = attempts.saturating_add(1);
                self.back_off(now, class, seq, attempts);
            }
        }
        self.heard(now, emission);
    }

    /// Counts an attempt, in the database if the row still waits, else here.
    pub(super) fn count_attempt(
        &mut self,
        now: Instant,
        class: Class,
        seq: InboxSeq,
        cause: Cause,
        reason: String,
        ticket: Option<Ticket>,
    ) {
        let Some(flight) = self.window.get(class, seq) else { return };
        if !flight.envelope.status.waits() {
            let outcome = outcome_so_far(&flight.envelope);
            self.confirm_reject(ticket, outcome);
            self.redeliver_settled(now, class, seq, cause);
            return;
        }
        let (envelope, is_final) = (flight.envelope.clone(), cause == Cause::FinalReject);
        self.window.set_phase(class, seq, Phase::Counting(Counting { cause, final_next: None }));
        self.confirm_when_counted(class, seq, ticket);
        self.out.push(Effect::CountAttempt { envelope, reason, is_final });
    }

    fn confirm_reject(&mut self, ticket: Option<Ticket>, outcome: AttemptOutcome) {
        if let Some(ticket) = ticket {
            self.commits.wait(Waiter::Reject(ticket, Some(outcome)));
        }
    }

    fn confirm_when_counted(&mut self, class: Class, seq: InboxSeq, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            self.commits.hold(class, seq, ticket);
        }
    }

    /// The pause before a rejected envelope comes again: doubled with each attempt, at most the ack time-out.
    pub(super) fn back_off(&mut self, now: Instant, class: Class, seq: InboxSeq, attempts: u16) {
        let doublings = u32::from(attempts.saturating_sub(1)).min(16);
        let pause = Duration::from_secs(1 << doublings).min(self.settings.ack_timeout);
        self.window.set_phase(class, seq, Phase::BackingOff { until: now + pause });
    }
}

/// The attempt that answers a reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joined {
    /// The one that is being counted.
    ThisCount,
    /// The one that is counted after it.
    NextCount,
}

/// A reject of something whose attempt is being counted: not counted twice, but it waits for the same answer, the
/// envelope is not emitted again at once, and a final one is counted next.
fn join_count(flight: &mut InFlight, cause: Cause, reason: String) -> Joined {
    let Some(counting) = flight.counting() else { return Joined::ThisCount };
    match (counting.cause, cause) {
        (Cause::FinalReject, _) => Joined::ThisCount,
        (Cause::Timeout | Cause::Reject, Cause::FinalReject) => {
            counting.final_next = Some(reason);
            Joined::NextCount
        }
        (Cause::Timeout | Cause::Reject, Cause::Reject | Cause::Timeout) => {
            counting.cause = Cause::Reject;
            Joined::ThisCount
        }
    }
}

/// The answer to a reject that counts no attempt.
const fn outcome_so_far(envelope: &Envelope) -> AttemptOutcome {
    match envelope.status {
        Status::Sent => AttemptOutcome::Counted(envelope.attempts),
        status @ (Status::Delivered | Status::Read | Status::Failed | Status::Expired) => {
            AttemptOutcome::Settled(status, envelope.attempts)
        }
    }
}
