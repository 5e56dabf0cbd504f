//! The mailbox of one session: bounded, never blocking the sender, and honest about what did not fit.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::mpsc;

use crate::domain::{ChatId, ChatSeq, Class, Envelope, Receipt};
use crate::protocol::Code;

/// Notes that fit into a mailbox. Beyond it a session is behind, and looks for itself.
const NOTES_MAX: usize = 256;

const CHAT: u8 = 1;
const EVENT: u8 = 2;
const RECEIPTS: u8 = 4;

/// Something a session is told.
#[derive(Debug, Clone)]
pub enum Note {
    /// A message was committed for the user.
    Offer(Box<Envelope>),
    /// Something may wait in this inbox.
    Wake(Class),
    /// News of a message that the user sent.
    Receipt(Arc<Receipt>),
    /// The user has read a chat up to here, on another connection.
    ReadUpTo(ChatId, ChatSeq),
    /// Something to pass on as it is: typing, presence, membership, an own message sent elsewhere.
    Frame(Utf8Bytes),
    /// Look at [`Mailbox::take_missed`] and [`Mailbox::closing`].
    Look,
}

/// What did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missed(u8);

impl Missed {
    /// Something may wait in this inbox.
    pub const fn wakes(self, class: Class) -> bool {
        self.0 & bit(class) != 0
    }

    /// Receipts: the marks tell.
    pub const fn receipts(self) -> bool {
        self.0 & RECEIPTS != 0
    }
}

const fn bit(class: Class) -> u8 {
    match class {
        Class::Chat => CHAT,
        Class::Event => EVENT,
    }
}

#[derive(Debug, Default)]
struct Beside {
    missed: AtomicU8,
    closing: OnceLock<Code>,
}

/// The sending end. Clones share it.
#[derive(Debug, Clone)]
pub struct Mailbox {
    notes: mpsc::Sender<Note>,
    beside: Arc<Beside>,
}

/// A mailbox and the end that its session reads.
pub fn mailbox() -> (Mailbox, mpsc::Receiver<Note>) {
    let (notes, reader) = mpsc::channel(NOTES_MAX);
    (Mailbox { notes, beside: Arc::default() }, reader)
}

impl Mailbox {
    /// Puts a note in. One that does not fit becomes a mark, or, when nothing depends on it, is dropped.
    pub fn put(&self, note: Note) {
        let mark = match &note {
            Note::Offer(envelope) => bit(envelope.class),
            Note::Wake(class) => bit(*class),
            Note::Receipt(_) => RECEIPTS,
            Note::ReadUpTo(..) | Note::Frame(_) | Note::Look => 0,
        };
        if self.notes.try_send(note).is_err() && mark != 0 {
            self.mark(mark);
        }
    }

    /// Offers an envelope.
    pub fn offer(&self, envelope: Envelope) {
        self.put(Note::Offer(Box::new(envelope)));
    }

    /// Something may wait.
    pub fn wake(&self, class: Class) {
        self.mark(bit(class));
    }

    /// Receipts may have been missed.
    pub fn look_at_marks(&self) {
        self.mark(RECEIPTS);
    }

    /// Anything may have been missed.
    pub fn look(&self) {
        self.mark(CHAT | EVENT | RECEIPTS);
    }

    /// Close with this code. The first one counts.
    pub fn close(&self, code: Code) {
        let _ = self.beside.closing.set(code);
        let _ = self.notes.try_send(Note::Look);
    }

    /// Takes the marks away and returns them.
    pub fn take_missed(&self) -> Missed {
        Missed(self.beside.missed.swap(0, Ordering::AcqRel))
    }

    /// The code to close with, if somebody asked for it.
    pub fn closing(&self) -> Option<Code> {
        self.beside.closing.get().copied()
    }

    /// The mark first, then the note: a reader that empties the mailbox between our failed try and the mark would
    /// otherwise sleep on it. If the second note does not fit either, the reader has yet to get to those before it.
    fn mark(&self, mark: u8) {
        let before = self.beside.missed.fetch_or(mark, Ordering::AcqRel);
        if before & mark != mark {
            let _ = self.notes.try_send(Note::Look);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_marked_and_the_reader_is_woken() {
        let (mailbox, mut reader) = mailbox();
        for _ in 0..NOTES_MAX + 10 {
            mailbox.put(Note::Frame("x".into()));
        }
        mailbox.wake(Class::Chat);
        assert!(mailbox.take_missed().wakes(Class::Chat));
        while reader.try_recv().is_ok() {}
        mailbox.wake(Class::Event);
        assert!(matches!(reader.recv().await, Some(Note::Look)));
        let missed = mailbox.take_missed();
        assert!(missed.wakes(Class::Event) && !missed.wakes(Class::Chat) && !missed.receipts());
    }

    #[tokio::test]
    async fn many_wakes_are_one_note() {
        let (mailbox, mut reader) = mailbox();
        for _ in 0..1_000 {
            mailbox.wake(Class::Chat);
        }
        assert!(reader.recv().await.is_some());
        assert!(reader.try_recv().is_err());
    }
}
