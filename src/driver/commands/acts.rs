//! The act that each command of a client asks for, in the words of the table of rights.

use crate::protocol::client::ClientEvent;
use crate::protocol::invitations::InvitationCommand;
use crate::protocol::people::{ContactCommand, PeopleCommand};
use crate::service::Act;

/// The act of a command.
pub(super) const fn of(event: &ClientEvent) -> Act {
    match event {
        ClientEvent::Authenticate { .. } | ClientEvent::Ping => Act::Connect,
        ClientEvent::Send(_) | ClientEvent::Skip(_) => Act::Send,
        ClientEvent::Publish(_) => Act::Publish,
        ClientEvent::Delivered(_) => Act::Ack,
        ClientEvent::Reject(_) => Act::Reject,
        ClientEvent::Recall(_) => Act::Recall,
        ClientEvent::Read(_) => Act::Read,
        ClientEvent::Typing { .. } => Act::Type,
        ClientEvent::PresenceGet(_) | ClientEvent::PresenceSubscribe(_) => Act::SeePresence,
        ClientEvent::People(command) => of_people(command),
    }
}

const fn of_people(command: &PeopleCommand) -> Act {
    match command {
        PeopleCommand::Contact(ContactCommand::Request, _) => Act::RequestContact,
        PeopleCommand::Contact(ContactCommand::Accept, _) => Act::AcceptContact,
        PeopleCommand::Contact(ContactCommand::Decline, _) => Act::DeclineContact,
        PeopleCommand::Contact(ContactCommand::Remove, _) => Act::RemoveContact,
        PeopleCommand::Contacts(..) => Act::ListContacts,
        PeopleCommand::Block(_) => Act::Block,
        PeopleCommand::Unblock(_) => Act::Unblock,
        PeopleCommand::Blocks(_) => Act::ListBlocks,
        PeopleCommand::Invitation(InvitationCommand::Accept(_)) => Act::AcceptInvitation,
        PeopleCommand::Invitation(InvitationCommand::Decline(_)) => Act::DeclineInvitation,
        PeopleCommand::Invitation(InvitationCommand::List(_)) => Act::ListInvitations,
    }
}
