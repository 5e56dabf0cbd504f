//! The slow look-for-yourself: every so often a live session reads what still waits from `settled_seq` on, whatever
//! hints it got or missed. It finds messages whose wake was lost, and takes waiting rows that it passed by.

use std::time::{Duration, Instant};

use crate::domain::{Class, Envelope, InboxSeq, Page, PageRow};

use super::inbox::{Nudge, Supply};
use super::{Effect, Session};

/// Where the look of one class stands.
#[derive(Debug)]
pub(super) enum Look {
    /// The next one is at this time.
    Due(Instant),
    /// One is under way.
    UnderWay(Asked),
}

/// What the session knew when it asked.
#[derive(Debug)]
pub(super) struct Asked {
    cursor: InboxSeq,
    /// Held, or acked and not committed, when it asked; ascending. Such a row may show as waiting in the look's snapshot
    /// and be settled by the time the answer is here: it is not a stray, whatever the answer says.
    known: Vec<InboxSeq>,
}

impl Look {
    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Due(due) => Some(*due),
            Self::UnderWay(_) => None,
        }
    }

    /// The database was away for so long, in which no look could be made.
    pub(super) fn postpone(&mut self, by: Duration) {
        if let Self::Due(due) = self {
            *due += by;
        }
    }
}

impl Asked {
    fn is_stray(&self, row: &PageRow) -> bool {
        match row {
            PageRow::Envelope(envelope) => {
                envelope.status.waits() && envelope.inbox_seq <= self.cursor && self.known.binary_search(&envelope.inbox_seq).is_err()
            }
            PageRow::Gap { .. } => false,
        }
    }
}

impl Session {
    /// Looks, if it is time and no drain is under way (which looks harder).
    pub(super) fn look_when_due(&mut self, now: Instant, class: Class) {
        let inbox = &mut self.inboxes[class];
        if inbox.look.due().is_none_or(|due| due > now) {
            return;
        }
        if inbox.supply != Supply::Live {
            inbox.look = Look::Due(now + self.settings.look_interval);
            return;
        }
        let mut known: Vec<_> = self.window.numbers(class).chain(inbox.buffered_envelopes()).chain(self.commits.numbers(class)).collect();
        known.sort_unstable();
        // Everything known may be among the rows that wait: the limit leaves a page for strays.
        let limit = u16::try_from(known.len()).unwrap_or(u16::MAX).saturating_add(self.settings.page_rows);
        let (cursor, after) = (inbox.cursor, inbox.settled);
        inbox.look = Look::UnderWay(Asked { cursor, known });
        self.out.push(Effect::Look { class, after, limit });
    }

    /// Takes the strays of a look, and treats numbers above the cursor as a wake.
    pub(super) fn looked(&mut self, now: Instant, page: Page) {
        let inbox = &mut self.inboxes[page.class];
        let next = Look::Due(now + self.settings.look_interval);
        let asked = match std::mem::replace(&mut inbox.look, next) {
            Look::UnderWay(asked) => asked,
            not_asked @ Look::Due(_) => {
                inbox.look = not_asked;
                return;
            }
        };
        if page.last_seq > inbox.cursor {
            inbox.nudge(Nudge::Offered(page.last_seq));
        }
        let limit = usize::from(self.settings.page_rows);
        let strays: Vec<Envelope> =
            page.rows.into_iter().filter(|row| asked.is_stray(row)).filter_map(super::inbox::into_envelope).take(limit).collect();
        for stray in &strays {
            self.marks.hold(stray.message.chat, stray.message.seq);
        }
        if !strays.is_empty() {
            inbox.buffer_strays(strays);
        }
    }
}
