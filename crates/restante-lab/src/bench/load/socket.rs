//! A client that uses little CPU time, because the measured service runs on the same machine.
//!
//! Message ids are UUIDv7 whose last bits are a number, so that both sides know a message by its number.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde::Deserialize;
use uuid::{Builder, Uuid};

use restante_client::{Door, Options, Wire, WireError};

/// Bits of an id that hold the message's number.
const NUMBER_BITS: u32 = 40;

/// Makes message ids from numbers, and reads the numbers from ids.
#[derive(Debug, Clone, Copy)]
pub struct Numbering {
    /// Keeps the ids of two runs apart.
    run: u64,
}

impl Numbering {
    /// The numbering of a new run.
    pub fn new() -> Self {
        Self { run: (Uuid::new_v4().as_u128() as u64) << NUMBER_BITS }
    }

    /// The id of a message, made now. Ids grow with time, as those of real clients do.
    pub fn id(self, number: u64) -> Uuid {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut rest = [0; 10];
        rest[2..].copy_from_slice(&(self.run | number).to_be_bytes());
        Builder::from_unix_timestamp_millis(millis, &rest).into_uuid()
    }

    /// The number of a message.
    pub const fn number(id: Uuid) -> u64 {
        id.as_u128() as u64 & ((1 << NUMBER_BITS) - 1)
    }
}

/// The frames that the load needs.
#[derive(Debug)]
pub enum Incoming {
    /// The service has greeted.
    Ready,
    /// The service has stored a message, or an event.
    Sent,
    /// A message for this user.
    Received(Uuid),
    /// An event for this user.
    Event(Uuid),
    /// These messages are delivered.
    Delivered(Vec<u64>),
    /// A message to a large group is delivered to a number of its members.
    Counted {
        /// The message.
        number: u64,
        /// The number of members that it was delivered to.
        delivered: u64,
    },
    /// The inbox is drained.
    Drained,
    /// The answer to an online check.
    Online(bool),
    /// Any other frame.
    Other,
}

/// One client.
#[derive(Debug)]
pub struct Socket {
    wire: Wire,
    door: Door,
    /// Over Socket.IO: the callbacks of messages that are not acked.
    callbacks: VecDeque<(Uuid, u64)>,
    /// The events that came and are not acked; none: each is acked as it comes.
    unacked_events: Option<Vec<Uuid>>,
    /// Messages of a batch frame that are not handed out yet.
    batched: VecDeque<Uuid>,
    /// Those of it that are acked.
    acked: Vec<Uuid>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    event: &'a str,
    #[serde(borrow, default)]
    data: Data<'a>,
}

/// An event of Socket.IO: its name and what it brings.
#[derive(Deserialize)]
struct Event<'a>(#[serde(borrow)] &'a str, #[serde(borrow, default)] Data<'a>);

/// The part of an event's packet in front of its array.
const EVENT: &str = "42";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    message_id: Option<Uuid>,
    event_id: Option<Uuid>,
    message_ids: Option<Vec<Uuid>>,
    #[serde(borrow)]
    status: Option<&'a str>,
    #[serde(borrow)]
    code: Option<&'a str>,
    #[serde(borrow)]
    class: Option<&'a str>,
    delivered_count: Option<u64>,
    retry_after_ms: Option<u64>,
    users: Option<Vec<Presence>>,
    messages: Option<Vec<Batched>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batched {
    message_id: Uuid,
}

#[derive(Deserialize)]
struct Presence {
    online: bool,
}

/// The service's queue of handshakes is full.
#[derive(Debug, thiserror::Error)]
#[error("the service answered with the error busy, and wants the client after {0} ms")]
struct Later(u64);

impl Socket {
    /// Connects and waits for `ready`. When the service asks it to come later, it waits that long and tries again.
    pub async fn connect(options: &Options) -> anyhow::Result<Self> {
        loop {
            let later = match Wire::connect(options).await {
                Ok(wire) => match Self::new(wire, options.door).until_ready().await? {
                    Ok(socket) => return Ok(socket),
                    Err(Later(ms)) => Duration::from_millis(ms),
                },
                Err(WireError::Refused { retry_after: Some(later), .. }) => later,
                Err(error) => return Err(error.into()),
            };
            tokio::time::sleep(later).await;
        }
    }

    fn new(mut wire: Wire, door: Door) -> Self {
        if door == Door::SocketIo {
            // The request to be let in, to the only namespace.
            wire.queue("40");
        }
        Self { wire, door, callbacks: VecDeque::new(), unacked_events: Some(Vec::new()), batched: VecDeque::new(), acked: Vec::new() }
    }

    /// Queues an event with its data, which is JSON. Over Socket.IO it asks for no callback: what it would say comes as an event, too.
    fn say(&mut self, event: &str, data: std::fmt::Arguments<'_>) {
        let mut frame = String::with_capacity(240);
        // Writing to a String cannot fail.
        let _ = match self.door {
            Door::Frames => write!(frame, r#"{{"event":"{event}","id":"1","data":{data}}}"#),
            Door::SocketIo => write!(frame, r#"{EVENT}["{event}",{data}]"#),
        };
        self.wire.queue(frame);
    }

    async fn until_ready(mut self) -> anyhow::Result<Result<Self, Later>> {
        loop {
            match self.next().await {
                Ok(Incoming::Ready) => return Ok(Ok(self)),
                Ok(_) => {}
                Err(error) => return error.downcast::<Later>().map(Err),
            }
        }
    }

    /// The bytes of the texts that came, and those that came over the wire where they are counted ([`Options::compression`]).
    pub fn bytes(&self) -> (u64, Option<u64>) {
        (self.wire.text_bytes(), self.wire.bytes_received())
    }

    /// Queues a message. It leaves with the next [`Self::next`] or [`Self::flush`].
    pub fn send(&mut self, id: Uuid, chat: Uuid, content: &str) {
        // The content needs no escape in JSON.
        self.say("message:send", format_args!(r#"{{"messageId":"{id}","chatId":"{chat}","content":"{content}"}}"#));
    }

    /// The same to a user by name. The name must need no escape in JSON.
    pub fn send_to(&mut self, id: Uuid, user: &str, content: &str) {
        self.say("message:send", format_args!(r#"{{"messageId":"{id}","to":"{user}","content":"{content}"}}"#));
    }

    /// Asks whether this user is online, and waits for the answer.
    pub async fn is_online(&mut self, user: &str) -> anyhow::Result<bool> {
        self.say("presence:get", format_args!(r#"{{"userIds":["{user}"]}}"#));
        loop {
            if let Incoming::Online(online) = self.next().await? {
                return Ok(online);
            }
        }
    }

    /// Queues a frame of any kind.
    pub fn ask(&mut self, event: &str, data: &serde_json::Value) {
        self.say(event, format_args!("{data}"));
    }

    /// The next frame. True: it answers a question about presence, with the answer or with `busy`.
    ///
    /// # Errors
    /// When the connection ends, or the service sends another `error` frame.
    pub async fn answered(&mut self) -> anyhow::Result<bool> {
        match self.next().await {
            Ok(incoming) => Ok(matches!(incoming, Incoming::Online(_))),
            Err(error) => error.downcast::<Later>().map(|_| true),
        }
    }

    /// Queues an ack. Those of a batch frame leave together, with the last of them.
    pub fn ack(&mut self, message: Uuid) {
        if !self.batched.is_empty() || !self.acked.is_empty() {
            self.acked.push(message);
            return self.ack_batch();
        }
        if self.door == Door::SocketIo {
            return self.answer(message);
        }
        self.wire.queue(format!(r#"{{"event":"message:delivered","data":{{"messageId":"{message}"}}}}"#));
    }

    /// Calls the callback of a message, which acks it.
    fn answer(&mut self, message: Uuid) {
        if let Some(place) = self.callbacks.iter().position(|(id, _)| *id == message)
            && let Some((_, callback)) = self.callbacks.remove(place)
        {
            self.wire.queue(format!(r#"43{callback}[{{"received":true}}]"#));
        }
    }

    fn ack_batch(&mut self) {
        if self.batched.is_empty() {
            let acked = serde_json::json!(std::mem::take(&mut self.acked));
            self.wire.queue(format!(r#"{{"event":"message:delivered","data":{{"messageIds":{acked}}}}}"#));
        }
    }

    /// Acks the events that have come, and from now on each as it comes. Before this call none is.
    pub fn ack_events(&mut self) {
        for event in self.unacked_events.take().unwrap_or_default() {
            self.ack(event);
        }
    }

    /// Reads until so many events have come that are not acked. Returns at once where this client acks them.
    pub async fn read_events(&mut self, count: usize) -> anyhow::Result<()> {
        while self.unacked_events.as_ref().is_some_and(|unacked| unacked.len() < count) {
            self.next().await?;
        }
        Ok(())
    }

    fn event_came(&mut self, event: Uuid) {
        match &mut self.unacked_events {
            Some(unacked) => unacked.push(event),
            None => self.ack(event),
        }
    }

    /// Sends the queued frames.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.wire.flush().await?)
    }

    /// The next frame. Queued frames leave first when none has come. May be dropped and called again without losing anything.
    ///
    /// # Errors
    /// When the connection ends, or the service sends an `error` frame.
    pub async fn next(&mut self) -> anyhow::Result<Incoming> {
        if let Some(id) = self.batched.pop_front() {
            return Ok(Incoming::Received(id));
        }
        let text = self.wire.next().await?;
        if self.door == Door::SocketIo {
            return self.packet(&text);
        }
        let Frame { event, data } = serde_json::from_str(&text).with_context(|| format!("not a frame: {text}"))?;
        self.heard(event, data)
    }

    /// A packet: an event, with the number of its callback where it has one; a ping; or what begins or ends a connection.
    fn packet(&mut self, text: &str) -> anyhow::Result<Incoming> {
        let Some(rest) = text.strip_prefix(EVENT) else {
            match text.as_bytes() {
                b"2" => self.wire.queue("3"),
                [b'4', b'4', ..] => bail!("the service refused the client: {text}"),
                _ => {}
            }
            return Ok(Incoming::Other);
        };
        let (callback, event) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
        let Event(event, data) = serde_json::from_str(event).with_context(|| format!("not an event: {text}"))?;
        if let (Ok(callback), Some(id)) = (callback.parse(), data.message_id.or(data.event_id)) {
            self.callbacks.push_back((id, callback));
        }
        if let ("message:status", Some(id), Some("delivered")) = (event, data.message_id, data.status) {
            return Ok(Incoming::Delivered(vec![Numbering::number(id)]));
        }
        self.heard(event, data)
    }

    fn heard(&mut self, event: &str, data: Data<'_>) -> anyhow::Result<Incoming> {
        Ok(match (event, data) {
            ("message:receive", Data { message_id: Some(id), .. }) => Incoming::Received(id),
            ("message:batch", Data { messages: Some(messages), .. }) => {
                self.batched.extend(messages.into_iter().map(|message| message.message_id));
                self.batched.pop_front().map_or(Incoming::Other, Incoming::Received)
            }
            ("event:receive", Data { event_id: Some(id), .. }) => {
                self.event_came(id);
                Incoming::Event(id)
            }
            ("message:sent" | "event:published", _) => Incoming::Sent,
            ("message:status", Data { message_ids: Some(ids), status: Some("delivered"), .. }) => {
                Incoming::Delivered(ids.into_iter().map(Numbering::number).collect())
            }
            ("message:status", Data { message_id: Some(id), delivered_count: Some(delivered), .. }) => {
                Incoming::Counted { number: Numbering::number(id), delivered }
            }
            ("queue:drained", Data { class: Some("chat"), .. }) => Incoming::Drained,
            ("presence:state", Data { users: Some(users), .. }) => Incoming::Online(users.iter().any(|user| user.online)),
            ("ready", _) => Incoming::Ready,
            ("error", Data { code: Some("busy"), retry_after_ms: Some(ms), .. }) => return Err(Later(ms).into()),
            ("error", Data { code, .. }) => bail!("the service answered with the error {}", code.unwrap_or("?")),
            _ => Incoming::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_again_in_the_id() {
        let numbering = Numbering::new();
        let id = numbering.id(1_234_567);
        assert_eq!(Numbering::number(id), 1_234_567);
        assert_eq!(id.get_version_num(), 7);
        assert_ne!(Numbering::new().id(1), Numbering::new().id(1));
    }
}
