//! `message:send`, to a chat or to a user.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;

use crate::delivery::Refusal;
use crate::domain::{ChatId, ExternalId};
use crate::driver::send_order::{PendingSend, Question, Released};
use crate::driver::{Driver, OperationResult, Outgoing};
use crate::protocol::Fault;
use crate::protocol::client::{FrameId, SendRequest, SendTarget};
use crate::protocol::event::ServerEvent;
use crate::store::DirectChat;

/// Sends a message: at once, or behind sends whose chat is not known yet. `message:sent` follows once it is committed.
pub(super) fn send<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, request: SendRequest) {
    if let Err(refusal) = driver.context.service.check_send(driver.client.user()) {
        return driver.refuse(reply_to.as_ref(), refusal.into());
    }
    let send = PendingSend { id: reply_to, request };
    match &send.request.target {
        SendTarget::Chat(chat) => {
            let chat = *chat;
            if let Some(send) = driver.sends.follow(chat, send) {
                send_to(driver, chat, send);
            }
        }
        SendTarget::User(to) => send_to_user(driver, to.clone(), send),
    }
}

/// To a user: at once where the chat is known, and nothing waits that must not be overtaken.
fn send_to_user<O: Outgoing>(driver: &mut Driver<O>, to: ExternalId, send: PendingSend) {
    let (service, user) = (&driver.context.service, driver.client.user());
    if !driver.sends.awaits(&to)
        && let Some(chat) = service.known_direct_chat(user, &to)
    {
        if let Some(send) = driver.sends.follow_known(chat, send) {
            send_to(driver, chat, send);
        }
        return;
    }
    if driver.sends.hold(to.clone(), send) == Question::ToAsk {
        let asked = service.ask_direct_chat(user, to.clone());
        driver.run(Box::pin(async move { OperationResult::DirectChat(to, asked.await) }));
    }
}

/// The direct chat with this user was found or made, or cannot be: what waited for it goes on.
pub(in crate::driver) fn direct_chat_found<O: Outgoing>(driver: &mut Driver<O>, to: &ExternalId, chat: Result<DirectChat, Refusal>) {
    let Released { sends, refused } = driver.sends.resolved(to, chat.as_ref().ok().map(|found| found.chat));
    if let Err(refusal) = chat {
        for PendingSend { id, .. } in refused {
            driver.context.metrics.refused(refusal.code());
            driver.refuse(id.as_ref(), refusal.into());
        }
    }
    sends.into_iter().for_each(|(chat, send)| send_to(driver, chat, send));
}

fn send_to<O: Outgoing>(driver: &mut Driver<O>, chat: ChatId, send: PendingSend) {
    driver.receipts.sent(Instant::now());
    let PendingSend { id, request } = send;
    let (profile, session) = (Arc::clone(&driver.client.profile), driver.client.session);
    let sent = driver.context.service.send_to(profile, Some(session), chat, request);
    driver.answer(id, async move {
        match sent.await {
            Ok(accepted) => (ServerEvent::Sent(accepted.into()), None),
            Err(refusal) => (Fault::from(refusal).into(), None),
        }
    });
}

/// Sends the messages that still wait for their chat when the connection ends. The client gets no answer to them.
pub(in crate::driver) fn send_what_waits<O: Outgoing>(driver: &mut Driver<O>) {
    let mut sends = std::mem::take(&mut driver.sends);
    if sends.is_empty() {
        return;
    }
    let (service, profile, session) = (driver.context.service.clone(), Arc::clone(&driver.client.profile), driver.client.session);
    driver.context.tasks.spawn(async move {
        let asking = sends.names().cloned().map(|to| {
            let asked = service.ask_direct_chat(profile.user, to.clone());
            async move { (to, asked.await) }
        });
        for (to, chat) in join_all(asking.collect::<Vec<_>>()).await {
            for (chat, PendingSend { request, .. }) in sends.resolved(&to, chat.ok().map(|found| found.chat)).sends {
                drop(service.send_to(Arc::clone(&profile), Some(session), chat, request));
            }
        }
    });
}
