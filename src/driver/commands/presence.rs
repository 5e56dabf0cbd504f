//! `presence:get` and `presence:subscribe`.

use std::sync::Arc;

use crate::domain::ExternalId;
use crate::driver::{Driver, Outgoing};
use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;
use crate::protocol::{Fault, Timestamp, server};
use crate::service::PresenceOf;

/// Says if the client wants to know of changes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    No,
    Yes,
}

/// Answers `presence:state`.
pub(super) fn get<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, users: Vec<ExternalId>) {
    answer(driver, reply_to, users, Watch::No);
}

/// Answers `presence:state`, and tells of changes from then on.
pub(super) fn subscribe<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, users: Vec<ExternalId>) {
    answer(driver, reply_to, users, Watch::Yes);
}

fn answer<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, users: Vec<ExternalId>, watch: Watch) {
    let (service, asker) = (driver.context.service.clone(), Arc::clone(&driver.client.profile));
    let (session, mailbox) = (driver.client.session, driver.client.mailbox.clone());
    driver.answer(reply_to, async move {
        let seen = match watch {
            Watch::No => service.presence(&asker, users).await,
            Watch::Yes => service.subscribe_presence(&asker, (session, &mailbox), users).await,
        };
        match seen {
            Ok(seen) => (ServerEvent::Presence(server::PresenceState { users: seen.into_iter().map(shown).collect() }), None),
            Err(refusal) => (Fault::from(refusal).into(), None),
        }
    });
}

fn shown(presence: PresenceOf) -> server::Presence {
    let PresenceOf { user, online, last_seen } = presence;
    server::Presence { user_id: user, online, last_seen: last_seen.map(Timestamp) }
}
