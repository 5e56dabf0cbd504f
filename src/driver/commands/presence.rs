//! `presence:get` and `presence:subscribe`.

use std::sync::Arc;

use crate::domain::{ExternalId, UserId};
use crate::driver::{Driver, Outgoing};
use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;
use crate::protocol::{Code, Fault, Timestamp, server};
use crate::store;

/// Whether the client wants to know of changes too.
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
    let (store, hub) = (driver.context.store.clone(), Arc::clone(&driver.context.hub));
    let (asker, session, mailbox) = (driver.client.user(), driver.client.session, driver.client.mailbox.clone());
    driver.answer(reply_to, async move {
        let mut seen = store.presence(asker, &users).await;
        if let (Watch::Yes, Ok(known)) = (watch, &seen) {
            let watched: Vec<UserId> = known.iter().map(|(_, known)| known.user).collect();
            hub.watch(session, &mailbox, &watched);
            // Once more: whoever came or went before this was not told.
            seen = store.presence(asker, &users).await;
        }
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => return (read_fault(&error).into(), None),
        };
        let users = users.into_iter().map(|user| {
            let known = seen.iter().find(|(external, _)| *external == user).map(|(_, known)| known);
            let online = known.is_some_and(|known| known.online || hub.is_here(known.user));
            let last_seen = known.and_then(|known| known.last_seen).map(Timestamp);
            server::Presence { user_id: user, online, last_seen }
        });
        (ServerEvent::Presence(server::PresenceState { users: users.collect() }), None)
    });
}

/// What a failed read is to a client.
fn read_fault(error: &store::Error) -> Fault {
    if error.is_unavailable() {
        return Fault::plain(Code::Unavailable).retry_after_ms(1_000);
    }
    tracing::warn!(cause = ?error, "something a client asked for could not be read");
    Fault::plain(Code::Internal)
}
