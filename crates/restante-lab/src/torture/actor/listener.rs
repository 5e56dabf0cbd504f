//! Handles the frames of a client: records each frame, and updates the client's state.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use super::{Actor, Phase};
use restante_client::{Envelope, ErrorNews, Event as News, Frame, Ready, StatusNews, Wire, encode, is_retryable};
use restante_judge::history::{Class, Event, Receipt, Status};
use restante_session::domain;

/// The error codes that a client that keeps the protocol may get.
const ALLOWED: [&str; 9] =
    ["busy", "unavailable", "rate_limited", "not_a_member", "restart", "too_slow", "no_acks", "displaced", "too_many_sessions"];

impl Actor {
    /// Handles a frame of the connection.
    pub(super) fn hear(&mut self, connection: u32, text: &str, wire: &mut Wire) {
        self.note_heard();
        let Frame { id, event } = Frame::parse(text);
        match event {
            News::Receive(envelope) => self.take(connection, &envelope, wire),
            News::Batch(envelopes) => envelopes.iter().for_each(|envelope| self.take(connection, envelope, wire)),
            News::Ready(ready) => self.greeted(connection, &ready),
            event => self.note_event(connection, id.as_deref(), event),
        }
    }

    /// Handles a frame of a connection that was left open beside a newer one: it is only recorded.
    pub(super) fn overhear(&mut self, connection: u32, text: &str) {
        match Frame::parse(text).event {
            News::Receive(envelope) => self.note_envelope(connection, &envelope),
            News::Batch(envelopes) => envelopes.iter().for_each(|envelope| self.note_envelope(connection, envelope)),
            News::Gap(gap) => self.note_gap(connection, &gap),
            News::Malformed { text, error } => self.object(connection, format!("{error}: {text}")),
            _ => {}
        }
    }

    fn greeted(&mut self, connection: u32, ready: &Ready) {
        let noted = Event::Ready {
            epoch: ready.epoch.clone(),
            resumed: ready.resumed,
            last_seq: ready.last_seq.0,
            settled_seq: ready.settled_seq.0,
        };
        self.recorder.note(connection, noted);
        self.state.greeted(&ready.epoch, ready.marks_cursor.clone());
    }

    fn note_event(&mut self, connection: u32, id: Option<&str>, event: News) {
        match event {
            News::Sent(sent) if id.is_some() => {
                let (message, chat) = (sent.message_id.0, sent.chat_id.0);
                let (seq, created_at, duplicate) = (sent.seq.0, sent.created_at, sent.duplicate);
                self.recorder.note(connection, Event::SendConfirmed { message, chat, seq, created_at, duplicate });
                self.state.settle(message, true);
            }
            News::Acked => self.answered(connection, id, |ask| Event::AckConfirmed { ask }),
            News::ReadOk(_) => self.answered(connection, id, |ask| Event::ReadConfirmed { ask }),
            News::Gap(gap) => {
                self.note_gap(connection, &gap);
                self.state.reach(gap.from_seq.0, gap.to_seq.0);
            }
            News::Status(news) => self.told(connection, *news),
            News::Drained(drained) if drained.class == domain::Class::Chat => {
                self.recorder.note(connection, Event::Drained { class: Class::Chat });
                self.progress.drained_in.store(self.phase() as u64, Ordering::Relaxed);
            }
            News::Error(error) => self.refused(connection, id, &error),
            News::Malformed { text, error } => self.object(connection, format!("{error}: {text}")),
            News::Other { event, .. } if event == "message:reject:ok" => {
                if let Some(ask) = id.and_then(|id| id.parse().ok()) {
                    self.state.answered(ask);
                }
            }
            News::Other { event, .. } => self.object(connection, format!("an unknown event: {event}")),
            // The rest (echoes, presence, typing, memberships) are hints, which the judge does not need.
            _ => {}
        }
    }

    fn answered(&mut self, connection: u32, id: Option<&str>, of: impl FnOnce(u64) -> Event) {
        if let Some(ask) = id.and_then(|id| id.parse().ok())
            && self.state.answered(ask)
        {
            self.recorder.note(connection, of(ask));
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
            self.state.answered(ask);
        }
        let Some(message) = message else { return };
        let is_final = !is_retryable(error);
        self.recorder.note(connection, Event::SendRefused { message, code: error.code.clone(), is_final });
        if is_final {
            self.state.settle(message, false);
        } else {
            self.state.postpone(message, Instant::now() + Duration::from_millis(error.retry_after_ms.unwrap_or(300).min(3000)));
        }
    }

    fn has_its_time(&self, message: Uuid) -> bool {
        self.state.outbox.iter().any(|outgoing| outgoing.message == message && outgoing.expires_at.is_some())
    }

    /// Takes an envelope. By chance it is acked, rejected, read, or left without an ack.
    fn take(&mut self, connection: u32, envelope: &Envelope, wire: &mut Wire) {
        self.note_envelope(connection, envelope);
        let (message, number) = (envelope.message_id.0, envelope.inbox_seq.0);
        self.state.reach(number, number);
        let is_run = self.phase() == Phase::Run;
        let may_leave = is_run && self.state.connection.as_ref().is_some_and(|session| session.acks_by_id);
        match self.rng.between(1, 1000) {
            1..=12 if may_leave => {} // never acked on this connection
            13..=30 if may_leave => {
                let is_final = self.rng.chance(250);
                let ask = self.state.ask();
                self.recorder.note(connection, Event::Rejected { message, is_final, ask });
                let data = json!({"messageId": message, "reason": "rejected by chance", "final": is_final});
                wire.queue(encode("message:reject", Some(&ask.to_string()), &data));
            }
            drawn => {
                let Some(session) = &mut self.state.connection else { return };
                session.to_ack.push((message, number));
                if drawn > 800 && is_run {
                    let read = session.to_read.entry(envelope.chat_id.0).or_default();
                    *read = (*read).max(envelope.seq.0);
                }
            }
        }
    }

    fn note_envelope(&mut self, connection: u32, envelope: &Envelope) {
        let received = Event::Received {
            message: envelope.message_id.0,
            chat: envelope.chat_id.0,
            seq: envelope.seq.0,
            class: class(envelope.class),
            inbox_seq: envelope.inbox_seq.0,
            sender: envelope.sender_id.as_str().into(),
            content: envelope.content.as_str().into(),
            attempt: envelope.attempt,
        };
        self.recorder.note(connection, received);
    }

    fn note_gap(&mut self, connection: u32, gap: &restante_client::Gap) {
        let (from, to, reason) = (gap.from_seq.0, gap.to_seq.0, gap.reason.clone());
        self.recorder.note(connection, Event::Gap { class: class(gap.class), from, to, reason });
    }

    fn told(&mut self, connection: u32, news: StatusNews) {
        if news.marks_cursor.is_some() {
            self.state.marks = news.marks_cursor;
        }
        let (Some(state), Some(user)) = (news.status, news.user_id) else {
            return self.object(connection, "counts instead of names in a small chat".to_owned());
        };
        let receipt = Receipt {
            chat: news.chat_id.0,
            user: user.to_string(),
            status: status(state),
            messages: news.message_ids.iter().map(|id| id.0).collect(),
            up_to: (news.kind == restante_client::StatusKind::Mark).then(|| news.seq.map_or(0, |seq| seq.0)),
            except: news.except.iter().map(|except| (except.message_id.0, status(except.status))).collect(),
        };
        self.recorder.note(connection, Event::Told(receipt));
    }

    fn object(&mut self, connection: u32, words: String) {
        self.recorder.note(connection, Event::Objection { words });
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
