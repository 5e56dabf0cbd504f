//! The cursor of a device: the `acked_seq` behind which its next page starts. If it is too low, something comes twice; if it were
//! too high, something would never come.

use crate::domain::InboxSeq;

/// The cursor of one class.
#[derive(Debug)]
pub(super) struct DeviceCursor {
    /// Everything up to here was acked by the device, or is a gap that was acked over. Only grows.
    covered: InboxSeq,
    /// The highest number acked. A gap above it has been put on the wire, but nothing proves that it arrived:
    /// only the ack of something emitted after it does.
    acked: InboxSeq,
    /// The lowest row that was given up within this session: it comes again at the next connect.
    given_up: Option<InboxSeq>,
    /// The value that the last settlement carried.
    told: InboxSeq,
}

impl DeviceCursor {
    pub(super) fn new(start: InboxSeq) -> Self {
        Self { covered: start, acked: start, given_up: None, told: start }
    }

    /// The device acked this number (and, if it is one, the gap up to it).
    pub(super) fn ack(&mut self, seq: InboxSeq) {
        self.acked = self.acked.max(seq);
    }

    /// A row was given up for this session.
    pub(super) fn give_up(&mut self, seq: InboxSeq) {
        self.given_up = Some(self.given_up.map_or(seq, |lowest| lowest.min(seq)));
    }

    /// Moves on, up to what is still held (in flight or buffered). Returns where it is now.
    pub(super) fn advance(&mut self, lowest_held: Option<InboxSeq>) -> InboxSeq {
        let hole = [lowest_held, self.given_up].into_iter().flatten().min();
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
