//! The low watermark of one class: `settled_seq` as far as the session knows it, and when the database is asked to move it
//! on. It knows nothing of drains and pages.

use crate::domain::InboxSeq;

/// Nothing at or below the low watermark waits.
#[derive(Debug)]
pub(super) struct LowWatermark {
    /// The last value that the database told. The one in the database may be higher.
    seq: InboxSeq,
    request: Request,
    /// Acks that were committed since it was last asked for.
    acked: u32,
}

/// The request to move the low watermark on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    None,
    UnderWay,
}

impl LowWatermark {
    pub(super) const fn at(seq: InboxSeq) -> Self {
        Self { seq, request: Request::None, acked: 0 }
    }

    /// The last value that the database told.
    pub(super) const fn seq(&self) -> InboxSeq {
        self.seq
    }

    /// Counts acks that were committed.
    pub(super) const fn count_acks(&mut self, acks: u32) {
        self.acked = self.acked.saturating_add(acks);
    }

    /// True if at least so many acks were committed since it was last asked for.
    pub(super) const fn is_due(&self, acks: u32) -> bool {
        self.acked >= acks
    }

    /// Notes that the database is asked now. False: it has been asked, and its answer is still to come.
    #[must_use]
    pub(super) const fn ask(&mut self) -> bool {
        match self.request {
            Request::UnderWay => false,
            Request::None => {
                self.request = Request::UnderWay;
                self.acked = 0;
                true
            }
        }
    }

    /// Takes the database's answer. An older answer never moves it back.
    pub(super) fn answer(&mut self, seq: InboxSeq) {
        self.seq = self.seq.max(seq);
        self.request = Request::None;
    }
}
