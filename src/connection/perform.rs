//! What the session wants done: reads, writes, frames.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use futures_util::FutureExt;
use tracing::warn;

use super::Purpose;
use super::frames::Asked;
use super::shell::{Done, Shell, Unsettled};
use crate::delivery::{Acks, Attempt, AttemptTarget, Delivery, ReadDone, ReadUpTo, Refusal};
use crate::domain::{AttemptOutcome, ChatId, Class, Envelope, InboxSeq, MessageId, Page, Profile};
use crate::protocol::{Code, Fault, message, server};
use crate::session::{CloseReason, Effect, Emission, Input, ReadTarget, Scope, Settlement, Ticket};
use crate::store::{Located, PageRequest, Store};

impl Shell {
    pub(super) fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::ReadPage { class, after, limit, scope } => {
                let request = match scope {
                    Scope::Waiting => PageRequest::Waiting,
                    Scope::Everything => PageRequest::Everything,
                };
                self.read_page(request, class, after, limit);
            }
            Effect::Look { class, after, limit } => self.look(class, after, limit),
            Effect::Emit(emissions) => self.emit(&emissions),
            Effect::Settle(settlement) => self.settle(settlement),
            Effect::Read { chat, target, ticket } => self.read(chat, target, ticket),
            Effect::CountAttempt { envelope, reason, is_final } => self.count_attempt(&envelope, reason, is_final),
            Effect::RejectById { message, reason, is_final, ticket } => self.reject_by_id(message, reason, is_final, ticket),
            Effect::AdvanceSettled(class) => self.advance_settled(class),
            Effect::Drained { class, up_to } => self.outbox.text(server::frame(None, &server::Drained { class, inbox_seq: up_to })),
            Effect::Confirm(ticket) => self.confirm(ticket),
            Effect::AckAhead { ticket, emitted } => {
                let id = ticket.and_then(|ticket| self.tickets.remove(&ticket));
                let words = format!("`upTo` is above {emitted}, the highest number emitted on this connection; nothing was changed");
                self.refuse(id.as_ref().map(|(id, _)| id), &Fault::new(Code::AckAhead, words));
            }
            Effect::Close(CloseReason::NoAcks) => self.close(Code::NoAcks),
            Effect::Close(CloseReason::Stalled) => self.close(Code::TooSlow),
        }
    }

    /// The slow look. Only if something waits is it a read of its own.
    fn look(&mut self, class: Class, after: InboxSeq, limit: u16) {
        let (looks, user) = (self.shared.looks.clone(), self.who.profile.user);
        let page = self.page(PageRequest::Look, class, after, limit);
        self.operations.push(Box::pin(async move {
            let page = match looks.empty_page(user, class, after).await {
                Some(page) => page,
                None => page.await,
            };
            Done::Happened(Input::Looked(page))
        }));
    }

    fn read_page(&mut self, request: PageRequest, class: Class, after: InboxSeq, limit: u16) {
        let page = self.page(request, class, after, limit);
        // Not an async block: that would have room for the page's future twice.
        self.operations.push(Box::pin(page.map(|page| Done::Happened(Input::Page(page)))));
    }

    fn page(&self, request: PageRequest, class: Class, after: InboxSeq, limit: u16) -> impl Future<Output = Page> + Send + use<> {
        let (store, health) = (self.shared.store.clone(), self.shared.delivery.health().clone());
        let (user, metrics, room) = (self.who.profile.user, Arc::clone(&self.shared.metrics), self.outbox.room());
        let (turns, purpose) = (self.shared.turns.clone(), self.purpose(class));
        let name = self.who.profile.external.clone();
        async move {
            // A window of large messages would otherwise be read into memory for a client that takes nothing.
            room.await;
            metrics.page_read(class);
            // However long the database is away, the session gets its page.
            let mut pause = Duration::from_millis(20);
            loop {
                let read = {
                    let _turn = turns.take(purpose, Some(name.clone())).await;
                    // Boxed, as what is rare below: what it needs is there only while it runs. When many clients come at once
                    // thousands of these wait for their turn.
                    Box::pin(store.page(request, user, class, after, limit)).await
                };
                match read {
                    Ok(page) => {
                        metrics.unreadable_rows.inc_by(page.unreadable_rows());
                        return page;
                    }
                    Err(error) if error.is_unavailable() => Box::pin(health.back()).await,
                    Err(error) => warn!(cause = ?error, "a page of an inbox could not be read"),
                }
                Box::pin(tokio::time::sleep(pause)).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }

    /// Until what waited at connect is settled, the session is part of the crowd that catches up.
    fn purpose(&self, class: Class) -> Purpose {
        if self.session.is_drained(class) { Purpose::Live } else { Purpose::Drain }
    }

    fn emit(&mut self, emissions: &[Emission]) {
        let is_batched = self.who.wishes.batch.is_on();
        let mut run: Vec<(&Envelope, u16)> = Vec::new();
        for emission in emissions {
            match emission {
                Emission::Envelope { envelope, attempt } => {
                    self.shared.metrics.emissions.inc();
                    if *attempt > 1 {
                        self.shared.metrics.redeliveries.inc();
                    }
                    if is_batched {
                        run.push((envelope, *attempt));
                    } else {
                        self.outbox.text(message::receive_frame(envelope, *attempt));
                    }
                }
                Emission::Gap { class, from, to, reason } => {
                    self.put_batch(&mut run);
                    let count = to.0 - from.0 + 1;
                    self.outbox
                        .text(server::frame(None, &server::Gap { class: *class, from_seq: *from, to_seq: *to, count, reason: *reason }));
                }
            }
        }
        self.put_batch(&mut run);
    }

    fn put_batch(&mut self, run: &mut Vec<(&Envelope, u16)>) {
        message::batch_frames(run.drain(..)).into_iter().for_each(|frame| self.outbox.text(frame));
    }

    /// Keeps a settlement until the lane is given what there is.
    fn settle(&mut self, settlement: Settlement) {
        let rows = settlement.rows.iter().map(|row| Located {
            user: self.who.profile.user,
            class: row.class,
            seq: row.seq,
            message: row.message.id,
            chat: row.message.chat,
            chat_seq: row.message.seq,
            sender: row.message.sender.user,
        });
        for row in &settlement.rows {
            let age = self.shared.clock.of_database() - row.message.created_at;
            self.shared.metrics.accept_to_ack.observe(age.as_seconds_f64().max(0.0));
        }
        let acks = Acks {
            user: Arc::clone(&self.who.profile),
            rows: rows.collect(),
            by_id: settlement.by_id,
            marks: settlement.marks,
            device: self.who.wishes.device.clone().zip(settlement.device_acked),
        };
        match &mut self.unsettled {
            Some(unsettled) => {
                unsettled.last = settlement.no;
                unsettled.acks.join(acks);
            }
            None => self.unsettled = Some(Unsettled { first: settlement.no, last: settlement.no, acks }),
        }
    }

    /// Gives the lane what was acked. One that finds the lane full keeps those behind it waiting.
    pub(super) fn settle_unsettled(&mut self) {
        if self.settling.is_some() {
            return;
        }
        let Some(Unsettled { first, last, acks }) = self.unsettled.take() else { return };
        match self.shared.delivery.settle_or_wait(acks) {
            Ok(written) => self.operations.push(Box::pin(async move { Done::Settled([first, last], written.await) })),
            Err(wait) => self.settling = Some(Box::pin(async move { Done::Settled([first, last], wait.await) })),
        }
    }

    fn read(&mut self, chat: ChatId, target: ReadTarget, ticket: Option<Ticket>) {
        self.settle_unsettled();
        let id = ticket.and_then(|ticket| self.tickets.remove(&ticket)).map(|(id, _)| id);
        let up_to = match target {
            ReadTarget::Seq(seq) => ReadUpTo::Seq(seq),
            ReadTarget::Message(message) => ReadUpTo::Message(message),
        };
        let read = self.shared.delivery.read(Arc::clone(&self.who.profile), chat, up_to);
        self.answer(async move {
            match read.await {
                Ok(ReadDone { up_to }) => {
                    (server::frame(id.as_ref(), &server::ReadOk { chat_id: chat, seq: up_to }), Some(Input::ReadUpTo(chat, up_to)))
                }
                Err(refusal) => (server::frame(id.as_ref(), &Fault::from(refusal)), None),
            }
        });
    }

    fn count_attempt(&mut self, envelope: &Envelope, reason: String, is_final: bool) {
        self.settle_unsettled();
        let (class, seq, message) = (envelope.class, envelope.inbox_seq, envelope.message.id);
        let target = AttemptTarget::Row(Located {
            user: self.who.profile.user,
            class,
            seq,
            message: envelope.message.id,
            chat: envelope.message.chat,
            chat_seq: envelope.message.seq,
            sender: envelope.message.sender.user,
        });
        let counted = self.shared.delivery.count_attempt(Attempt { user: Arc::clone(&self.who.profile), target, reason, is_final });
        self.operations.push(Box::pin(async move {
            // A defect or a stop: leave the row alone, it waits.
            let outcome = counted.await.unwrap_or(AttemptOutcome::SettledElsewhere);
            Done::Attempted(message, Input::Attempted { class, seq, outcome }, outcome)
        }));
    }

    fn reject_by_id(&mut self, message: MessageId, reason: String, is_final: bool, ticket: Option<Ticket>) {
        self.settle_unsettled();
        let id = ticket.and_then(|ticket| self.tickets.remove(&ticket)).map(|(id, _)| id);
        let target = AttemptTarget::Message(message);
        let counted = self.shared.delivery.count_attempt(Attempt { user: Arc::clone(&self.who.profile), target, reason, is_final });
        self.answer(async move { (rejected(id.as_ref(), message, counted.await), None) });
    }

    fn advance_settled(&mut self, class: Class) {
        let (advances, user) = (self.shared.advances.clone(), self.who.profile.user);
        self.operations.push(Box::pin(async move {
            let settled = advances.advance(user, class).await;
            Done::Happened(Input::SettledAdvanced(class, settled))
        }));
    }

    fn confirm(&mut self, ticket: Ticket) {
        let Some((id, asked)) = self.tickets.remove(&ticket) else { return };
        match asked {
            Asked::Delivered => self.outbox.text(server::frame(Some(&id), &server::DeliveredOk {})),
            Asked::Reject(message, outcome) => {
                let outcome = outcome.unwrap_or(AttemptOutcome::SettledElsewhere);
                self.outbox.text(rejected(Some(&id), message, Ok(outcome)));
            }
            Asked::Read => {}
        }
    }
}

pub(super) fn rejected(
    id: Option<&crate::protocol::client::FrameId>,
    message: MessageId,
    outcome: Result<AttemptOutcome, Refusal>,
) -> Utf8Bytes {
    match outcome {
        Ok(outcome) => server::frame(id, &server::RejectOk::new(message, outcome)),
        Err(refusal) => server::frame(id, &Fault::from(refusal)),
    }
}

/// Acks what waits in `(after, up_to]`, a page at a time. Ends early when the node stops: the client resumes again.
pub(super) async fn ack_waiting_up_to(
    store: &Store,
    delivery: &Delivery,
    user: Arc<Profile>,
    class: Class,
    after: InboxSeq,
    up_to: InboxSeq,
) {
    const PAGE: u16 = 500;
    loop {
        let waiting = match store.waiting_up_to(user.user, class, after, up_to, PAGE).await {
            Ok(waiting) => waiting,
            Err(error) if error.is_unavailable() => {
                delivery.health().back().await;
                continue;
            }
            Err(error) => return warn!(cause = ?error, "what a client resumed behind could not be read"),
        };
        let is_last = waiting.len() < usize::from(PAGE);
        if !waiting.is_empty() {
            let acks = Acks { user: Arc::clone(&user), rows: Vec::new(), by_id: waiting, marks: Vec::new(), device: None };
            if delivery.settle(acks).await.is_err() {
                return;
            }
        }
        if is_last {
            return;
        }
    }
}
