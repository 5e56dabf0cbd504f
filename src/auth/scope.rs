//! The acts that a token allows: the claim `scope`, words separated by spaces (RFC 8693 section 4.2). Words that are not of this service
//! say nothing, and a scope without any of ours is as good as none.
//!
//! `send` narrows what a token may do as its user. The other words open more beside it.

use crate::protocol::publish::PublishRight;
use crate::protocol::{Code, Fault};

/// The kinds of acts that scopes tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// To send messages, recall them, and ask what became of them.
    Send,
    /// Everything else that a person does: to read its inbox, ack, take part in chats, follow.
    Person,
    /// To publish events, and to keep feeds.
    Publish,
    /// To look at what operators look at.
    Watch,
    /// To do what operators do.
    Operate,
}

/// The claim `scope` of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// The word that leaves its user nothing but sending, and asking what became of what it sent.
    pub const SEND: &str = "send";
    /// The word that opens what operators do.
    pub const ADMIN: &str = "admin";
    /// The word that opens what operators look at.
    pub const ADMIN_READ: &str = "admin:read";
    /// The word that lets its user publish to every feed, to everyone and to users that it lists.
    pub const EVENTS_WRITE: &str = "events:write";

    /// The scope of this claim.
    pub(super) const fn new(claim: String) -> Self {
        Self(claim)
    }

    /// Returns whether the scope contains this word.
    pub fn allows(&self, wanted: &str) -> bool {
        self.0.split(' ').any(|word| word == wanted)
    }

    /// The right to publish that it gives its user.
    pub fn publish_right(&self) -> PublishRight {
        if self.allows(Self::EVENTS_WRITE) { PublishRight::Anywhere } else { PublishRight::OwnFeeds }
    }

    /// Returns whether it allows acts of this kind.
    pub fn opens(&self, act: Act) -> bool {
        match act {
            Act::Send => true,
            Act::Person => !self.allows(Self::SEND),
            Act::Publish => self.opens(Act::Person) || self.allows(Self::EVENTS_WRITE),
            Act::Operate => self.allows(Self::ADMIN),
            Act::Watch => self.opens(Act::Operate) || self.allows(Self::ADMIN_READ),
        }
    }

    /// Checks that it allows acts of this kind.
    ///
    /// # Errors
    /// `forbidden`, with the word that is missing, or that is too much.
    pub fn check(&self, act: Act) -> Result<(), Fault> {
        let words = match act {
            _ if self.opens(act) => return Ok(()),
            Act::Send | Act::Person => "a token with the scope `send` may send, and nothing else as its user",
            Act::Publish => "a token with the scope `send` may publish with `events:write` beside it only",
            Act::Operate => "this takes a token with the scope `admin`",
            Act::Watch => "this takes a token with the scope `admin` or `admin:read`",
        };
        Err(Fault::new(Code::Forbidden, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_narrows_and_every_other_word_opens_more() {
        let table = [
            // scope, whole person, publishes anywhere, may publish, looks as an operator, acts as one
            ("", true, false, true, false, false),
            ("openid profile", true, false, true, false, false),
            ("send", false, false, false, false, false),
            ("openid send", false, false, false, false, false),
            ("events:write", true, true, true, false, false),
            ("send events:write", false, true, true, false, false),
            ("admin:read", true, false, true, true, false),
            ("admin", true, false, true, true, true),
            ("send admin", false, false, false, true, true),
            ("sender administrator admin:reader events:writer", true, false, true, false, false),
        ];
        for (claim, person, anywhere, publishes, looks, acts) in table {
            let scope = Scope::new(claim.to_owned());
            let is_anywhere = scope.publish_right() == PublishRight::Anywhere;
            let opened = [Act::Person, Act::Publish, Act::Watch, Act::Operate].map(|act| scope.opens(act));
            assert_eq!((opened, is_anywhere), ([person, publishes, looks, acts], anywhere), "{claim:?}");
            assert!(scope.opens(Act::Send), "{claim:?}");
        }
    }
}
