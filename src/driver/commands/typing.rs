//! `typing`: told to the members of a chat who are there, kept nowhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::{ChatId, UserId};
use crate::driver::{Driver, OperationResult, Outgoing};
use crate::protocol::event::Notice;

/// The shortest time between two typing notices of a connection. Others are dropped.
const PAUSE: Duration = Duration::from_millis(300);

/// The typing state of a session.
#[derive(Debug, Default)]
pub(in crate::driver) struct TypingState {
    last: Option<Instant>,
    wanted: Option<(ChatId, bool)>,
}

/// Asks for the members who are to be told, unless the last time was a moment ago.
pub(super) fn typing<O: Outgoing>(driver: &mut Driver<O>, chat: ChatId, typing: bool) {
    let now = Instant::now();
    let is_soon = driver.typing.last.is_some_and(|last| now - last < PAUSE);
    if is_soon || driver.typing.wanted.is_some() {
        return;
    }
    driver.typing = TypingState { last: Some(now), wanted: Some((chat, typing)) };
    let (service, user) = (driver.context.service.clone(), Arc::clone(&driver.client.profile));
    driver.run(Box::pin(async move {
        // The user is no member, or the database is away: no notice is sent.
        OperationResult::Audience(chat, service.typing_audience(&user, chat).await.unwrap_or_default())
    }));
}

/// Tells the members.
pub(in crate::driver) fn audience_found<O: Outgoing>(driver: &mut Driver<O>, chat: ChatId, users: Vec<UserId>) {
    let Some((_, typing)) = driver.typing.wanted.take() else { return };
    let user = driver.client.profile.external.clone();
    driver.context.notifier.notice(users, Notice::Typing { chat, user, typing });
}
