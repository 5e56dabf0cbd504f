//! The fallback poll of one class: every so often a live session reads what still waits from the low watermark on, whatever
//! hints it got or missed. The poll finds messages whose wake was lost, and waiting rows that the session passed by.

use std::time::{Duration, Instant};

use crate::domain::{ChatId, Class, Envelope, InboxSeq, Page};

use super::inbox::{Nudge, Supply, into_envelope};
use super::{Effect, Session};

/// The state of the fallback poll of one class.
#[derive(Debug)]
pub(super) enum FallbackPoll {
    /// The next one is at this time.
    Due(Instant),
    /// One is under way.
    UnderWay(Asked),
}

/// The state of the session when it asked.
#[derive(Debug)]
pub(super) struct Asked {
    at: Instant,
    cursor: InboxSeq,
    /// Numbers that were held, or acked and not committed, when the session asked; ascending. Such a row may show as waiting in
    /// the poll's snapshot and be settled by the time the answer is here: it is not a stray, whatever the answer says.
    known: Vec<InboxSeq>,
}

impl FallbackPoll {
    /// The time at which the next one is due; none while one is under way.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Due(due) => Some(*due),
            Self::UnderWay(_) => None,
        }
    }

    /// The database was away for so long, and nothing could be polled.
    pub(super) fn postpone(&mut self, by: Duration) {
        if let Self::Due(due) = self {
            *due += by;
        }
    }
}

impl Asked {
    fn is_stray(&self, envelope: &Envelope) -> bool {
        envelope.status.waits() && envelope.inbox_seq <= self.cursor && self.known.binary_search(&envelope.inbox_seq).is_err()
    }
}

impl Session {
    /// Polls, if it is time and no drain is under way: a drain reads more than a poll.
    pub(super) fn poll_when_due(&mut self, now: Instant, class: Class) {
        let (inbox, poll) = (&self.inboxes[class], &mut self.polls[class]);
        if poll.due().is_none_or(|due| due > now) {
            return;
        }
        if inbox.supply != Supply::Live {
            *poll = FallbackPoll::Due(now + self.settings.poll_interval);
            return;
        }
        let mut known: Vec<_> = self.window.numbers(class).chain(inbox.buffered_envelopes()).chain(self.commits.numbers(class)).collect();
        known.sort_unstable();
        // Everything known may be among the rows that wait: the limit leaves a page for strays.
        let limit = u16::try_from(known.len()).unwrap_or(u16::MAX).saturating_add(self.settings.page_rows);
        *poll = FallbackPoll::UnderWay(Asked { at: now, cursor: inbox.cursor, known });
        self.out.push(Effect::Poll { class, after: inbox.low_watermark.seq(), limit });
    }

    /// Takes the strays of a poll, and treats numbers above the cursor as a wake.
    pub(super) fn polled(&mut self, now: Instant, page: Page) {
        let (inbox, poll) = (&mut self.inboxes[page.class], &mut self.polls[page.class]);
        let next = FallbackPoll::Due(now + self.settings.poll_interval);
        let asked = match std::mem::replace(poll, next) {
            FallbackPoll::UnderWay(asked) => asked,
            not_asked @ FallbackPoll::Due(_) => {
                *poll = not_asked;
                return;
            }
        };
        if page.last_seq > inbox.cursor {
            inbox.nudge(Nudge::Offered(page.last_seq));
        }
        let limit = usize::from(self.settings.page_rows);
        let (class, is_last) = (page.class, page.is_last);
        let waiting = page.rows.into_iter().filter_map(into_envelope);
        let (expired, waiting): (Vec<Envelope>, Vec<Envelope>) = waiting.partition(|envelope| self.is_expired(now, envelope));
        if is_last {
            let chats: Vec<ChatId> = expired.iter().map(|envelope| envelope.message.chat).collect();
            self.marks.trust(class, asked.at, &chats);
        }
        let strays: Vec<Envelope> = waiting.into_iter().filter(|envelope| asked.is_stray(envelope)).take(limit).collect();
        for stray in &strays {
            self.marks.hold(class, stray.message.chat, stray.message.seq);
        }
        if !strays.is_empty() {
            self.inboxes[class].buffer_strays(strays);
        }
    }
}
