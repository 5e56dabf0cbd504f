//! Writes down for the judge what a raw client did and received: JSON frames become events of its history.

use std::time::Instant;

use restante_judge::history::{Class, Receipt};
use restante_judge::{Event, History, Recorder, Status};
use serde_json::Value;
use uuid::Uuid;

/// The history of a client with one connection and without a device.
pub struct Recording {
    recorder: Recorder,
}

impl Recording {
    /// Begins with the data of the connection's `ready`.
    pub fn new(user: &str, began: Instant, ready: &Value) -> Self {
        let mut recorder = Recorder::in_memory(user, user, began);
        recorder.note(1, Event::Connecting { node: 0, device: None, since: None });
        let (epoch, resumed) = (text(&ready["epoch"]), ready["resumed"] == true);
        recorder.note(1, Event::Ready { epoch, resumed, last_seq: number(&ready["lastSeq"]), settled_seq: number(&ready["settledSeq"]) });
        Self { recorder }
    }

    /// The client is about to send a message to a user.
    pub fn sends(&mut self, message: Uuid, to: &str, content: &str) {
        self.recorder.note(1, Event::SendAttempted { message, chat: None, to: Some(to.to_owned()), content: content.into() });
    }

    /// The answer to the send of a message.
    pub fn answered(&mut self, message: Uuid, answer: &Value) {
        let data = &answer["data"];
        self.recorder.note(
            1,
            match answer["event"].as_str() {
                Some("message:sent") => Event::SendConfirmed {
                    message,
                    chat: id(&data["chatId"]),
                    seq: number(&data["seq"]),
                    created_at: text(&data["createdAt"]),
                    duplicate: data["duplicate"] == true,
                },
                _ => Event::SendRefused { message, code: text(&data["code"]), is_final: data["retryAfterMs"].is_null() },
            },
        );
    }

    /// The client is about to ack a message, with a frame of this number.
    pub fn acks(&mut self, message: Uuid, ask: u64) {
        self.recorder.note(1, Event::AckedIds { messages: vec![message], ask: Some(ask) });
    }

    /// The ack with this number is confirmed.
    pub fn confirmed(&mut self, ask: u64) {
        self.recorder.note(1, Event::AckConfirmed { ask });
    }

    /// Any other frame: envelopes, gaps and receipts are written down.
    pub fn frame(&mut self, frame: &Value) {
        let data = &frame["data"];
        match frame["event"].as_str() {
            Some("message:receive") => self.recorder.note(1, received(data)),
            Some("queue:gap") => {
                let (from, to, reason) = (number(&data["fromSeq"]), number(&data["toSeq"]), text(&data["reason"]));
                self.recorder.note(1, Event::Gap { class: class(data), from, to, reason });
            }
            Some("message:status") if data["userId"].is_string() => self.recorder.note(1, Event::Told(receipt(data))),
            _ => {}
        }
    }

    /// Ends the history.
    pub fn finish(self) -> History {
        self.recorder.finish()
    }
}

/// The envelope of a `message:receive`, from its data.
pub fn received(data: &Value) -> Event {
    Event::Received {
        message: id(&data["messageId"]),
        chat: id(&data["chatId"]),
        seq: number(&data["seq"]),
        class: class(data),
        inbox_seq: number(&data["inboxSeq"]),
        sender: text(&data["senderId"]).into(),
        content: text(&data["content"]).into(),
        attempt: u16::try_from(number(&data["attempt"])).unwrap(),
    }
}

fn receipt(data: &Value) -> Receipt {
    let except = data["except"].as_array().into_iter().flatten();
    Receipt {
        chat: id(&data["chatId"]),
        user: text(&data["userId"]),
        status: status(&data["status"]),
        messages: data["messageIds"].as_array().into_iter().flatten().map(id).collect(),
        up_to: (data["kind"] == "mark").then(|| number(&data["seq"])),
        except: except.map(|except| (id(&except["messageId"]), status(&except["status"]))).collect(),
    }
}

fn class(data: &Value) -> Class {
    if data["class"] == "event" { Class::Event } else { Class::Chat }
}

fn status(value: &Value) -> Status {
    serde_json::from_value(value.clone()).unwrap()
}

fn id(value: &Value) -> Uuid {
    text(value).parse().unwrap()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
