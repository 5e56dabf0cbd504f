//! Effects: what the session wants done. Reads and writes become operations, the rest goes to the outbox.

use std::sync::Arc;

use futures_util::FutureExt;

use super::settlements::{LaneQueue, Unsettled};
use super::tickets::Answer;
use super::{Driver, OperationResult, Outgoing};
use crate::delivery::{Acks, Attempt, AttemptTarget, ReadDone, ReadUpTo, Refusal};
use crate::domain::{AttemptOutcome, ChatId, Class, Envelope, InboxSeq, MessageId, Page};
use crate::protocol::event::ServerEvent;
use crate::protocol::{Code, Fault, server};
use crate::service::{PageQuery, Purpose};
use crate::session::{CloseReason, Effect, Emission, Input, ReadTarget, Scope, Settlement, Ticket};
use crate::store::{PageRequest, StatusRow};

/// Performs one effect of the session.
pub(super) fn perform<O: Outgoing>(driver: &mut Driver<O>, effect: Effect) {
    let Some(effect) = driver.client.mutes.pass(effect) else { return };
    match effect {
        Effect::ReadPage { class, after, limit, scope } => {
            let request = match scope {
                Scope::Waiting => PageRequest::Waiting,
                Scope::Everything => PageRequest::Everything,
            };
            read_page(driver, request, class, after, limit);
        }
        Effect::Poll { class, after, limit } => poll(driver, class, after, limit),
        Effect::CheckRows { class, seqs } => check_rows(driver, class, seqs),
        Effect::Emit(emissions) => emit(driver, emissions),
        Effect::Settle(settlement) => settle(driver, settlement),
        Effect::Read { chat, target, ticket } => read(driver, chat, target, ticket),
        Effect::CountAttempt { envelope, reason, is_final } => count_attempt(driver, &envelope, reason, is_final),
        Effect::RejectById { message, reason, is_final, ticket } => reject_by_id(driver, message, reason, is_final, ticket),
        Effect::AdvanceLowWatermark(class) => advance_low_watermark(driver, class),
        Effect::Drained { class, up_to } => driver.outbox.event(None, &ServerEvent::Drained(server::Drained { class, inbox_seq: up_to })),
        Effect::Confirm(ticket) => confirm(driver, ticket),
        Effect::ConfirmReject(ticket, outcome) => confirm_reject(driver, ticket, outcome),
        Effect::AckAhead { ticket, emitted } => {
            let reply_to = driver.tickets.frame(ticket);
            let words = format!("`upTo` is above {emitted}, the highest number emitted on this connection; nothing was changed");
            driver.refuse(reply_to.as_ref(), Fault::new(Code::AckAhead, words));
        }
        Effect::Close(CloseReason::NoAcks) => driver.close(Code::NoAcks),
        Effect::Close(CloseReason::Stalled) => driver.close(Code::TooSlow),
    }
}

/// The fallback poll. Only if something waits is it a read of its own.
fn poll<O: Outgoing>(driver: &mut Driver<O>, class: Class, after: InboxSeq, limit: u16) {
    let (service, user) = (driver.context.service.clone(), driver.client.user());
    let page = page(driver, PageRequest::Poll, class, after, limit);
    driver.run(Box::pin(async move {
        let page = match service.empty_page(user, class, after).await {
            Some(page) => page,
            None => page.await,
        };
        OperationResult::Input(Input::Polled(page))
    }));
}

fn check_rows<O: Outgoing>(driver: &mut Driver<O>, class: Class, seqs: Vec<InboxSeq>) {
    let (user, purpose) = (Arc::clone(&driver.client.profile), purpose(driver, class));
    let states = driver.context.service.row_states(user, class, seqs, purpose);
    driver.run(Box::pin(states.map(move |states| OperationResult::Input(Input::Checked(class, states)))));
}

fn read_page<O: Outgoing>(driver: &mut Driver<O>, request: PageRequest, class: Class, after: InboxSeq, limit: u16) {
    let page = page(driver, request, class, after, limit);
    // Not an async block: that would have room for the page's future twice.
    driver.run(Box::pin(page.map(|page| OperationResult::Input(Input::Page(page)))));
}

fn page<O: Outgoing>(
    driver: &Driver<O>,
    request: PageRequest,
    class: Class,
    after: InboxSeq,
    limit: u16,
) -> impl Future<Output = Page> + Send + use<O> {
    let (user, purpose) = (Arc::clone(&driver.client.profile), purpose(driver, class));
    driver.context.service.page(PageQuery { request, user, class, after, limit, purpose }, driver.outbox.room())
}

/// Until the messages that waited at connect are settled, the session is part of the crowd that catches up.
fn purpose<O: Outgoing>(driver: &Driver<O>, class: Class) -> Purpose {
    if driver.session.is_drained(class) { Purpose::live(class) } else { Purpose::draining(class) }
}

fn emit<O: Outgoing>(driver: &mut Driver<O>, emissions: Vec<Emission>) {
    let mut run = Vec::with_capacity(emissions.len());
    for emission in emissions {
        match emission {
            Emission::Envelope { mut envelope, attempt } => {
                driver.context.metrics.emissions.inc();
                if attempt > 1 {
                    driver.context.metrics.redeliveries.inc();
                }
                driver.client.mutes.mark(&mut envelope);
                run.push((envelope, attempt));
            }
            Emission::Gap { class, from, to, reason, feed } => {
                put_envelopes(driver, &mut run);
                driver.outbox.event(None, &ServerEvent::Gap(server::Gap::new(class, from, to, reason, feed)));
            }
        }
    }
    put_envelopes(driver, &mut run);
}

fn put_envelopes<O: Outgoing>(driver: &mut Driver<O>, run: &mut Vec<(Envelope, u16)>) {
    if !run.is_empty() {
        driver.outbox.event(None, &ServerEvent::Envelopes(std::mem::take(run)));
    }
}

/// Keeps a settlement until the lane is given what there is.
fn settle<O: Outgoing>(driver: &mut Driver<O>, settlement: Settlement) {
    let rows = settlement.rows.iter().map(|row| StatusRow {
        user: driver.client.user(),
        class: row.class,
        seq: row.seq,
        message: row.message.id,
        chat: row.message.chat,
        chat_seq: row.message.seq,
        sender: row.message.sender.user,
    });
    for row in &settlement.rows {
        let age = driver.context.clock.of_database() - row.message.created_at;
        driver.context.metrics.accept_to_ack.observe(age.as_seconds_f64().max(0.0));
    }
    let acks = Acks {
        user: Arc::clone(&driver.client.profile),
        rows: rows.collect(),
        by_id: settlement.by_id,
        marks: settlement.marks,
        device: driver.client.options.device.clone().zip(settlement.device_acked),
    };
    if let Some(acked) = settlement.device_acked {
        driver.outbox.event(None, &ServerEvent::Acked(acked));
    }
    if acks.is_empty() {
        // Only the cursor of a client without a device has moved, which the client keeps itself.
        let (first, last) = (settlement.no, settlement.no);
        let settled = OperationResult::Settled { first, last, result: Ok(()), queue: LaneQueue::HadRoom };
        return driver.run(Box::pin(std::future::ready(settled)));
    }
    driver.settlements.add(settlement.no, acks);
}

/// Gives the lane what was acked. A job that finds the lane full keeps those behind it waiting.
pub(super) fn settle_now<O: Outgoing>(driver: &mut Driver<O>) {
    let Some(Unsettled { first, last, acks }) = driver.settlements.take() else { return };
    let (written, queue) = match driver.context.service.settle_or_wait(acks) {
        Ok(written) => (written, LaneQueue::HadRoom),
        Err(wait) => (wait, LaneQueue::WasFull),
    };
    if queue == LaneQueue::WasFull {
        driver.settlements.waits();
    }
    driver.run(Box::pin(written.map(move |result| OperationResult::Settled { first, last, result, queue })));
}

fn read<O: Outgoing>(driver: &mut Driver<O>, chat: ChatId, target: ReadTarget, ticket: Option<Ticket>) {
    settle_now(driver);
    let reply_to = driver.tickets.frame(ticket);
    let up_to = match target {
        ReadTarget::Seq(seq) => ReadUpTo::Seq(seq),
        ReadTarget::Message(message) => ReadUpTo::Message(message),
    };
    let (session, profile) = (driver.client.session, Arc::clone(&driver.client.profile));
    let read = driver.context.service.read_by_session(session, profile, chat, up_to);
    driver.answer(reply_to, async move {
        match read.await {
            Ok(ReadDone { up_to }) => {
                (ServerEvent::ReadOk(server::ReadOk { chat_id: chat, seq: up_to }), Some(Input::ReadUpTo(chat, up_to)))
            }
            Err(refusal) => (Fault::from(refusal).into(), None),
        }
    });
}

fn count_attempt<O: Outgoing>(driver: &mut Driver<O>, envelope: &Envelope, reason: String, is_final: bool) {
    settle_now(driver);
    let (class, seq) = (envelope.class, envelope.inbox_seq);
    let target = AttemptTarget::Row(StatusRow {
        user: driver.client.user(),
        class,
        seq,
        message: envelope.message.id,
        chat: envelope.message.chat,
        chat_seq: envelope.message.seq,
        sender: envelope.message.sender.user,
    });
    let counted = driver.context.service.count_attempt(Attempt { user: Arc::clone(&driver.client.profile), target, reason, is_final });
    // No outcome is a defect or a stop: the row is left alone, it waits.
    driver.run(Box::pin(counted.map(move |outcome| OperationResult::Input(Input::Attempted { class, seq, outcome: outcome.ok() }))));
}

fn reject_by_id<O: Outgoing>(driver: &mut Driver<O>, message: MessageId, reason: String, is_final: bool, ticket: Option<Ticket>) {
    settle_now(driver);
    let reply_to = driver.tickets.frame(ticket);
    let target = AttemptTarget::Message(message);
    let counted = driver.context.service.count_attempt(Attempt { user: Arc::clone(&driver.client.profile), target, reason, is_final });
    driver.answer(reply_to, async move { (rejected(message, counted.await), None) });
}

fn advance_low_watermark<O: Outgoing>(driver: &mut Driver<O>, class: Class) {
    let (service, user) = (driver.context.service.clone(), driver.client.user());
    driver.run(Box::pin(async move {
        let settled = service.advance_low_watermark(user, class).await;
        OperationResult::Input(Input::LowWatermarkAdvanced(class, settled))
    }));
}

fn confirm<O: Outgoing>(driver: &mut Driver<O>, ticket: Ticket) {
    let Some((reply_to, answer)) = driver.tickets.take(ticket) else { return };
    match answer {
        Answer::Delivered => driver.outbox.event(Some(&reply_to), &ServerEvent::DeliveredOk),
        Answer::Reject(_) | Answer::Read => {}
    }
}

fn confirm_reject<O: Outgoing>(driver: &mut Driver<O>, ticket: Ticket, outcome: Option<AttemptOutcome>) {
    let Some((reply_to, Answer::Reject(message))) = driver.tickets.take(ticket) else { return };
    driver.outbox.event(Some(&reply_to), &rejected(message, outcome.ok_or(Refusal::Unavailable)));
}

fn rejected(message: MessageId, outcome: Result<AttemptOutcome, Refusal>) -> ServerEvent {
    match outcome {
        Ok(outcome) => ServerEvent::RejectOk(server::RejectOk::new(message, outcome)),
        Err(refusal) => Fault::from(refusal).into(),
    }
}

/// An ack for everything up to a number, from a client that resumes: not more than what waits, a page at a time.
pub(super) fn ack_up_to<O: Outgoing>(driver: &mut Driver<O>, class: Class, settled: InboxSeq, since: InboxSeq) {
    let (service, user) = (driver.context.service.clone(), Arc::clone(&driver.client.profile));
    driver.run(Box::pin(async move {
        service.ack_waiting_up_to(user, class, settled, since).await;
        OperationResult::Nothing
    }));
}
