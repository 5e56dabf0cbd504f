//! The dialect of a door: how events and commands look on its wire. The session behind it is the same for every dialect.

use axum::extract::ws::{Message, Utf8Bytes};

use super::Fault;
use super::client::{self, Frame, FrameError, FrameId};
use super::codec::{Codec, JsonFrames};
use super::event::ServerEvent;

/// Writes events for one connection, and reads what its client says.
pub trait Dialect: Send + 'static {
    /// Writes an event as texts, in order. `reply_to` is the id of the client's frame that it answers.
    fn encode(&mut self, reply_to: Option<&FrameId>, event: &ServerEvent, put: &mut dyn FnMut(Utf8Bytes));

    /// Reads one text of the client.
    fn decode(&mut self, text: &str) -> Decoded;

    /// The frame that asks for a sign of life.
    fn ping(&self) -> Message;

    /// Returns whether the client answers that. Where it does not, only its transport tells that it is gone.
    fn is_ping_answered(&self) -> bool {
        true
    }

    /// The last text before the connection is closed for this fault, where the close frame alone does not say enough.
    fn farewell(&mut self, fault: &Fault) -> Option<Utf8Bytes>;
}

/// A text of a client, read.
#[derive(Debug)]
pub enum Decoded {
    /// A command.
    Command(Frame),
    /// A command that the session answers nothing to, and the answer that the client waits for.
    Answered(Frame, Utf8Bytes),
    /// Something that cannot be acted on.
    Refused(FrameError),
    /// Something that is answered without the session.
    Answer(Utf8Bytes),
    /// Nothing to act on, such as a sign of life.
    Nothing,
    /// The client leaves.
    Left,
}

impl Dialect for JsonFrames {
    fn encode(&mut self, reply_to: Option<&FrameId>, event: &ServerEvent, put: &mut dyn FnMut(Utf8Bytes)) {
        Codec::encode(self, reply_to, event, put);
    }

    fn decode(&mut self, text: &str) -> Decoded {
        client::parse(text).map_or_else(Decoded::Refused, Decoded::Command)
    }

    fn ping(&self) -> Message {
        Message::Ping(bytes::Bytes::new())
    }

    fn farewell(&mut self, _fault: &Fault) -> Option<Utf8Bytes> {
        None
    }
}
