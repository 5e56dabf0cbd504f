//! One class of the inbox as the session has taken it so far: the cursor, what is buffered, and whether more
//! waits. It decides what of a page or an offer is new; it knows nothing of windows, acks or the wire.

use std::collections::VecDeque;

use crate::domain::{ChatId, ChatSeq, Class, Envelope, GapReason, InboxSeq, Page, PageRow};

use super::ClassStart;
use super::check::Check;
use super::low_watermark::LowWatermark;

/// Chats that the user has left, and that are remembered. An offer of one that was forgotten is emitted: it comes long after
/// the news of the leaving, which is rare.
const LEFT_MAX: usize = 64;

/// Pages of events that bring nothing and are not the last, one after another.
const IDLE_PAGES_MAX: u8 = 20;

/// The knowledge about rows above the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supply {
    /// More may wait; the next page has not been asked for.
    MayWait,
    /// A page above `after` is being read. `nudge` is what came meanwhile.
    Reading { after: InboxSeq, nudge: Nudge },
    /// Nothing is known to wait: an offer at `cursor + 1` may be emitted without a read.
    Live,
}

/// The strongest hint that came while a page was being read. The order is that of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nudge {
    /// None.
    Quiet,
    /// Something exists up to this number: harmless if the page's snapshot saw it.
    Offered(InboxSeq),
    /// Something may wait, and nobody said what: the snapshot may have been taken before it.
    Woken,
}

/// The way to `queue:drained`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// Something that waited at connect is still to be taken or acked.
    UnderWay,
    /// All of it was acked or ended otherwise; some of the acks are not committed yet.
    Settling,
    /// Announced.
    Told,
}

/// The answer to an offer.
#[derive(Debug)]
pub(super) enum Offered {
    /// It is the next row and nothing is in its way: the cursor is past it now, emit it.
    Emit(Envelope),
    /// It was taken before, or became a wake.
    Nothing,
}

/// One class.
#[derive(Debug)]
pub(super) struct Inbox {
    /// The highest number taken: emitted or buffered.
    pub(super) cursor: InboxSeq,
    /// The highest number emitted, as envelope or gap.
    pub(super) emitted: InboxSeq,
    /// `last_seq` at connect: what [`Drain`] is about. Events that had no number then move it on when they get one.
    pub(super) target: InboxSeq,
    /// Events that waited at connect without a number, and have not been taken yet; at most.
    to_come: u32,
    pub(super) low_watermark: LowWatermark,
    /// Taken and not yet emitted, ascending. At most one page and one fallback poll.
    pub(super) buffer: VecDeque<PageRow>,
    pub(super) supply: Supply,
    pub(super) drain: Drain,
    pub(super) check: Check,
    /// Chats that the user has left, and up to where: their offers are not trusted.
    left: VecDeque<(ChatId, ChatSeq)>,
    /// Pages one after another that brought nothing.
    idle_pages: u8,
    /// Before the first page has arrived nothing is drained, not even an empty inbox.
    first_page: FirstPage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstPage {
    Awaited,
    Arrived,
    /// It, or a later one, was the last: whatever waited at connect has been taken.
    CaughtUp,
}

impl Inbox {
    pub(super) fn new(start: ClassStart) -> Self {
        Self {
            cursor: start.cursor,
            emitted: start.cursor,
            target: start.last_seq,
            to_come: start.to_come,
            low_watermark: LowWatermark::at(start.settled_seq),
            buffer: VecDeque::new(),
            supply: Supply::MayWait,
            drain: Drain::UnderWay,
            check: Check::Idle,
            left: VecDeque::new(),
            idle_pages: 0,
            first_page: FirstPage::Awaited,
        }
    }

    /// Something may wait.
    pub(super) fn nudge(&mut self, nudge: Nudge) {
        self.supply = match self.supply {
            Supply::MayWait | Supply::Live => Supply::MayWait,
            Supply::Reading { after, nudge: earlier } => Supply::Reading { after, nudge: earlier.max(nudge) },
        };
    }

    /// Takes an offer if it is exactly the next row; `has_room` says whether the window would let it out.
    pub(super) fn offer(&mut self, envelope: Envelope, has_room: bool) -> Offered {
        let seq = envelope.inbox_seq;
        if seq <= self.cursor {
            return Offered::Nothing;
        }
        let nothing_before = self.supply == Supply::Live && self.buffer.is_empty();
        let is_trusted = !self.left.iter().any(|(chat, up_to)| *chat == envelope.message.chat && envelope.message.seq <= *up_to);
        if nothing_before && is_trusted && has_room && seq == self.cursor.next() {
            self.cursor = seq;
            self.came(u32::from(envelope.feed.is_some()));
            return Offered::Emit(envelope);
        }
        self.nudge(Nudge::Offered(seq));
        Offered::Nothing
    }

    /// The user has left a chat: what it got there ends at this number.
    pub(super) fn leave(&mut self, chat: ChatId, up_to: ChatSeq) {
        self.left.retain(|(left, _)| *left != chat);
        if self.left.len() >= LEFT_MAX {
            self.left.pop_front();
        }
        self.left.push_back((chat, up_to));
    }

    /// The number to read behind, if a page should be read now: nothing is buffered, none is under way, more may wait.
    /// The window does not matter here: the next page is read before it is empty.
    pub(super) fn wants_page(&mut self) -> Option<InboxSeq> {
        match self.supply {
            Supply::MayWait if self.buffer.is_empty() => {
                self.supply = Supply::Reading { after: self.cursor, nudge: Nudge::Quiet };
                Some(self.cursor)
            }
            Supply::MayWait | Supply::Reading { .. } | Supply::Live => None,
        }
    }

    /// Buffers what of a page is new, and returns the envelopes that were taken by their place in their chats.
    /// A page that was not asked for is ignored.
    pub(super) fn page(&mut self, page: Page) -> Vec<(ChatId, ChatSeq)> {
        let nudge = match self.supply {
            Supply::Reading { after, nudge } if after == page.after => nudge,
            Supply::Reading { .. } | Supply::MayWait | Supply::Live => return Vec::new(),
        };
        let before = self.cursor;
        let held = page.rows.into_iter().filter_map(|row| self.take(row)).collect();
        if page.is_last {
            // The same snapshot that held the rows: everything up to its `last_seq` is in this page or waits no
            // more. A `last_seq` from a later statement could jump over rows that were committed in between.
            self.cursor = self.cursor.max(page.last_seq);
            self.all_came();
        }
        let saw_everything = match nudge {
            Nudge::Quiet => true,
            Nudge::Offered(seq) => seq <= page.last_seq,
            Nudge::Woken => false,
        };
        self.check.page();
        let goes_on = !page.is_last && self.goes_on(page.class, before);
        self.supply = if goes_on || !saw_everything { Supply::MayWait } else { Supply::Live };
        self.first_page = match self.first_page {
            FirstPage::CaughtUp => FirstPage::CaughtUp,
            FirstPage::Awaited | FirstPage::Arrived if page.is_last => FirstPage::CaughtUp,
            FirstPage::Awaited | FirstPage::Arrived => FirstPage::Arrived,
        };
        held
    }

    /// A page that moved nothing would be asked for again and again: leave the rest to the fallback poll. Of feeds there are such pages,
    /// since what is new may not be for this user, and the next page is behind it: a few of them may follow one another.
    fn goes_on(&mut self, class: Class, before: InboxSeq) -> bool {
        let idle_max = match class {
            Class::Chat => 0,
            Class::Alert | Class::Event => IDLE_PAGES_MAX,
        };
        self.idle_pages = if self.cursor > before { 0 } else { self.idle_pages.saturating_add(1) };
        self.idle_pages <= idle_max
    }

    /// Takes a row if it is above the cursor; of a gap only the part that is.
    fn take(&mut self, row: PageRow) -> Option<(ChatId, ChatSeq)> {
        match row {
            PageRow::Envelope(envelope) if envelope.inbox_seq > self.cursor => {
                let place = (envelope.message.chat, envelope.message.seq);
                let count = u32::from(envelope.feed.is_some());
                self.cursor = envelope.inbox_seq;
                self.buffer.push_back(PageRow::Envelope(envelope));
                self.came(count);
                Some(place)
            }
            PageRow::Gap { from, to, reason, feed } if to > self.cursor => {
                self.buffer.push_back(PageRow::Gap { from: from.max(self.cursor.next()), to, reason, feed });
                self.cursor = to;
                self.came(feed.map_or(0, |range| u32::try_from(range.count).unwrap_or_default()));
                None
            }
            PageRow::Envelope(_) | PageRow::Gap { .. } => None,
        }
    }

    /// So many events came, up to the cursor. Above the numbers of the time of connect these are the ones that had none then; one that
    /// an operator has put back meanwhile is taken for one of them.
    fn came(&mut self, count: u32) {
        if self.cursor > self.target && count > 0 && self.to_come > 0 {
            self.to_come = self.to_come.saturating_sub(count);
            if self.to_come == 0 {
                self.target = self.cursor;
            }
        }
    }

    /// Nothing without a number is left.
    fn all_came(&mut self) {
        if self.to_come > 0 {
            (self.to_come, self.target) = (0, self.cursor.max(self.target));
        }
    }

    /// Puts stray rows, which lie below the cursor, where their numbers belong.
    pub(super) fn buffer_strays(&mut self, strays: Vec<Envelope>) {
        self.buffer.extend(strays.into_iter().map(PageRow::Envelope));
        self.buffer.make_contiguous().sort_by_key(first_number);
    }

    /// Removes the buffered envelopes of a chat up to a number of it, but for those that are not to be removed.
    pub(super) fn drop_read(&mut self, chat: ChatId, up_to: ChatSeq, is_read: impl Fn(&Envelope) -> bool) -> Vec<Envelope> {
        let is_read = |row: &PageRow| match row {
            PageRow::Envelope(envelope) => envelope.is_of_chat(chat, up_to) && is_read(envelope),
            PageRow::Gap { .. } => false,
        };
        if !self.buffer.iter().any(is_read) {
            return Vec::new();
        }
        let (read, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.buffer).into_iter().partition(is_read);
        self.buffer = kept;
        read.into_iter().filter_map(into_envelope).collect()
    }

    /// Removes the buffered envelope of this number.
    pub(super) fn drop_row(&mut self, seq: InboxSeq) -> Option<Envelope> {
        let place = self.place(seq)?;
        self.buffer.remove(place).and_then(into_envelope)
    }

    /// Puts a gap in the place of the buffered envelope of this number, and returns the envelope.
    pub(super) fn end_row(&mut self, seq: InboxSeq, reason: GapReason) -> Option<Envelope> {
        let place = self.place(seq)?;
        let row = self.buffer.get_mut(place)?;
        into_envelope(std::mem::replace(row, PageRow::Gap { from: seq, to: seq, reason, feed: None }))
    }

    fn place(&self, seq: InboxSeq) -> Option<usize> {
        self.buffer.iter().position(|row| matches!(row, PageRow::Envelope(envelope) if envelope.inbox_seq == seq))
    }

    /// The buffered envelopes.
    pub(super) fn envelopes_mut(&mut self) -> impl Iterator<Item = &mut Envelope> {
        self.buffer.iter_mut().filter_map(|row| match row {
            PageRow::Envelope(envelope) => Some(envelope),
            PageRow::Gap { .. } => None,
        })
    }

    /// The numbers of the buffered envelopes whose rows wait, as far as is known.
    pub(super) fn buffered_waiting(&self) -> impl Iterator<Item = InboxSeq> + '_ {
        self.buffer.iter().filter_map(|row| match row {
            PageRow::Envelope(envelope) if envelope.status.waits() => Some(envelope.inbox_seq),
            PageRow::Envelope(_) | PageRow::Gap { .. } => None,
        })
    }

    /// The numbers of the buffered envelopes.
    pub(super) fn buffered_envelopes(&self) -> impl Iterator<Item = InboxSeq> + '_ {
        self.buffer.iter().filter_map(|row| match row {
            PageRow::Envelope(envelope) => Some(envelope.inbox_seq),
            PageRow::Gap { .. } => None,
        })
    }

    /// The lowest number that is buffered.
    pub(super) fn lowest_buffered(&self) -> Option<InboxSeq> {
        self.buffer.front().map(first_number)
    }

    /// True if everything that waited at connect was taken and emitted, so that only acks are missing.
    pub(super) fn emitted_what_waited(&self) -> bool {
        let taken = match self.first_page {
            FirstPage::Awaited => false,
            FirstPage::Arrived => self.to_come == 0 && self.cursor >= self.target,
            FirstPage::CaughtUp => true,
        };
        taken && self.lowest_buffered().is_none_or(|seq| seq > self.target)
    }
}

fn first_number(row: &PageRow) -> InboxSeq {
    match row {
        PageRow::Envelope(envelope) => envelope.inbox_seq,
        PageRow::Gap { from, .. } => *from,
    }
}

pub(super) fn into_envelope(row: PageRow) -> Option<Envelope> {
    match row {
        PageRow::Envelope(envelope) => Some(envelope),
        PageRow::Gap { .. } => None,
    }
}
