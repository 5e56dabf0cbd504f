//! One client's delivery state: what it was given, what it has acked, what comes next.
//!
//! Pure: no socket, no clock, no database. [`Session::handle`] takes what happened and says what to do;
//! [`Session::next_deadline`] says when it wants to be asked again. The connection task does the rest.
//!
//! Reading order: `io` (the contract), `inbox` (one class: cursor, buffer, reading), `low_watermark`, `window` (in flight), `drain`
//! (from the inbox through the window to the wire), `ack` (what the client says), `commits` (acks on their way to the
//! database), `endings` with `check` and `database_clock` (rows that end while they are held), `marks` and `device` (what an ack may claim), `deadlines` and
//! `fallback_poll` (what happens when nothing does).

mod io;
mod output;

mod inbox;
mod low_watermark;
mod window;

mod ack;
mod commits;
mod drain;

mod check;
mod database_clock;
mod endings;

mod device;
mod marks;

mod deadlines;
mod fallback_poll;
mod progress;

#[cfg(test)]
mod tests;

use std::time::Instant;

use crate::domain::{Class, InboxSeq, PerClass};

pub use io::*;

use commits::Commits;
use database_clock::DatabaseClock;
use deadlines::Liveness;
use device::DeviceCursor;
use fallback_poll::FallbackPoll;
use inbox::{Inbox, Nudge, Supply};
use marks::Marks;
use output::Output;
use progress::{Pace, Progress};
use window::Window;

/// The state machine. It never blocks and never panics; an answer it did not ask for is ignored.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    scope: Scope,
    inboxes: PerClass<Inbox>,
    polls: PerClass<FallbackPoll>,
    window: Window,
    marks: Marks,
    /// The numbers that its client has acked; none where no cursor is kept.
    device: Option<PerClass<DeviceCursor>>,
    commits: Commits,
    liveness: Liveness,
    progress: Progress,
    life: Life,
    out: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// The node stops: acks are taken and written, nothing is emitted or read any more, no deadline fires.
    Leaving,
    Closed,
}

impl Session {
    /// A session and its first effects: the first page of each class. Register in the hub before.
    pub fn start(now: Instant, start: Start) -> (Self, Vec<Effect>) {
        let device = |start: ClassStart| DeviceCursor::new(start.cursor);
        let mut session = Self {
            scope: start.scope,
            inboxes: start.classes.map(Inbox::new),
            polls: PerClass::from_fn(|_| FallbackPoll::Due(now + start.settings.poll_interval)),
            window: Window::new(start.settings.ack_timeout, DatabaseClock::new(now, start.database_time)),
            marks: Marks::new(Some(start.classes.chat.cursor).filter(|cursor| *cursor > start.classes.chat.settled_seq)),
            device: start.keeps_cursor.then(|| start.classes.map(device)),
            commits: Commits::default(),
            liveness: Liveness::default(),
            progress: Progress::new(if start.emit_alone { Pace::Alone } else { Pace::Windowed }),
            life: Life::Open,
            out: Output::default(),
            settings: start.settings,
        };
        session.carry_on(now);
        let effects = session.out.take();
        (session, effects)
    }

    /// Takes what happened and says what to do, in order. After an [`Effect::Close`] it says nothing any more.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        match self.life {
            Life::Open | Life::Leaving => self.take(now, input),
            Life::Closed => return Vec::new(),
        }
        match self.life {
            Life::Open | Life::Leaving => self.carry_on(now),
            Life::Closed => {}
        }
        self.out.take()
    }

    fn take(&mut self, now: Instant, input: Input) {
        match input {
            Input::Page(page) => self.page(page),
            Input::Polled(page) => self.polled(now, page),
            Input::Offer(envelope) => self.offer(now, envelope),
            Input::Wake(class) => self.inboxes[class].nudge(Nudge::Woken),
            Input::Ack { target, ticket } => self.ack(now, target, ticket),
            Input::AckCommitted(target) => self.ack_committed(now, target),
            Input::RejectCommitted { message, attempts } => self.reject_committed(now, message, attempts),
            Input::Reject { message, reason, is_final, ticket } => self.reject(now, message, reason, is_final, ticket),
            Input::Read { chat, target, ticket } => self.read(now, chat, target, ticket),
            Input::ReadUpTo(chat, seq) => self.read_elsewhere(chat, seq),
            Input::Left(chat, seq) => self.left(chat, seq),
            Input::SomethingEnded => self.something_ended(),
            Input::Checked(class, rows) => self.checked(class, rows),
            Input::Committed(no) => self.committed(no),
            Input::Attempted { class, seq, outcome } => self.attempted(now, class, seq, outcome),
            Input::LowWatermarkAdvanced(class, seq) => self.low_watermark_advanced(class, seq),
            Input::DatabaseAway => self.database_away(now),
            Input::DatabaseBack => self.database_back(now),
            Input::FramesUnread => self.window.restart(now),
            Input::Deadline => self.deadline(now),
            Input::Leave => self.life = Life::Leaving,
        }
    }

    /// Gives back the room that a busier time has left behind. Changes nothing else.
    pub fn shrink(&mut self) {
        self.inboxes.values_mut().for_each(|inbox| inbox.buffer.shrink_to_fit());
        self.window.shrink();
        self.marks.shrink();
        self.commits.shrink();
    }

    /// The time at which [`Input::Deadline`] is to be given. Any input may change it.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.life {
            Life::Open => self.first_deadline(),
            Life::Leaving | Life::Closed => None,
        }
    }

    /// True if nothing is under way: every envelope that was emitted is acked, and every ack is committed. An envelope that the client
    /// rejected does not count: once the session leaves, the next one emits it.
    pub fn is_quiet(&self) -> bool {
        !self.window.awaits_anything() && self.commits.uncommitted() == 0
    }

    fn is_leaving(&self) -> bool {
        match self.life {
            Life::Leaving => true,
            Life::Open | Life::Closed => false,
        }
    }

    /// True if the socket may be read. While it is not read no ack can be lost; after a while the session closes.
    pub fn may_read(&self) -> bool {
        let bound = self.settings.uncommitted_acks_max.saturating_mul(2);
        Class::ALL.into_iter().all(|class| self.commits.uncommitted_of(class) < bound) && self.commits.waiting() < bound
    }

    /// True if everything that waited at connect is settled and the client was told.
    pub fn is_drained(&self, class: Class) -> bool {
        self.inboxes[class].drain == inbox::Drain::Told
    }

    /// Envelopes emitted and not acked.
    pub fn in_flight(&self, class: Class) -> usize {
        self.window.len(class)
    }

    /// Rows and gaps read ahead.
    pub fn buffered(&self, class: Class) -> usize {
        self.inboxes[class].buffer.len()
    }

    /// Something may wait, and no page that was asked for since will show it: the buffer is full, or an older page is being read.
    pub fn is_behind(&self, class: Class) -> bool {
        match self.inboxes[class].supply {
            Supply::MayWait | Supply::Reading { nudge: Nudge::Woken, .. } => true,
            Supply::Reading { nudge: Nudge::Quiet | Nudge::Offered(_), .. } | Supply::Live => false,
        }
    }

    /// Acks on their way to the database.
    pub fn uncommitted_acks(&self) -> usize {
        self.commits.uncommitted()
    }

    /// The highest number taken.
    pub fn cursor(&self, class: Class) -> InboxSeq {
        self.inboxes[class].cursor
    }

    /// The number of envelopes that the client has acked or read while they were in flight.
    pub const fn acked_in_flight(&self) -> u64 {
        self.progress.acked()
    }

    /// True if any envelope was emitted.
    pub fn anything_emitted(&self) -> bool {
        self.progress.anything_emitted()
    }

    /// True if any envelope that was emitted here was acked, rejected or read.
    pub fn anything_acked(&self) -> bool {
        self.progress.anything_acked()
    }
}
