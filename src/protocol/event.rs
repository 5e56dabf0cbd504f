//! The events that a server tells its clients, as values. No text: a [`super::codec::Codec`] writes them at the door.
//!
//! A new event is a variant here and a shape in [`super::server`]. An event that one user causes and others are told is a
//! [`Notice`]: hub, bus and notifier pass it on without a look at what it says.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Fault;
use super::invitations::InvitationData;
use super::people::PeopleAnswer;
use super::recalled::RecallOk;
use super::server::{Drained, Draining, Gap, PresenceState, Published, ReadOk, Ready, RejectOk, SentAnswer, StatusException};
use crate::domain::{
    ChatId, ChatKind, ChatSeq, Envelope, ExternalId, InboxSeq, Message, MessageId, PerClass, Receipt, ReceiptCounts, Status,
};

/// An event for one client.
#[derive(Debug, Clone)]
pub enum ServerEvent {
    /// `ready`.
    Ready(Box<Ready>),
    /// `authenticated`: the token of this user was taken, and is good until then.
    Authenticated {
        /// The token's `sub`.
        user: ExternalId,
        /// The token's end.
        expires_at: OffsetDateTime,
    },
    /// `message:receive` for each of class chat (`message:recalled` for the notice of a recall) and `event:receive` for each other one, or `message:batch` and `event:batch` where the client
    /// asked for batches. The number is the attempt, from 1.
    Envelopes(Vec<(Envelope, u16)>),
    /// The client has acked everything up to these numbers. No event of its own: clients that resume from it get it with those that follow.
    Acked(PerClass<InboxSeq>),
    /// `queue:drained`.
    Drained(Drained),
    /// `queue:gap`.
    Gap(Gap),
    /// `message:sent`, the answer to a send.
    Sent(SentAnswer),
    /// `event:published`, the answer to `event:publish`.
    Published(Published),
    /// `message:sent` for the sender's other sessions.
    Echo(Encoded<Arc<Message>>),
    /// `message:skip:ok`: nothing waits for this message any more.
    SkipOk(MessageId),
    /// `message:status`, as it happens. The text is the marks cursor: what the client knows for certain.
    Receipt(Arc<Receipt>, Arc<str>),
    /// `message:status` for everything up to a number, as it changed while the sender was away.
    MarkMoved {
        /// The chat.
        chat: ChatId,
        /// The member's mark.
        seq: ChatSeq,
        /// `delivered` or `read`.
        status: Status,
        /// The member.
        member: ExternalId,
        /// Messages at or below `seq` that ended otherwise.
        except: Vec<StatusException>,
        /// The marks cursor.
        marks_cursor: Arc<str>,
    },
    /// `message:status` with counts, in a chat too large to name members. The text is the marks cursor.
    Counted(ReceiptCounts, Arc<str>),
    /// `chat:read`: the user has read a chat up to here, elsewhere. The text is the marks cursor.
    ChatRead(ChatId, ChatSeq, Arc<str>),
    /// `message:delivered:ok`.
    DeliveredOk,
    /// `message:reject:ok`.
    RejectOk(RejectOk),
    /// `message:recall:ok`.
    RecallOk(RecallOk),
    /// `message:read:ok`.
    ReadOk(ReadOk),
    /// `presence:state`.
    Presence(PresenceState),
    /// The answer to a command about another user.
    People(PeopleAnswer),
    /// `chat:invited`.
    Invited(Box<InvitationData>),
    /// `chat:uninvited`: the invitation to this chat waits no more.
    Uninvited(ChatId),
    /// Another user did something.
    Notice(Encoded<Notice>),
    /// `server:draining`.
    Draining(Draining),
    /// `pong`.
    Pong,
    /// `error`.
    Error(Fault),
}

/// An event that others are told as it happens, and that nothing depends on: it is kept nowhere.
///
/// The serde form is that of the bus between nodes. Clients get the shapes of [`super::server`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// `typing`: a member began or stopped.
    #[serde(rename = "t")]
    Typing {
        /// The chat.
        chat: ChatId,
        /// The member.
        user: ExternalId,
        /// Began or stopped.
        typing: bool,
    },
    /// `user:online`.
    #[serde(rename = "o")]
    Online {
        /// The user.
        user: ExternalId,
        /// The time, by the database's clock.
        #[serde(with = "time::serde::timestamp::microseconds")]
        at: OffsetDateTime,
    },
    /// `user:offline`.
    #[serde(rename = "f")]
    Offline {
        /// The user.
        user: ExternalId,
        /// The end of its last connection, by the database's clock.
        #[serde(with = "time::serde::timestamp::microseconds")]
        last_seen: OffsetDateTime,
    },
    /// `chat:added`: the user who is told is in this chat from now on.
    #[serde(rename = "a")]
    Added {
        /// The chat.
        chat: ChatId,
        /// Its kind.
        kind: ChatKind,
        /// Its title.
        title: Option<String>,
        /// The user gets messages above this number.
        joined_seq: ChatSeq,
        /// The member that added it.
        by: ExternalId,
    },
    /// `chat:removed`: the user who is told is no longer in this chat.
    #[serde(rename = "r")]
    Removed {
        /// The chat.
        chat: ChatId,
        /// Messages above this number are not for the user.
        left_seq: ChatSeq,
        /// The member that removed it; the user itself when it left.
        by: ExternalId,
    },
    /// `contact:requested`, `contact:accepted` or `contact:removed`.
    #[serde(rename = "k")]
    Contact {
        /// The change.
        change: ContactNotice,
        /// The other one, as the user who is told sees it.
        user: ExternalId,
        /// The one of the two that has done it.
        by: ExternalId,
    },
    /// `message:recalled`: the user who is told has recalled this message, by another session.
    #[serde(rename = "c")]
    Recalled {
        /// The message.
        message: MessageId,
        /// Its chat.
        chat: ChatId,
        /// Its number there.
        seq: ChatSeq,
        /// The time, by the database's clock.
        #[serde(with = "time::serde::timestamp::microseconds")]
        at: OffsetDateTime,
    },
}

/// A change between two users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContactNotice {
    /// One has requested the other.
    #[serde(rename = "q")]
    Requested,
    /// They are contacts.
    #[serde(rename = "a")]
    Accepted,
    /// They are none, and no request is left.
    #[serde(rename = "r")]
    Removed,
}

/// The thing of which a notice tells the state. Of notices of one subject the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeSubject {
    /// A member types in a chat, or not.
    Typing(ChatId, ExternalId),
    /// A user is online, or not.
    Presence(ExternalId),
    /// The user who is told is in a chat, or not.
    Membership(ChatId),
    /// The user who is told and this one are contacts, or not.
    Contact(ExternalId),
    /// A message of the user who is told is recalled.
    Recall(MessageId),
}

impl Notice {
    /// The thing of which it tells the state.
    pub fn subject(&self) -> NoticeSubject {
        match self {
            Self::Typing { chat, user, .. } => NoticeSubject::Typing(*chat, user.clone()),
            Self::Online { user, .. } | Self::Offline { user, .. } => NoticeSubject::Presence(user.clone()),
            Self::Added { chat, .. } | Self::Removed { chat, .. } => NoticeSubject::Membership(*chat),
            Self::Contact { user, .. } => NoticeSubject::Contact(user.clone()),
            Self::Recalled { message, .. } => NoticeSubject::Recall(*message),
        }
    }
}

/// A value that many clients are told, with its encoded form beside it: each codec makes its own once, however many
/// clients it writes to. Clones share both.
#[derive(Debug)]
pub struct Encoded<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    value: T,
    json: OnceLock<Utf8Bytes>,
}

impl<T> Encoded<T> {
    /// The value, not encoded yet.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Inner { value, json: OnceLock::new() }))
    }

    /// The frame of the JSON codec, made by the first call.
    pub(super) fn json(&self, encode: impl FnOnce(&T) -> Utf8Bytes) -> Utf8Bytes {
        self.0.json.get_or_init(|| encode(&self.0.value)).clone()
    }
}

impl<T> Clone for Encoded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Encoded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl From<Fault> for ServerEvent {
    fn from(fault: Fault) -> Self {
        Self::Error(fault)
    }
}
