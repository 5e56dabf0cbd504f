//! The rights of a caller as one table: by what its token allows, what it wants to do, and what it is to the thing. Every door asks it, and no
//! door decides by itself.
//!
//! It asks nobody. A door does not know the relation yet ([`Relation::Unknown`]) and asks for what the token says. What stands still while it is
//! decided is decided here. What others change at the same time (who is in a group, who has blocked whom, who is whose contact, who publishes
//! to a feed) is decided by the function of the schema that makes the change, under its locks; its word becomes a refusal in
//! `crate::delivery::refusal`. The table says what that word is, and `tests/service/rights` holds both against it.

mod act;
mod role;

pub use act::{Act, Relation, Right};
pub use role::Role;

use super::Refusal;
use crate::protocol::publish::PublishRight;

/// Says if a caller may do something, where users take messages from everyone (`DIRECT_MESSAGES=everyone`).
///
/// # Errors
/// It may not. [`Refusal::OutOfScope`] by its token; otherwise by its relation to the thing, with [`Refusal::NotFound`] where it may not even
/// know of it.
pub const fn may(role: Role, act: Act, relation: Relation) -> Result<(), Refusal> {
    if let Some(words) = role.lacks(act.right()) {
        return Err(Refusal::OutOfScope(words));
    }
    match role.publish_right() {
        PublishRight::Anywhere if act.is_open_to_publishers() => Ok(()),
        PublishRight::Anywhere | PublishRight::OwnFeeds => towards(act, relation),
    }
}

/// The outcome of an act by the relation alone.
const fn towards(act: Act, relation: Relation) -> Result<(), Refusal> {
    use Relation::{
        Asked, Blocked, Blocks, Contact, FormerMember, GroupAdmin, Invited, Maker, Member, Oneself, Publisher, Recipient, Sender, Stranger,
        Unknown,
    };
    match (act, relation) {
        // For every relation.
        (Act::PublishToUsers | Act::ChangeFollowers, _) => Err(Refusal::NeedsEventsScope),
        (_, Unknown) => Ok(()),
        // Chats. One that has left reads what it got, up to where it left.
        (Act::Send | Act::SeeChat | Act::SeeInvited | Act::ReadHistory | Act::LeaveChat, Stranger | FormerMember | Invited)
        | (Act::Read | Act::ReadEverything, Stranger | Invited)
        | (Act::AddMembers | Act::RemoveMembers, Stranger | FormerMember | Invited) => Err(Refusal::NotAMember),
        (Act::AddMembers | Act::RemoveMembers, relation) if !matches!(relation, GroupAdmin) => Err(Refusal::NotAnAdmin),
        (Act::AcceptInvitation, relation) if !matches!(relation, Invited | Member | GroupAdmin) => Err(Refusal::NotFound),
        (Act::DeclineInvitation, relation) if !matches!(relation, Invited) => Err(Refusal::NotFound),
        // Messages. A member that has joined after the message knows nothing of it.
        (Act::Recall, Recipient) => Err(Refusal::NotTheSender),
        (Act::Recall, relation) if !matches!(relation, Sender) => Err(Refusal::NotFound),
        (Act::SeeStatus, relation) if !matches!(relation, Sender | Recipient | FormerMember) => Err(Refusal::NotFound),
        // The row of one that has left has ended: it is told that nothing waits.
        (Act::Reject, relation) if !matches!(relation, Recipient | FormerMember) => Err(Refusal::NotFound),
        // People.
        (Act::SendToUser | Act::BeginChat, Blocks | Blocked) | (Act::BringIntoGroup, Blocked) => Err(Refusal::NotAccepted),
        (Act::RequestContact | Act::AcceptContact, Blocks) => Err(Refusal::HasBlocked),
        (Act::RequestContact | Act::AcceptContact | Act::DeclineContact | Act::RemoveContact | Act::Block | Act::Unblock, Oneself) => {
            Err(Refusal::Oneself)
        }
        (Act::AcceptContact, relation) if !matches!(relation, Asked | Contact) => Err(Refusal::NotFound),
        (Act::DeclineContact, relation) if !matches!(relation, Asked) => Err(Refusal::NotFound),
        // Feeds.
        (Act::PublishToFeed | Act::ListFollowers, relation) if !matches!(relation, Publisher | Maker) => Err(Refusal::NotAPublisher),
        (Act::SeeProgress, relation) if !matches!(relation, Publisher) => Err(Refusal::NotFound),
        (Act::ChangePublishers, relation) if !matches!(relation, Maker) => Err(Refusal::NotTheMaker),
        _ => Ok(()),
    }
}
