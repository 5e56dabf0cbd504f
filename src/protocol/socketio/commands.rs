//! The events of clients over Socket.IO, as the commands of `/ws`: the same checked values, from an array of a name and its arguments. A callback
//! that a client calls is an ack or a reject.

use std::fmt;

use axum::extract::ws::Utf8Bytes;
use secrecy::SecretString;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::packet::{Packet, no_such_namespace};
use crate::domain::{ChatId, ChatSeq, MessageId, limits};
use crate::protocol::client::{AckRequest, ClientEvent, Frame, FrameError, FrameId, ReadRequest, ReadUpTo, RejectRequest};
use crate::protocol::fields::{Fields, check_depth, data_fields};
use crate::protocol::{Code, Fault};

/// A command of a client that is not let in yet.
#[derive(Debug)]
pub enum First {
    /// Enters the namespace, with its `auth`.
    Connect(Box<Auth>),
    /// Wants to enter another namespace: it gets this answer and may go on.
    Elsewhere(Utf8Bytes),
    /// Brings its token, in an event that may want an answer.
    Authenticate(Option<FrameId>, SecretString),
    /// A sign of life.
    Alive,
    /// The client leaves.
    Leave,
}

impl First {
    /// Reads a packet of a client that is not let in yet.
    ///
    /// # Errors
    /// It is something else, or cannot be read. That ends the connection.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        let refused = |fault| FrameError { id: None, fault };
        match check_size(text).and_then(|()| Packet::parse(text)).map_err(refused)? {
            Packet::Connect(auth) => Auth::parse(auth).map(Box::new).map(Self::Connect).map_err(refused),
            Packet::Elsewhere(Some(name)) => Ok(Self::Elsewhere(no_such_namespace(name))),
            Packet::Elsewhere(None) | Packet::Alive => Ok(Self::Alive),
            Packet::Leave => Ok(Self::Leave),
            Packet::Callback(..) => Err(refused(Fault::new(Code::BadFrame, "the first event must be authenticate"))),
            Packet::Event(number, args) => match command(number, args)? {
                Said::Frame(Frame { id, event: ClientEvent::Authenticate { token } }) => Ok(Self::Authenticate(id, token)),
                Said::Frame(_) | Said::Reconnected(_) => Err(FrameError {
                    id: number.map(FrameId::number),
                    fault: Fault::new(Code::BadFrame, "the first event must be authenticate"),
                }),
            },
        }
    }
}

/// The `auth` of a client: its token and the options of the query of `/ws`, unchecked. Other fields are ignored.
#[derive(Debug, Default)]
pub struct Auth {
    /// The JWT.
    pub token: Option<SecretString>,
    /// The device.
    pub device: Option<String>,
    /// Envelopes emitted and not yet acked, at most.
    pub window: Option<String>,
    /// The epoch that `since` is of.
    pub epoch: Option<String>,
    /// "I have everything up to these numbers."
    pub since: Option<String>,
    /// The receipts that the client knows.
    pub marks: Option<String>,
}

impl Auth {
    fn parse(text: &str) -> Result<Self, Fault> {
        if matches!(text.trim_ascii(), "" | "null") {
            return Ok(Self::default());
        }
        check_depth(text)?;
        let fields = Fields::of(text, ["token", "device", "window", "epoch", "since", "marks"])
            .map_err(|fault| Fault::new(Code::BadFrame, format!("`auth` {}", fault.message)))?;
        let word = |name| -> Result<Option<String>, Fault> {
            let Some(value) = fields.raw(name) else { return Ok(None) };
            // A number is as good as its digits: the query of `/ws` has only text.
            if value.get().starts_with(|first: char| first.is_ascii_digit()) {
                return Ok(Some(value.get().to_owned()));
            }
            fields.optional(name)
        };
        Ok(Self {
            token: word("token")?.filter(|token| !token.is_empty()).map(SecretString::from),
            device: word("device")?,
            window: word("window")?,
            epoch: word("epoch")?,
            since: word("since")?,
            marks: word("marks")?,
        })
    }
}

/// An event of a client.
#[derive(Debug)]
pub(super) enum Said {
    /// A command.
    Frame(Frame),
    /// `user:reconnected`, and the number of its callback. What waits comes anyway.
    Reconnected(Option<u64>),
}

/// Reads an event: the number of its callback, and an array of its name and its arguments.
///
/// # Errors
/// There is no such event, or its data is not valid. The error carries the callback's number as the frame's id.
pub(super) fn command(number: Option<u64>, args: &str) -> Result<Said, FrameError> {
    let refused = |fault| FrameError { id: number.map(FrameId::number), fault };
    check_depth(args).map_err(refused)?;
    let (name, data) = named(args).map_err(refused)?;
    let event = match name.as_str() {
        "user:reconnected" => return Ok(Said::Reconnected(number)),
        "authenticate" if data.starts_with('"') => token(data),
        "message:read" => read(data).map(ClientEvent::Read),
        name => ClientEvent::parse(name, data),
    };
    let event = event.map_err(refused)?;
    Ok(Said::Frame(Frame { id: number.map(FrameId::number), event }))
}

/// The command that a callback stands for: its arguments, and the message that it was emitted with.
pub(super) fn called(message: MessageId, args: &str) -> Frame {
    let event = match rejection(message, args) {
        Some(request) => ClientEvent::Reject(request),
        None => ClientEvent::Delivered(AckRequest::Messages(vec![message])),
    };
    Frame { id: None, event }
}

/// Checks the length of a packet: that of a frame of `/ws`.
///
/// # Errors
/// `too_large`.
pub(super) fn check_size(text: &str) -> Result<(), Fault> {
    if text.len() <= limits::FRAME_BYTES_MAX {
        return Ok(());
    }
    Err(Fault::new(Code::TooLarge, format!("a packet must be at most {} bytes", limits::FRAME_BYTES_MAX)))
}

/// `authenticate` with the token alone.
fn token(data: &str) -> Result<ClientEvent, Fault> {
    let token: String = serde_json::from_str(data).map_err(|_| Fault::invalid("the token must be a string"))?;
    Ok(ClientEvent::Authenticate { token: token.into() })
}

/// `message:read`; with the chat alone everything in it is read.
fn read(data: &str) -> Result<ReadRequest, Fault> {
    let fields = data_fields(data, ["chatId", "messageId", "seq"])?;
    if fields.raw("messageId").is_some() || fields.raw("seq").is_some() {
        return ReadRequest::parse(data);
    }
    Ok(ReadRequest { chat: fields.required::<ChatId>("chatId")?, target: ReadUpTo::Seq(ChatSeq(i64::MAX)) })
}

/// The rejection in the first argument of a callback: an object with an `error` that is neither null nor false.
fn rejection(message: MessageId, args: &str) -> Option<RejectRequest> {
    check_depth(args).ok()?;
    let [first, _] = first_two(args)?;
    let fields = Fields::of(first?.get(), ["error", "final"]).ok()?;
    let error = fields.raw("error").filter(|error| error.get() != "false")?;
    let words = match Fields::of(error.get(), ["message"]) {
        Ok(of_error) => of_error.optional::<String>("message").ok().flatten(),
        Err(_) => serde_json::from_str::<String>(error.get()).ok(),
    };
    let reason: String = words.unwrap_or_default().chars().take(limits::REASON_CHARS_MAX).collect();
    let reason = if reason.trim().is_empty() { "rejected by the client".to_owned() } else { reason };
    Some(RejectRequest { message, reason, is_final: fields.optional("final").ok().flatten().unwrap_or(false) })
}

/// The first two values of an array. Further ones are read over. None: it is no array.
fn first_two(text: &str) -> Option<[Option<&RawValue>; 2]> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let two = deserializer.deserialize_seq(FirstTwo).ok()?;
    deserializer.end().ok().map(|()| two)
}

struct FirstTwo;

impl<'de> Visitor<'de> for FirstTwo {
    type Value = [Option<&'de RawValue>; 2];
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let two = [seq.next_element()?, seq.next_element()?];
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(two)
    }
}

/// The name of an event, and its data as a JSON object where there is none.
fn named(args: &str) -> Result<(String, &str), Fault> {
    let no_event = || Fault::new(Code::BadFrame, "an event is an array of its name and its data");
    let [name, data] = first_two(args).ok_or_else(no_event)?;
    let name = serde_json::from_str(name.ok_or_else(no_event)?.get()).map_err(|_| no_event())?;
    Ok((name, data.map(RawValue::get).filter(|data| *data != "null").unwrap_or("{}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(args: &str) -> Result<ClientEvent, Code> {
        match command(Some(4), args) {
            Ok(Said::Frame(Frame { id, event })) => {
                assert_eq!(id.unwrap().as_json(), "4");
                Ok(event)
            }
            Ok(Said::Reconnected(_)) => panic!("{args}"),
            Err(FrameError { id, fault }) => {
                assert_eq!(id.unwrap().as_json(), "4");
                Err(fault.code)
            }
        }
    }

    #[test]
    fn events_are_the_commands_of_ws() {
        assert!(matches!(said(r#"["message:send",{"to":"ben","content":"é"}]"#), Ok(ClientEvent::Send(_))));
        assert!(matches!(said(r#"["ping"]"#), Ok(ClientEvent::Ping)));
        assert!(matches!(said(r#"["ping",null,1,[2],{"a":3}]"#), Ok(ClientEvent::Ping)));
        assert!(matches!(said(r#"["authenticate","a.b.c"]"#), Ok(ClientEvent::Authenticate { .. })));
        assert!(matches!(said(r#"["authenticate",{"token":"a.b.c"}]"#), Ok(ClientEvent::Authenticate { .. })));
        let chat = "0192f0c0-0000-7000-8000-000000000000";
        let Ok(ClientEvent::Read(all)) = said(&format!(r#"["message:read",{{"chatId":"{chat}"}}]"#)) else { panic!() };
        assert_eq!(all.target, ReadUpTo::Seq(ChatSeq(i64::MAX)));
        let Ok(ClientEvent::Read(one)) = said(&format!(r#"["message:read",{{"chatId":"{chat}","messageId":"{chat}"}}]"#)) else { panic!() };
        assert!(matches!(one.target, ReadUpTo::Message(_)));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for args in ["", "{}", "[]", "[1]", "[\"ping\"", "[\"ping\"]x", "\"ping\"", "é"] {
            assert_eq!(said(args).unwrap_err(), Code::BadFrame, "{args}");
        }
        assert_eq!(said(r#"["no:such"]"#).unwrap_err(), Code::UnknownEvent);
        assert_eq!(said(&format!("[\"ping\",{}{}]", "[".repeat(500), "]".repeat(500))).unwrap_err(), Code::Invalid);
    }

    #[test]
    fn a_callback_with_an_error_is_a_reject_and_any_other_an_ack() {
        let message = MessageId::generate();
        for args in ["[]", "[null]", r#"[{"received":true}]"#, r#"[{"error":null}]"#, r#"[{"error":false}]"#, r#"["error"]"#, "[", ""] {
            let Frame { event: ClientEvent::Delivered(acked), .. } = called(message, args) else { panic!("{args}") };
            assert_eq!(acked, AckRequest::Messages(vec![message]));
        }
        let rejected = |args| match called(message, args).event {
            ClientEvent::Reject(RejectRequest { reason, is_final, .. }) => (reason, is_final),
            event => panic!("{event:?}"),
        };
        assert_eq!(rejected(r#"[{"error":"no room"}]"#), ("no room".to_owned(), false));
        assert_eq!(rejected(r#"[{"error":{"message":"no room"},"final":true}]"#), ("no room".to_owned(), true));
        assert_eq!(rejected(r#"[{"error":{}}]"#), ("rejected by the client".to_owned(), false));
        assert_eq!(rejected(r#"[{"error":true}]"#).0, "rejected by the client");
    }

    #[test]
    fn auth_has_a_token_and_the_options_of_the_query() {
        let auth = |text| Auth::parse(text);
        assert!(auth("").unwrap().token.is_none() && auth("null").unwrap().token.is_none() && auth("{}").unwrap().token.is_none());
        let options = auth(r#"{"token":"a.b.c","device":"phone","window":10,"since":"12,event:40","other":[1]}"#).unwrap();
        assert!(options.token.is_some());
        assert_eq!(
            (options.device.as_deref(), options.window.as_deref(), options.since.as_deref()),
            (Some("phone"), Some("10"), Some("12,event:40"))
        );
        assert_eq!(auth("[]").unwrap_err().code, Code::BadFrame);
        assert_eq!(auth(r#"{"token":true}"#).unwrap_err().code, Code::Invalid);
    }
}
