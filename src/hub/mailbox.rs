//! The mailbox of one session. It is bounded and never blocks the sender. A mark stands for notes that did not fit, and of notices, which
//! are kept nowhere else, the last one of each subject waits.
//!
//! A queue behind a lock, and not a channel: a channel keeps room for tens of notes however empty it is, and most
//! connections are idle most of the time.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::domain::{ChatId, ChatSeq, Class, Envelope, Message, MessageId, PerClass, Receipt, UserId};
use crate::protocol::Code;
use crate::protocol::client::CommittedAnswer;
use crate::protocol::event::{Encoded, Notice, NoticeSubject};

/// Notes that fit into a mailbox. Beyond it a session is behind, and checks the database.
const NOTES_MAX: usize = 256;
/// Notices of different subjects that wait beyond that. A session watches 2,000 users at most.
const NOTICES_MAX: usize = 4_096;
/// The same for notices of typing: a client takes a user who types for idle after a while.
const TYPING_MAX: usize = NOTICES_MAX / 4;
/// Messages of the user itself that wait beyond that to be read.
const ECHOES_MAX: usize = 1_000;

/// Something a session is told.
#[derive(Debug, Clone)]
pub enum Note {
    /// A message was committed for the user.
    Offer(Box<Envelope>),
    /// News of a message that the user sent.
    Receipt(Arc<Receipt>),
    /// The user has read a chat up to here, on another connection.
    ReadUpTo(ChatId, ChatSeq),
    /// A message that the user sent on another connection.
    Echo(Encoded<Arc<Message>>),
    /// The same where the message did not come along: the session reads it from the database.
    EchoOf(MessageId),
    /// Something that another user did.
    Notice(Encoded<Notice>),
    /// The client has answered by another way than its connection.
    Answered(Arc<CommittedAnswer>),
    /// The user may see this one now: the session watches it.
    MaySee(UserId),
    /// The user has changed what it mutes: the session reads it before it emits anything that is told after this.
    PreferencesChanged,
}

/// One entry of a mailbox, as its session takes it.
#[derive(Debug)]
pub enum Found {
    /// Close with this code.
    Closing(Code),
    /// The next note.
    Note(Note),
    /// The session is to check these: notes did not fit, or somebody knows no more than that.
    Missed(Missed),
}

/// The kinds of news that the session reads from the database: notes did not fit, or the teller knew no more than the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missed {
    wakes: PerClass<bool>,
    receipts: bool,
    ended: bool,
    preferences: bool,
}

impl Missed {
    /// Something may wait in this inbox.
    pub fn wakes(self, class: Class) -> bool {
        self.wakes[class]
    }

    /// Receipts: the marks tell.
    pub const fn receipts(self) -> bool {
        self.receipts
    }

    /// Something that the session holds may have ended.
    pub const fn ended(self) -> bool {
        self.ended
    }

    /// The user may have changed what it mutes.
    pub const fn preferences(self) -> bool {
        self.preferences
    }
}

#[derive(Debug, Default)]
struct Content {
    notes: VecDeque<Note>,
    /// Notices that did not fit. As long as there are some, later ones are put here too: the last one of a subject counts.
    notices: BTreeMap<NoticeSubject, Encoded<Notice>>,
    /// Echoes that did not fit.
    echoes: VecDeque<MessageId>,
    missed: Missed,
    closing: Option<Code>,
    /// Set while the reader waits.
    reader: Option<Waker>,
}

/// The sending end. Clones share it.
#[derive(Debug, Clone)]
pub struct Mailbox(Arc<Mutex<Content>>);

/// The end that the session reads.
#[derive(Debug)]
pub struct Reader {
    content: Arc<Mutex<Content>>,
    /// Taken out together, so that the senders' lock is taken once for all of them.
    taken: VecDeque<Note>,
}

/// A mailbox and the end that its session reads.
pub fn mailbox() -> (Mailbox, Reader) {
    let content = Arc::<Mutex<Content>>::default();
    (Mailbox(Arc::clone(&content)), Reader { content, taken: VecDeque::new() })
}

impl Mailbox {
    /// Puts a note in. One that does not fit becomes a mark, or waits in a shorter form.
    pub fn put(&self, note: Note) {
        self.change(|content| match &note {
            Note::Notice(notice) if !content.notices.is_empty() => content.keep_notice(notice),
            _ if content.notes.len() < NOTES_MAX => content.notes.push_back(note),
            Note::Offer(envelope) => content.missed.wakes[envelope.class] = true,
            Note::Receipt(_) => content.missed.receipts = true,
            Note::ReadUpTo(..) => (content.missed.receipts, content.missed.ended) = (true, true),
            Note::Notice(notice) => content.keep_notice(notice),
            Note::Echo(message) => content.keep_echo(message.id),
            Note::EchoOf(message) => content.keep_echo(*message),
            Note::PreferencesChanged => content.missed.preferences = true,
            // The overview that follows brings the users whom it watches.
            Note::MaySee(_) => content.missed.receipts = true,
            // Without a device the rows tell it. A device gets the messages again, and repeats its acks.
            Note::Answered(_) => content.missed.ended = true,
        });
    }

    /// Offers an envelope.
    pub fn offer(&self, envelope: Envelope) {
        self.put(Note::Offer(Box::new(envelope)));
    }

    /// Something may wait.
    pub fn wake(&self, class: Class) {
        self.change(|content| content.missed.wakes[class] = true);
    }

    /// Receipts may have been missed, or rows have ended: the caller knows no more.
    pub fn check_marks(&self) {
        self.change(|content| (content.missed.receipts, content.missed.ended) = (true, true));
    }

    /// Something that the session holds may have ended.
    pub fn check_rows(&self) {
        self.change(|content| content.missed.ended = true);
    }

    /// Anything may have been missed.
    pub fn check_all(&self) {
        self.change(|content| {
            content.missed = Missed { wakes: PerClass::from_fn(|_| true), receipts: true, ended: true, preferences: true }
        });
    }

    /// Close with this code. The first one counts.
    pub fn close(&self, code: Code) {
        self.change(|content| {
            content.closing.get_or_insert(code);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Content)) {
        let mut content = locked(&self.0);
        change(&mut content);
        let reader = content.reader.take();
        drop(content);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Reader {
    /// Waits for the next entry. An entry is taken only when the future is ready, so a dropped future loses nothing.
    pub async fn next(&mut self) -> Found {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The next entry, or `None` at once.
    pub fn try_next(&mut self) -> Option<Found> {
        self.taken.pop_front().map(Found::Note).or_else(|| locked(&self.content).find(&mut self.taken))
    }

    /// Gives back room that is not needed.
    pub fn shrink(&mut self) {
        self.taken.shrink_to_fit();
        locked(&self.content).notes.shrink_to_fit();
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Found> {
        if let Some(note) = self.taken.pop_front() {
            return Poll::Ready(Found::Note(note));
        }
        let mut content = locked(&self.content);
        match content.find(&mut self.taken) {
            Some(found) => Poll::Ready(found),
            None => {
                match &mut content.reader {
                    Some(reader) => reader.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl Content {
    /// A client that is too far behind connects again, and asks for what it was not told.
    fn keep_notice(&mut self, notice: &Encoded<Notice>) {
        let subject = notice.subject();
        let notices_max = if matches!(subject, NoticeSubject::Typing(..)) { TYPING_MAX } else { NOTICES_MAX };
        if self.notices.len() < notices_max || self.notices.contains_key(&subject) {
            self.notices.insert(subject, notice.clone());
        } else if notices_max == NOTICES_MAX {
            self.closing.get_or_insert(Code::TooSlow);
        }
    }

    fn keep_echo(&mut self, message: MessageId) {
        if self.echoes.len() < ECHOES_MAX {
            self.echoes.push_back(message);
        }
    }

    /// `taken` is empty before; afterwards it holds what follows.
    fn find(&mut self, taken: &mut VecDeque<Note>) -> Option<Found> {
        if let Some(code) = self.closing.take() {
            return Some(Found::Closing(code));
        }
        std::mem::swap(&mut self.notes, taken);
        if let Some(note) = taken.pop_front() {
            return Some(Found::Note(note));
        }
        if let Some((_, notice)) = self.notices.pop_first() {
            return Some(Found::Note(Note::Notice(notice)));
        }
        if let Some(message) = self.echoes.pop_front() {
            return Some(Found::Note(Note::EchoOf(message)));
        }
        let missed = std::mem::take(&mut self.missed);
        (missed != Missed::default()).then_some(Found::Missed(missed))
    }
}

/// Code under the lock cannot panic half-way: a panicking thread leaves the value whole.
fn locked(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MessageId, ReceiptCounts};

    #[tokio::test]
    async fn what_does_not_fit_is_told_after_what_did() {
        let (mailbox, mut reader) = mailbox();
        for _ in 0..NOTES_MAX {
            mailbox.put(notice());
        }
        mailbox.put(Note::Receipt(Arc::new(receipt())));
        mailbox.put(removed());
        mailbox.wake(Class::Event);
        for _ in 0..NOTES_MAX {
            assert!(matches!(reader.try_next(), Some(Found::Note(Note::Notice(notice))) if matches!(*notice, Notice::Typing { .. })));
        }
        assert!(matches!(reader.try_next(), Some(Found::Note(Note::Notice(notice))) if matches!(*notice, Notice::Removed { .. })));
        let Some(Found::Missed(missed)) = reader.try_next() else { panic!("nothing was missed") };
        assert!(missed.wakes(Class::Event) && !missed.wakes(Class::Chat) && missed.receipts() && !missed.ended());
        assert!(reader.try_next().is_none());
    }

    fn online(user: usize, is_online: bool) -> Note {
        let (user, at) = (crate::domain::ExternalId::try_from(format!("user-{user}")).unwrap(), time::OffsetDateTime::UNIX_EPOCH);
        Note::Notice(Encoded::new(if is_online { Notice::Online { user, at } } else { Notice::Offline { user, last_seen: at } }))
    }

    /// Broken by dropping what does not fit.
    #[test]
    fn of_notices_that_do_not_fit_the_last_one_of_each_subject_is_told_and_so_are_echoes() {
        let (mailbox, mut reader) = mailbox();
        for _ in 0..NOTES_MAX {
            mailbox.put(notice());
        }
        for is_online in [true, false, true, false] {
            (0..2_000).for_each(|user| mailbox.put(online(user, is_online)));
        }
        let message = MessageId::generate();
        mailbox.put(Note::EchoOf(message));
        assert!(matches!(reader.try_next(), Some(Found::Note(_))));
        // There is room again, but this one comes after those that wait.
        mailbox.put(online(7, true));
        let found: Vec<Found> = std::iter::from_fn(|| reader.try_next()).skip(NOTES_MAX - 1).collect();
        assert_eq!(found.len(), 2_000 + 1);
        let onlines =
            found.iter().filter(|found| matches!(found, Found::Note(Note::Notice(notice)) if matches!(**notice, Notice::Online { .. })));
        assert_eq!(onlines.count(), 1);
        assert!(matches!(found.last(), Some(Found::Note(Note::EchoOf(of))) if *of == message));
    }

    #[test]
    fn a_session_that_is_too_far_behind_is_closed_and_typing_alone_closes_none() {
        let (mailbox, mut reader) = mailbox();
        (0..2 * NOTICES_MAX).for_each(|_| mailbox.put(notice()));
        assert!(matches!(reader.try_next(), Some(Found::Note(_))));
        (0..NOTICES_MAX).for_each(|_| mailbox.put(removed()));
        assert!(locked(&mailbox.0).notices.len() <= NOTICES_MAX);
        while let Some(Found::Note(_)) = reader.taken.pop_front().map(Found::Note) {}
        assert!(matches!(reader.try_next(), Some(Found::Closing(Code::TooSlow))));
    }

    #[tokio::test]
    async fn many_wakes_are_one() {
        let (mailbox, mut reader) = mailbox();
        for _ in 0..1_000 {
            mailbox.wake(Class::Chat);
        }
        assert!(matches!(reader.next().await, Found::Missed(_)));
        assert!(reader.try_next().is_none());
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_and_closing_goes_before_notes() {
        let (mailbox, mut reader) = mailbox();
        let waiting = tokio::spawn(async move { (reader.next().await, reader) });
        tokio::task::yield_now().await;
        mailbox.put(notice());
        let (found, mut reader) = waiting.await.unwrap();
        assert!(matches!(found, Found::Note(_)));
        mailbox.put(notice());
        mailbox.close(Code::Displaced);
        assert!(matches!(reader.next().await, Found::Closing(Code::Displaced)));
    }

    fn notice() -> Note {
        let user = crate::domain::ExternalId::try_from("ben".to_owned()).unwrap();
        Note::Notice(Encoded::new(Notice::Typing { chat: ChatId::generate(), user, typing: true }))
    }

    fn removed() -> Note {
        let by = crate::domain::ExternalId::try_from("ben".to_owned()).unwrap();
        Note::Notice(Encoded::new(Notice::Removed { chat: ChatId::generate(), left_seq: ChatSeq(1), by }))
    }

    fn receipt() -> Receipt {
        let (chat, message) = (ChatId::generate(), MessageId::generate());
        Receipt::Counted(ReceiptCounts { chat, message, seq: ChatSeq(1), delivered: 1, read: 0, members: 1 })
    }
}
