//! The parts of a readable transcript: a session on a clock that is moved by hand, short words for rows and pages, and
//! effects as text. A row is called by its inbox number, one of the class `alert` with an `a` before it, one of the class `event` with an `e`; unless a test says
//! otherwise all chat rows are of chat 1, with the chat's number equal to the inbox number, all events of chat 2 and all alerts of chat 3.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{
    AttemptOutcome, ChatId, ChatSeq, Class, Envelope, Extension, ExternalId, FeedId, FeedPlace, FeedRange, FeedSeq, GapReason, InboxSeq,
    Message, MessageId, Page, PageRow, PerClass, Profile, Status, UserId,
};
use crate::session::{
    AckTarget, ClassStart, Effect, Emission, Input, ReadTarget, Scope, Session, Settings, Settlement, SettlementNo, Start, Ticket,
};

pub(super) const CHAT: Class = Class::Chat;
pub(super) const ALERT: Class = Class::Alert;
pub(super) const EVENT: Class = Class::Event;

static SENDER: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    let external = ExternalId::try_from("sender".to_owned()).expect("six characters are an id");
    Arc::new(Profile { user: UserId(1), external, name: None, picture: None })
});

pub(super) fn chat(n: u128) -> ChatId {
    ChatId(Uuid::from_u128(n))
}

/// The message of an inbox row, unless it was made otherwise.
pub(super) fn id(class: Class, seq: i64) -> MessageId {
    MessageId(Uuid::from_u128(Class::ALL.iter().position(|of| *of == class).unwrap_or_default() as u128 * 1_000_000 + seq as u128))
}

pub(super) fn envelope(class: Class, seq: i64, chat: ChatId, chat_seq: i64, message: MessageId) -> Envelope {
    let message = Message {
        id: message,
        chat,
        seq: ChatSeq(chat_seq),
        sender: SENDER.clone(),
        message_type: String::new(),
        content: String::new(),
        metadata: None,
        created_at: OffsetDateTime::UNIX_EPOCH,
        expires_at: None,
        recall: None,
        is_unreadable: false,
        extension: Extension::default(),
    };
    Envelope {
        class,
        inbox_seq: InboxSeq(seq),
        status: Status::Sent,
        attempts: 0,
        message: Arc::new(message),
        feed: None,
        merged: None,
        is_muted: false,
    }
}

/// The same, with the end of its message's time.
pub(super) fn expiring(envelope: Envelope, expires_at: Option<OffsetDateTime>) -> Envelope {
    let message = Message { expires_at, ..Message::clone(&envelope.message) };
    Envelope { message: Arc::new(message), ..envelope }
}

/// A chat row that expires so many seconds after the session has begun.
pub(super) fn expiring_row(seq: i64, seconds: u64) -> Envelope {
    expiring(row(seq), Some(OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds)))
}

/// A waiting chat row.
pub(super) fn row(seq: i64) -> Envelope {
    envelope(CHAT, seq, chat(1), seq, id(CHAT, seq))
}

/// A waiting event.
pub(super) fn event(seq: i64) -> Envelope {
    envelope(EVENT, seq, chat(2), seq, id(EVENT, seq))
}

/// The event of a feed, with the same number there.
pub(super) fn event_of_feed(seq: i64, feed_no: u128) -> Envelope {
    let place = FeedPlace { feed: FeedId(Uuid::from_u128(feed_no)), seq: FeedSeq(seq) };
    Envelope { feed: Some(place), ..event(seq) }
}

/// So many events of a feed that ended before they got a number: one number stands for them.
pub(super) fn feed_gap(seq: i64, feed_no: u128, from: i64, to: i64) -> PageRow {
    let feed = FeedRange { feed: FeedId(Uuid::from_u128(feed_no)), from: FeedSeq(from), to: FeedSeq(to), count: to - from + 1 };
    PageRow::Gap { from: InboxSeq(seq), to: InboxSeq(seq), reason: GapReason::Expired, feed: Some(feed) }
}

/// A waiting alert.
pub(super) fn alert(seq: i64) -> Envelope {
    envelope(ALERT, seq, chat(3), seq, id(ALERT, seq))
}

/// A waiting chat row of another chat, or another number of it.
pub(super) fn row_of(seq: i64, chat_no: u128, chat_seq: i64) -> Envelope {
    envelope(CHAT, seq, chat(chat_no), chat_seq, id(CHAT, seq))
}

/// A chat row that was delivered already, to another device.
pub(super) fn delivered(seq: i64) -> Envelope {
    Envelope { status: Status::Delivered, ..row(seq) }
}

impl From<Envelope> for PageRow {
    fn from(envelope: Envelope) -> Self {
        Self::Envelope(envelope)
    }
}

pub(super) fn gap_because(seq: i64, reason: GapReason) -> PageRow {
    PageRow::Gap { from: InboxSeq(seq), to: InboxSeq(seq), reason, feed: None }
}

pub(super) fn gap(from: i64, to: i64) -> PageRow {
    PageRow::Gap { from: InboxSeq(from), to: InboxSeq(to), reason: GapReason::Expired, feed: None }
}

pub(super) fn rows(seqs: impl IntoIterator<Item = i64>) -> Vec<PageRow> {
    seqs.into_iter().map(|seq| row(seq).into()).collect()
}

pub(super) fn events(seqs: impl IntoIterator<Item = i64>) -> Vec<PageRow> {
    seqs.into_iter().map(|seq| event(seq).into()).collect()
}

pub(super) fn alerts(seqs: impl IntoIterator<Item = i64>) -> Vec<PageRow> {
    seqs.into_iter().map(|seq| alert(seq).into()).collect()
}

/// A page that is not the last.
pub(super) fn full_page(class: Class, after: i64, rows: Vec<PageRow>) -> Input {
    Input::Page(Page { class, after: InboxSeq(after), rows, is_last: false, last_seq: InboxSeq(1_000_000) })
}

/// The last page.
pub(super) fn short_page(class: Class, after: i64, rows: Vec<PageRow>, last_seq: i64) -> Input {
    Input::Page(Page { class, after: InboxSeq(after), rows, is_last: true, last_seq: InboxSeq(last_seq) })
}

pub(super) fn polled(after: i64, rows: Vec<PageRow>, last_seq: i64) -> Input {
    Input::Polled(Page { class: CHAT, after: InboxSeq(after), rows, is_last: true, last_seq: InboxSeq(last_seq) })
}

pub(super) fn offer(seq: i64) -> Input {
    Input::Offer(row(seq))
}

pub(super) fn ack(seqs: impl IntoIterator<Item = i64>) -> Input {
    ack_ids(seqs.into_iter().map(|seq| id(CHAT, seq)))
}

pub(super) fn ack_event(seq: i64) -> Input {
    ack_ids([id(EVENT, seq)])
}

pub(super) fn ack_ids(ids: impl IntoIterator<Item = MessageId>) -> Input {
    Input::Ack { target: AckTarget::Messages(ids.into_iter().collect()), ticket: None }
}

pub(super) fn ack_up_to(seq: i64) -> Input {
    Input::Ack { target: AckTarget::UpTo(CHAT, InboxSeq(seq)), ticket: None }
}

/// The same frame, by a client that wants an answer.
pub(super) fn with_ticket(input: Input, no: u64) -> Input {
    let wanted = Some(Ticket(no));
    match input {
        Input::Ack { target, .. } => Input::Ack { target, ticket: wanted },
        Input::Reject { message, reason, is_final, .. } => Input::Reject { message, reason, is_final, ticket: wanted },
        Input::Read { chat, target, .. } => Input::Read { chat, target, ticket: wanted },
        other => panic!("no frame: {other:?}"),
    }
}

pub(super) fn reject(seq: i64) -> Input {
    Input::Reject { message: id(CHAT, seq), reason: "bad".to_owned(), is_final: false, ticket: None }
}

pub(super) fn reject_for_good(seq: i64) -> Input {
    Input::Reject { message: id(CHAT, seq), reason: "never".to_owned(), is_final: true, ticket: None }
}

pub(super) fn read(chat_no: u128, seq: i64) -> Input {
    Input::Read { chat: chat(chat_no), target: ReadTarget::Seq(ChatSeq(seq)), ticket: None }
}

pub(super) fn read_message(chat_no: u128, seq: i64) -> Input {
    Input::Read { chat: chat(chat_no), target: ReadTarget::Message(id(CHAT, seq)), ticket: None }
}

pub(super) fn committed(no: u64) -> Input {
    Input::Committed(SettlementNo(no))
}

pub(super) fn attempted(seq: i64, outcome: AttemptOutcome) -> Input {
    Input::Attempted { class: CHAT, seq: InboxSeq(seq), outcome: Some(outcome) }
}

pub(super) fn low_watermark_advanced(seq: i64) -> Input {
    Input::LowWatermarkAdvanced(CHAT, InboxSeq(seq))
}

/// A session and its clock.
pub(super) struct Stage {
    pub(super) session: Session,
    pub(super) now: Instant,
}

impl Stage {
    /// A session without a device over a chat inbox that waits up to `last_seq`, and no events; 50 slots, 50 rows a page.
    pub(super) fn waiting(last_seq: i64) -> Self {
        Self::with(last_seq, |_| {})
    }

    /// The same for a device that has nothing yet.
    pub(super) fn device(last_seq: i64) -> Self {
        Self::with(last_seq, |start| (start.scope, start.keeps_cursor) = (Scope::Everything, true))
    }

    pub(super) fn with(last_seq: i64, change: impl FnOnce(&mut Start)) -> Self {
        let class = |last_seq| ClassStart { cursor: InboxSeq(0), last_seq: InboxSeq(last_seq), settled_seq: InboxSeq(0), to_come: 0 };
        let mut start = Start {
            settings: settings(),
            scope: Scope::Waiting,
            keeps_cursor: false,
            classes: PerClass::from_fn(|of| class(if of == CHAT { last_seq } else { 0 })),
            emit_alone: false,
            database_time: OffsetDateTime::UNIX_EPOCH,
        };
        change(&mut start);
        let now = Instant::now();
        let (session, effects) = Session::start(now, start);
        let first = texts(&effects);
        assert!(
            first.len() == Class::ALL.len() && first.iter().all(|effect| effect.starts_with("read page")),
            "the first effects: {first:?}"
        );
        Self { session, now }
    }

    /// A live session: everything up to `last_seq` was drained, acked and committed, by one ack of `last_seq` rows.
    pub(super) fn live(last_seq: i64) -> Self {
        Self::live_with(last_seq, |_| {})
    }

    pub(super) fn live_with(last_seq: i64, change: impl FnOnce(&mut Start)) -> Self {
        let mut stage = Self::with(last_seq, |start| {
            start.classes.chat.cursor = InboxSeq(last_seq);
            start.classes.chat.settled_seq = InboxSeq(last_seq);
            change(start);
        });
        stage.does(short_page(CHAT, last_seq, vec![], last_seq));
        stage.does(short_page(ALERT, 0, vec![], 0));
        stage.does(short_page(EVENT, 0, vec![], 0));
        stage.does(low_watermark_advanced(last_seq));
        stage.does(Input::LowWatermarkAdvanced(ALERT, InboxSeq(0)));
        stage.does(Input::LowWatermarkAdvanced(EVENT, InboxSeq(0)));
        stage
    }

    /// Gives an input and returns the effects as text.
    pub(super) fn does(&mut self, input: Input) -> Vec<String> {
        texts(&self.session.handle(self.now, input))
    }

    /// Gives an input and expects exactly these effects.
    #[track_caller]
    pub(super) fn on<const N: usize>(&mut self, input: Input, expected: [&str; N]) {
        let told = std::mem::discriminant(&input);
        let effects = self.does(input);
        assert_eq!(effects, expected, "on {told:?}");
    }

    /// Lets time pass, during which nothing happens.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Expects the next deadline so many seconds from now, waits for it and expects exactly these effects.
    #[track_caller]
    pub(super) fn at_deadline<const N: usize>(&mut self, seconds: u64, expected: [&str; N]) {
        let due = self.session.next_deadline().expect("there is a deadline");
        assert_eq!(due.saturating_duration_since(self.now), Duration::from_secs(seconds), "the next deadline");
        self.pass(seconds);
        self.on(Input::Deadline, expected);
    }
}

/// The defaults of the product, with a fallback poll so rare that it is out of the way.
pub(super) fn settings() -> Settings {
    Settings {
        window: 50,
        page_rows: 50,
        ack_timeout: Duration::from_secs(30),
        attempts_max: 5,
        uncommitted_acks_max: 500,
        stalled_max: Duration::from_secs(10),
        poll_interval: Duration::from_secs(100_000),
        low_watermark_every: 1_000,
    }
}

pub(super) fn texts(effects: &[Effect]) -> Vec<String> {
    effects.iter().map(text).collect()
}

fn number(class: Class, seq: InboxSeq) -> String {
    match class {
        Class::Chat => format!("{seq}"),
        Class::Alert => format!("a{seq}"),
        Class::Event => format!("e{seq}"),
    }
}

fn text(effect: &Effect) -> String {
    match effect {
        Effect::ReadPage { class, after, .. } => format!("read page after {}", number(*class, *after)),
        Effect::Poll { class, after, limit } => format!("poll after {} limit {limit}", number(*class, *after)),
        Effect::Emit(emissions) => format!("emit {}", emissions.iter().map(emission).collect::<Vec<_>>().join(" ")),
        Effect::Settle(settlement) => settle(settlement),
        Effect::Read { chat, target: ReadTarget::Seq(seq), .. } => format!("mark chat {} read to {seq}", chat.0.as_u128()),
        Effect::Read { chat, target: ReadTarget::Message(id), .. } => {
            format!("mark chat {} read to message {}", chat.0.as_u128(), id.0.as_u128())
        }
        Effect::CountAttempt { envelope, reason, is_final } => {
            format!("count {}: {reason}{}", number(envelope.class, envelope.inbox_seq), if *is_final { ", final" } else { "" })
        }
        Effect::RejectById { message, reason, .. } => format!("reject message {}: {reason}", message.0.as_u128()),
        Effect::AdvanceLowWatermark(class) => format!("advance low watermark of {class}"),
        Effect::Drained { class, up_to } => format!("drained {}", number(*class, *up_to)),
        Effect::CheckRows { class, seqs } => {
            format!("check {}", seqs.iter().map(|seq| number(*class, *seq)).collect::<Vec<_>>().join(" "))
        }
        Effect::Confirm(ticket) => format!("confirm {}", ticket.0),
        Effect::ConfirmReject(ticket, None) => format!("reject {}: not counted", ticket.0),
        Effect::ConfirmReject(ticket, Some(outcome)) => format!("reject {}: {outcome:?}", ticket.0),
        Effect::AckAhead { emitted, .. } => format!("ack ahead of {emitted}"),
        Effect::Close(reason) => format!("close {reason:?}"),
    }
}

fn emission(emission: &Emission) -> String {
    match emission {
        Emission::Envelope { envelope, attempt: 1 } => number(envelope.class, envelope.inbox_seq),
        Emission::Envelope { envelope, attempt } => format!("{}(attempt {attempt})", number(envelope.class, envelope.inbox_seq)),
        Emission::Gap { class, from, feed: Some(range), .. } => {
            format!("gap {} of feed {} {}-{}", number(*class, *from), range.feed.0.as_u128(), range.from, range.to)
        }
        Emission::Gap { class, from, to, feed: None, .. } => format!("gap {}-{to}", number(*class, *from)),
    }
}

/// `settle #1: 1 2, messages 9, marks 1=2, device 2 0`: rows, ids, per chat its mark, per class the device's cursor.
fn settle(settlement: &Settlement) -> String {
    let mut text = format!("settle #{}:", settlement.no.0);
    for row in &settlement.rows {
        let _ = write!(text, " {}", number(row.class, row.seq));
    }
    if !settlement.by_id.is_empty() {
        let ids = settlement.by_id.iter().map(|id| id.0.as_u128().to_string()).collect::<Vec<_>>().join(" ");
        let _ = write!(text, " messages {ids}");
    }
    for (chat, mark) in &settlement.marks {
        let _ = write!(text, ", mark {}={mark}", chat.0.as_u128());
    }
    if let Some(PerClass { chat, alert, event }) = settlement.device_acked {
        let _ = write!(text, ", device {chat} {alert} {event}");
    }
    text
}

/// An input in a few words, for a trace.
pub(super) fn input_text(input: &Input) -> String {
    match input {
        Input::Page(page) | Input::Polled(page) => {
            let numbers: Vec<_> = page.rows.iter().map(row_text).collect();
            format!("page after {}: {}; last {} {}", page.after, numbers.join(" "), page.last_seq, page.is_last)
        }
        Input::Offer(envelope) => format!("offer {}", number(envelope.class, envelope.inbox_seq)),
        other => format!("{other:?}"),
    }
}

fn row_text(row: &PageRow) -> String {
    match row {
        PageRow::Envelope(envelope) => format!(
            "{}({}/{} {:?})",
            number(envelope.class, envelope.inbox_seq),
            envelope.message.chat.0.as_u128(),
            envelope.message.seq,
            envelope.status
        ),
        PageRow::Gap { from, to, .. } => format!("gap {from}-{to}"),
    }
}
