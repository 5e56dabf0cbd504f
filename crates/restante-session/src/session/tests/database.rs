//! The database of the model world: one user's inboxes in memory, with the guards that the schema has. Each function
//! is one transaction. It keeps its own invariants (I4, I5, I8, marks, device cursors) and panics when one is broken. Events of feeds
//! wait outside of the inboxes, until a read of a page gives some of them their numbers.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::domain::{
    AttemptOutcome, ChatId, ChatSeq, Class, Envelope, FeedId, FeedPlace, FeedRange, FeedSeq, GapReason, InboxSeq, Message, MessageId, Page,
    PageRow, PerClass, RowState, Status,
};
use crate::session::{ReadTarget, Scope, Settlement};

use super::harness::{chat, envelope, expiring};

/// Events that one read of a page gives their numbers.
const TAKEN_MAX: usize = 3;
/// Numbers of chats from this one on are those of streams of events.
pub(super) const STREAMS: u128 = 8;

pub(super) struct Row {
    pub(super) message: Arc<Message>,
    pub(super) status: Status,
    attempts: u16,
    feed: Option<FeedPlace>,
}

#[derive(Default)]
struct Stored {
    last_seq: i64,
    settled_seq: i64,
    rows: BTreeMap<i64, Row>,
    gaps: BTreeMap<i64, (GapReason, Option<FeedRange>)>,
    /// Events of feeds that have no number yet.
    to_come: VecDeque<Published>,
}

#[derive(Clone)]
struct Published {
    message: Arc<Message>,
    place: FeedPlace,
    /// False: the user has published it, or is excepted. It gets no number.
    is_wanted: bool,
}

pub(super) struct Database {
    /// Its clock.
    pub(super) time: OffsetDateTime,
    inboxes: PerClass<Stored>,
    chats: HashMap<ChatId, i64>,
    marks: HashMap<ChatId, ChatSeq>,
    /// Per device, the numbers up to which it has acked.
    pub(super) devices: [PerClass<InboxSeq>; 2],
    places: HashMap<MessageId, (Class, i64)>,
    made: u128,
    /// Messages that some client has said it has: only those may be delivered.
    pub(super) claimed: HashSet<MessageId>,
    pub(super) requeued: HashSet<MessageId>,
    /// Messages that became delivered.
    receipts: HashSet<MessageId>,
    attempts_max: u16,
}

impl Database {
    pub(super) fn new(attempts_max: u16) -> Self {
        Self {
            time: OffsetDateTime::UNIX_EPOCH,
            inboxes: PerClass::default(),
            chats: HashMap::new(),
            marks: HashMap::new(),
            devices: Default::default(),
            places: HashMap::new(),
            made: 0,
            claimed: HashSet::new(),
            requeued: HashSet::new(),
            receipts: HashSet::new(),
            attempts_max,
        }
    }

    /// Stores a message. Chat numbers are taken by the user's own messages too.
    pub(super) fn accept(&mut self, class: Class, chat_no: u128, own_before: i64, lives: Option<Duration>) -> Envelope {
        let seq = self.inboxes[class].last_seq + 1;
        let envelope = self.make(class, seq, chat_no, 1 + own_before, lives);
        let inbox = &mut self.inboxes[class];
        inbox.last_seq = seq;
        inbox.rows.insert(seq, Row { message: envelope.message.clone(), status: Status::Sent, attempts: 0, feed: None });
        self.places.insert(envelope.message.id, (class, seq));
        envelope
    }

    /// Stores an event of a feed once. It has no number in the inbox before a page is read.
    pub(super) fn publish(&mut self, class: Class, feed_no: u128, lives: Option<Duration>, is_wanted: bool) {
        let stream = STREAMS + 10 * feed_no + class as u128;
        let message = self.make(class, 0, stream, 1, lives).message;
        let place = FeedPlace { feed: FeedId(uuid::Uuid::from_u128(feed_no)), seq: FeedSeq(message.seq.0) };
        self.inboxes[class].to_come.push_back(Published { message, place, is_wanted });
    }

    fn make(&mut self, class: Class, seq: i64, chat_no: u128, numbers: i64, lives: Option<Duration>) -> Envelope {
        let chat = chat(chat_no);
        let chat_seq = self.chats.entry(chat).or_default();
        *chat_seq += numbers;
        self.made += 1;
        let id = MessageId(uuid::Uuid::from_u128(self.made));
        expiring(envelope(class, seq, chat, *chat_seq, id), lives.map(|lives| self.time + lives))
    }

    /// Gives some events their numbers, oldest first. Those of a feed that have ended, one behind the other, share one.
    fn take(&mut self, class: Class) {
        for _ in 0..TAKEN_MAX {
            let time = self.time;
            let inbox = &mut self.inboxes[class];
            let Some(event) = inbox.to_come.pop_front() else { return };
            if !event.is_wanted {
                continue;
            }
            let is_late = |event: &Published| event.message.expires_at.is_some_and(|at| at <= time);
            inbox.last_seq += 1;
            let (is_over, Published { message, place, .. }) = (is_late(&event), event);
            if !is_over {
                self.places.insert(message.id, (class, inbox.last_seq));
                inbox.rows.insert(inbox.last_seq, Row { message, status: Status::Sent, attempts: 0, feed: Some(place) });
                continue;
            }
            let mut range = FeedRange { feed: place.feed, from: place.seq, to: place.seq, count: 1 };
            while let Some(next) = inbox.to_come.pop_front_if(|next| next.is_wanted && next.place.feed == range.feed && is_late(next)) {
                (range.to, range.count) = (next.place.seq, range.count + 1);
            }
            inbox.gaps.insert(inbox.last_seq, (GapReason::Expired, Some(range)));
        }
    }

    /// Gives the events of a feed that have no number theirs, if all of them are plain, and returns them. No page is read.
    pub(super) fn take_together(&mut self, class: Class, feed_no: u128) -> Vec<Envelope> {
        let (time, feed) = (self.time, FeedId(uuid::Uuid::from_u128(feed_no)));
        let inbox = &mut self.inboxes[class];
        let is_plain = |event: &Published| event.is_wanted && event.message.expires_at.is_none_or(|at| at > time);
        if !inbox.to_come.iter().filter(|event| event.place.feed == feed).all(is_plain) {
            return Vec::new();
        }
        let (taken, left): (VecDeque<_>, VecDeque<_>) = inbox.to_come.drain(..).partition(|event| event.place.feed == feed);
        inbox.to_come = left;
        let mut envelopes = Vec::with_capacity(taken.len());
        for Published { message, place, .. } in taken {
            inbox.last_seq += 1;
            self.places.insert(message.id, (class, inbox.last_seq));
            inbox.rows.insert(inbox.last_seq, Row { message: Arc::clone(&message), status: Status::Sent, attempts: 0, feed: Some(place) });
            let inbox_seq = InboxSeq(inbox.last_seq);
            let (status, attempts, feed) = (Status::Sent, 0, Some(place));
            envelopes.push(Envelope { class, inbox_seq, status, attempts, message, feed, merged: None, is_muted: false });
        }
        envelopes
    }

    /// The events that have no number yet.
    pub(super) fn to_come(&self, class: Class) -> Vec<MessageId> {
        self.inboxes[class].to_come.iter().map(|event| event.message.id).collect()
    }

    pub(super) fn last_seq(&self, class: Class) -> InboxSeq {
        InboxSeq(self.inboxes[class].last_seq)
    }

    pub(super) fn settled_seq(&self, class: Class) -> InboxSeq {
        InboxSeq(self.inboxes[class].settled_seq)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (Class, InboxSeq, &Row)> {
        self.inboxes.iter().flat_map(|(class, inbox)| inbox.rows.iter().map(move |(seq, row)| (class, InboxSeq(*seq), row)))
    }

    pub(super) fn row(&self, class: Class, seq: i64) -> Option<&Row> {
        self.inboxes[class].rows.get(&seq)
    }

    /// True if a message waits, and its time has not come.
    pub(super) fn waits(&self, message: MessageId) -> bool {
        let row = self.places.get(&message).map(|(class, seq)| &self.inboxes[*class].rows[seq]);
        row.is_some_and(|row| self.is_wanted(row))
    }

    /// True if a row waits, and its time has not come.
    pub(super) fn is_wanted(&self, row: &Row) -> bool {
        row.status.waits() && !self.is_late(row)
    }

    /// True if a row's time has come. A late ack may have made it delivered.
    pub(super) fn is_late(&self, row: &Row) -> bool {
        row.message.expires_at.is_some_and(|at| at <= self.time)
    }

    /// True if a message waits although its time has come, or has expired.
    pub(super) fn has_expired(&self, message: MessageId) -> bool {
        let (class, seq) = self.places[&message];
        let row = &self.inboxes[class].rows[&seq];
        row.status == Status::Expired || row.status.waits() && self.is_late(row)
    }

    /// The highest number of a chat that the user has a row for.
    pub(super) fn last_of(&self, chat: ChatId) -> ChatSeq {
        self.rows().filter(|(.., row)| row.message.chat == chat).map(|(.., row)| row.message.seq).max().unwrap_or_default()
    }

    /// The states of these rows.
    pub(super) fn check(&self, class: Class, seqs: &[InboxSeq]) -> Vec<(InboxSeq, RowState)> {
        let state = |seq: InboxSeq| match self.page_row(class, seq.0) {
            PageRow::Gap { reason, .. } => RowState::Ended(reason),
            PageRow::Envelope(envelope) if envelope.status.waits() => RowState::Waits,
            PageRow::Envelope(envelope) => RowState::Settled(envelope.status),
        };
        seqs.iter().map(|seq| (*seq, state(*seq))).collect()
    }

    /// Ends what waits past its time.
    pub(super) fn sweep(&mut self) {
        let time = self.time;
        let rows = self.inboxes.values_mut().flat_map(|inbox| inbox.rows.values_mut());
        for row in rows.filter(|row| row.status.waits() && row.message.expires_at.is_some_and(|at| at <= time)) {
            row.status = Status::Expired;
        }
    }

    /// The page that a read brings, from one snapshot.
    pub(super) fn page(&mut self, class: Class, after: InboxSeq, limit: u16, scope: Scope) -> Page {
        self.take(class);
        let inbox = &self.inboxes[class];
        let mut rows: Vec<PageRow> = Vec::new();
        let mut is_last = inbox.to_come.is_empty();
        for seq in after.0 + 1..=inbox.last_seq {
            if rows.len() >= usize::from(limit) {
                is_last = false;
                break;
            }
            match self.page_row(class, seq) {
                PageRow::Envelope(envelope) if scope == Scope::Everything || envelope.status.waits() => rows.push(envelope.into()),
                PageRow::Envelope(_) => {}
                PageRow::Gap { from, to: end, reason, feed } => match rows.last_mut() {
                    Some(PageRow::Gap { to, reason: same, feed: None, .. }) if feed.is_none() && *same == reason && to.next() == from => {
                        *to = end;
                    }
                    Some(PageRow::Gap { .. } | PageRow::Envelope(_)) | None => rows.push(PageRow::Gap { from, to: end, reason, feed }),
                },
            }
        }
        Page { class, after, rows, is_last, last_seq: InboxSeq(inbox.last_seq) }
    }

    fn page_row(&self, class: Class, seq: i64) -> PageRow {
        let inbox = &self.inboxes[class];
        let gap = |(reason, feed)| PageRow::Gap { from: InboxSeq(seq), to: InboxSeq(seq), reason, feed };
        let Some(row) = inbox.rows.get(&seq) else { return gap(inbox.gaps[&seq]) };
        match row.status {
            Status::Failed => gap((GapReason::Failed, None)),
            Status::Expired => gap((GapReason::Expired, None)),
            status @ (Status::Sent | Status::Delivered | Status::Read) => {
                let (message, attempts) = (row.message.clone(), row.attempts);
                Envelope { class, inbox_seq: InboxSeq(seq), status, attempts, message, feed: row.feed, merged: None, is_muted: false }
                    .into()
            }
        }
    }

    /// The rows that a fallback poll reads.
    pub(super) fn poll(&mut self, class: Class, after: InboxSeq, limit: u16) -> Page {
        let mut page = self.page(class, after, u16::MAX, Scope::Waiting);
        page.rows.retain(|row| matches!(row, PageRow::Envelope(_)));
        page.is_last &= page.rows.len() < usize::from(limit);
        page.rows.truncate(usize::from(limit));
        page
    }

    /// Writes acks, with the marks and the device's cursor that come with them.
    pub(super) fn settle(&mut self, settlement: &Settlement, device: Option<usize>) {
        for row in &settlement.rows {
            self.deliver(row.class, row.seq.0);
        }
        for id in &settlement.by_id {
            if let Some((class, seq)) = self.places.get(id).copied() {
                self.deliver(class, seq);
            }
        }
        for (chat, mark) in &settlement.marks {
            assert!(chat.0.as_u128() < STREAMS, "a mark of events is proposed");
            let stored = self.marks.entry(*chat).or_default();
            *stored = mark.max(stored).to_owned();
        }
        if let (Some(device), Some(acked)) = (device, settlement.device_acked) {
            for class in Class::ALL {
                let stored = &mut self.devices[device][class];
                *stored = acked[class].max(*stored);
            }
        }
        self.check_marks();
    }

    fn deliver(&mut self, class: Class, seq: i64) {
        let Some(row) = self.inboxes[class].rows.get_mut(&seq) else { return };
        if row.status.may_become(Status::Delivered) {
            assert!(self.claimed.contains(&row.message.id), "I5: {class} {seq} is delivered and no client has acked it");
            row.status = Status::Delivered;
            assert!(self.receipts.insert(row.message.id), "I8: {class} {seq} was delivered before");
        }
    }

    /// Reads, and returns up to where, if the target is known.
    pub(super) fn read(&mut self, chat: ChatId, target: ReadTarget) -> Option<ChatSeq> {
        let up_to = match target {
            ReadTarget::Seq(seq) => seq,
            ReadTarget::Message(id) => {
                let (class, seq) = self.places.get(&id)?;
                self.inboxes[*class].rows[seq].message.seq
            }
        };
        // A feed is no chat, whoever names it as one.
        let rows = self.inboxes.chat.rows.values_mut();
        for row in rows.filter(|row| row.message.chat == chat && row.message.seq <= up_to && row.status.may_become(Status::Read)) {
            if row.status.waits() && row.message.expires_at.is_some_and(|at| at <= self.time) {
                row.status = Status::Expired;
                continue;
            }
            assert!(self.claimed.contains(&row.message.id), "I5: {} is read and no client has read it", row.message.id);
            row.status = Status::Read;
            self.receipts.insert(row.message.id);
        }
        Some(up_to)
    }

    pub(super) fn count_attempt(&mut self, class: Class, seq: InboxSeq, is_final: bool) -> AttemptOutcome {
        let attempts_max = self.attempts_max;
        match self.inboxes[class].rows.get_mut(&seq.0) {
            Some(row) if row.status.waits() => {
                row.attempts += 1;
                if is_final || row.attempts >= attempts_max {
                    row.status = Status::Failed;
                    return AttemptOutcome::Failed(row.attempts);
                }
                AttemptOutcome::Counted(row.attempts)
            }
            Some(row) => AttemptOutcome::Settled(row.status, row.attempts),
            // It has another number now, and waits.
            None => AttemptOutcome::Counted(0),
        }
    }

    pub(super) fn reject_by_id(&mut self, id: MessageId, is_final: bool) {
        if let Some((class, seq)) = self.places.get(&id).copied() {
            self.count_attempt(class, InboxSeq(seq), is_final);
        }
    }

    pub(super) fn advance_low_watermark(&mut self, class: Class) -> InboxSeq {
        let inbox = &mut self.inboxes[class];
        let lowest = inbox.rows.iter().find(|(_, row)| row.status.waits()).map(|(seq, _)| *seq);
        inbox.settled_seq = lowest.map_or(inbox.last_seq, |seq| seq - 1);
        InboxSeq(inbox.settled_seq)
    }

    /// Ends the n-th waiting row.
    pub(super) fn expire(&mut self, n: usize) {
        let mut rows = self.inboxes.values_mut().flat_map(|inbox| inbox.rows.values_mut()).filter(|row| row.status.waits());
        if let Some(row) = rows.nth(n) {
            row.status = Status::Expired;
        }
    }

    /// Puts the n-th failed row back at the end of its inbox.
    pub(super) fn requeue(&mut self, n: usize) -> Option<Envelope> {
        let failed = self.rows().filter(|(.., row)| row.status == Status::Failed).nth(n);
        let (class, old) = failed.map(|(class, seq, _)| (class, seq.0))?;
        let inbox = &mut self.inboxes[class];
        let row = inbox.rows.remove(&old)?;
        inbox.gaps.insert(old, (GapReason::Requeued, None));
        inbox.last_seq += 1;
        let seq = inbox.last_seq;
        self.requeued.insert(row.message.id);
        self.places.insert(row.message.id, (class, seq));
        let (message, feed) = (row.message.clone(), row.feed);
        inbox.rows.insert(seq, Row { status: Status::Sent, attempts: 0, ..row });
        Some(Envelope { class, inbox_seq: InboxSeq(seq), status: Status::Sent, attempts: 0, message, feed, merged: None, is_muted: false })
    }

    /// The messages of a chat. A feed is none.
    pub(super) fn messages_of(&self, chat: ChatId, up_to: ChatSeq) -> Vec<MessageId> {
        self.inboxes.chat.rows.values().map(|row| &row.message).filter(|m| m.chat == chat && m.seq <= up_to).map(|m| m.id).collect()
    }

    /// Nothing at or below a mark waits, but for what was requeued.
    fn check_marks(&self) {
        for (class, seq, row) in self.rows().filter(|(.., row)| row.status.waits()) {
            let mark = self.marks.get(&row.message.chat).copied().unwrap_or_default();
            let fine = row.message.seq > mark || self.requeued.contains(&row.message.id);
            assert!(fine, "marks: {class} {seq} waits at {} of its chat, the mark is {mark}", row.message.seq);
        }
    }

    /// The number of rows that wait, and of events that are still to become rows.
    pub(super) fn waiting(&self) -> usize {
        let to_come = Class::ALL.map(|class| self.inboxes[class].to_come.len()).iter().sum::<usize>();
        self.rows().filter(|(.., row)| row.status.waits()).count() + to_come
    }
}
