//! The commands of contacts, blocks and invitations.

use std::sync::Arc;

use crate::domain::{Profile, SessionId};
use crate::driver::{Driver, Outgoing};
use crate::protocol::Fault;
use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;
use crate::protocol::invitations::{InvitationCommand, InvitationOk, InvitationStateWord};
use crate::protocol::people::{BlockOk, ContactOk, PeopleAnswer, PeopleCommand};
use crate::service::{Refusal, Service};

/// Executes a command. Its answer follows once that is committed.
pub(super) fn people<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, command: PeopleCommand) {
    let (service, caller, session) = (driver.context.service.clone(), Arc::clone(&driver.client.profile), driver.client.session);
    driver.answer(reply_to, async move {
        let answer = execute(&service, &caller, session, command).await;
        (answer.map_or_else(|refusal| Fault::from(refusal).into(), ServerEvent::People), None)
    });
}

async fn execute(service: &Service, caller: &Profile, session: SessionId, command: PeopleCommand) -> Result<PeopleAnswer, Refusal> {
    match command {
        PeopleCommand::Contact(change, user) => {
            let state = service.change_contact(caller, Some(session), change.into(), &user).await?;
            Ok(PeopleAnswer::Contact(ContactOk { user_id: user, state: state.into() }))
        }
        PeopleCommand::Contacts(listing, page) => {
            let list = service.contacts(caller, listing.into(), page.after.as_ref(), page.limit).await?;
            Ok(PeopleAnswer::Contacts(list.into()))
        }
        PeopleCommand::Block(user) => {
            service.block(caller, &user).await?;
            Ok(PeopleAnswer::Block(BlockOk { user_id: user, is_blocked: true }))
        }
        PeopleCommand::Unblock(user) => {
            service.unblock(caller, &user).await?;
            Ok(PeopleAnswer::Block(BlockOk { user_id: user, is_blocked: false }))
        }
        PeopleCommand::Blocks(page) => Ok(PeopleAnswer::Blocks(service.blocks(caller, page.after.as_ref(), page.limit).await?.into())),
        PeopleCommand::Invitation(command) => answer_invitation(service, caller, command).await,
    }
}

async fn answer_invitation(service: &Service, caller: &Profile, command: InvitationCommand) -> Result<PeopleAnswer, Refusal> {
    match command {
        InvitationCommand::Accept(chat_id) => {
            let joined_seq = Some(service.accept_invitation(caller, chat_id).await?);
            Ok(PeopleAnswer::Invitation(InvitationOk { chat_id, state: InvitationStateWord::Member, joined_seq }))
        }
        InvitationCommand::Decline(chat_id) => {
            service.decline_invitation(caller, chat_id).await?;
            Ok(PeopleAnswer::Invitation(InvitationOk { chat_id, state: InvitationStateWord::Declined, joined_seq: None }))
        }
        InvitationCommand::List(page) => Ok(PeopleAnswer::Invitations(service.invitations(caller, page.after, page.limit).await?.into())),
    }
}
