//! What a client does about a frame: notes it, and keeps in mind what follows from it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use super::{Actor, Phase};
use crate::torture::history::{Class, Receipt, Status, What};
use restante_client::{Envelope, ErrorNews, Event, Frame, Ready, StatusNews, Wire, encode, is_retryable};
use restante_session::domain;

/// What a client that keeps the protocol may be told.
const ALLOWED: [&str; 9] =
    ["busy", "unavailable", "rate_limited", "not_a_member", "restart", "too_slow", "no_acks", "displaced", "too_many_sessions"];

impl Actor {
    /// A frame of the connection.
    pub(super) fn hear(&mut self, connection: u32, text: &str, wire: &mut Wire) {
        self.note_heard();
        let Frame { id, event } = Frame::parse(text);
        match event {
            Event::Receive(envelope) => self.take(connection, &envelope, wire),
            Event::Batch(envelopes) => envelopes.iter().for_each(|envelope| self.take(connection, envelope, wire)),
            Event::Ready(ready) => self.greeted(connection, &ready),
            event => self.note_event(connection, id.as_deref(), event),
        }
    }

    /// A frame of a connection that was left behind: noted, and nothing more.
    pub(super) fn overhear(&mut self, connection: u32, text: &str) {
        match Frame::parse(text).event {
            Event::Receive(envelope) => self.note_envelope(connection, &envelope),
            Event::Batch(envelopes) => envelopes.iter().for_each(|envelope| self.note_envelope(connection, envelope)),
            Event::Gap(gap) => self.note_gap(connection, &gap),
            Event::Malformed { text, error } => self.object(connection, format!("{error}: {text}")),
            _ => {}
        }
    }

    fn greeted(&mut self, connection: u32, ready: &Ready) {
        let noted = What::Ready {
            epoch: ready.epoch.clone(),
            resumed: ready.resumed,
            last_seq: ready.last_seq.0,
            settled_seq: ready.settled_seq.0,
        };
        self.scribe.note(connection, noted);
        self.memory.greeted(&ready.epoch, ready.marks_cursor.clone());
    }

    fn note_event(&mut self, connection: u32, id: Option<&str>, event: Event) {
        match event {
            Event::Sent(sent) if id.is_some() => {
                let (message, chat) = (sent.message_id.0, sent.chat_id.0);
                let (seq, created_at, duplicate) = (sent.seq.0, sent.created_at, sent.duplicate);
                self.scribe.note(connection, What::SendConfirmed { message, chat, seq, created_at, duplicate });
                self.memory.settle(message, true);
            }
            Event::Acked => self.answered(connection, id, |ask| What::AckConfirmed { ask }),
            Event::ReadOk(_) => self.answered(connection, id, |ask| What::ReadConfirmed { ask }),
            Event::Gap(gap) => {
                self.note_gap(connection, &gap);
                self.memory.reach(gap.from_seq.0, gap.to_seq.0);
            }
            Event::Status(news) => self.told(connection, *news),
            Event::Drained(drained) if drained.class == domain::Class::Chat => {
                self.scribe.note(connection, What::Drained { class: Class::Chat });
                self.progress.drained_in.store(self.phase() as u64, Ordering::Relaxed);
            }
            Event::Error(error) => self.refused(connection, id, &error),
            Event::Malformed { text, error } => self.object(connection, format!("{error}: {text}")),
            Event::Other { event, .. } if event == "message:reject:ok" => {
                if let Some(ask) = id.and_then(|id| id.parse().ok()) {
                    self.memory.answered(ask);
                }
            }
            Event::Other { event, .. } => self.object(connection, format!("an unknown event: {event}")),
            // Echoes, presence, typing and memberships are hints that nothing here depends on.
            _ => {}
        }
    }

    fn answered(&mut self, connection: u32, id: Option<&str>, of: impl FnOnce(u64) -> What) {
        if let Some(ask) = id.and_then(|id| id.parse().ok())
            && self.memory.answered(ask)
        {
            self.scribe.note(connection, of(ask));
        }
    }

    fn refused(&mut self, connection: u32, id: Option<&str>, error: &ErrorNews) {
        let message = id.and_then(|id| id.parse::<Uuid>().ok());
        let is_late = error.code == "invalid" && message.is_some_and(|message| self.has_its_time(message));
        let ask = id.and_then(|id| id.parse::<u64>().ok());
        let was_reject = error.code == "not_found" && ask.is_some();
        if !ALLOWED.contains(&error.code.as_str()) && !is_late && !was_reject {
            self.object(connection, format!("error {}: {} (about {id:?})", error.code, error.message));
        }
        if let Some(ask) = ask {
            self.memory.answered(ask);
        }
        let Some(message) = message else { return };
        let is_final = !is_retryable(error);
        self.scribe.note(connection, What::SendRefused { message, code: error.code.clone(), is_final });
        if is_final {
            self.memory.settle(message, false);
        } else {
            self.memory.postpone(message, Instant::now() + Duration::from_millis(error.retry_after_ms.unwrap_or(300).min(3000)));
        }
    }

    fn has_its_time(&self, message: Uuid) -> bool {
        self.memory.outbox.iter().any(|outgoing| outgoing.message == message && outgoing.expires_at.is_some())
    }

    /// An envelope: to be acked, rejected, read or left, as the dice fall.
    fn take(&mut self, connection: u32, envelope: &Envelope, wire: &mut Wire) {
        self.note_envelope(connection, envelope);
        let (message, number) = (envelope.message_id.0, envelope.inbox_seq.0);
        self.memory.reach(number, number);
        let is_run = self.phase() == Phase::Run;
        let may_leave = is_run && self.memory.session.as_ref().is_some_and(|session| session.acks_by_id);
        match self.dice.between(1, 1000) {
            1..=12 if may_leave => {} // never acked on this connection
            13..=30 if may_leave => {
                let is_final = self.dice.chance(250);
                let ask = self.memory.ask();
                self.scribe.note(connection, What::Rejected { message, is_final, ask });
                let data = json!({"messageId": message, "reason": "as the dice fell", "final": is_final});
                wire.queue(encode("message:reject", Some(&ask.to_string()), &data));
            }
            drawn => {
                let Some(session) = &mut self.memory.session else { return };
                session.to_ack.push((message, number));
                if drawn > 800 && is_run {
                    let read = session.to_read.entry(envelope.chat_id.0).or_default();
                    *read = (*read).max(envelope.seq.0);
                }
            }
        }
    }

    fn note_envelope(&mut self, connection: u32, envelope: &Envelope) {
        let received = What::Received {
            message: envelope.message_id.0,
            chat: envelope.chat_id.0,
            seq: envelope.seq.0,
            class: class(envelope.class),
            inbox_seq: envelope.inbox_seq.0,
            sender: envelope.sender_id.to_string(),
            content: envelope.content.clone(),
            attempt: envelope.attempt,
        };
        self.scribe.note(connection, received);
    }

    fn note_gap(&mut self, connection: u32, gap: &restante_client::Gap) {
        let (from, to, reason) = (gap.from_seq.0, gap.to_seq.0, gap.reason.clone());
        self.scribe.note(connection, What::Gap { class: class(gap.class), from, to, reason });
    }

    fn told(&mut self, connection: u32, news: StatusNews) {
        if news.marks_cursor.is_some() {
            self.memory.marks = news.marks_cursor;
        }
        let (Some(state), Some(user)) = (news.status, news.user_id) else {
            return self.object(connection, "counts instead of names in a small chat".to_owned());
        };
        let receipt = Receipt {
            chat: news.chat_id.0,
            user: user.to_string(),
            status: status(state),
            messages: news.message_ids.iter().map(|id| id.0).collect(),
            up_to: news.up_to.then(|| news.seq.map_or(0, |seq| seq.0)),
            except: news.except.iter().map(|except| (except.message_id.0, status(except.status))).collect(),
        };
        self.scribe.note(connection, What::Told(receipt));
    }

    fn object(&mut self, connection: u32, words: String) {
        self.scribe.note(connection, What::Objection { words });
    }
}

const fn class(class: domain::Class) -> Class {
    match class {
        domain::Class::Chat => Class::Chat,
        domain::Class::Alert => Class::Alert,
        domain::Class::Event => Class::Event,
    }
}

const fn status(status: domain::Status) -> Status {
    match status {
        domain::Status::Sent => Status::Sent,
        domain::Status::Delivered => Status::Delivered,
        domain::Status::Read => Status::Read,
        domain::Status::Failed => Status::Failed,
        domain::Status::Expired => Status::Expired,
    }
}
