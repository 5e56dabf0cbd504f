//! The acts that a token allows: the claim `scope`, words separated by spaces (RFC 8693 section 4.2). Words that are not of this service
//! say nothing, and a scope without any of ours is as good as none.
//!
//! `send` narrows what a token may do as its user. The other words open more beside it.

use crate::protocol::publish::PublishRight;

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

    /// Returns whether its user may do everything that a person may: read its inbox, ack, take part in chats.
    pub fn is_whole_person(&self) -> bool {
        !self.allows(Self::SEND)
    }

    /// Returns whether it may publish at all. With `send` alone it may not.
    pub fn may_publish(&self) -> bool {
        self.is_whole_person() || self.allows(Self::EVENTS_WRITE)
    }

    /// Returns whether it opens what operators look at.
    pub fn may_look_as_operator(&self) -> bool {
        self.may_act_as_operator() || self.allows(Self::ADMIN_READ)
    }

    /// Returns whether it opens what operators do.
    pub fn may_act_as_operator(&self) -> bool {
        self.allows(Self::ADMIN)
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
            let got =
                (scope.is_whole_person(), is_anywhere, scope.may_publish(), scope.may_look_as_operator(), scope.may_act_as_operator());
            assert_eq!(got, (person, anywhere, publishes, looks, acts), "{claim:?}");
        }
    }
}
