//! The one table of refusals: what a failed statement is to its caller, and what a client is told.
//!
//! Every door and every lane translates by it: an error of the store becomes a [`Refusal`], a refusal becomes a
//! [`Fault`] with a code and perhaps a time to try again. A defect is logged where it becomes a refusal, and nowhere else.

use std::time::Duration;

use tracing::{debug, error};

use crate::domain::{InboxSeq, MessageId, SessionId, limits};
use crate::protocol::{Code, Fault};
use crate::store::{Error, NotAllowed};

/// When a queue is full or a lock is held: how long a client should wait. About what a full queue takes to be written.
const BUSY_RETRY: Duration = Duration::from_millis(500);
/// When the database is away.
const AWAY_RETRY: Duration = Duration::from_millis(1_000);
/// When too many clients come at once.
const CROWDED_RETRY: Duration = Duration::from_millis(2_000);
/// When all devices of a user are connected.
const DEVICES_RETRY: Duration = Duration::from_millis(5_000);

/// The reason for which a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A queue is full, no connection is free, or another session holds a lock. Nothing was stored. With the time to wait.
    #[error("busy")]
    Busy(Duration),
    /// The database does not answer.
    #[error("the database does not answer")]
    Unavailable,
    /// Too many clients connect at once.
    #[error("too many clients come at once")]
    Crowded,
    /// The user sends too much. With the time to wait.
    #[error("too much in too short a time")]
    RateLimited(Duration),
    /// The user begins too many direct chats. With the time to wait.
    #[error("too many direct chats")]
    TooManyChats(Duration),
    /// The user has as many devices as allowed, all of them connected, and comes with another.
    #[error("too many devices")]
    TooManyDevices,
    /// The connection would be told of the presence of more users than it may.
    #[error("watches too many users")]
    WatchesTooMany,
    /// Not a member, or no such chat.
    #[error("not a member")]
    NotAMember,
    /// Direct chats and feeds have no members that come and go.
    #[error("not a group")]
    NotAGroup,
    /// The user is no admin of the group.
    #[error("no admin of the group")]
    NotAnAdmin,
    /// The user is no publisher of the feed.
    #[error("no publisher of the feed")]
    NotAPublisher,
    /// The user is not the maker of the feed.
    #[error("not the maker of the feed")]
    NotTheMaker,
    /// Nobody leaves the feed of everyone.
    #[error("the feed of everyone")]
    FollowedByAll,
    /// The feed would have more publishers than allowed.
    #[error("too many publishers")]
    PublishersTooMany,
    /// As many revocations count as may.
    #[error("too many revocations")]
    RevocationsTooMany,
    /// The scope of the token does not allow it. In words for the client.
    #[error("the scope of the token does not allow it")]
    OutOfScope(&'static str),
    /// The limits of as many users are raised as may be.
    #[error("the limits of too many users are raised")]
    LimitsTooMany,
    /// The token lacks the scope for events.
    #[error("the token lacks the scope for events")]
    NeedsEventsScope,
    /// The user follows as many feeds as it may.
    #[error("too many feeds")]
    FollowsTooMany,
    /// The group would have more members than allowed.
    #[error("too many members")]
    TooManyMembers,
    /// The other user takes no messages from this one, or is not added to groups by it.
    #[error("not accepted by the other user")]
    NotAccepted,
    /// The application's rule for direct messages could not be asked.
    #[error("the rule for direct messages could not be asked")]
    PolicyUnavailable,
    /// The other user that is named is the caller.
    #[error("names the caller itself")]
    Oneself,
    /// The caller has blocked the user that it names.
    #[error("the caller has blocked it")]
    HasBlocked,
    /// The user has as many contacts and requests as it may.
    #[error("too many contacts")]
    TooManyContacts,
    /// The user has blocked as many as it may.
    #[error("too many blocks")]
    TooManyBlocks,
    /// As many invitations of the user wait as may.
    #[error("too many invitations")]
    InvitationsTooMany,
    /// No such message in that chat or inbox.
    #[error("no such message")]
    NotFound,
    /// The id belongs to another sender's message.
    #[error("the id belongs to another sender's message")]
    Conflict,
    /// The id is so old that its message may have been accepted and removed.
    #[error("the id is older than messages that were removed")]
    Purged,
    /// Another member has sent the message.
    #[error("another member has sent it")]
    NotTheSender,
    /// The time in which the message could be recalled is over.
    #[error("the time for recalling it is over")]
    RecallOver,
    /// No message can be recalled.
    #[error("recalls are turned off")]
    RecallOff,
    /// Its `expiresAt` has passed.
    #[error("its expiry has passed")]
    TooLate,
    /// An ack names a number above this one, the highest of the inbox.
    #[error("above the end of the inbox")]
    AckAhead(InboxSeq),
    /// The database refuses a value of it.
    #[error("the database refuses a value")]
    Invalid,
    /// An earlier message of the same connection to the same chat, this one, was refused for now.
    #[error("an earlier message was refused")]
    Behind(MessageId),
    /// A defect; it has been logged.
    #[error("internal")]
    Internal,
}

impl Refusal {
    /// Try again after the usual time.
    pub const BUSY: Self = Self::Busy(BUSY_RETRY);

    /// The refusal that a failed statement becomes, with its cause in the log where that is a defect. `what` was asked, in
    /// words for the log.
    pub fn of(cause: &Error, what: &'static str) -> Self {
        let refusal = Self::from(cause);
        match refusal {
            Self::Internal => error!(code = refusal.code().as_str(), ?cause, "{what} failed"),
            Self::Invalid => debug!(?cause, "the database refuses a value of {what}"),
            _ => {}
        }
        refusal
    }

    /// The code that a client sees.
    pub fn code(self) -> Code {
        Fault::from(self).code
    }

    /// True when the same request may succeed later.
    pub const fn is_for_now(self) -> bool {
        match self {
            Self::Busy(_)
            | Self::Unavailable
            | Self::Crowded
            | Self::RateLimited(_)
            | Self::TooManyChats(_)
            | Self::PolicyUnavailable
            | Self::Behind(_) => true,
            Self::NotAMember
            | Self::NotAGroup
            | Self::NotAnAdmin
            | Self::NotAPublisher
            | Self::NotTheMaker
            | Self::FollowedByAll
            | Self::PublishersTooMany
            | Self::RevocationsTooMany
            | Self::OutOfScope(_)
            | Self::LimitsTooMany
            | Self::NeedsEventsScope
            | Self::FollowsTooMany
            | Self::TooManyMembers
            | Self::NotAccepted
            | Self::Oneself
            | Self::HasBlocked
            | Self::TooManyContacts
            | Self::TooManyBlocks
            | Self::InvitationsTooMany
            | Self::NotFound
            | Self::Conflict
            | Self::TooLate
            | Self::NotTheSender
            | Self::RecallOver
            | Self::RecallOff
            | Self::AckAhead(_)
            | Self::Invalid
            | Self::TooManyDevices
            | Self::WatchesTooMany
            | Self::Purged
            | Self::Internal => false,
        }
    }

    /// The fault for one client of a crowd: its time to try again is spread between the usual one and three times as long, or
    /// the crowd would only come again.
    pub fn to_one_of_a_crowd(self) -> Fault {
        let mut fault = Fault::from(self);
        fault.retry_after_ms = fault.retry_after_ms.map(spread);
        fault
    }
}

/// This or up to three times as long, by chance.
fn spread(ms: u64) -> u64 {
    let [.., high, low] = *SessionId::generate().0.as_bytes();
    ms + 2 * ms * u64::from(u16::from_be_bytes([high, low])) / u64::from(u16::MAX)
}

impl From<&Error> for Refusal {
    fn from(cause: &Error) -> Self {
        match cause {
            Error::Unavailable(_) => Self::Unavailable,
            Error::Busy(_) | Error::Held(_) => Self::BUSY,
            Error::Invalid(_) => Self::Invalid,
            Error::Taken(_) | Error::Failed(_) => Self::Internal,
        }
    }
}

impl From<NotAllowed> for Refusal {
    fn from(refused: NotAllowed) -> Self {
        match refused {
            NotAllowed::NotAMember => Self::NotAMember,
            NotAllowed::NotAGroup => Self::NotAGroup,
            NotAllowed::NoAdmin => Self::NotAnAdmin,
            NotAllowed::TooMany => Self::TooManyMembers,
            NotAllowed::NotAccepted => Self::NotAccepted,
            NotAllowed::InvitationsTooMany => Self::InvitationsTooMany,
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let ms = |pause: Duration| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        match refusal {
            Refusal::Busy(pause) => Self::plain(Code::Busy).retry_after_ms(ms(pause)),
            Refusal::Unavailable => Self::plain(Code::Unavailable).retry_after_ms(ms(AWAY_RETRY)),
            Refusal::Crowded => Self::plain(Code::Busy).retry_after_ms(ms(CROWDED_RETRY)),
            Refusal::RateLimited(pause) => Self::plain(Code::RateLimited).retry_after_ms(ms(pause).max(1)),
            Refusal::TooManyChats(pause) => Self::plain(Code::TooManyChats).retry_after_ms(ms(pause).max(1)),
            Refusal::TooManyDevices => {
                let words = format!("a user has at most {} devices, and all of them are connected", limits::DEVICES_PER_USER_MAX);
                Self::new(Code::TooManySessions, words).retry_after_ms(ms(DEVICES_RETRY))
            }
            Refusal::WatchesTooMany => {
                Self::invalid(format!("`userIds`: a connection is told of the presence of at most {} users", limits::PRESENCE_WATCHED_MAX))
            }
            Refusal::NotAMember => Self::plain(Code::NotAMember),
            Refusal::NotAGroup => Self::new(Code::Conflict, "nobody joins or leaves a direct chat"),
            Refusal::NotAnAdmin => Self::new(Code::Forbidden, "only an admin of the group may do this"),
            Refusal::TooManyMembers => Self::new(Code::TooManyMembers, format!("a group has at most {} members", limits::MEMBERS_MAX)),
            Refusal::NotAPublisher => {
                Self::new(Code::Forbidden, "only publishers of the feed, and tokens with the scope `events:write`, may do this")
            }
            Refusal::NotTheMaker => {
                Self::new(Code::Forbidden, "only the maker of the feed, and tokens with the scope `events:write`, may do this")
            }
            Refusal::FollowedByAll => Self::new(Code::Forbidden, "every user follows this feed, and nobody leaves it"),
            Refusal::PublishersTooMany => Self::new(Code::Conflict, format!("a feed has at most {} publishers", limits::PUBLISHERS_MAX)),
            Refusal::RevocationsTooMany => {
                Self::new(Code::Conflict, "as many revocations count as may: give them `expiresAt`, so that they end sooner")
            }
            Refusal::OutOfScope(words) => Self::new(Code::Forbidden, words),
            Refusal::LimitsTooMany => Self::new(Code::Conflict, "the limits of as many users are raised as may be: set those of some to 1"),
            Refusal::NeedsEventsScope => Self::new(Code::Forbidden, "this takes a token with the scope `events:write`"),
            Refusal::FollowsTooMany => Self::new(Code::Conflict, format!("a user follows at most {} feeds", limits::FOLLOWS_MAX)),
            Refusal::NotAccepted => Self::plain(Code::NotAccepted),
            Refusal::PolicyUnavailable => Self::plain(Code::PolicyUnavailable).retry_after_ms(ms(AWAY_RETRY)),
            Refusal::Oneself => Self::invalid("`userId` must name another user"),
            Refusal::HasBlocked => Self::new(Code::Conflict, "you have blocked this user"),
            Refusal::TooManyContacts => {
                Self::new(Code::Conflict, format!("a user has at most {} contacts, requests of its own among them", limits::CONTACTS_MAX))
            }
            Refusal::TooManyBlocks => Self::new(Code::Conflict, format!("a user blocks at most {} users", limits::BLOCKS_MAX)),
            Refusal::InvitationsTooMany => Self::new(
                Code::Conflict,
                format!("a user invites at most {} users at a time, those that have declined among them", limits::INVITATIONS_MADE_MAX),
            ),
            Refusal::NotFound => Self::plain(Code::NotFound),
            Refusal::Conflict => Self::new(Code::Conflict, "this id is that of another user's message, event or feed"),
            Refusal::Purged => Self::new(
                Code::Conflict,
                "this messageId is older than messages of the chat that were removed: its message may be one of them",
            ),
            Refusal::NotTheSender => Self::new(Code::Forbidden, "only its sender may recall a message"),
            Refusal::RecallOver => Self::new(Code::TooLate, "the message was sent too long ago to be recalled"),
            Refusal::RecallOff => Self::new(Code::TurnedOff, "no message can be recalled here"),
            Refusal::TooLate => Self::invalid("`expiresAt` must lie in the future"),
            Refusal::AckAhead(end) => {
                Self::new(Code::AckAhead, format!("`upTo` is above {end}, the highest number of the inbox; nothing was changed"))
            }
            Refusal::Invalid => Self::invalid("the database refuses a value of this request"),
            Refusal::Behind(first) => Self::plain(Code::Busy).retry_after_ms(ms(BUSY_RETRY)).behind(first),
            Refusal::Internal => Self::plain(Code::Internal),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn told(error: sqlx::Error) -> (Code, Option<u64>) {
        let fault = Fault::from(Refusal::from(&Error::from(error)));
        (fault.code, fault.retry_after_ms)
    }

    #[test]
    fn an_error_of_the_store_is_told_the_same_by_every_door() {
        let cause = || sqlx::Error::PoolTimedOut;
        let table = [
            (Error::Unavailable(cause()), Code::Unavailable, Some(1_000)),
            (Error::Busy(cause()), Code::Busy, Some(500)),
            (Error::Held(cause()), Code::Busy, Some(500)),
            (Error::Invalid(cause()), Code::Invalid, None),
            (Error::Taken(cause()), Code::Internal, None),
            (Error::Failed(cause()), Code::Internal, None),
        ];
        for (error, code, retry) in table {
            let fault = Fault::from(Refusal::of(&error, "a test"));
            assert_eq!((fault.code, fault.retry_after_ms), (code, retry), "{error:?}");
        }
        assert_eq!(told(sqlx::Error::PoolTimedOut), (Code::Busy, Some(500)), "a busy pool is no database that is away");
        assert_eq!(told(sqlx::Error::PoolClosed), (Code::Unavailable, Some(1_000)));
    }

    #[test]
    fn the_clients_of_a_crowd_are_told_times_of_their_own() {
        for (refusal, from) in [(Refusal::Unavailable, 1_000), (Refusal::Crowded, 2_000)] {
            let told: HashSet<_> = (0..50).map(|_| refusal.to_one_of_a_crowd().retry_after_ms).collect();
            assert!(told.len() > 10 && told.iter().flatten().all(|ms| (from..=3 * from).contains(ms)), "{told:?}");
        }
        assert_eq!(Refusal::NotAMember.to_one_of_a_crowd().retry_after_ms, None);
    }
}
