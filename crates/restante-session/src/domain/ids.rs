//! Ids and numbers, each its own type, so that a chat's sequence number cannot be passed where an inbox
//! number belongs. Values that come from outside are checked when they are made.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Clock, limits};

/// A user's number inside the schema. It never leaves the service: outside a user is its [`ExternalId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub i64);

/// A user as the outside world names it: the `sub` of its token, 1 to 128 characters without NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExternalId(Arc<str>);

/// The name a client gives to one of its installations (`?device=`), 1 to 64 characters without NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(Arc<str>);

/// A chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChatId(pub Uuid);

/// A message. The client may choose it before it sends; UUIDv7 is recommended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub Uuid);

/// One connection's delivery state, from `ready` to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

/// A node, from its start to its end: another process, or another start, is another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub Uuid);

/// A feed: events that its publishers publish to its followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeedId(pub Uuid);

/// The id of an event. Events are messages, and share their ids.
pub type EventId = MessageId;

/// An event's number in its stream of a feed: 1, 2, 3, … in commit order, without a hole. A feed has one stream for each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeedSeq(pub i64);

/// A message's number in its chat: 1, 2, 3, … in commit order, without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChatSeq(pub i64);

impl ChatSeq {
    /// Returns whether it is that of the notice of a recall: the number of the message that was recalled, negated.
    pub const fn is_of_notice(self) -> bool {
        self.0 < 0
    }

    /// The number of the message that a notice of this number is of.
    #[must_use]
    pub const fn of_notice(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

/// A row's number in its user's inbox, per class: 1, 2, 3, … in commit order, without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InboxSeq(pub i64);

/// The reason why a text is not an id. `Display` is fit for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be 1 to {chars_max} characters without NUL")]
pub struct InvalidId {
    what: &'static str,
    chars_max: usize,
}

fn checked(text: String, what: &'static str, chars_max: usize) -> Result<Arc<str>, InvalidId> {
    let fits = !text.is_empty() && text.len() <= chars_max * 4 && text.chars().count() <= chars_max;
    if fits && !text.contains('\0') { Ok(text.into()) } else { Err(InvalidId { what, chars_max }) }
}

impl TryFrom<String> for ExternalId {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        checked(text, "a user id", limits::USER_ID_CHARS_MAX).map(Self)
    }
}

impl TryFrom<String> for DeviceId {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        checked(text, "a device id", limits::DEVICE_ID_CHARS_MAX).map(Self)
    }
}

impl From<ExternalId> for String {
    fn from(id: ExternalId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl ExternalId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DeviceId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! generated {
    ($($id:ident)*) => { $(impl $id {
        /// A new id: UUIDv7, so that inserts touch neighbouring index pages. It says nothing about commit order, and
        /// nothing reads the time in it.
        pub fn generate() -> Self {
            Self::generate_by(&Clock::default())
        }

        /// The same by this clock.
        pub fn generate_by(clock: &Clock) -> Self {
            Self(clock.uuid())
        }
    })* };
}
generated!(MessageId ChatId SessionId NodeId FeedId);

impl FeedId {
    /// The feed that every user follows from first sight.
    pub const EVERYONE: Self = Self(Uuid::from_u128(1));
    /// The feed in which events to listed users are numbered. Nobody follows it, and no client sees its id.
    pub const DIRECT: Self = Self(Uuid::from_u128(2));
}

impl InboxSeq {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

macro_rules! display_as_inner {
    ($($id:ty),*) => { $(impl fmt::Display for $id {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(&self.0, f)
        }
    })* };
}
display_as_inner!(UserId, ExternalId, DeviceId, ChatId, MessageId, SessionId, NodeId, ChatSeq, InboxSeq, FeedId, FeedSeq);
