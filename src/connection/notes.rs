//! What others say: offers, receipts, typing, and "look for yourself".

use std::sync::Arc;
use std::time::Instant;

use super::marks::{self, receipt_frame};
use super::shell::{Done, MarksReading, Shell};
use crate::domain::{Class, UserId};
use crate::hub::{Found, Missed, Note, Reader};
use crate::protocol::Code;
use crate::service::OverviewQuery;
use crate::session::Input;
use crate::store::{Further, MarksRead, Overview, Rest};

/// Notes taken before the loop looks at everything else again.
const NOTES_AT_ONCE: usize = 32;

impl Shell {
    /// Takes what was found in the mailbox, and some of what follows.
    pub(super) fn found(&mut self, first: Found, more: &mut Reader) {
        self.take(first);
        for _ in 1..NOTES_AT_ONCE {
            let Some(found) = more.try_next() else { return };
            self.take(found);
        }
    }

    fn take(&mut self, found: Found) {
        match found {
            Found::Closing(code) => self.close(code),
            Found::Note(note) => self.note(note),
            Found::Missed(missed) => self.look_for(missed),
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Offer(envelope) => self.happened(Input::Offer(*envelope)),
            Note::Receipt(receipt) if self.told_read.overtook(Instant::now(), &receipt) => self.look_at_marks(),
            Note::Receipt(receipt) => {
                let cursor = self.cursors.to_tell(self.shared.epoch.as_str());
                self.outbox.text(receipt_frame(&receipt, &cursor));
            }
            Note::ReadUpTo(chat, seq) => self.happened(Input::ReadUpTo(chat, seq)),
            Note::Frame(frame) => self.outbox.text(frame),
        }
    }

    fn look_for(&mut self, missed: Missed) {
        for class in Class::ALL {
            if missed.wakes(class) {
                self.happened(Input::Wake(class));
            }
        }
        if missed.receipts() {
            self.look_at_marks();
        }
    }

    /// Says that the user is here, and asks to be told of its direct contacts.
    pub(super) fn greet(&mut self, peers: &[UserId]) {
        self.shared.presence.arrived(self.who.profile.user);
        self.shared.hub.watch(self.who.session, &self.mailbox, peers);
    }

    /// Reads the marks that moved since the client was told last; at most one read at a time.
    pub(super) fn look_at_marks(&mut self) {
        if self.marks_reading != MarksReading::No {
            self.marks_reading = MarksReading::Again;
            return;
        }
        self.marks_reading = MarksReading::Yes;
        self.read_marks(None);
    }

    /// The first part of a look, or a further one once the client has taken those before.
    fn read_marks(&mut self, further: Option<Further>) {
        let (service, room) = (self.shared.service.clone(), self.outbox.room());
        let (user, since, device) = (Arc::clone(&self.who.profile), self.cursors.told, self.who.wishes.device.clone());
        self.operations.push(Box::pin(async move {
            if further.is_some() {
                room.await;
            }
            Done::Overview(Box::new(service.overview(OverviewQuery { user, since, further, device }).await))
        }));
    }

    pub(super) fn overview_read(&mut self, overview: Overview) {
        // The newer connection of the device is at another node, and its word was lost.
        if overview.session_no > self.who.session_no {
            return self.close(Code::Displaced);
        }
        self.tell_marks(overview.marks);
    }

    /// Tells what a read brought. Was that all, the client knows everything up to it from then on; else more is read.
    pub(super) fn tell_marks(&mut self, read: MarksRead) {
        let before = self.cursors.to_tell(self.shared.epoch.as_str());
        for frame in marks::frames(&read, &before, self.shared.epoch.as_str()) {
            self.outbox.text(frame);
        }
        match read.rest {
            Rest::None(cursor) => {
                self.cursors.told = Some(cursor);
                if std::mem::replace(&mut self.marks_reading, MarksReading::No) == MarksReading::Again {
                    self.look_at_marks();
                }
            }
            Rest::From(further) => {
                if self.marks_reading == MarksReading::No {
                    self.marks_reading = MarksReading::Yes;
                }
                self.read_marks(Some(further));
            }
        }
    }
}
