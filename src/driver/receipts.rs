//! Receipts for a sender: live receipts, and the marks that moved while the sender was away. The marks cursor says which marks
//! the client knows.
//!
//! A cursor is handed out only with the last frame of a read, so that a client that stops in the middle asks for all
//! of it again. Receipts told live carry the cursor of the last read: they may overtake one another, a read may not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::echoes::Echoes;
use crate::domain::{ChatId, ChatSeq, ExternalId, MovedMark, Receipt, Status};
use crate::protocol::event::ServerEvent;
use crate::protocol::server::StatusException;
use crate::store::{MarksCursor, MarksRead, PageToken, Remainder};

/// The longest pause between two polls, in intervals.
const POLL_PAUSES_MAX: u32 = 16;

/// News may be under way between nodes for this long.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(60);
/// Members of chats that are remembered as having read.
const TOLD_READ_MAX: usize = 1_000;

/// The receipts that the client of one session knows, and the time of the next poll for marks.
#[derive(Debug)]
pub(super) struct Receipts {
    epoch: Arc<str>,
    /// The client knows everything up to here: what it said when it connected, until everything read since has been told.
    known: Option<MarksCursor>,
    /// The same as the client gets it.
    cursor: Arc<str>,
    poll: MarksPoll,
    told_read: ToldRead,
    own_read: OwnRead,
    reading: Reading,
    /// Messages of the user that are to be read before they can be shown.
    pub(super) echoes: Echoes,
}

/// Says if marks are being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    Yes,
    /// They are, and have to be read again after it.
    Again,
}

/// The step that follows after the marks of a read have been sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Done,
    /// They are to be read again: something moved meanwhile.
    ReadAgain,
    /// The next part of them is to be read.
    ReadOn(PageToken),
}

impl Receipts {
    /// Receipts of a client that knows everything up to `known`. It polls at this interval.
    pub(super) fn new(now: Instant, interval: Duration, epoch: &str, known: Option<MarksCursor>) -> Self {
        let (poll, told_read) = (MarksPoll::new(now, interval), ToldRead::default());
        Self {
            epoch: epoch.into(),
            cursor: cursor_text(epoch, known.as_ref()),
            known,
            poll,
            told_read,
            own_read: OwnRead::default(),
            reading: Reading::No,
            echoes: Echoes::default(),
        }
    }

    /// The marks cursor for the client.
    pub(super) fn cursor(&self) -> Arc<str> {
        Arc::clone(&self.cursor)
    }

    /// The cursor behind which the next read of marks begins.
    pub(super) fn known(&self) -> Option<MarksCursor> {
        self.known.clone()
    }

    /// The event for a receipt as it happens. None: it would take back what was told, so the marks are to be read instead.
    pub(super) fn receipt(&mut self, now: Instant, receipt: Arc<Receipt>) -> Option<ServerEvent> {
        if self.told_read.overtook(now, &receipt) { None } else { Some(ServerEvent::Receipt(receipt, self.cursor())) }
    }

    /// The client has read a chat itself: it need not be told.
    pub(super) fn own_read(&mut self, chat: ChatId, seq: ChatSeq) {
        let _ = self.own_read.is_news(chat, seq);
    }

    /// The event for a chat that the user has read on another connection. None: the client knows.
    pub(super) fn read_elsewhere(&mut self, chat: ChatId, seq: ChatSeq) -> Option<ServerEvent> {
        self.own_read.is_news(chat, seq).then(|| ServerEvent::ChatRead(chat, seq, self.cursor()))
    }

    /// Marks are to be read. False: they are being read, and will be read again after it.
    pub(super) fn begin_read(&mut self) -> bool {
        let begins = self.reading == Reading::No;
        self.reading = if begins { Reading::Yes } else { Reading::Again };
        begins
    }

    /// The events of marks that were read, and what follows. After the last part the client knows everything up to it.
    pub(super) fn read(&mut self, read: &MarksRead) -> (Vec<ServerEvent>, Next) {
        let own = read.own.iter().filter(|(chat, seq)| self.own_read.is_news(*chat, *seq));
        let own = own.map(|(chat, seq)| ServerEvent::ChatRead(*chat, *seq, Arc::clone(&self.cursor))).collect();
        let events = events(own, read, &self.cursor, &self.epoch);
        match &read.rest {
            Remainder::None(cursor) => {
                self.known = Some(cursor.clone());
                self.cursor = cursor_text(&self.epoch, Some(cursor));
                let before = std::mem::replace(&mut self.reading, Reading::No);
                (events, if before == Reading::Again { Next::ReadAgain } else { Next::Done })
            }
            Remainder::From(token) => {
                if self.reading == Reading::No {
                    self.reading = Reading::Yes;
                }
                (events, Next::ReadOn(token.clone()))
            }
        }
    }

    /// When the marks are to be polled next.
    pub(super) const fn poll_at(&self) -> Instant {
        self.poll.at()
    }

    /// Returns whether it is time to poll. Then the time after it is set.
    pub(super) fn is_poll_due(&mut self, now: Instant) -> bool {
        self.poll.is_due(now)
    }

    /// The client sent a message: what becomes of it is to be told soon.
    pub(super) fn sent(&mut self, now: Instant) {
        self.poll.soon(now);
    }

    /// Lets go of what nothing can overtake any more.
    pub(super) fn forget(&mut self, now: Instant) {
        self.told_read.forget(now);
    }
}

/// The time of the next poll for the marks of a sender, in case a receipt was lost between nodes. The polls become rarer
/// while the sender sends nothing: its receipts have then been sent, or its recipients are away.
#[derive(Debug, Clone, Copy)]
struct MarksPoll {
    at: Instant,
    pause: Duration,
    interval: Duration,
}

impl MarksPoll {
    /// The first poll of one that was told everything at its connect.
    fn new(now: Instant, interval: Duration) -> Self {
        Self { at: now + interval, pause: interval, interval }
    }

    /// The next poll.
    const fn at(&self) -> Instant {
        self.at
    }

    /// Returns whether it is time. Then the time after it is set.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.at <= now;
        if is_due {
            self.pause = (self.pause * 2).min(self.interval * POLL_PAUSES_MAX);
            self.at = now + self.pause;
        }
        is_due
    }

    /// Something was sent: what becomes of it is to be told soon.
    fn soon(&mut self, now: Instant) {
        self.pause = self.interval;
        self.at = self.at.min(now + self.interval);
    }
}

/// The read receipts that were sent recently. A recipient may ack at one node and read at another; then the receipt of the ack
/// can arrive last.
#[derive(Debug, Default)]
struct ToldRead(HashMap<(ChatId, ExternalId), (ChatSeq, Instant)>);

impl ToldRead {
    /// Returns whether this receipt would take back what was told. Then the marks are to be read instead: they know. Remembers
    /// what is told as read.
    fn overtook(&mut self, now: Instant, receipt: &Receipt) -> bool {
        let Receipt::Moved { chat, first, seq, status, member, .. } = receipt else { return false };
        match status {
            Status::Read => {
                if self.0.len() >= TOLD_READ_MAX {
                    self.forget(now);
                }
                let told = self.0.entry((*chat, member.clone())).or_insert((*seq, now));
                *told = (told.0.max(*seq), now);
                false
            }
            Status::Delivered if self.0.is_empty() => false,
            Status::Delivered => self.0.get(&(*chat, member.clone())).is_some_and(|(read, _)| first <= read),
            Status::Sent | Status::Failed | Status::Expired => false,
        }
    }

    /// Lets go of what nothing can overtake any more.
    fn forget(&mut self, now: Instant) {
        self.0.retain(|_, (_, told)| now.saturating_duration_since(*told) < OVERTAKEN_WITHIN);
        // More than that at once: a receipt may then come late, and marks never take back what is known by name.
        if self.0.len() >= TOLD_READ_MAX {
            self.0.clear();
        }
        self.0.shrink_to_fit();
    }
}

/// The numbers up to which the client knows chats as read by its user: own marks that are read again are told once.
#[derive(Debug, Default)]
struct OwnRead(HashMap<ChatId, ChatSeq>);

impl OwnRead {
    /// True if the client does not know it yet. Then it does from now on.
    #[must_use]
    fn is_news(&mut self, chat: ChatId, seq: ChatSeq) -> bool {
        if self.0.len() >= TOLD_READ_MAX && !self.0.contains_key(&chat) {
            // A chat that was forgotten may be told once more.
            self.0 = HashMap::new();
        }
        let known = self.0.entry(chat).or_default();
        let is_news = seq > *known;
        *known = seq.max(*known);
        is_news
    }
}

/// Reads a cursor. One of another epoch, or that cannot be read, is none.
pub(super) fn parse_cursor(text: &str, epoch: &str) -> Option<MarksCursor> {
    // A list: where chats live in several databases, each has a place of its own.
    text.split(',').filter_map(|place| place.trim().split_once('-')).find_map(|(theirs, number)| {
        let cursor = MarksCursor::parse(number)?;
        (theirs == epoch).then_some(cursor)
    })
}

fn cursor_text(epoch: &str, cursor: Option<&MarksCursor>) -> Arc<str> {
    match cursor {
        Some(cursor) => format!("{epoch}-{cursor}").into(),
        None => format!("{epoch}-0").into(),
    }
}

/// The events of a read after those of own reading; the last carries the new cursor, once everything is told. None when nothing moved.
fn events(own: Vec<ServerEvent>, read: &MarksRead, before: &Arc<str>, epoch: &str) -> Vec<ServerEvent> {
    let after = match &read.rest {
        Remainder::None(cursor) => cursor_text(epoch, Some(cursor)),
        Remainder::From(_) => Arc::clone(before),
    };
    let mut events = own;
    events.extend(read.marks.iter().flat_map(|mark| events_of(mark, before)));
    events.extend(read.counts.iter().map(|counts| ServerEvent::Counted(*counts, Arc::clone(before))));
    if let Some(
        ServerEvent::MarkMoved { marks_cursor, .. } | ServerEvent::Counted(_, marks_cursor) | ServerEvent::ChatRead(.., marks_cursor),
    ) = events.last_mut()
    {
        *marks_cursor = after;
    }
    events
}

/// Delivered beyond what is read, then read: a client that applies them in order ends with the truth.
fn events_of(mark: &MovedMark, cursor: &Arc<str>) -> impl Iterator<Item = ServerEvent> {
    let event = |seq, status| ServerEvent::MarkMoved {
        chat: mark.chat,
        seq,
        status,
        member: mark.member.clone(),
        except: exceptions(mark),
        marks_cursor: Arc::clone(cursor),
    };
    let delivered = (mark.delivered > mark.read || !mark.except.is_empty()).then(|| event(mark.delivered, Status::Delivered));
    let read = (mark.read > ChatSeq(0)).then(|| event(mark.read, Status::Read));
    delivered.into_iter().chain(read)
}

fn exceptions(mark: &MovedMark) -> Vec<StatusException> {
    let exceptions = mark.except.iter();
    exceptions.map(|it| StatusException { message_id: it.message, status: it.status, reason: Some(it.reason.clone()) }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_that_was_written_is_read_back(epoch in "[0-9a-f]{16}", number in 1..=u64::MAX) {
            let cursor = MarksCursor::at(number);
            prop_assert_eq!(parse_cursor(&cursor_text(&epoch, Some(&cursor)), &epoch), Some(cursor));
        }

        #[test]
        fn what_is_no_cursor_is_none(text in "[0-9a-f]{0,3}-?[0-9+-]{0,25}|.{0,40}", epoch in "[0-9a-f]{0,3}") {
            let read = parse_cursor(&text, &epoch);
            prop_assert!(read.is_none_or(|cursor| cursor != MarksCursor::at(0) && text.starts_with(&epoch)));
        }
    }

    #[test]
    fn an_ack_whose_news_come_after_those_of_a_read_is_looked_up_and_not_told() {
        let (chat, now) = (ChatId::generate(), Instant::now());
        let receipt = |status, first, seq, member: &str| Receipt::Moved {
            chat,
            messages: Vec::new(),
            first: ChatSeq(first),
            seq: ChatSeq(seq),
            status,
            member: ExternalId::try_from(member.to_owned()).unwrap(),
            at: time::OffsetDateTime::UNIX_EPOCH,
            reason: None,
        };
        let mut told = ToldRead::default();
        assert!(!told.overtook(now, &receipt(Status::Delivered, 1, 5, "bob")), "nothing was read");
        assert!(!told.overtook(now, &receipt(Status::Read, 4, 6, "bob")));
        assert!(!told.overtook(now, &receipt(Status::Read, 2, 2, "bob")), "an older read takes nothing back");
        assert!(told.overtook(now, &receipt(Status::Delivered, 5, 5, "bob")));
        assert!(told.overtook(now, &receipt(Status::Delivered, 6, 9, "bob")), "one of them is read");
        assert!(!told.overtook(now, &receipt(Status::Delivered, 7, 9, "bob")));
        assert!(!told.overtook(now, &receipt(Status::Delivered, 5, 5, "carol")), "somebody else's");
        assert!(!told.overtook(now, &receipt(Status::Failed, 5, 5, "bob")), "an end is told in any case");
        told.forget(now + OVERTAKEN_WITHIN);
        assert!(!told.overtook(now, &receipt(Status::Delivered, 5, 5, "bob")), "it is remembered for so long and no longer");
    }

    #[test]
    fn a_cursor_is_taken_only_from_the_epoch_it_is_of() {
        let text = cursor_text("abc", Some(&MarksCursor::at(7)));
        assert_eq!(parse_cursor(&text, "abc"), Some(MarksCursor::at(7)));
        assert_eq!(parse_cursor(&text, "other"), None);
        for bad in ["", "abc", "abc-", "abc-x", "abc-0", "-7"] {
            assert_eq!(parse_cursor(bad, "abc"), None, "{bad}");
        }
    }

    #[test]
    fn a_sender_looks_less_and_less_often_until_it_sends_again() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let mut look = MarksPoll::new(begun, second);
        assert!(!look.is_due(begun));
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let at = look.at();
            assert!(look.is_due(at));
            pauses.push((look.at() - at).as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 16, 16, 16]);
        let now = look.at() - 10 * second;
        look.soon(now);
        assert_eq!(look.at(), now + second);
    }

    fn receipts() -> Receipts {
        Receipts::new(Instant::now(), Duration::from_secs(1), "abc", Some(MarksCursor::at(1)))
    }

    fn mark(delivered: i64, read: i64) -> MovedMark {
        let (chat, member) = (ChatId::generate(), ExternalId::try_from("bob".to_owned()).unwrap());
        MovedMark { chat, member, delivered: ChatSeq(delivered), read: ChatSeq(read), except: Vec::new() }
    }

    fn all(marks: Vec<MovedMark>, cursor: u64) -> MarksRead {
        MarksRead { marks, counts: Vec::new(), own: Vec::new(), rest: Remainder::None(MarksCursor::at(cursor)) }
    }

    #[test]
    fn only_the_last_event_of_a_read_carries_its_cursor_and_later_receipts_do() {
        let mut receipts = receipts();
        let (events, next) = receipts.read(&all(vec![mark(5, 3), mark(2, 2)], 9));
        let cursors: Vec<_> = events
            .into_iter()
            .map(|event| match event {
                ServerEvent::MarkMoved { marks_cursor, .. } => marks_cursor.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((cursors, next), (["abc-1", "abc-1", "abc-9"].map(str::to_owned).to_vec(), Next::Done));
        assert_eq!((receipts.known(), &*receipts.cursor()), (Some(MarksCursor::at(9)), "abc-9"));
    }

    #[test]
    fn own_reading_is_told_once_and_never_to_the_connection_that_read() {
        let (mut receipts, chat) = (receipts(), ChatId::generate());
        let told = |events: Vec<ServerEvent>| -> Vec<(i64, String)> {
            let words = |event| match event {
                ServerEvent::ChatRead(_, seq, cursor) => (seq.0, cursor.to_string()),
                other => panic!("{other:?}"),
            };
            events.into_iter().map(words).collect()
        };
        let own = |seq, cursor| MarksRead { own: vec![(chat, ChatSeq(seq))], ..all(Vec::new(), cursor) };
        assert_eq!(told(receipts.read(&own(3, 7)).0), [(3, "abc-7".to_owned())]);
        assert_eq!(told(receipts.read(&own(3, 8)).0), []);
        receipts.own_read(chat, ChatSeq(5));
        assert_eq!(told(receipts.read(&own(5, 9)).0), []);
        assert!(receipts.read_elsewhere(chat, ChatSeq(4)).is_none());
        assert_eq!(told(receipts.read_elsewhere(chat, ChatSeq(6)).into_iter().collect()), [(6, "abc-9".to_owned())]);
        for _ in 0..2 * TOLD_READ_MAX {
            receipts.own_read(ChatId::generate(), ChatSeq(1));
        }
        assert!(receipts.own_read.0.len() <= TOLD_READ_MAX);
    }

    #[test]
    fn what_moves_while_marks_are_read_is_read_once_more_however_often_it_moves() {
        let mut receipts = receipts();
        assert!(receipts.begin_read());
        assert!(!receipts.begin_read() && !receipts.begin_read());
        assert_eq!(receipts.read(&all(Vec::new(), 2)).1, Next::ReadAgain);
        assert!(receipts.begin_read());
        assert_eq!(receipts.read(&all(Vec::new(), 3)).1, Next::Done);
    }

    #[test]
    fn a_client_that_knows_nothing_is_given_a_cursor_that_is_of_the_epoch() {
        let receipts = Receipts::new(Instant::now(), Duration::from_secs(1), "abc", None);
        assert_eq!(&*receipts.cursor(), "abc-0");
    }
}
