//! `message:send`, to a chat or to a user.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::delivery::Refusal;
use crate::domain::{ChatId, Clock, ExternalId, UserId};
use crate::driver::operations::SendResult;
use crate::driver::send_order::{Gate, PendingSend, Step};
use crate::driver::{Context, Driver, OperationResult, Outgoing};
use crate::protocol::client::{FrameId, SendRequest};
use crate::protocol::event::ServerEvent;
use crate::protocol::{Code, Fault};
use crate::service::Service;
use crate::store::DirectChat;

/// The rate of one user, and the chats that are known.
struct Rate<'a> {
    service: &'a Service,
    clock: &'a Clock,
    user: UserId,
}

impl<'a> Rate<'a> {
    const fn of(context: &'a Context, user: UserId) -> Self {
        Self { service: &context.service, clock: &context.clock, user }
    }
}

impl Gate for Rate<'_> {
    fn take_rate(&self) -> Result<(), Duration> {
        self.service.take_rate(self.user)
    }

    fn pace(&self) -> Duration {
        self.service.pace(self.user)
    }

    fn known(&self, name: &ExternalId) -> Option<ChatId> {
        self.service.known_direct_chat(self.user, name)
    }

    fn expires_in(&self, send: &PendingSend) -> Option<Duration> {
        let end = send.request.expires_at?;
        Some(Duration::try_from(end - self.clock.of_database()).unwrap_or_default())
    }
}

/// Sends a message: at once, or when the rate allows it and its chat is known. `message:sent` follows once it is committed.
pub(super) fn send<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, request: SendRequest) {
    let rate = Rate::of(&driver.context, driver.client.user());
    let steps = driver.sends.arrived(Instant::now(), PendingSend::new(reply_to, request), &rate);
    perform(driver, steps);
}

/// Sends what waits for the rate, as far as it is allowed by now and the connection may wait for more answers.
pub(in crate::driver) fn release<O: Outgoing>(driver: &mut Driver<O>) {
    if driver.sends.has_backlog() {
        let rate = Rate::of(&driver.context, driver.client.user());
        let steps = driver.sends.release(Instant::now(), driver.answers_left(), &rate);
        perform(driver, steps);
    }
}

/// The direct chat with this user was found or made, or cannot be: what waited for it goes on.
pub(in crate::driver) fn direct_chat_found<O: Outgoing>(driver: &mut Driver<O>, to: &ExternalId, chat: Result<DirectChat, Refusal>) {
    let rate = Rate::of(&driver.context, driver.client.user());
    let chat = chat.map(|found| found.chat).map_err(Fault::from);
    let steps = driver.sends.resolved(Instant::now(), to, chat, &rate);
    perform(driver, steps);
}

/// A message has its answer: the client is told.
pub(in crate::driver) fn answered<O: Outgoing>(driver: &mut Driver<O>, sent: SendResult) {
    let SendResult { reply_to, departure, result } = sent;
    let rate = Rate::of(&driver.context, driver.client.user());
    let outcome = result.as_ref().map(|_| ()).map_err(|refusal| Fault::from(*refusal));
    let (fault, steps) = driver.sends.answered(Instant::now(), &departure, outcome, &rate);
    match (result, fault) {
        (Ok(accepted), _) => driver.outbox.event(reply_to.as_ref(), &ServerEvent::Sent(accepted.into())),
        (Err(refusal), fault) => driver.refuse(reply_to.as_ref(), fault.unwrap_or_else(|| refusal.into())),
    }
    perform(driver, steps);
}

fn perform<O: Outgoing>(driver: &mut Driver<O>, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Ask(to) => {
                let asked = driver.context.service.ask_direct_chat(driver.client.user(), to.clone());
                driver.run(Box::pin(async move { OperationResult::DirectChat(to, asked.await) }));
            }
            Step::Go(PendingSend { id, request, .. }, departure) => {
                driver.receipts.sent(Instant::now());
                let (profile, session, chain) = (Arc::clone(&driver.client.profile), driver.client.session, departure.chain.clone());
                let sent = driver.context.service.send_to(profile, Some(session), departure.chat, chain, request);
                driver.operations.push_send(sent.map(move |result| SendResult { reply_to: id, departure, result }));
            }
            Step::Refuse(id, fault) => {
                driver.context.metrics.refused(fault.code);
                if fault.code == Code::RateLimited && fault.behind.is_none() {
                    driver.context.service.refused_over_rate();
                }
                driver.refuse(id.as_ref(), fault);
            }
        }
    }
}

/// Sends the messages that still wait for their chat when the connection ends. The client gets no answer to them. What waits for
/// the rate is not sent: the client repeats what has no answer.
pub(in crate::driver) fn send_what_waits<O: Outgoing>(driver: &mut Driver<O>) {
    let mut sends = std::mem::take(&mut driver.sends);
    if sends.is_empty() {
        return;
    }
    let (context, profile, session) = (driver.context.clone(), Arc::clone(&driver.client.profile), driver.client.session);
    driver.context.tasks.spawn(async move {
        let asking = sends.names().cloned().map(|to| {
            let asked = context.service.ask_direct_chat(profile.user, to.clone());
            async move { (to, asked.await) }
        });
        for (to, chat) in join_all(asking.collect::<Vec<_>>()).await {
            let chat = chat.map(|found| found.chat).map_err(Fault::from);
            for step in sends.resolved(Instant::now(), &to, chat, &Rate::of(&context, profile.user)) {
                if let Step::Go(PendingSend { request, .. }, departure) = step {
                    drop(context.service.send_to(Arc::clone(&profile), Some(session), departure.chat, departure.chain, request));
                }
            }
        }
    });
}
