//! What the session wants done: reads, writes, frames.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use futures_util::FutureExt;

use super::frames::Asked;
use super::shell::{Done, Shell, Unsettled};
use crate::delivery::{Acks, Attempt, AttemptTarget, ReadDone, ReadUpTo, Refusal};
use crate::domain::{AttemptOutcome, ChatId, Class, Envelope, InboxSeq, MessageId, Page};
use crate::protocol::{Code, Fault, message, server};
use crate::service::{PageQuery, Purpose};
use crate::session::{CloseReason, Effect, Emission, Input, ReadTarget, Scope, Settlement, Ticket};
use crate::store::{Located, PageRequest};

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
        let (service, user) = (self.shared.service.clone(), self.who.profile.user);
        let page = self.page(PageRequest::Look, class, after, limit);
        self.operations.push(Box::pin(async move {
            let page = match service.empty_page(user, class, after).await {
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
        let (user, purpose) = (Arc::clone(&self.who.profile), self.purpose(class));
        self.shared.service.page(PageQuery { request, user, class, after, limit, purpose }, self.outbox.room())
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
        match self.shared.service.settle_or_wait(acks) {
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
        let read = self.shared.service.read(Arc::clone(&self.who.profile), chat, up_to);
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
        let counted = self.shared.service.count_attempt(Attempt { user: Arc::clone(&self.who.profile), target, reason, is_final });
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
        let counted = self.shared.service.count_attempt(Attempt { user: Arc::clone(&self.who.profile), target, reason, is_final });
        self.answer(async move { (rejected(id.as_ref(), message, counted.await), None) });
    }

    fn advance_settled(&mut self, class: Class) {
        let (service, user) = (self.shared.service.clone(), self.who.profile.user);
        self.operations.push(Box::pin(async move {
            let settled = service.advance_low_watermark(user, class).await;
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
