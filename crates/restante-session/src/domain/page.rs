//! A page: what one read of an inbox brings, from one snapshot.

use super::{Class, Envelope, FeedId, FeedSeq, GapReason, InboxSeq, Status};

/// One thing a page holds, in the order of its numbers.
#[derive(Debug, Clone)]
pub enum PageRow {
    /// A row to emit.
    Envelope(Envelope),
    /// Numbers that will never come.
    Gap {
        /// First number.
        from: InboxSeq,
        /// Last number.
        to: InboxSeq,
        /// The reason.
        reason: GapReason,
        /// For events of a feed that ended before they had a number of the inbox: their range in the feed. Such a gap is never
        /// joined with another.
        feed: Option<FeedRange>,
    },
}

/// Events of a feed that ended before they became rows of an inbox. All of them share one number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedRange {
    /// The feed.
    pub feed: FeedId,
    /// The first number in the feed's stream.
    pub from: FeedSeq,
    /// The last number in the feed's stream.
    pub to: FeedSeq,
    /// The number of events that the user would have got.
    pub count: i64,
}

/// A page of one inbox, read in one snapshot together with the inbox's `last_seq`.
#[derive(Debug, Clone)]
pub struct Page {
    /// The class of the inbox.
    pub class: Class,
    /// The exclusive lower bound that was asked for.
    pub after: InboxSeq,
    /// Its rows, ascending by number.
    pub rows: Vec<PageRow>,
    /// Nothing else up to `last_seq` is to be emitted: it holds fewer rows than asked for, or ends with that number; and no event of a
    /// feed is still to become a row.
    pub is_last: bool,
    /// `inboxes.last_seq` of the same snapshot.
    pub last_seq: InboxSeq,
}

impl Page {
    /// True if there is no envelope to emit.
    pub fn is_all_gaps(&self) -> bool {
        self.rows.iter().all(|row| matches!(row, PageRow::Gap { .. }))
    }

    /// The number of rows that are there and cannot be read.
    pub fn unreadable_rows(&self) -> u64 {
        let gaps = self.rows.iter().map(|row| match row {
            PageRow::Gap { from, to, reason: GapReason::Unreadable, .. } => u64::try_from(to.0 - from.0 + 1).unwrap_or_default(),
            PageRow::Envelope(envelope) => u64::from(envelope.message.is_unreadable),
            PageRow::Gap { .. } => 0,
        });
        gaps.sum()
    }
}

/// The outcome of an attempt that was to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Counted; the row still waits and has so many attempts now.
    Counted(u16),
    /// That was the last one (or the reject was final): the row is failed, after so many attempts.
    Failed(u16),
    /// Nothing was counted, since the row does not wait any more: its status, and the attempts that were counted before.
    Settled(Status, u16),
}

/// The state of a row that a session has buffered or in flight, as the database has it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// It waits.
    Waits,
    /// It is `delivered` or `read`.
    Settled(Status),
    /// It will not come any more: it failed, expired, or has another number now.
    Ended(GapReason),
}
