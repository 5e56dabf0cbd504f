//! Handles the frames of a client: records each frame, and updates the client's state.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use super::{Actor, Phase};
use restante_client::{Envelope, ErrorReport, Event as ServiceEvent, FeedEvent, Frame, Ready, StatusUpdate, Wire, encode, is_retryable};
use restante_judge::history::{Class, Event, Receipt, Status};
use restante_session::domain;

/// The error codes that a client that keeps the protocol may get.
const ALLOWED: [&str; 10] = [
    "busy",
    "unavailable",
    "rate_limited",
    "not_a_member",
    "restart",
    "too_slow",
    "no_acks",
    "displaced",
    "too_many_sessions",
    "token_revoked",
];

impl Actor {
    /// Handles a frame of the connection.
    pub(super) fn hear(&mut self, connection: u32, text: &str, wire: &mut Wire) {
        self.note_heard();
        let Frame { id, event } = Frame::parse(text);
        match event {
            ServiceEvent::Receive(envelope) => self.take(connection, &envelope, wire),
            ServiceEvent::Batch(envelopes) => envelopes.iter().for_each(|envelope| self.take(connection, envelope, wire)),
            ServiceEvent::FeedEvent(event) => self.take_event(connection, &event, wire),
            ServiceEvent::FeedEvents(events) => events.iter().for_each(|event| self.take_event(connection, event, wire)),
            ServiceEvent::Recalled(notice) => {
                if let Some(place) = self.note_notice(connection, &notice) {
                    self.keep(connection, place, wire);
                }
            }
            ServiceEvent::Ready(ready) => self.greeted(connection, &ready),
            event => self.note_event(connection, id.as_deref(), event),
        }
    }

    /// Handles a frame of a connection that was left open beside a newer one: it is only recorded, and not acked.
    pub(super) fn overhear(&mut self, connection: u32, text: &str) {
        let Frame { id, event } = Frame::parse(text);
        match event {
            ServiceEvent::Receive(envelope) => self.note_envelope(connection, &envelope),
            ServiceEvent::Batch(envelopes) => envelopes.iter().for_each(|envelope| self.note_envelope(connection, envelope)),
            ServiceEvent::FeedEvent(event) => self.note_feed_event(connection, &event),
            ServiceEvent::FeedEvents(events) => events.iter().for_each(|event| self.note_feed_event(connection, event)),
            ServiceEvent::Recalled(notice) => _ = self.note_notice(connection, &notice),
            ServiceEvent::Gap(gap) => self.note_gap(connection, &gap),
            ServiceEvent::Other { event, .. } if event == "block:ok" => self.block_done(connection, id.as_deref()),
            ServiceEvent::Malformed { text, error } => self.object(connection, format!("{error}: {text}")),
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
        for (class, last_seq, settled_seq) in [
            (Class::Alert, ready.alert_last_seq.0, ready.alert_settled_seq.0),
            (Class::Event, ready.event_last_seq.0, ready.event_settled_seq.0),
        ] {
            self.recorder.note(connection, Event::ReadyOf { class, last_seq, settled_seq });
        }
        self.events.reconnected();
        self.state.greeted(&ready.epoch, ready.marks_cursor.clone());
    }

    fn note_event(&mut self, connection: u32, id: Option<&str>, event: ServiceEvent) {
        match event {
            ServiceEvent::Sent(sent) if id.is_some() => {
                let (message, chat) = (sent.message_id.0, sent.chat_id.0);
                let (seq, created_at, duplicate) = (sent.seq.0, sent.created_at, sent.duplicate);
                self.recorder.note(connection, Event::SendConfirmed { message, chat, seq, created_at, duplicate });
                self.state.settle(message, true);
            }
            ServiceEvent::RecallOk(done) => self.recall_done(connection, id, &done),
            ServiceEvent::Acked => self.answered(connection, id, |ask| Event::AckConfirmed { ask }),
            ServiceEvent::ReadOk(_) => self.answered(connection, id, |ask| Event::ReadConfirmed { ask }),
            ServiceEvent::Gap(gap) => {
                self.note_gap(connection, &gap);
                self.state.reach(gap.class, gap.from_seq.0, gap.to_seq.0);
            }
            ServiceEvent::Status(update) => self.told(connection, *update),
            ServiceEvent::Published(published) => self.published(connection, published),
            ServiceEvent::Drained(drained) => self.drained(connection, drained.class),
            ServiceEvent::Error(error) => self.refused(connection, id, &error),
            ServiceEvent::Malformed { text, error } => self.object(connection, format!("{error}: {text}")),
            ServiceEvent::Other { event, .. } if event == "message:reject:ok" => {
                if let Some(ask) = id.and_then(|id| id.parse().ok()) {
                    self.state.answered(ask);
                }
            }
            ServiceEvent::Other { event, .. } if event == "block:ok" => self.block_done(connection, id),
            // Contacts are a hint, too.
            ServiceEvent::Other { event, .. } if event.starts_with("contact:") && self.environment.contacts => {}
            ServiceEvent::Other { event, .. } => self.object(connection, format!("an unknown event: {event}")),
            // The rest (echoes, presence, typing, memberships) are hints, which the judge does not need.
            _ => {}
        }
    }

    fn drained(&mut self, connection: u32, of: domain::Class) {
        self.recorder.note(connection, Event::Drained { class: class(of) });
        let Some(session) = &mut self.state.connection else { return };
        session.drained[of] = true;
        if session.drained.values().all(|drained| *drained) {
            self.progress.drained_in.store(self.phase() as u64, Ordering::Relaxed);
        }
    }

    /// Records an answer that the client waited for.
    pub(super) fn answered(&mut self, connection: u32, id: Option<&str>, of: impl FnOnce(u64) -> Event) {
        if let Some(ask) = id.and_then(|id| id.parse().ok())
            && self.state.answered(ask)
        {
            self.recorder.note(connection, of(ask));
        }
    }

    fn refused(&mut self, connection: u32, id: Option<&str>, error: &ErrorReport) {
        let message = id.and_then(|id| id.parse::<Uuid>().ok());
        let is_late = error.code == "invalid" && message.is_some_and(|message| self.has_its_time(message));
        let ask = id.and_then(|id| id.parse::<u64>().ok());
        let was_reject = error.code == "not_found" && ask.is_some();
        // Between users of whom one blocks the other. The judge knows whether there may be a block.
        let was_refused = error.code == "not_accepted" && message.is_some();
        if !ALLOWED.contains(&error.code.as_str()) && !is_late && !was_reject && !was_refused {
            self.object(connection, format!("error {}: {} (about {id:?})", error.code, error.message));
        }
        if let Some(ask) = ask {
            self.state.answered(ask);
            if self.state.recalls.remove(&ask) {
                self.recorder.note(connection, Event::RecallAnswered { ask, recalled_at: None, answer: error.code.clone() });
            }
            if self.state.blocks.remove(&ask) {
                self.recorder.note(connection, Event::BlockAnswered { ask, is_done: false, answer: error.code.clone() });
            }
        }
        let Some(message) = message else { return };
        let is_final = !is_retryable(error);
        let pause = Duration::from_millis(error.retry_after_ms.unwrap_or(300).min(3000));
        if self.events.holds(message) {
            return self.event_refused(connection, message, &error.code, (!is_final).then_some(pause));
        }
        self.recorder.note(connection, Event::SendRefused { message, code: error.code.clone(), is_final });
        if is_final {
            self.state.settle(message, false);
        } else {
            self.state.postpone(message, Instant::now() + pause);
        }
    }

    fn has_its_time(&self, message: Uuid) -> bool {
        self.state.outbox.iter().any(|outgoing| outgoing.message == message && outgoing.expires_at.is_some())
    }

    /// Takes an envelope. By chance it is acked, rejected, read, or left without an ack.
    fn take(&mut self, connection: u32, envelope: &Envelope, wire: &mut Wire) {
        self.note_envelope(connection, envelope);
        let place = (envelope.class, envelope.message_id.0, envelope.inbox_seq.0);
        let is_kept = self.keep(connection, place, wire);
        if is_kept && self.phase() == Phase::Run && self.rng.chance(200) {
            let Some(session) = &mut self.state.connection else { return };
            let read = session.to_read.entry(envelope.chat_id.0).or_default();
            *read = (*read).max(envelope.seq.0);
        }
    }

    /// The same with an event, which is never read.
    fn take_event(&mut self, connection: u32, event: &FeedEvent, wire: &mut Wire) {
        self.note_feed_event(connection, event);
        self.keep(connection, (event.class, event.event_id.0, event.inbox_seq.0), wire);
    }

    /// Keeps a message or an event to ack it later; by chance it rejects it or leaves it. Returns whether it is kept.
    fn keep(&mut self, connection: u32, place: (domain::Class, Uuid, i64), wire: &mut Wire) -> bool {
        let (class, message, number) = place;
        self.state.reach(class, number, number);
        let may_leave = self.phase() == Phase::Run && self.state.connection.as_ref().is_some_and(|session| session.acks_by_id);
        match self.rng.between(1, 1000) {
            1..=12 if may_leave => false, // never acked on this connection
            13..=30 if may_leave => {
                let is_final = self.rng.chance(250);
                let ask = self.state.ask();
                self.recorder.note(connection, Event::Rejected { message, is_final, ask });
                let data = json!({"messageId": message, "reason": "rejected by chance", "final": is_final});
                wire.queue(encode("message:reject", Some(&ask.to_string()), &data));
                false
            }
            _ => {
                if let Some(session) = &mut self.state.connection {
                    session.acks[class].due.push((message, number));
                }
                true
            }
        }
    }

    fn note_envelope(&mut self, connection: u32, envelope: &Envelope) {
        if envelope.unreadable {
            self.recorder.note(connection, Event::Unreadable { id: envelope.message_id.0, class: class(envelope.class) });
        }
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

    fn note_feed_event(&mut self, connection: u32, event: &FeedEvent) {
        if event.unreadable {
            self.recorder.note(connection, Event::Unreadable { id: event.event_id.0, class: class(event.class) });
        }
        let received = Event::EventReceived {
            event: event.event_id.0,
            class: class(event.class),
            inbox_seq: event.inbox_seq.0,
            feed: event.feed_id.map(|feed| feed.0),
            feed_seq: event.feed_seq.map(|seq| seq.0),
            data: event.data.as_ref().map_or("null", |data| data.get()).into(),
            merged: event.merged,
            attempt: event.attempt,
        };
        self.recorder.note(connection, received);
    }

    fn note_gap(&mut self, connection: u32, gap: &restante_client::Gap) {
        let (class, seq, to, reason) = (class(gap.class), gap.from_seq.0, gap.to_seq.0, gap.reason.clone());
        let noted = match (gap.feed_id, gap.from_feed_seq, gap.to_feed_seq) {
            (Some(feed), Some(first), Some(last)) => {
                Event::FeedGap { class, seq, feed: feed.0, from_feed_seq: first.0, to_feed_seq: last.0, count: gap.count, reason }
            }
            _ => Event::Gap { class, from: seq, to, reason },
        };
        self.recorder.note(connection, noted);
    }

    fn told(&mut self, connection: u32, update: StatusUpdate) {
        if update.marks_cursor.is_some() {
            self.state.marks = update.marks_cursor;
        }
        let reasons = update.except.iter().filter_map(|except| except.reason.as_ref()).chain(update.reason.as_ref());
        for reason in reasons {
            self.recorder.note(connection, Event::ToldWhy { chat: update.chat_id.0, reason: reason.clone() });
        }
        let (Some(state), Some(user)) = (update.status, update.user_id) else {
            return self.object(connection, "counts instead of names in a small chat".to_owned());
        };
        let receipt = Receipt {
            chat: update.chat_id.0,
            user: user.to_string(),
            status: status(state),
            messages: update.message_ids.iter().map(|id| id.0).collect(),
            up_to: (update.kind == restante_client::StatusKind::Mark).then(|| update.seq.map_or(0, |seq| seq.0)),
            except: update.except.iter().map(|except| (except.message_id.0, status(except.status))).collect(),
        };
        self.recorder.note(connection, Event::Told(receipt));
    }

    fn object(&mut self, connection: u32, words: String) {
        self.recorder.note(connection, Event::Objection { words });
    }
}

/// The class in the judge's words.
pub(super) const fn class(class: domain::Class) -> Class {
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
