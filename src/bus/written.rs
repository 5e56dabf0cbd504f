//! Values as they are written in a line for other nodes. The names are short: a payload is small.
//!
//! It knows no line and no payload. What cannot be read is none.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::domain::{
    AddressBlock, ChatId, ChatSeq, Class, Extension, ExternalId, InboxSeq, LimitKind, LimitSubject, Message, MessageId, Profile, Receipt,
    ReceiptCounts, Spent, Status, UserId,
};
use crate::protocol::client::{AckRequest, CommittedAnswer};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WrittenAnswer {
    #[serde(rename = "m")]
    Messages(Vec<MessageId>),
    #[serde(rename = "u")]
    UpTo(Class, InboxSeq),
    #[serde(rename = "r")]
    Reject(MessageId, u16),
}

/// The limit, the one who has spent it, how much, and how much is unpaid.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrittenSpent(LimitKind, WrittenSubject, u32, u32);

#[derive(Debug, Serialize, Deserialize)]
enum WrittenSubject {
    #[serde(rename = "u")]
    User(i64),
    #[serde(rename = "n")]
    Name(ExternalId),
    #[serde(rename = "a")]
    Address(AddressBlock),
    #[serde(rename = "b")]
    NameAt(ExternalId, AddressBlock),
}

impl From<&Spent> for WrittenSpent {
    fn from(spent: &Spent) -> Self {
        let subject = match &spent.subject {
            LimitSubject::User(user) => WrittenSubject::User(user.0),
            LimitSubject::Name(user) => WrittenSubject::Name(user.clone()),
            LimitSubject::Address(address) => WrittenSubject::Address(*address),
            LimitSubject::NameAt(name, address) => WrittenSubject::NameAt(name.clone(), *address),
        };
        Self(spent.kind, subject, spent.count, spent.unpaid)
    }
}

impl From<WrittenSpent> for Spent {
    fn from(WrittenSpent(kind, subject, count, unpaid): WrittenSpent) -> Self {
        let subject = match subject {
            WrittenSubject::User(user) => LimitSubject::User(UserId(user)),
            WrittenSubject::Name(user) => LimitSubject::Name(user),
            WrittenSubject::Address(address) => LimitSubject::Address(address),
            WrittenSubject::NameAt(name, address) => LimitSubject::NameAt(name, address),
        };
        Self { kind, subject, count, unpaid }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrittenMessage {
    pub(super) i: MessageId,
    pub(super) c: ChatId,
    pub(super) s: ChatSeq,
    pub(super) f: i64,
    pub(super) e: ExternalId,
    pub(super) n: Option<String>,
    pub(super) p: Option<String>,
    pub(super) y: String,
    pub(super) t: String,
    pub(super) m: Option<Box<RawValue>>,
    /// Microseconds since 1970, as exact as PostgreSQL's clock.
    pub(super) a: i64,
    pub(super) x: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrittenReceipt {
    pub(super) c: ChatId,
    pub(super) m: Vec<MessageId>,
    pub(super) f: ChatSeq,
    pub(super) s: ChatSeq,
    pub(super) t: Status,
    pub(super) e: ExternalId,
    pub(super) a: i64,
    pub(super) r: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrittenReceiptCounts {
    pub(super) c: ChatId,
    pub(super) m: MessageId,
    pub(super) s: ChatSeq,
    pub(super) d: i64,
    pub(super) r: i64,
    pub(super) n: i64,
}

impl From<&CommittedAnswer> for WrittenAnswer {
    fn from(answer: &CommittedAnswer) -> Self {
        match answer {
            CommittedAnswer::Acks(AckRequest::Messages(messages)) => Self::Messages(messages.clone()),
            CommittedAnswer::Acks(AckRequest::UpTo { class, seq }) => Self::UpTo(*class, *seq),
            CommittedAnswer::Reject { message, attempts } => Self::Reject(*message, *attempts),
        }
    }
}

impl From<WrittenAnswer> for CommittedAnswer {
    fn from(written: WrittenAnswer) -> Self {
        match written {
            WrittenAnswer::Messages(messages) => Self::Acks(AckRequest::Messages(messages)),
            WrittenAnswer::UpTo(class, seq) => Self::Acks(AckRequest::UpTo { class, seq }),
            WrittenAnswer::Reject(message, attempts) => Self::Reject { message, attempts },
        }
    }
}

impl From<&Message> for WrittenMessage {
    fn from(message: &Message) -> Self {
        Self {
            i: message.id,
            c: message.chat,
            s: message.seq,
            f: message.sender.user.0,
            e: message.sender.external.clone(),
            n: message.sender.name.clone(),
            p: message.sender.picture.clone(),
            y: message.message_type.clone(),
            t: message.content.clone(),
            m: message.metadata.clone(),
            a: micros(message.created_at),
            x: message.expires_at.map(micros),
        }
    }
}

impl WrittenMessage {
    pub(super) fn read(self) -> Option<Message> {
        let expires_at = match self.x {
            Some(at) => Some(instant(at)?),
            None => None,
        };
        Some(Message {
            id: self.i,
            chat: self.c,
            seq: self.s,
            sender: Arc::new(Profile { user: UserId(self.f), external: self.e, name: self.n, picture: self.p }),
            message_type: self.y,
            content: self.t,
            metadata: self.m,
            created_at: instant(self.a)?,
            expires_at,
            recall: None,
            is_unreadable: false,
            extension: Extension::default(),
        })
    }
}

impl WrittenReceipt {
    pub(super) fn read(self) -> Option<Receipt> {
        let at = instant(self.a)?;
        let Self { c: chat, m: messages, f: first, s: seq, t: status, e: member, r: reason, a: _ } = self;
        Some(Receipt::Moved { chat, messages, first, seq, status, member, at, reason })
    }
}

impl From<ReceiptCounts> for WrittenReceiptCounts {
    fn from(counts: ReceiptCounts) -> Self {
        Self { c: counts.chat, m: counts.message, s: counts.seq, d: counts.delivered, r: counts.read, n: counts.members }
    }
}

impl From<WrittenReceiptCounts> for ReceiptCounts {
    fn from(written: WrittenReceiptCounts) -> Self {
        Self { chat: written.c, message: written.m, seq: written.s, delivered: written.d, read: written.r, members: written.n }
    }
}

pub(super) fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

fn instant(micros: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()
}
