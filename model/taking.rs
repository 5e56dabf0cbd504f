//! Feeds as far as the protocol leans on them: an event is stored once, in its stream, and becomes a row of the inbox in the read of a
//! page, or by a node for those who are connected to it. `restante_take` in its steps, and a publisher's commit.

use super::database::{Database, Message, Row, Seq, Status, chat_of};
use super::defect::Defect;

/// An event of a feed. Its stream is its chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    pub(crate) message: Message,
    pub(crate) seq: Seq,
}

/// The take of a page read, on the connection of one session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Take {
    /// The page has not been asked for.
    #[default]
    Idle,
    /// Something is new. The statement waits for the inbox. `early`: what a defect has read before it has the lock.
    Begun { early: Option<Heads> },
    /// It has the inbox, and has read nothing yet.
    HasInbox,
    /// The defect: it knows the rows to be, and has still to read where the cursors go.
    HasRows(Heads),
    /// It has committed, or there was nothing new. `more`: there is more than a page may take.
    Done { more: bool },
}

/// The last numbers of the two streams, and the cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Heads {
    last: [Seq; 2],
    cursors: [Seq; 2],
}

impl Database {
    /// Events that are no rows yet.
    pub(crate) fn untaken(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.seq > self.cursors[chat_of(event.message)])
    }

    fn heads(&self) -> Heads {
        Heads { last: self.chats, cursors: self.cursors }
    }

    /// The next statement of a session's take. False: it has to wait, or there is none.
    pub(crate) fn take(&mut self, socket: usize, rows_max: usize, defect: Option<Defect>) -> bool {
        let heads = self.heads();
        match self.takes[socket] {
            // Without a lock: as a rule nothing is new.
            Take::Idle if self.untaken().next().is_none() => self.takes[socket] = Take::Done { more: false },
            Take::Idle => {
                let early = (defect == Some(Defect::TakesWhatItSawBeforeTheLock)).then_some(heads);
                self.takes[socket] = Take::Begun { early };
            }
            Take::Begun { .. } if !self.inbox_is_free() => return false,
            Take::Begun { early: Some(early) } => self.write_taken(socket, early, early.last, rows_max),
            Take::Begun { early: None } => self.takes[socket] = Take::HasInbox,
            Take::HasInbox if defect == Some(Defect::CursorFromALaterStatement) => self.takes[socket] = Take::HasRows(heads),
            // A statement after the lock, so a snapshot after the lock.
            Take::HasInbox => self.write_taken(socket, heads, heads.last, rows_max),
            Take::HasRows(rows) => self.write_taken(socket, rows, heads.last, rows_max),
            Take::Done { .. } => return false,
        }
        true
    }

    /// Rows with the next numbers, and cursors, in one commit.
    fn write_taken(&mut self, socket: usize, seen: Heads, last: [Seq; 2], rows_max: usize) {
        let is_new = |event: &&Event| {
            let stream = chat_of(event.message);
            event.seq > seen.cursors[stream] && event.seq <= seen.last[stream]
        };
        let all: Vec<Event> = self.events.iter().filter(is_new).copied().collect();
        let more = all.len() > rows_max;
        for event in all.into_iter().take(rows_max) {
            self.last_seq += 1;
            let row = Row { message: event.message, chat_seq: event.seq, seq: self.last_seq, status: Status::Sent, deliveries: 0 };
            self.rows.push(row);
            let cursor = &mut self.cursors[chat_of(event.message)];
            *cursor = event.seq.max(*cursor);
        }
        if !more {
            for (stream, cursor) in self.cursors.iter_mut().enumerate().filter(|(stream, _)| self.feeds & (1 << stream) != 0) {
                *cursor = last[stream].max(*cursor);
            }
        }
        self.takes[socket] = Take::Done { more };
    }

    /// `restante_take_together`: rows of what is new in one stream, for a connected user that reads no page now. All of it happens under the
    /// lock, which is not waited for. Returns the numbers of the rows.
    pub(crate) fn take_together(&mut self, stream: usize) -> Vec<Seq> {
        if !self.inbox_is_free() {
            return Vec::new();
        }
        let new: Vec<Event> = self.untaken().filter(|event| chat_of(event.message) == stream).copied().collect();
        let before = self.last_seq;
        for event in new {
            self.last_seq += 1;
            let row = Row { message: event.message, chat_seq: event.seq, seq: self.last_seq, status: Status::Sent, deliveries: 0 };
            self.rows.push(row);
            self.cursors[stream] = event.seq.max(self.cursors[stream]);
        }
        (before + 1..=self.last_seq).collect()
    }

    /// A page may be read: its take has ended. Returns whether more is to be taken.
    pub(crate) fn end_take(&mut self, socket: usize) -> Option<bool> {
        let Take::Done { more } = self.takes[socket] else { return None };
        self.takes[socket] = Take::Idle;
        Some(more)
    }

    /// The session has gone: what it had under way is rolled back.
    pub(crate) fn lost_take(&mut self, socket: usize) {
        self.takes[socket] = Take::Idle;
    }

    pub(super) fn is_taking(&self) -> bool {
        self.takes.iter().any(|take| matches!(take, Take::HasInbox | Take::HasRows(_)))
    }
}
