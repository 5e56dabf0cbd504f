//! The grammar of packets: a digit of Engine.IO, and in a message a packet of Socket.IO: a digit, perhaps a namespace and the number of a
//! callback, then JSON. Only the outside is read here; the JSON is left as it is.
//!
//! Sources: <https://socket.io/docs/v4/engine-io-protocol> (version 4), <https://socket.io/docs/v4/socket-io-protocol> (version 5).

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;

use crate::protocol::{Code, Fault};

/// Engine.IO: the session is over.
pub const CLOSE: &str = "1";
/// Engine.IO: nothing; ends a poll.
pub const NOOP: &str = "6";
/// Engine.IO: a WebSocket that is to take over from polling says this first.
pub const PROBE: &str = "2probe";
/// The answer to [`PROBE`].
pub const PROBE_ANSWER: &str = "3probe";
/// Engine.IO: the WebSocket takes over.
pub const UPGRADE: &str = "5";
/// Stands between the packets of a polling body. JSON has it escaped, so it is in no packet.
pub const SEPARATOR: char = '\x1e';

/// Digits of a callback's number. Clients count from 0.
const CALLBACK_DIGITS_MAX: usize = 18;

/// The first packet of a session.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenPacket<'a> {
    /// The session of Engine.IO.
    pub sid: &'a str,
    /// The transports that may take over.
    pub upgrades: &'a [&'static str],
    /// Milliseconds between two pings of the service.
    pub ping_interval: u64,
    /// Milliseconds beyond it after which the client takes the service for gone.
    pub ping_timeout: u64,
    /// Bytes of a polling body.
    pub max_payload: usize,
}

impl OpenPacket<'_> {
    /// The packet as text.
    pub fn text(&self) -> Utf8Bytes {
        format!("0{}", json(self)).into()
    }
}

/// A packet of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// The client leaves the session, or the namespace, which is the only one.
    Leave,
    /// A sign of life.
    Alive,
    /// Enters the namespace, with the JSON of its `auth`.
    Connect(&'a str),
    /// Something to a namespace that there is not. Where it wants to enter it, with its name.
    Elsewhere(Option<&'a str>),
    /// An event: the number of its callback, and an array of its name and its arguments.
    Event(Option<u64>, &'a str),
    /// A callback was called: its number, and the array of its arguments.
    Callback(u64, &'a str),
}

impl<'a> Packet<'a> {
    /// Reads the outside of a packet.
    ///
    /// # Errors
    /// `bad_frame`: it is none that a client may send.
    pub(super) fn parse(text: &'a str) -> Result<Self, Fault> {
        match text.as_bytes().first() {
            Some(b'4') => Self::message(&text[1..]),
            Some(b'1') => Ok(Self::Leave),
            Some(b'3' | b'6') => Ok(Self::Alive),
            Some(b'b') => Err(binary()),
            Some(_) | None => Err(Fault::new(Code::BadFrame, "this is no packet of Engine.IO that a client may send now")),
        }
    }

    fn message(text: &'a str) -> Result<Self, Fault> {
        let bad = || Fault::new(Code::BadFrame, "this is no packet of Socket.IO");
        let kind = *text.as_bytes().first().ok_or_else(bad)?;
        if matches!(kind, b'5' | b'6') {
            return Err(binary());
        }
        if !kind.is_ascii_digit() {
            return Err(bad());
        }
        let rest = &text[1..];
        if rest.starts_with('/') {
            let name = rest.split_once(',').map_or(rest, |(name, _)| name);
            return Ok(Self::Elsewhere((kind == b'0').then_some(name)));
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number = match &rest[..digits] {
            "" => None,
            text if digits <= CALLBACK_DIGITS_MAX => Some(text.parse::<u64>().map_err(|_| bad())?),
            _ => return Err(bad()),
        };
        match (kind, number, &rest[digits..]) {
            (b'0', None, auth) => Ok(Self::Connect(auth)),
            (b'1', None, _) => Ok(Self::Leave),
            (b'2', number, args) => Ok(Self::Event(number, args)),
            (b'3', Some(number), args) => Ok(Self::Callback(number, args)),
            _ => Err(bad()),
        }
    }
}

fn binary() -> Fault {
    Fault::new(Code::BadFrame, "packets are text; this one was binary, or has attachments")
}

/// The answer that lets a client into the namespace.
pub(super) fn connected(sid: &str) -> Utf8Bytes {
    format!("40{{\"sid\":{}}}", json(sid)).into()
}

/// The answer that does not, and after which clients do not come back by themselves.
pub(super) fn connect_error(fault: &Fault) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Refusal<'a> {
        message: &'a str,
        data: &'a Fault,
    }
    format!("44{}", json(&Refusal { message: &fault.message, data: fault })).into()
}

/// The answer to a client that wants to enter a namespace that there is not. The name is the client's own and holds no comma.
pub(super) fn no_such_namespace(name: &str) -> Utf8Bytes {
    format!("44{name},{{\"message\":\"Invalid namespace\"}}").into()
}

/// The packet after which clients do not come back by themselves.
pub(super) fn disconnect() -> Utf8Bytes {
    "41".into()
}

/// The call of a client's callback with this JSON.
pub(super) fn callback(number: &str, data: &str) -> Utf8Bytes {
    format!("43{number}[{data}]").into()
}

/// An event with its data as JSON, and with the number of a callback where one is wanted.
pub(super) fn event(number: Option<u64>, name: &str, data: &str) -> Utf8Bytes {
    let mut out = String::with_capacity(name.len() + data.len() + 32);
    begin_event(&mut out, number, name);
    out.push_str(data);
    out.push(']');
    out.into()
}

/// Everything of an event up to its data, which a `]` has to follow.
pub(super) fn begin_event(out: &mut String, number: Option<u64>, name: &str) {
    out.push_str("42");
    if let Some(number) = number {
        out.push_str(&number.to_string());
    }
    out.push('[');
    out.push_str(&json(name));
    out.push(',');
}

/// JSON of something that can always be written.
pub(super) fn json<T: Serialize + ?Sized>(data: &T) -> String {
    serde_json::to_string(data).expect("strings, numbers and lists of them only: serialising cannot fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_up_to_their_json() {
        let read = |text| Packet::parse(text).unwrap();
        assert_eq!(read("40"), Packet::Connect(""));
        assert_eq!(read("40{\"token\":\"é\"}"), Packet::Connect("{\"token\":\"é\"}"));
        assert_eq!(read("42[\"ping\"]"), Packet::Event(None, "[\"ping\"]"));
        assert_eq!(read("4217[\"ping\",{}]"), Packet::Event(Some(17), "[\"ping\",{}]"));
        assert_eq!(read("430[]"), Packet::Callback(0, "[]"));
        assert_eq!((read("41"), read("1"), read("3"), read("3x")), (Packet::Leave, Packet::Leave, Packet::Alive, Packet::Alive));
        assert_eq!(read("40/admin,"), Packet::Elsewhere(Some("/admin")));
        assert_eq!(read("40/admin"), Packet::Elsewhere(Some("/admin")));
        assert_eq!(read("42/admin,[\"x\"]"), Packet::Elsewhere(None));
    }

    #[test]
    fn what_is_no_packet_is_refused_and_never_panics() {
        let hostile =
            ["", "é", "4", "4é", "4/", "45-[]", "461-[]", "4511-[\"a\",{\"_placeholder\":true,\"num\":0}]", "bAAAA", "0", "5", "2", "7"];
        for text in hostile {
            assert!(Packet::parse(text).is_err(), "{text}");
        }
        let long = format!("42{}[]", "9".repeat(40));
        assert!(Packet::parse(&long).is_err() && Packet::parse("43[]").is_err() && Packet::parse("44{}").is_err());
    }

    #[test]
    fn nothing_that_is_written_holds_the_separator() {
        let fault = Fault::new(Code::Invalid, "\x1e");
        assert!(!connect_error(&fault).contains(SEPARATOR) && !event(None, "\x1e", "1").contains(SEPARATOR));
    }
}
