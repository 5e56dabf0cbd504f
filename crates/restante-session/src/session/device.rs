//! The cursor of a device: the `acked_seq` behind which its next page starts. If it is too low, something comes twice; if it were
//! too high, something would never come.

use std::collections::BTreeMap;

use crate::domain::{InboxSeq, MessageId};

/// The given up rows that a session knows by their ids. Of more than these it knows where the first one is.
const GIVEN_UP_MAX: usize = 500;

/// The cursor of one class.
#[derive(Debug)]
pub(super) struct DeviceCursor {
    /// Everything up to here was acked by the device, or is a gap that was acked over. Only grows.
    covered: InboxSeq,
    /// The highest number acked. A gap above it has been put on the wire, but nothing proves that it arrived:
    /// only the ack of something emitted after it does.
    acked: InboxSeq,
    /// Rows that were given up within this session: what the device does not ack late comes again at the next connect.
    given_up: GivenUp,
    /// The value that the last settlement carried.
    told: InboxSeq,
}

/// Rows that are not emitted any more in this session.
#[derive(Debug, Default)]
struct GivenUp {
    rows: BTreeMap<InboxSeq, MessageId>,
    /// The lowest of those for which there was no room.
    beyond: Option<InboxSeq>,
}

impl GivenUp {
    fn add(&mut self, seq: InboxSeq, message: MessageId) {
        if self.rows.len() < GIVEN_UP_MAX {
            self.rows.insert(seq, message);
        } else {
            self.beyond = Some(self.beyond.map_or(seq, |lowest| lowest.min(seq)));
        }
    }

    fn lowest(&self) -> Option<InboxSeq> {
        self.rows.keys().next().copied().into_iter().chain(self.beyond).min()
    }

    /// Takes out the row of this message.
    fn take(&mut self, message: MessageId) -> Option<InboxSeq> {
        let seq = self.rows.iter().find_map(|(seq, of)| (*of == message).then_some(*seq))?;
        self.rows.remove(&seq);
        Some(seq)
    }

    /// Takes out the rows up to here that are known.
    fn take_up_to(&mut self, seq: InboxSeq) {
        self.rows.retain(|given_up, _| *given_up > seq);
    }
}

impl DeviceCursor {
    pub(super) fn new(start: InboxSeq) -> Self {
        Self { covered: start, acked: start, given_up: GivenUp::default(), told: start }
    }

    /// The device acked this number (and, if it is one, the gap up to it).
    pub(super) fn ack(&mut self, seq: InboxSeq) {
        self.acked = self.acked.max(seq);
    }

    /// The device acked everything up to here, also what was given up.
    pub(super) fn ack_up_to(&mut self, seq: InboxSeq) {
        self.ack(seq);
        self.given_up.take_up_to(seq);
    }

    /// The device acked this message, which is not in flight. Where it was given up, the device has it all the same.
    pub(super) fn ack_late(&mut self, message: MessageId) {
        if let Some(seq) = self.given_up.take(message) {
            self.ack(seq);
        }
    }

    /// A row was given up for this session.
    pub(super) fn give_up(&mut self, seq: InboxSeq, message: MessageId) {
        self.given_up.add(seq, message);
    }

    /// Moves on, up to what is still held (in flight or buffered). Returns where it is now.
    pub(super) fn advance(&mut self, lowest_held: Option<InboxSeq>) -> InboxSeq {
        let hole = [lowest_held, self.given_up.lowest()].into_iter().flatten().min();
        let reach = hole.map_or(self.acked, |hole| self.acked.min(InboxSeq(hole.0.saturating_sub(1))));
        self.covered = self.covered.max(reach);
        self.covered
    }

    /// True if it has moved since the last settlement carried it.
    pub(super) fn has_news(&self) -> bool {
        self.covered > self.told
    }

    /// A settlement carries it.
    pub(super) fn tell(&mut self) -> InboxSeq {
        self.told = self.covered;
        self.covered
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn message(seq: i64) -> MessageId {
        MessageId(Uuid::from_u128(seq.unsigned_abs().into()))
    }

    #[test]
    fn what_was_given_up_beyond_the_bound_is_owed_whatever_is_acked_late() {
        let (mut cursor, bound) = (DeviceCursor::new(InboxSeq(0)), i64::try_from(GIVEN_UP_MAX).unwrap());
        (1..=bound + 2).for_each(|seq| cursor.give_up(InboxSeq(seq), message(seq)));
        cursor.ack(InboxSeq(bound + 3));
        assert_eq!(cursor.advance(None), InboxSeq(0));
        (1..=bound + 2).rev().for_each(|seq| cursor.ack_late(message(seq)));
        assert_eq!(cursor.advance(None), InboxSeq(bound), "the last two are not known by their ids");
        cursor.ack_up_to(InboxSeq(bound + 3));
        assert_eq!(cursor.advance(None), InboxSeq(bound));
    }
}
