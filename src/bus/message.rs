//! The messages between nodes and their encoding: a line of JSON for each message, as many lines in a payload as fit into one
//! notification.
//!
//! A line that cannot be read is passed over: a newer version may say things that an older one does not know.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::seal::TEXT_BYTES_MAX;
use super::written::{WrittenAnswer, WrittenMessage, WrittenReceipt, WrittenReceiptCounts, WrittenSpent, micros};
use crate::domain::{ChatId, ChatSeq, Class, DeviceId, InboxSeq, Message, MessageId, Receipt, Spent, UserId};
use crate::protocol::client::{AckRequest, CommittedAnswer};
use crate::protocol::event::{Encoded, Notice};

/// Bytes of a payload. Sealed it is still shorter than what PostgreSQL takes.
pub(super) const PAYLOAD_BYTES_MAX: usize = TEXT_BYTES_MAX;
/// Users named by one wake; so many numbers fit into a payload.
const USERS_MAX: usize = 260;
/// Streams named by one line.
const STREAMS_MAX: usize = 100;
/// Users named by one line of what was spent, with names of any length.
const SPENT_MAX: usize = 6;
/// Messages named by one line of acks.
const ACKED_MAX: usize = 100;
/// Recipients an offer names; a message to more of them wakes them.
const OFFERED_MAX: usize = 100;

/// A message from a node to the others.
#[derive(Debug, Clone)]
pub enum BusMessage {
    /// A message was committed, for these users under these numbers. Also tells the sender's sessions.
    Offer {
        /// The inbox.
        class: Class,
        /// The message.
        message: Arc<Message>,
        /// The recipients and the numbers of the message in their inboxes.
        places: Vec<(UserId, InboxSeq)>,
    },
    /// Something may wait for these users.
    Wake(Class, Vec<UserId>),
    /// Receipts for these users could not be told: their sessions check the marks.
    CheckMarks(Vec<UserId>),
    /// A receipt for this sender.
    Receipt(UserId, Arc<Receipt>),
    /// A user has read a chat up to here.
    ReadUpTo(UserId, ChatId, ChatSeq),
    /// A client of this user, with this device or with none, has answered over HTTP.
    Answered(UserId, Option<DeviceId>, Arc<CommittedAnswer>),
    /// A notice for these users.
    Notice(Vec<UserId>, Encoded<Notice>),
    /// A notice for those who watch this user: it came, or went.
    Watched(UserId, Encoded<Notice>),
    /// This user has sent a message that does not fit: its sessions read it from the database and show it.
    EchoOf(UserId, MessageId),
    /// A newer connection of this device: older ones yield.
    Displaced(UserId, DeviceId, i64),
    /// Something was published to these streams of feeds: those who follow them look.
    FeedsMoved(Vec<ChatId>),
    /// These users have changed what they have muted: their sessions read it.
    PreferencesChanged(Vec<UserId>),
    /// These two users may know more or less of one another than before, and their direct chat is told of in another form.
    PeopleChanged([UserId; 2], Option<ChatId>),
    /// These two users may see one another now: the sessions of each watch the other.
    MaySee([UserId; 2]),
    /// This was spent of limits at the node that tells.
    Spent(Vec<Spent>),
    /// Every session checks the database for everything.
    CheckAll,
    /// The node that says it has come: the database lists it.
    Hello,
    /// The node that says it ends as planned, and has told everything.
    Bye,
}

impl BusMessage {
    /// The name of the kind, as metrics show it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Offer { .. } => "offer",
            Self::Wake(..) => "wake",
            Self::CheckMarks(_) => "marks",
            Self::Receipt(..) | Self::ReadUpTo(..) => "receipt",
            Self::Answered(..) => "ack",
            Self::Notice(..) => "notice",
            Self::Watched(..) => "presence",
            Self::EchoOf(..) => "echo",
            Self::Displaced(..) => "displaced",
            Self::FeedsMoved(_) => "feed",
            Self::PreferencesChanged(_) => "preferences",
            Self::PeopleChanged(..) | Self::MaySee(_) => "people",
            Self::Spent(_) => "spent",
            Self::CheckAll => "check",
            Self::Hello => "hello",
            Self::Bye => "bye",
        }
    }

    /// The message as lines; none: it does not fit, and a shorter one replaces it.
    pub(super) fn lines(&self) -> Option<Vec<String>> {
        let many = |users: &[UserId], line: &dyn Fn(Vec<i64>) -> Line| -> Option<Vec<String>> {
            users.chunks(USERS_MAX).map(|part| line(numbers(part)).text()).collect()
        };
        match self {
            Self::Wake(class, users) => many(users, &|users| Line::Wake(*class, users)),
            Self::CheckMarks(users) => many(users, &Line::CheckMarks),
            Self::PreferencesChanged(users) => many(users, &Line::PreferencesChanged),
            Self::FeedsMoved(streams) => streams.chunks(STREAMS_MAX).map(|part| Line::FeedsMoved(part.to_vec()).text()).collect(),
            Self::Spent(spent) => spent.chunks(SPENT_MAX).map(|part| Line::spent(part).text()).collect(),
            Self::Answered(user, device, answer) => answer_lines(*user, device.as_ref(), answer),
            Self::Notice(users, notice) if users.len() > USERS_MAX / 2 => {
                users.chunks(USERS_MAX / 2).map(|part| Line::Notice(numbers(part), (**notice).clone()).text()).collect()
            }
            Self::Offer { places, message, .. } if places.len() > OFFERED_MAX || message.content.len() > PAYLOAD_BYTES_MAX => None,
            other => Some(vec![Line::from(other).text()?]),
        }
    }

    /// The same in fewer words: for an offer, wakes for its recipients and its sender. Empty: there are no fewer words.
    pub(super) fn in_short(&self) -> Vec<Self> {
        match self {
            Self::Offer { class, message, places } => {
                let echo = Self::EchoOf(message.sender.user, message.id);
                let wake = (!places.is_empty()).then(|| Self::Wake(*class, places.iter().map(|(user, _)| *user).collect()));
                wake.into_iter().chain([echo]).collect()
            }
            Self::Receipt(user, _) | Self::ReadUpTo(user, ..) | Self::Answered(user, ..) => vec![Self::CheckMarks(vec![*user])],
            Self::EchoOf(..)
            | Self::Wake(..)
            | Self::CheckMarks(_)
            | Self::Notice(..)
            | Self::Watched(..)
            | Self::Displaced(..)
            | Self::FeedsMoved(_)
            | Self::PreferencesChanged(_)
            | Self::PeopleChanged(..)
            | Self::MaySee(_)
            | Self::Spent(_)
            | Self::CheckAll
            | Self::Hello
            | Self::Bye => Vec::new(),
        }
    }

    /// Reads a line.
    pub(super) fn read(line: &str) -> Option<Self> {
        serde_json::from_str::<Line>(line).ok()?.message()
    }
}

/// Acks name as many messages as fit.
fn answer_lines(user: UserId, device: Option<&DeviceId>, answer: &CommittedAnswer) -> Option<Vec<String>> {
    let line = |answer| Line::Answered(user.0, device.cloned(), answer).text();
    match answer {
        CommittedAnswer::Acks(AckRequest::Messages(messages)) => {
            messages.chunks(ACKED_MAX).map(|part| line(WrittenAnswer::Messages(part.to_vec()))).collect()
        }
        other => Some(vec![line(other.into())?]),
    }
}

/// Puts lines into as few payloads as hold them, at most `payloads_max`; the lines that are left stay.
pub(super) fn payloads(lines: &mut std::collections::VecDeque<String>, payloads_max: usize) -> Vec<String> {
    let mut payloads: Vec<String> = Vec::new();
    while let Some(line) = lines.front() {
        let is_full = payloads.len() >= payloads_max;
        match payloads.last_mut() {
            Some(payload) if payload.len() + 1 + line.len() <= PAYLOAD_BYTES_MAX => {
                payload.push('\n');
                payload.push_str(line);
            }
            Some(_) | None if is_full => break,
            Some(_) | None => payloads.push(line.clone()),
        }
        lines.pop_front();
    }
    payloads
}

fn numbers(users: &[UserId]) -> Vec<i64> {
    users.iter().map(|user| user.0).collect()
}

fn users(numbers: Vec<i64>) -> Vec<UserId> {
    numbers.into_iter().map(UserId).collect()
}

/// A message as it is written.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    #[serde(rename = "o")]
    Offer(Class, Box<WrittenMessage>, Vec<(i64, InboxSeq)>),
    #[serde(rename = "w")]
    Wake(Class, Vec<i64>),
    #[serde(rename = "m")]
    CheckMarks(Vec<i64>),
    #[serde(rename = "r")]
    Moved(i64, Box<WrittenReceipt>),
    #[serde(rename = "c")]
    Counted(i64, WrittenReceiptCounts),
    #[serde(rename = "u")]
    ReadUpTo(i64, ChatId, ChatSeq),
    #[serde(rename = "k")]
    Answered(i64, Option<DeviceId>, WrittenAnswer),
    #[serde(rename = "n")]
    Notice(Vec<i64>, Notice),
    #[serde(rename = "a")]
    Watched(i64, Notice),
    #[serde(rename = "e")]
    EchoOf(i64, MessageId),
    #[serde(rename = "d")]
    Displaced(i64, DeviceId, i64),
    #[serde(rename = "f")]
    FeedsMoved(Vec<ChatId>),
    #[serde(rename = "p")]
    PreferencesChanged(Vec<i64>),
    #[serde(rename = "x")]
    PeopleChanged([i64; 2], Option<ChatId>),
    #[serde(rename = "v")]
    MaySee([i64; 2]),
    #[serde(rename = "s")]
    Spent(Vec<WrittenSpent>),
    #[serde(rename = "l")]
    CheckAll,
    #[serde(rename = "h")]
    Hello,
    #[serde(rename = "b")]
    Bye,
}

impl Line {
    fn spent(spent: &[Spent]) -> Self {
        Self::Spent(spent.iter().map(WrittenSpent::from).collect())
    }

    fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok().filter(|text| text.len() <= PAYLOAD_BYTES_MAX)
    }

    fn message(self) -> Option<BusMessage> {
        Some(match self {
            Self::Offer(class, message, places) => BusMessage::Offer {
                class,
                message: Arc::new(message.read()?),
                places: places.into_iter().map(|(user, seq)| (UserId(user), seq)).collect(),
            },
            Self::Wake(class, numbers) => BusMessage::Wake(class, users(numbers)),
            Self::CheckMarks(numbers) => BusMessage::CheckMarks(users(numbers)),
            Self::Moved(sender, receipt) => BusMessage::Receipt(UserId(sender), Arc::new(receipt.read()?)),
            Self::Counted(sender, counts) => BusMessage::Receipt(UserId(sender), Arc::new(Receipt::Counted(counts.into()))),
            Self::ReadUpTo(user, chat, seq) => BusMessage::ReadUpTo(UserId(user), chat, seq),
            Self::Answered(user, device, answer) => BusMessage::Answered(UserId(user), device, Arc::new(answer.into())),
            Self::Notice(numbers, notice) => BusMessage::Notice(users(numbers), Encoded::new(notice)),
            Self::Watched(user, notice) => BusMessage::Watched(UserId(user), Encoded::new(notice)),
            Self::EchoOf(sender, message) => BusMessage::EchoOf(UserId(sender), message),
            Self::Displaced(user, device, number) => BusMessage::Displaced(UserId(user), device, number),
            Self::FeedsMoved(streams) => BusMessage::FeedsMoved(streams),
            Self::PreferencesChanged(numbers) => BusMessage::PreferencesChanged(users(numbers)),
            Self::PeopleChanged(both, chat) => BusMessage::PeopleChanged(both.map(UserId), chat),
            Self::MaySee(both) => BusMessage::MaySee(both.map(UserId)),
            Self::Spent(spent) => BusMessage::Spent(spent.into_iter().map(Spent::from).collect()),
            Self::CheckAll => BusMessage::CheckAll,
            Self::Hello => BusMessage::Hello,
            Self::Bye => BusMessage::Bye,
        })
    }
}

impl From<&BusMessage> for Line {
    fn from(message: &BusMessage) -> Self {
        match message {
            BusMessage::Offer { class, message, places } => {
                Self::Offer(*class, Box::new(message.as_ref().into()), places.iter().map(|(user, seq)| (user.0, *seq)).collect())
            }
            BusMessage::Wake(class, users) => Self::Wake(*class, numbers(users)),
            BusMessage::CheckMarks(users) => Self::CheckMarks(numbers(users)),
            BusMessage::Receipt(sender, receipt) => match receipt.as_ref() {
                Receipt::Moved { chat, messages, first, seq, status, member, at, reason } => {
                    let (m, e, r) = (messages.clone(), member.clone(), reason.clone());
                    Self::Moved(sender.0, Box::new(WrittenReceipt { c: *chat, m, f: *first, s: *seq, t: *status, e, a: micros(*at), r }))
                }
                Receipt::Counted(counts) => Self::Counted(sender.0, (*counts).into()),
            },
            BusMessage::ReadUpTo(user, chat, seq) => Self::ReadUpTo(user.0, *chat, *seq),
            BusMessage::Answered(user, device, answer) => Self::Answered(user.0, device.clone(), answer.as_ref().into()),
            BusMessage::Notice(users, notice) => Self::Notice(numbers(users), (**notice).clone()),
            BusMessage::Watched(user, notice) => Self::Watched(user.0, (**notice).clone()),
            BusMessage::EchoOf(sender, message) => Self::EchoOf(sender.0, *message),
            BusMessage::Displaced(user, device, number) => Self::Displaced(user.0, device.clone(), *number),
            BusMessage::FeedsMoved(streams) => Self::FeedsMoved(streams.clone()),
            BusMessage::PreferencesChanged(users) => Self::PreferencesChanged(numbers(users)),
            BusMessage::PeopleChanged(both, chat) => Self::PeopleChanged(both.map(|user| user.0), *chat),
            BusMessage::MaySee(both) => Self::MaySee(both.map(|user| user.0)),
            BusMessage::Spent(spent) => Self::spent(spent),
            BusMessage::CheckAll => Self::CheckAll,
            BusMessage::Hello => Self::Hello,
            BusMessage::Bye => Self::Bye,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use serde_json::value::RawValue;

    use super::*;
    use crate::domain::{ChatKind, Extension, ExternalId, LimitKind, LimitSubject, Profile, ReceiptCounts, Status, limits};
    use crate::protocol::event::ContactNotice;

    fn message(content: String) -> Arc<Message> {
        Arc::new(Message {
            id: MessageId::generate(),
            chat: ChatId::generate(),
            seq: ChatSeq(7),
            sender: Arc::new(Profile {
                user: UserId(3),
                external: ExternalId::try_from("anna \"1\"\n".to_owned()).unwrap(),
                name: Some("Anna".to_owned()),
                picture: None,
            }),
            message_type: "text".to_owned(),
            content,
            metadata: Some(RawValue::from_string(r#"{"a": [1, 2.50]}"#.to_owned()).unwrap()),
            created_at: time::macros::datetime!(2026-11-01 12:00:00.123456 UTC),
            expires_at: Some(time::macros::datetime!(2026-11-02 12:00 UTC)),
            recall: None,
            is_unreadable: false,
            extension: Extension::default(),
        })
    }

    fn offer(content: String, recipients: usize) -> BusMessage {
        let places = (0..recipients).map(|n| (UserId(n as i64), InboxSeq(9))).collect();
        BusMessage::Offer { class: Class::Chat, message: message(content), places }
    }

    fn phone() -> DeviceId {
        DeviceId::try_from("phone".to_owned()).unwrap()
    }

    fn answered(device: Option<DeviceId>, answer: CommittedAnswer) -> BusMessage {
        BusMessage::Answered(UserId(i64::MAX), device, Arc::new(answer))
    }

    fn everything() -> Vec<BusMessage> {
        let member = ExternalId::try_from("ben".to_owned()).unwrap();
        let (chat, messages) = (ChatId::generate(), vec![MessageId::generate()]);
        let at = time::macros::datetime!(2026-11-01 12:00:00.000001 UTC);
        let user = ExternalId::try_from("anna \"1\"\n".to_owned()).unwrap();
        let counts = ReceiptCounts { chat, message: messages[0], seq: ChatSeq(1), delivered: 4, read: 2, members: 9 };
        let (watched, address) = (user.clone(), "2001:db8::1".parse::<std::net::IpAddr>().unwrap());
        let (reason, status, first, seq) = (Some("left".to_owned()), Status::Expired, ChatSeq(2), ChatSeq(4));
        vec![
            offer("line\nline \u{1F600}".to_owned(), 2),
            BusMessage::Wake(Class::Event, vec![UserId(1), UserId(i64::MAX)]),
            BusMessage::CheckMarks(vec![UserId(5)]),
            BusMessage::Receipt(UserId(1), Arc::new(Receipt::Moved { chat, messages, first, seq, status, member, at, reason })),
            BusMessage::Receipt(UserId(1), Arc::new(Receipt::Counted(counts))),
            BusMessage::ReadUpTo(UserId(1), chat, ChatSeq(3)),
            answered(None, CommittedAnswer::Acks(AckRequest::UpTo { class: Class::Event, seq: InboxSeq(7) })),
            answered(Some(phone()), CommittedAnswer::Acks(AckRequest::Messages(vec![MessageId::generate()]))),
            answered(Some(phone()), CommittedAnswer::Reject { message: MessageId::generate(), attempts: 3 }),
            BusMessage::Notice(vec![UserId(1)], Encoded::new(Notice::Typing { chat, user: user.clone(), typing: true })),
            BusMessage::Notice(
                vec![UserId(1)],
                Encoded::new(Notice::Added {
                    chat,
                    kind: ChatKind::Group,
                    title: Some("a\nb".to_owned()),
                    joined_seq: ChatSeq(4),
                    by: user.clone(),
                }),
            ),
            BusMessage::Notice(vec![UserId(1)], Encoded::new(Notice::Removed { chat, left_seq: ChatSeq(4), by: user.clone() })),
            BusMessage::Notice(
                vec![UserId(1)],
                Encoded::new(Notice::Contact { change: ContactNotice::Accepted, user: user.clone(), by: user.clone() }),
            ),
            BusMessage::Watched(UserId(1), Encoded::new(Notice::Online { user: user.clone(), at })),
            BusMessage::Watched(UserId(1), Encoded::new(Notice::Offline { user, last_seen: at })),
            BusMessage::EchoOf(UserId(1), MessageId::generate()),
            BusMessage::Displaced(UserId(1), phone(), 12),
            BusMessage::FeedsMoved(vec![chat, ChatId::generate()]),
            BusMessage::PeopleChanged([UserId(1), UserId(i64::MAX)], Some(chat)),
            BusMessage::MaySee([UserId(1), UserId(i64::MAX)]),
            BusMessage::Spent(vec![
                Spent { kind: LimitKind::NamedUsers, subject: LimitSubject::User(UserId(i64::MAX)), count: u32::MAX, unpaid: u32::MAX },
                Spent { kind: LimitKind::Requests, subject: LimitSubject::Name(watched.clone()), count: 7, unpaid: 0 },
                Spent { kind: LimitKind::Requests, subject: LimitSubject::Address(address.into()), count: 1, unpaid: 9 },
                Spent { kind: LimitKind::Guesses, subject: LimitSubject::NameAt(watched, address.into()), count: 2, unpaid: 9 },
            ]),
            BusMessage::CheckAll,
            BusMessage::Hello,
            BusMessage::Bye,
        ]
    }

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        for message in everything() {
            let lines = message.lines().unwrap();
            assert_eq!(lines.len(), 1, "{message:?}");
            assert!(!lines[0].contains('\n'), "{lines:?}");
            let read = BusMessage::read(&lines[0]).unwrap();
            assert_eq!(format!("{read:?}"), format!("{message:?}"));
        }
    }

    #[test]
    fn what_does_not_fit_into_a_letter_is_told_in_fewer_words() {
        for message in [offer("x".repeat(PAYLOAD_BYTES_MAX), 1), offer("\u{1}".repeat(2_000), 1), offer("x".to_owned(), 5_000)] {
            assert!(message.lines().is_none());
            let short = message.in_short();
            let [BusMessage::Wake(Class::Chat, users), BusMessage::EchoOf(UserId(3), _)] = &short[..] else { panic!("{short:?}") };
            assert!(!users.is_empty());
        }
        let read = BusMessage::ReadUpTo(UserId(4), ChatId::generate(), ChatSeq(1)).in_short();
        assert!(matches!(&read[..], [BusMessage::CheckMarks(users)] if *users == [UserId(4)]), "{read:?}");
        let alone = offer("x".repeat(8_000), 0).in_short();
        assert!(matches!(alone[..], [BusMessage::EchoOf(UserId(3), _)]), "a message without recipients is shown to its sender: {alone:?}");
        let users: Vec<UserId> = (0..5_000).map(|n| UserId(i64::MAX - n)).collect();
        let lines = BusMessage::Wake(Class::Chat, users.clone()).lines().unwrap();
        assert!(lines.iter().all(|line| line.len() <= PAYLOAD_BYTES_MAX));
        let named: usize = lines
            .iter()
            .map(|line| match BusMessage::read(line) {
                Some(BusMessage::Wake(_, users)) => users.len(),
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(named, users.len());
    }

    #[test]
    fn acks_of_many_messages_are_told_in_lines_that_fit() {
        let messages: Vec<MessageId> = (0..limits::IDS_MAX).map(|_| MessageId::generate()).collect();
        let device = DeviceId::try_from("\u{1}".repeat(64)).unwrap();
        let lines = answered(Some(device), CommittedAnswer::Acks(AckRequest::Messages(messages.clone()))).lines().unwrap();
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= PAYLOAD_BYTES_MAX));
        let mut told: Vec<MessageId> = Vec::new();
        for line in &lines {
            let Some(BusMessage::Answered(_, Some(_), answer)) = BusMessage::read(line) else { panic!("{line}") };
            let CommittedAnswer::Acks(AckRequest::Messages(part)) = answer.as_ref() else { panic!("{line}") };
            told.extend(part);
        }
        assert_eq!(told, messages);
    }

    #[test]
    fn what_was_spent_fits_whoever_has_spent_it() {
        let name = |n: usize| ExternalId::try_from(format!("{n:03}{}", "\u{1}".repeat(125))).unwrap();
        let spent = |n| Spent { kind: LimitKind::Requests, subject: LimitSubject::Name(name(n)), count: u32::MAX, unpaid: u32::MAX };
        let all: Vec<Spent> = (0..200).map(spent).collect();
        let lines = BusMessage::Spent(all.clone()).lines().unwrap();
        let read = lines.iter().flat_map(|line| match BusMessage::read(line) {
            Some(BusMessage::Spent(spent)) => spent,
            other => panic!("{other:?}"),
        });
        assert_eq!(read.collect::<Vec<_>>(), all);
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        for line in [
            r#"{"s":[["zz",{"u":1},1,1]]}"#,
            r#"{"s":[["m",{"u":1},-1,1]]}"#,
            r#"{"s":[["m",{"u":1},1]]}"#,
            r#"{"s":[["m",{"z":1},1,1]]}"#,
            "",
            "x",
            "{}",
            r#"{"w":["chat"]}"#,
            r#"{"zzz":1}"#,
            r#"{"w":["chat",["1"]]}"#,
            "[1]",
            r#""q""#,
        ] {
            assert!(BusMessage::read(line).is_none(), "{line}");
        }
    }

    #[test]
    fn letters_hold_as_many_lines_as_fit_and_leave_the_rest() {
        let mut lines: VecDeque<String> = (0..10).map(|_| "x".repeat(2_500)).collect();
        let payloads = payloads(&mut lines, 3);
        assert_eq!((payloads.len(), lines.len()), (3, 4));
        assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX && payload.lines().count() == 2));
        // To the byte, with what parts them.
        for (second, count) in [(PAYLOAD_BYTES_MAX - 3_001, 1), (PAYLOAD_BYTES_MAX - 3_000, 2)] {
            let mut lines: VecDeque<String> = [3_000, second].map(|bytes| "x".repeat(bytes)).into();
            assert_eq!(super::payloads(&mut lines, 3).len(), count, "{second}");
        }
    }
}
