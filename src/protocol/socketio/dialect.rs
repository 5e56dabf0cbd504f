//! One connection's Socket.IO: events as packets, packets as commands, and which callback acks which message.
//!
//! The packet that lets the client into the namespace goes out before the first event. A refusal before that is a `CONNECT_ERROR`; the
//! service's events, and its refusals of a client that is in, are events.

use std::sync::Arc;

use axum::extract::ws::{Message, Utf8Bytes};

use super::commands::{Said, called, check_size, command};
use super::packet::{Packet, begin_event, callback, connect_error, connected, disconnect, event, json, no_such_namespace};
use super::repeats::{Arrival, Repeats};
use super::shapes::{Pending, ReadBy, StatusOfOne, UserPresence};
use super::unacked::Unacked;
use crate::domain::{Envelope, Message as Stored, Receipt, Status};
use crate::protocol::client::{ClientEvent, Frame, FrameError, FrameId};
use crate::protocol::codec::{Kind, WriteShape, write_event, write_notice};
use crate::protocol::dialect::{Decoded, Dialect};
use crate::protocol::event::{Notice, ServerEvent};
use crate::protocol::feed_event::{event_bytes_max, push_event};
use crate::protocol::message::{envelope_bytes_max, fragment, push_envelope};
use crate::protocol::recalled::Recalled;
use crate::protocol::server::Shape;
use crate::protocol::{ComeBack, Fault, Timestamp};

/// The forms of events that an operator chooses for front ends that expect them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forms {
    /// Messages come as `message:new` too.
    pub message_new: bool,
    /// Types of events that come under their own name too, with their data alone.
    pub event_types: Arc<[String]>,
    /// Presence comes as `user:online` and `user:offline`.
    pub user_online: bool,
    /// Presence comes as `user:presence`.
    pub user_presence: bool,
}

/// The dialect of one connection.
#[derive(Debug)]
pub struct SocketIo {
    sid: String,
    forms: Forms,
    stage: Stage,
    unacked: Unacked,
    repeats: Repeats,
    /// Messages that waited when the session began.
    pending: u32,
}

/// The stage that the client has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not in the namespace yet.
    Outside,
    /// In the namespace, and has no session yet.
    Inside,
    /// It has a session.
    Live,
}

impl SocketIo {
    /// The dialect of a client that is not in the namespace yet. `sid` will be its id there; `window` is that of its session.
    pub fn new(sid: String, forms: Forms, window: u16) -> Self {
        Self { sid, forms, stage: Stage::Outside, unacked: Unacked::new(window), repeats: Repeats::default(), pending: 0 }
    }

    /// Lets the client into the namespace, where it authenticates by an event. The packet is to be sent.
    pub fn enter(&mut self) -> Utf8Bytes {
        self.stage = Stage::Inside;
        connected(&self.sid)
    }

    /// The session has this window.
    pub fn set_window(&mut self, window: u16) {
        self.unacked = Unacked::new(window);
    }

    fn envelopes(&mut self, envelopes: &[(Envelope, u16)], put: &mut dyn FnMut(Utf8Bytes)) {
        for (envelope, attempt) in envelopes {
            let number = self.unacked.number(envelope.message.id);
            match Kind::of(envelope) {
                Kind::Message => self.message(number, envelope, *attempt, put),
                Kind::Event => self.feed_event(number, envelope, *attempt, put),
                Kind::Notice => {
                    if let Some(recalled) = Recalled::of(envelope, *attempt) {
                        put(event(Some(number), Recalled::EVENT, &json(&recalled)));
                    }
                }
            }
        }
    }

    /// Both names have one callback: a client that listens to either acks with it.
    fn message(&self, number: u64, envelope: &Envelope, attempt: u16, put: &mut dyn FnMut(Utf8Bytes)) {
        let mut data = String::with_capacity(envelope_bytes_max(envelope));
        push_envelope(&mut data, envelope, attempt);
        put(event(Some(number), "message:receive", &data));
        if self.forms.message_new {
            put(event(Some(number), "message:new", &format!("{{\"message\":{data}}}")));
        }
    }

    fn feed_event(&self, number: u64, envelope: &Envelope, attempt: u16, put: &mut dyn FnMut(Utf8Bytes)) {
        let mut out = String::with_capacity(event_bytes_max(envelope) + 64);
        begin_event(&mut out, Some(number), "event:receive");
        push_event(&mut out, envelope, attempt);
        out.push(']');
        put(out.into());
        let Stored { message_type, metadata, .. } = envelope.message.as_ref();
        if self.forms.event_types.contains(message_type) {
            put(event(Some(number), message_type, metadata.as_ref().map_or("null", |data| data.get())));
        }
    }

    fn notice(&self, notice: &Notice, out: &mut Packets<'_>) {
        let presence = match notice {
            Notice::Online { user, .. } => Some(UserPresence { user_id: user, is_online: true, last_seen: None }),
            Notice::Offline { user, last_seen } => {
                Some(UserPresence { user_id: user, is_online: false, last_seen: Some(Timestamp(*last_seen)) })
            }
            Notice::Typing { .. } | Notice::Added { .. } | Notice::Removed { .. } | Notice::Contact { .. } | Notice::Recalled { .. } => {
                None
            }
        };
        if presence.is_none() || self.forms.user_online {
            write_notice(out, notice);
        }
        if let Some(presence) = presence.filter(|_| self.forms.user_presence) {
            out.write(None, &presence);
        }
    }
}

impl Dialect for SocketIo {
    fn encode(&mut self, reply_to: Option<&FrameId>, told: &ServerEvent, put: &mut dyn FnMut(Utf8Bytes)) {
        if self.stage == Stage::Outside {
            if let ServerEvent::Error(fault) = told {
                // One that may come back is only cut off: after this packet clients stay away.
                return if stays_away(fault) {
                    put(connect_error(fault))
                };
            }
            put(self.enter());
        }
        let mut out = Packets(put);
        match told {
            ServerEvent::Envelopes(envelopes) => self.envelopes(envelopes, out.0),
            ServerEvent::Echo(message) => {
                (out.0)(event(None, "message:sent", &format!("{{\"duplicate\":false,{}}}", fragment(message))));
            }
            ServerEvent::Receipt(receipt, marks_cursor) => write_receipt(&mut out, told, receipt, marks_cursor),
            ServerEvent::Notice(notice) => self.notice(notice, &mut out),
            ServerEvent::Error(fault) => match reply_to {
                Some(_) => {
                    let answer = format!("{{\"error\":{}}}", json(fault));
                    self.call_back(reply_to, &answer, &mut out);
                }
                None => write_event(&mut out, None, told),
            },
            // Front ends wait for these as events, whatever they do with the callback.
            ServerEvent::Sent(answer) => {
                self.call_back(reply_to, &json(answer), &mut out);
                write_event(&mut out, None, told);
            }
            ServerEvent::Authenticated { .. } if reply_to.is_some() => {
                write_event(&mut out, reply_to, told);
                write_event(&mut out, None, told);
            }
            ServerEvent::Ready(ready) => {
                (self.stage, self.pending) = (Stage::Live, ready.pending);
                write_event(&mut out, reply_to, told);
            }
            told => write_event(&mut out, reply_to, told),
        }
    }

    fn decode(&mut self, text: &str) -> Decoded {
        match check_size(text).and_then(|()| Packet::parse(text)) {
            Ok(Packet::Leave) => Decoded::Left,
            // A second CONNECT is none: the client is in.
            Ok(Packet::Alive | Packet::Elsewhere(None) | Packet::Connect(_)) => Decoded::Nothing,
            Ok(Packet::Elsewhere(Some(name))) => Decoded::Answer(no_such_namespace(name)),
            Ok(Packet::Callback(number, args)) => match self.unacked.take(number) {
                Some(message) => Decoded::Command(called(message, args)),
                None => Decoded::Nothing,
            },
            Ok(Packet::Event(number, args)) => self.event(number, args),
            Err(fault) => Decoded::Refused(FrameError { id: None, fault }),
        }
    }

    /// A packet of Engine.IO, and not of WebSocket: the client's library counts on it.
    fn ping(&self) -> Message {
        Message::Text("2".into())
    }

    fn farewell(&mut self, fault: &Fault) -> Option<Utf8Bytes> {
        let leaves = match self.stage {
            // The refusal was the last word.
            Stage::Outside => false,
            Stage::Inside => stays_away(fault),
            // With a token that it fetches when it comes again. One that brings the same again is refused at the door.
            Stage::Live => fault.code.row().come_back == ComeBack::No,
        };
        leaves.then(disconnect)
    }
}

impl SocketIo {
    /// Calls the callback of a command, and those of its repetitions.
    fn call_back(&mut self, reply_to: Option<&FrameId>, data: &str, out: &mut Packets<'_>) {
        out.call_back(reply_to, data);
        let Some(number) = reply_to.and_then(|id| id.as_json().parse().ok()) else { return };
        for repetition in self.repeats.answered(number) {
            (out.0)(callback(&repetition.to_string(), data));
        }
    }

    fn event(&mut self, number: Option<u64>, args: &str) -> Decoded {
        match command(number, args) {
            Ok(Said::Frame(Frame { id: Some(id), event: ClientEvent::Send(request) })) => {
                let arrival = number.map(|number| self.repeats.arrived(number, request.message_id, args));
                match arrival {
                    Some(Ok(Arrival::Again)) => Decoded::Nothing,
                    Some(Err(fault)) => Decoded::Refused(FrameError { id: Some(id), fault }),
                    Some(Ok(Arrival::First)) | None => Decoded::Command(Frame { id: Some(id), event: ClientEvent::Send(request) }),
                }
            }
            Ok(Said::Frame(Frame { id: Some(id), event: ClientEvent::Typing { chat, typing } })) => {
                let answer = callback(id.as_json(), "{}");
                Decoded::Answered(Frame { id: None, event: ClientEvent::Typing { chat, typing } }, answer)
            }
            Ok(Said::Frame(frame)) => Decoded::Command(frame),
            Ok(Said::Reconnected(None)) => Decoded::Nothing,
            Ok(Said::Reconnected(Some(number))) => {
                Decoded::Answer(callback(&number.to_string(), &json(&Pending { pending: self.pending })))
            }
            Err(error) => Decoded::Refused(error),
        }
    }
}

/// Returns whether a client that is refused with this must not come back by itself: it would be refused again.
fn stays_away(fault: &Fault) -> bool {
    match fault.code.row().come_back {
        ComeBack::No | ComeBack::WithNewToken => true,
        ComeBack::Yes | ComeBack::Later => false,
    }
}

/// Puts each shape as a packet: an answer calls the client's callback, anything else is an event.
struct Packets<'a>(&'a mut dyn FnMut(Utf8Bytes));

impl Packets<'_> {
    fn call_back(&mut self, reply_to: Option<&FrameId>, data: &str) {
        if let Some(id) = reply_to {
            (self.0)(callback(id.as_json(), data));
        }
    }
}

impl WriteShape for Packets<'_> {
    fn write<E: Shape>(&mut self, reply_to: Option<&FrameId>, data: &E) {
        match reply_to {
            Some(_) => self.call_back(reply_to, &json(data)),
            None => (self.0)(event(None, E::EVENT, &json(data))),
        }
    }
}

/// One event for each message, where the receipt names them; the last has the marks cursor.
fn write_receipt(out: &mut Packets<'_>, told: &ServerEvent, receipt: &Receipt, marks_cursor: &str) {
    let Receipt::Moved { chat, messages, status, member, at, reason, .. } = receipt else { return write_event(out, None, told) };
    for (place, message) in messages.iter().enumerate() {
        out.write(
            None,
            &StatusOfOne {
                message_id: *message,
                chat_id: *chat,
                status: *status,
                delivered_to: (*status == Status::Delivered).then_some(member),
                read_by: (*status == Status::Read).then_some(member),
                user_id: member,
                reason: reason.as_deref(),
                timestamp: Timestamp(*at),
                marks_cursor: (place + 1 == messages.len()).then_some(marks_cursor),
            },
        );
        if *status == Status::Read {
            out.write(None, &ReadBy { message_id: *message, chat_id: *chat, read_by: member });
        }
    }
}
