//! What a sender that was away is told: marks that moved, and the cursor that says what it knows.
//!
//! A cursor is handed out only with the last frame of a read, so that a client that stops in the middle asks for all
//! of it again. Receipts told live carry the cursor of the last read: they may overtake one another, a read may not.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;

use crate::domain::{ChatId, ChatSeq, ExternalId, MovedMark, Receipt, ReceiptCounts, Status};
use crate::protocol::Timestamp;
use crate::protocol::server::{StatusCounts, StatusException, StatusList, StatusUpTo, frame};
use crate::store::{MarksCursor, MarksRead, Rest};

/// The slowest of slow looks takes so many intervals.
const LOOK_PAUSES_MAX: u32 = 16;

/// So long news may be under way between nodes.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(60);
/// Members of chats that are remembered as having read.
const TOLD_READ_MAX: usize = 1_000;

/// What a connection's client knows of marks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursors {
    /// What the client said it knows, until everything read since has been told.
    pub(super) told: Option<MarksCursor>,
}

impl Cursors {
    /// As the client gets it.
    pub(super) fn to_tell(self, epoch: &str) -> String {
        cursor_text(epoch, self.told.unwrap_or(MarksCursor(0)))
    }
}

/// When a sender looks for marks that moved by itself, should a receipt have been lost between nodes. The longer it sends
/// nothing, the less often: what it sent is then told, or waits for somebody who is away.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlowLook {
    at: Instant,
    pause: Duration,
    interval: Duration,
}

impl SlowLook {
    /// The first look of one that was told everything at its connect.
    pub(super) fn new(now: Instant, interval: Duration) -> Self {
        Self { at: now + interval, pause: interval, interval }
    }

    /// The next look.
    pub(super) const fn at(&self) -> Instant {
        self.at
    }

    /// Is it time? Then the one after it is set.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.at <= now;
        if is_due {
            self.pause = (self.pause * 2).min(self.interval * LOOK_PAUSES_MAX);
            self.at = now + self.pause;
        }
        is_due
    }

    /// Something was sent: what becomes of it is to be told soon.
    pub(super) fn soon(&mut self, now: Instant) {
        self.pause = self.interval;
        self.at = self.at.min(now + self.interval);
    }
}

/// What was told as read of late. A recipient may ack at one node and read at another, and the news of the ack come last.
#[derive(Debug, Default)]
pub(super) struct ToldRead(HashMap<(ChatId, ExternalId), (ChatSeq, Instant)>);

impl ToldRead {
    /// Would this receipt take back what was told? Then the marks are to be looked at instead: they know. Remembers
    /// what is told as read.
    pub(super) fn overtook(&mut self, now: Instant, receipt: &Receipt) -> bool {
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
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, (_, told)| now.saturating_duration_since(*told) < OVERTAKEN_WITHIN);
        // More than that at once: a receipt may then come late, and marks never take back what is known by name.
        if self.0.len() >= TOLD_READ_MAX {
            self.0.clear();
        }
        self.0.shrink_to_fit();
    }
}

/// Reads a cursor. One of another epoch, or that cannot be read, is none.
pub(super) fn parse_cursor(text: &str, epoch: &str) -> Option<MarksCursor> {
    // A list: where chats live in several databases, each has a place of its own.
    text.split(',').filter_map(|place| place.trim().split_once('-')).find_map(|(theirs, number)| {
        let number = number.parse().ok()?;
        (theirs == epoch && number > 0).then_some(MarksCursor(number))
    })
}

fn cursor_text(epoch: &str, cursor: MarksCursor) -> String {
    format!("{epoch}-{}", cursor.0)
}

/// The frames of a read; the last carries the new cursor, once everything is told. None when nothing moved.
pub(super) fn frames(read: &MarksRead, before: &str, epoch: &str) -> Vec<Utf8Bytes> {
    let after = match read.rest {
        Rest::None(cursor) => cursor_text(epoch, cursor),
        Rest::From(_) => before.to_owned(),
    };
    let steps: Vec<Step<'_>> = read.marks.iter().flat_map(steps_of).chain(read.counts.iter().map(Step::Count)).collect();
    let last = steps.len().saturating_sub(1);
    let cursor = |place| if place == last { after.as_str() } else { before };
    steps.iter().enumerate().map(|(place, step)| step.frame(cursor(place))).collect()
}

enum Step<'a> {
    UpTo { chat: ChatId, seq: ChatSeq, status: Status, member: &'a ExternalId, except: Vec<StatusException> },
    Count(&'a ReceiptCounts),
}

/// Delivered beyond what is read, then read: a client that applies them in order ends with the truth.
fn steps_of(mark: &MovedMark) -> impl Iterator<Item = Step<'_>> {
    let step = move |seq, status| Step::UpTo { chat: mark.chat, seq, status, member: &mark.member, except: exceptions(mark) };
    let delivered = (mark.delivered > mark.read || !mark.except.is_empty()).then(|| step(mark.delivered, Status::Delivered));
    let read = (mark.read > ChatSeq(0)).then(|| step(mark.read, Status::Read));
    delivered.into_iter().chain(read)
}

fn exceptions(mark: &MovedMark) -> Vec<StatusException> {
    let exceptions = mark.except.iter();
    exceptions.map(|it| StatusException { message_id: it.message, status: it.status, reason: Some(it.reason.clone()) }).collect()
}

impl Step<'_> {
    fn frame(&self, marks_cursor: &str) -> Utf8Bytes {
        match self {
            Step::UpTo { chat, seq, status, member, except } => {
                frame(None, &StatusUpTo { chat_id: *chat, seq: *seq, up_to: true, status: *status, user_id: member, except, marks_cursor })
            }
            Step::Count(counts) => counts_frame(counts, Some(marks_cursor)),
        }
    }
}

fn counts_frame(counts: &ReceiptCounts, marks_cursor: Option<&str>) -> Utf8Bytes {
    frame(
        None,
        &StatusCounts {
            chat_id: counts.chat,
            message_id: counts.message,
            seq: counts.seq,
            delivered_count: counts.delivered,
            read_count: counts.read,
            member_count: counts.members,
            marks_cursor,
        },
    )
}

/// A receipt as it happens.
pub(super) fn receipt_frame(receipt: &Receipt, marks_cursor: &str) -> Utf8Bytes {
    match receipt {
        Receipt::Moved { chat, messages, first: _, seq, status, member, at, reason } => frame(
            None,
            &StatusList {
                chat_id: *chat,
                message_ids: messages,
                seq: *seq,
                status: *status,
                user_id: member,
                reason: reason.as_deref(),
                timestamp: Timestamp(*at),
                marks_cursor: Some(marks_cursor),
            },
        ),
        Receipt::Counted(counts) => counts_frame(counts, Some(marks_cursor)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_that_was_written_is_read_back(epoch in "[0-9a-f]{16}", number in 1..=u64::MAX) {
            prop_assert_eq!(parse_cursor(&cursor_text(&epoch, MarksCursor(number)), &epoch), Some(MarksCursor(number)));
        }

        #[test]
        fn what_is_no_cursor_is_none(text in "[0-9a-f]{0,3}-?[0-9+-]{0,25}|.{0,40}", epoch in "[0-9a-f]{0,3}") {
            let read = parse_cursor(&text, &epoch);
            prop_assert!(read.is_none_or(|cursor| cursor.0 > 0 && text.starts_with(&epoch)));
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
        let text = cursor_text("abc", MarksCursor(7));
        assert_eq!(parse_cursor(&text, "abc"), Some(MarksCursor(7)));
        assert_eq!(parse_cursor(&text, "other"), None);
        for bad in ["", "abc", "abc-", "abc-x", "abc-0", "-7"] {
            assert_eq!(parse_cursor(bad, "abc"), None, "{bad}");
        }
    }

    #[test]
    fn a_sender_looks_less_and_less_often_until_it_sends_again() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let mut look = SlowLook::new(begun, second);
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

    #[test]
    fn only_the_last_frame_of_a_read_carries_its_cursor() {
        let member = ExternalId::try_from("bob".to_owned()).unwrap();
        let mark = |delivered, read| MovedMark {
            chat: ChatId::generate(),
            member: member.clone(),
            delivered: ChatSeq(delivered),
            read: ChatSeq(read),
            except: Vec::new(),
        };
        let read = MarksRead { marks: vec![mark(5, 3), mark(2, 2)], counts: Vec::new(), rest: Rest::None(MarksCursor(9)) };
        let frames = frames(&read, "abc-1", "abc");
        assert_eq!(frames.len(), 3);
        assert!(frames[..2].iter().all(|frame| frame.contains("abc-1")) && frames[2].contains("abc-9"));
    }
}
