//! The role of a caller: what the words of its token's scope leave and open. `send` narrows what it may do as its user. The other words open
//! more beside it.

use super::act::Right;
use crate::auth::Scope;
use crate::protocol::publish::PublishRight;

/// The rights that a token gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    as_user: AsUser,
    publishing: PublishRight,
    operating: Operating,
}

/// The part that a token leaves of what its user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AsUser {
    Everything,
    SendingOnly,
}

/// The part that a token opens of what operators do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operating {
    Nothing,
    Looking,
    Acting,
}

impl Role {
    /// The role that a scope gives.
    pub fn of(scope: &Scope) -> Self {
        let operating = match (scope.has(Scope::ADMIN), scope.has(Scope::ADMIN_READ)) {
            (true, _) => Operating::Acting,
            (false, true) => Operating::Looking,
            (false, false) => Operating::Nothing,
        };
        Self {
            as_user: if scope.has(Scope::SEND) { AsUser::SendingOnly } else { AsUser::Everything },
            publishing: if scope.has(Scope::EVENTS_WRITE) { PublishRight::Anywhere } else { PublishRight::OwnFeeds },
            operating,
        }
    }

    /// The right to publish.
    pub const fn publish_right(self) -> PublishRight {
        self.publishing
    }

    /// The reason for which the scope does not give this right, in words for the client; none: it gives it.
    pub(super) const fn lacks(self, right: Right) -> Option<&'static str> {
        match (right, self.as_user, self.publishing, self.operating) {
            (Right::Send, ..)
            | (Right::User | Right::Publish, AsUser::Everything, ..)
            | (Right::Publish, _, PublishRight::Anywhere, _)
            | (Right::Look, .., Operating::Looking | Operating::Acting)
            | (Right::Operate, .., Operating::Acting) => None,
            (Right::User, ..) => Some("a token with the scope `send` may send, and nothing else as its user"),
            (Right::Publish, ..) => Some("a token with the scope `send` may publish with `events:write` beside it only"),
            (Right::Operate, ..) => Some("this takes a token with the scope `admin`"),
            (Right::Look, ..) => Some("this takes a token with the scope `admin` or `admin:read`"),
        }
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
            let role = Role::of(&Scope::read(&claim.into()).unwrap());
            let is_anywhere = role.publish_right() == PublishRight::Anywhere;
            let opened = [Right::User, Right::Publish, Right::Look, Right::Operate].map(|right| role.lacks(right).is_none());
            assert_eq!((opened, is_anywhere), ([person, publishes, looks, acts], anywhere), "{claim:?}");
            assert!(role.lacks(Right::Send).is_none(), "{claim:?}");
        }
    }
}
