//! Settlements on their way to the lane: those of a burst become one job, and jobs go in their order, since a mark that is
//! proposed counts on those before it.

use crate::delivery::Acks;
use crate::session::SettlementNo;

/// Settlements that no lane has yet, as one job.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) first: SettlementNo,
    pub(super) last: SettlementNo,
    pub(super) acks: Acks,
}

/// Says if the lane's queue had room for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneQueue {
    /// It had.
    HadRoom,
    /// It was full: the job waited, and those behind it for this one.
    WasFull,
}

/// The settlements of one session.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    unsettled: Option<Unsettled>,
    /// A job waits for room in the lane's queue.
    is_waiting: bool,
}

impl Settlements {
    /// Adds a settlement to what the lane is given next.
    pub(super) fn add(&mut self, no: SettlementNo, acks: Acks) {
        match &mut self.unsettled {
            Some(unsettled) => {
                unsettled.last = no;
                unsettled.acks.join(acks);
            }
            None => self.unsettled = Some(Unsettled { first: no, last: no, acks }),
        }
    }

    /// Returns whether something waits that may go.
    pub(super) const fn may_go(&self) -> bool {
        self.unsettled.is_some() && !self.is_waiting
    }

    /// Takes the settlements that may go to the lane now.
    pub(super) fn take(&mut self) -> Option<Unsettled> {
        if self.is_waiting { None } else { self.unsettled.take() }
    }

    /// The job that was taken found the queue full.
    pub(super) const fn waits(&mut self) {
        self.is_waiting = true;
    }

    /// A job was written.
    pub(super) fn written(&mut self, queue: LaneQueue) {
        self.is_waiting &= queue == LaneQueue::HadRoom;
    }

    /// Returns whether the lane has been given everything.
    pub(super) const fn is_empty(&self) -> bool {
        self.unsettled.is_none() && !self.is_waiting
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{ExternalId, MessageId, Profile, UserId};

    fn acks() -> Acks {
        let external = ExternalId::try_from("bob".to_owned()).unwrap();
        let user = Arc::new(Profile { user: UserId(1), external, name: None, picture: None });
        Acks { user, rows: Vec::new(), by_id: vec![MessageId::generate()], marks: Vec::new(), device: None }
    }

    #[test]
    fn a_burst_is_one_job_and_the_next_one_waits_for_a_job_that_found_the_queue_full() {
        let mut settlements = Settlements::default();
        assert!(settlements.is_empty() && !settlements.may_go());
        (1..=3).for_each(|no| settlements.add(SettlementNo(no), acks()));
        let job = settlements.take().unwrap();
        assert_eq!((job.first.0, job.last.0, job.acks.by_id.len()), (1, 3, 3));
        settlements.waits();
        settlements.add(SettlementNo(4), acks());
        assert!(!settlements.may_go() && settlements.take().is_none());
        settlements.written(LaneQueue::HadRoom);
        assert!(!settlements.may_go(), "an earlier job was written, not the one that waits");
        settlements.written(LaneQueue::WasFull);
        assert_eq!(settlements.take().map(|job| job.first.0), Some(4));
        assert!(settlements.is_empty());
    }
}
