//! Server-sent events (the HTML standard, section 9.2), the dialect of clients that only read: each event is a block of lines, `event:`
//! its name and `data:` the JSON that `/ws` has as data. Nothing here knows a socket.
//!
//! The id of a block says where its client resumes: what it has acked so far, and not what it has been sent. A browser sends the last id
//! back by itself, whether or not the page has done anything with the event.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::ws::{Message, Utf8Bytes};

use super::client::FrameId;
use super::codec::{Kind, WriteShape, write_event};
use super::dialect::{Decoded, Dialect};
use super::event::ServerEvent;
use super::feed_event::{event_bytes_max, push_event};
use super::message::{envelope_bytes_max, fragment, push_envelope};
use super::recalled::Recalled;
use super::server::Shape;
use super::{ComeBack, Fault};
use crate::domain::{Class, Envelope, InboxSeq, PerClass};

/// The id of a stream that must not be opened again. A browser opens it again all the same, and says so.
pub const ENDED: &str = "ended";
/// The pause after which a client comes back that should let some time pass, in milliseconds.
const LATER_MS: u64 = 5_000;
/// A comment: it keeps proxies from taking an idle stream for a dead one.
const COMMENT: &str = ":\n\n";

/// The place from which a client resumes, as the id of an event: `epoch;since;marks`. The parts are those of the query of `/ws`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventId {
    /// The epoch that the numbers are of.
    pub epoch: String,
    /// "I have everything up to these numbers", with their classes.
    pub since: String,
    /// The receipts that are known; none: the client knows of none.
    pub marks: Option<String>,
}

impl EventId {
    /// Reads an id as a client brings it back.
    ///
    /// # Errors
    /// It has another form. What its parts say is not looked at.
    pub fn parse(id: &str) -> Result<Self, Fault> {
        let mut parts = id.splitn(3, ';').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(epoch), Some(since), marks) => Ok(Self { epoch, since, marks }),
            _ => Err(Fault::invalid("`Last-Event-ID` must be the id of an event of this stream, or missing")),
        }
    }
}

/// The dialect of one stream.
#[derive(Debug)]
pub struct EventStream {
    acked: PerClass<InboxSeq>,
    marks: Arc<str>,
    epoch: Arc<str>,
    /// The line with the id, made anew when a part of it has changed. Empty before `ready`.
    id_line: String,
}

impl Default for EventStream {
    fn default() -> Self {
        Self { acked: PerClass::default(), marks: Arc::from(""), epoch: Arc::from(""), id_line: String::new() }
    }
}

impl EventStream {
    /// Notes what an event says of the place from which the client resumes.
    fn note(&mut self, told: &ServerEvent) {
        match told {
            ServerEvent::Ready(ready) => (self.epoch, self.marks) = (Arc::clone(&ready.epoch), Arc::clone(&ready.marks_cursor)),
            ServerEvent::Acked(acked) => self.acked = *acked,
            ServerEvent::Receipt(_, marks)
            | ServerEvent::MarkMoved { marks_cursor: marks, .. }
            | ServerEvent::Counted(_, marks)
            | ServerEvent::ChatRead(_, _, marks) => self.marks = Arc::clone(marks),
            _ => return,
        }
        if self.epoch.is_empty() {
            return;
        }
        let PerClass { chat, alert, event } = self.acked;
        self.id_line.clear();
        // Writing to a string does not fail.
        let _ = writeln!(
            self.id_line,
            "id: {};{chat},{}:{alert},{}:{event};{}",
            self.epoch,
            Class::Alert.as_str(),
            Class::Event.as_str(),
            self.marks
        );
    }

    fn envelopes(&self, envelopes: &[(Envelope, u16)], put: &mut dyn FnMut(Utf8Bytes)) {
        for (envelope, attempt) in envelopes {
            match Kind::of(envelope) {
                Kind::Message => {
                    let mut data = String::with_capacity(envelope_bytes_max(envelope));
                    push_envelope(&mut data, envelope, *attempt);
                    put(block(&self.id_line, "message:receive", &data));
                }
                Kind::Event => {
                    let mut data = String::with_capacity(event_bytes_max(envelope));
                    push_event(&mut data, envelope, *attempt);
                    put(block(&self.id_line, "event:receive", &data));
                }
                Kind::Notice => {
                    if let Some(recalled) = Recalled::of(envelope, *attempt) {
                        Blocks { id_line: &self.id_line, put: &mut *put }.write(None, &recalled);
                    }
                }
            }
        }
    }
}

impl Dialect for EventStream {
    fn encode(&mut self, reply_to: Option<&FrameId>, told: &ServerEvent, put: &mut dyn FnMut(Utf8Bytes)) {
        self.note(told);
        match told {
            ServerEvent::Envelopes(envelopes) => self.envelopes(envelopes, put),
            ServerEvent::Echo(message) => {
                put(block(&self.id_line, "message:sent", &format!("{{\"duplicate\":false,{}}}", fragment(message))));
            }
            // No event: a block without data only moves the id.
            ServerEvent::Acked(_) if self.id_line.is_empty() => {}
            ServerEvent::Acked(_) => put(format!("{}\n", self.id_line).into()),
            ServerEvent::Draining(draining) => {
                put(retry(draining.reconnect_after_ms));
                write_event(&mut Blocks { id_line: &self.id_line, put }, reply_to, told);
            }
            told => write_event(&mut Blocks { id_line: &self.id_line, put }, reply_to, told),
        }
    }

    /// A stream brings nothing from its client.
    fn decode(&mut self, _text: &str) -> Decoded {
        Decoded::Nothing
    }

    fn ping(&self) -> Message {
        Message::Text(COMMENT.into())
    }

    fn is_ping_answered(&self) -> bool {
        false
    }

    /// When to come back, for a client that comes back by itself.
    fn farewell(&mut self, fault: &Fault) -> Option<Utf8Bytes> {
        match (fault.code.row().come_back, fault.retry_after_ms) {
            (ComeBack::No, _) => Some(format!("id: {ENDED}\n\n").into()),
            // With the token that it has it is refused, and a browser stays away then.
            (ComeBack::WithNewToken, _) => None,
            (ComeBack::Yes | ComeBack::Later, Some(ms)) => Some(retry(ms)),
            (ComeBack::Later, None) => Some(retry(LATER_MS)),
            // As it was told before, or as it thinks best.
            (ComeBack::Yes, None) => None,
        }
    }
}

fn retry(ms: u64) -> Utf8Bytes {
    format!("retry: {ms}\n\n").into()
}

/// One event.
fn block(id_line: &str, event: &str, data: &str) -> Utf8Bytes {
    let mut out = String::with_capacity(id_line.len() + event.len() + data.len() + 20);
    out.push_str(id_line);
    out.push_str("event: ");
    out.push_str(event);
    out.push_str("\ndata: ");
    push_one_line(&mut out, data);
    out.push_str("\n\n");
    out.into()
}

/// Writes JSON on one line. What clients have sent stands in it as it came, line ends between its tokens included, and a line end
/// would begin another field of the block. Within its strings there is none.
fn push_one_line(out: &mut String, json: &str) {
    for (place, line) in json.split(['\n', '\r']).enumerate() {
        if place > 0 {
            out.push(' ');
        }
        out.push_str(line);
    }
}

/// Puts each shape as a block.
struct Blocks<'a, 'put> {
    id_line: &'a str,
    put: &'a mut (dyn FnMut(Utf8Bytes) + 'put),
}

impl WriteShape for Blocks<'_, '_> {
    fn write<E: Shape>(&mut self, _reply_to: Option<&FrameId>, data: &E) {
        let json = serde_json::to_string(data);
        let json = json.expect("strings, numbers and lists of them only: serialising cannot fail");
        (self.put)(block(self.id_line, E::EVENT, &json));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::ChatId;
    use crate::domain::{ChatSeq, InboxSeq};
    use crate::protocol::Code;
    use crate::protocol::server::{Drained, Draining};

    fn written(dialect: &mut EventStream, told: &ServerEvent) -> String {
        let mut blocks = String::new();
        dialect.encode(None, told, &mut |block| blocks.push_str(&block));
        blocks
    }

    /// One that is past `ready`, which these tests have no use for.
    fn begun() -> EventStream {
        EventStream { epoch: "e1".into(), marks: "e1-7".into(), ..EventStream::default() }
    }

    fn acked(chat: i64, event: i64) -> ServerEvent {
        ServerEvent::Acked(PerClass { chat: InboxSeq(chat), alert: InboxSeq(0), event: InboxSeq(event) })
    }

    #[test]
    fn the_id_moves_with_acks_and_marks_and_not_with_what_is_sent() {
        let mut dialect = begun();
        assert_eq!(written(&mut dialect, &acked(3, 1)), "id: e1;3,alert:0,event:1;e1-7\n\n");
        let drained = ServerEvent::Drained(Drained { class: Class::Chat, inbox_seq: InboxSeq(9) });
        let block = "event: queue:drained\ndata: {\"class\":\"chat\",\"inboxSeq\":9}\n\n";
        assert_eq!(written(&mut dialect, &drained), format!("id: e1;3,alert:0,event:1;e1-7\n{block}"));
        let read = ServerEvent::ChatRead(ChatId(uuid::Uuid::nil()), ChatSeq(2), "e1-9.8".into());
        assert!(written(&mut dialect, &read).starts_with("id: e1;3,alert:0,event:1;e1-9.8\nevent: chat:read\n"));
        let id = EventId::parse("e1;3,alert:0,event:1;e1-9.8").unwrap();
        let parts = (id.epoch.as_str(), id.since.as_str(), id.marks.as_deref());
        assert_eq!(parts, ("e1", "3,alert:0,event:1", Some("e1-9.8")));
    }

    #[test]
    fn before_ready_there_is_no_id() {
        assert_eq!(written(&mut EventStream::default(), &acked(3, 1)), "");
    }

    #[test]
    fn a_client_is_told_when_to_come_back_and_one_that_must_not_gets_an_id_that_says_so() {
        let mut dialect = begun();
        let draining = written(&mut dialect, &ServerEvent::Draining(Draining { reconnect_after_ms: 250 }));
        assert!(draining.starts_with("retry: 250\n\nevent: server:draining\n") || draining.starts_with("retry: 250\n\nid: "), "{draining}");
        let mut last = |fault: Fault| dialect.farewell(&fault).map(|text| text.as_str().to_owned());
        assert_eq!(last(Fault::plain(Code::Displaced)).as_deref(), Some("id: ended\n\n"));
        assert_eq!(last(Fault::plain(Code::NoAcks)).as_deref(), Some("retry: 5000\n\n"));
        assert_eq!(last(Fault::plain(Code::Busy).retry_after_ms(70)).as_deref(), Some("retry: 70\n\n"));
        assert_eq!(last(Fault::plain(Code::TokenExpired)), None);
        assert_eq!(last(Fault::plain(Code::Restart)), None);
        assert!(EventId::parse(ENDED).is_err(), "it is no place to go on from");
    }

    proptest! {
        #[test]
        fn whatever_json_a_client_has_sent_stands_on_one_line(between in "[ \n\r\t]{0,6}", text in any::<String>()) {
            let json = format!("{{{between}\"a\"{between}:{between}{}{between}}}", serde_json::to_string(&text).unwrap());
            let block = block("", "x", &json);
            let data = block.strip_prefix("event: x\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
            prop_assert!(!data.contains(['\n', '\r']));
            let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
            prop_assert_eq!(read(data), read(&json));
        }

        #[test]
        fn whatever_a_client_brings_back_never_panics(id in any::<String>()) {
            let _ = EventId::parse(&id);
        }
    }
}
