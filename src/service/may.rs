//! The rights of a caller as one table: by what its token allows, what it wants to do, and what it is to the thing.
//!
//! It decides what stands still while it is decided. What others change at the same time (who is in a group, who has blocked whom, who is
//! whose contact, who publishes to a feed) is decided by the function of the schema that makes the change, under its locks; its word
//! becomes a refusal in `crate::delivery::refusal`. It asks nobody.

use super::Refusal;
use crate::protocol::publish::PublishRight;

/// An act that takes a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Publishes to a feed. The statement that publishes looks whether the caller is one of its publishers.
    PublishToFeed,
    /// Publishes to users that it lists, or to everyone.
    PublishToUsers,
    /// Looks how far an event has got.
    SeeProgress,
    /// Lists who follows a feed.
    ListFollowers,
    /// Adds publishers to a feed, or removes some.
    ChangePublishers,
    /// Makes others follow a feed, or follow it no more.
    ChangeFollowers,
}

/// The relation of the caller to the feed or the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// Nothing that counts.
    Stranger,
    /// It publishes to the feed, or has published the event.
    Publisher,
    /// It has made the feed.
    Maker,
}

/// Says if a caller may do something. The right is that of its token.
///
/// # Errors
/// It may not: [`Refusal::NeedsEventsScope`], [`Refusal::NotAPublisher`], [`Refusal::NotTheMaker`], or [`Refusal::NotFound`] where it may not
/// even know of the thing.
pub(super) const fn may(right: PublishRight, act: Act, relation: Relation) -> Result<(), Refusal> {
    match (right, act, relation) {
        (PublishRight::Anywhere, _, _)
        | (PublishRight::OwnFeeds, Act::PublishToFeed, _)
        | (PublishRight::OwnFeeds, Act::SeeProgress | Act::ListFollowers, Relation::Publisher | Relation::Maker)
        | (PublishRight::OwnFeeds, Act::ChangePublishers, Relation::Maker) => Ok(()),
        (PublishRight::OwnFeeds, Act::PublishToUsers | Act::ChangeFollowers, _) => Err(Refusal::NeedsEventsScope),
        (PublishRight::OwnFeeds, Act::SeeProgress, Relation::Stranger) => Err(Refusal::NotFound),
        (PublishRight::OwnFeeds, Act::ListFollowers, Relation::Stranger) => Err(Refusal::NotAPublisher),
        (PublishRight::OwnFeeds, Act::ChangePublishers, Relation::Stranger | Relation::Publisher) => Err(Refusal::NotTheMaker),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_act_and_relation_has_one_outcome() {
        use Refusal::{NeedsEventsScope, NotAPublisher, NotFound, NotTheMaker};
        const ALLOWED: Result<(), Refusal> = Ok(());
        // For a stranger, a publisher and the maker, by a token without the scope for events.
        let table = [
            (Act::PublishToFeed, [ALLOWED; 3]),
            (Act::PublishToUsers, [Err(NeedsEventsScope); 3]),
            (Act::SeeProgress, [Err(NotFound), ALLOWED, ALLOWED]),
            (Act::ListFollowers, [Err(NotAPublisher), ALLOWED, ALLOWED]),
            (Act::ChangePublishers, [Err(NotTheMaker), Err(NotTheMaker), ALLOWED]),
            (Act::ChangeFollowers, [Err(NeedsEventsScope); 3]),
        ];
        for (act, outcomes) in table {
            for (relation, outcome) in [Relation::Stranger, Relation::Publisher, Relation::Maker].into_iter().zip(outcomes) {
                assert_eq!(may(PublishRight::OwnFeeds, act, relation), outcome, "{act:?} {relation:?}");
                assert_eq!(may(PublishRight::Anywhere, act, relation), ALLOWED, "{act:?} {relation:?}");
            }
        }
    }
}
