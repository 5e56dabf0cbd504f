//! The invitations of which the client of a session was told. Each overview says whether some wait; where that may be news, they are read,
//! and the client is told what has changed.
//!
//! A session reads an overview at its beginning, whenever something is told to check the marks, and now and then. So an invitation is told
//! whatever node it was made at, and also where it was made in SQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use time::OffsetDateTime;

use super::{Driver, OperationResult, Outgoing};
use crate::domain::ChatId;
use crate::protocol::event::ServerEvent;
use crate::service::InvitationView;

/// The invitations that the client knows.
#[derive(Debug, Default)]
pub(super) struct Invitations {
    /// Those that wait, with the time at which each was made.
    told: BTreeMap<ChatId, OffsetDateTime>,
    reading: Reading,
}

/// Says if they are being read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    #[default]
    No,
    Yes,
    /// They are, and have to be read again after it.
    Again,
}

/// An overview was read: some invitations wait, or none do.
pub(super) fn look<O: Outgoing>(driver: &mut Driver<O>, some_wait: bool) {
    let invitations = &mut driver.client.invitations;
    match invitations.reading {
        Reading::No if some_wait || !invitations.told.is_empty() => read(driver),
        Reading::No => {}
        Reading::Yes | Reading::Again => invitations.reading = Reading::Again,
    }
}

fn read<O: Outgoing>(driver: &mut Driver<O>) {
    driver.client.invitations.reading = Reading::Yes;
    let waiting = driver.context.service.waiting_invitations(Arc::clone(&driver.client.profile));
    driver.run(Box::pin(waiting.map(OperationResult::Invitations)));
}

/// All that wait were read.
pub(super) fn were_read<O: Outgoing>(driver: &mut Driver<O>, waiting: Vec<InvitationView>) {
    let is_outdated = driver.client.invitations.reading == Reading::Again;
    driver.client.invitations.reading = Reading::No;
    for event in driver.client.invitations.news(waiting) {
        driver.outbox.event(None, &event);
    }
    if is_outdated {
        read(driver);
    }
}

impl Invitations {
    /// The events for what has changed. The client knows it from now on.
    fn news(&mut self, waiting: Vec<InvitationView>) -> Vec<ServerEvent> {
        let waits: BTreeMap<ChatId, OffsetDateTime> = waiting.iter().map(|invitation| (invitation.chat, invitation.at)).collect();
        let told = std::mem::replace(&mut self.told, waits);
        let ended = told.keys().filter(|chat| !self.told.contains_key(*chat)).map(|chat| ServerEvent::Uninvited(*chat));
        let made = waiting.into_iter().filter(|invitation| told.get(&invitation.chat) != Some(&invitation.at));
        ended.chain(made.map(|invitation| ServerEvent::Invited(Box::new(invitation.into())))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ExternalId, Profile, UserId};

    fn invitation(chat: ChatId, second: i64) -> InvitationView {
        let at = OffsetDateTime::from_unix_timestamp(second).unwrap();
        let external = ExternalId::try_from("anna".to_owned()).unwrap();
        let inviter = Profile { user: UserId(1), external, name: None, picture: None };
        InvitationView { chat, title: None, inviter, at, expires_at: at + time::Duration::days(30) }
    }

    #[test]
    fn each_invitation_is_told_once_and_once_more_where_it_was_made_anew() {
        let mut invitations = Invitations::default();
        let (one, other) = (ChatId::generate(), ChatId::generate());
        let mut told = |waiting: Vec<InvitationView>| {
            let events = invitations.news(waiting).into_iter().map(|event| match event {
                ServerEvent::Invited(data) => (true, data.chat_id),
                ServerEvent::Uninvited(chat) => (false, chat),
                other => panic!("{other:?}"),
            });
            events.collect::<Vec<_>>()
        };
        assert_eq!(told(vec![]), []);
        assert_eq!(told(vec![invitation(one, 1)]), [(true, one)]);
        assert_eq!(told(vec![invitation(one, 1), invitation(other, 2)]), [(true, other)]);
        assert_eq!(told(vec![invitation(one, 3)]), [(false, other), (true, one)]);
        assert_eq!(told(vec![]), [(false, one)]);
    }
}
