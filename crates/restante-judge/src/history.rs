//! The history of a client: a record of each action and each frame that it received. The types are plain values that are written as JSON
//! lines and read back. They share nothing with the service's own types.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One thing that a client did or received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Milliseconds since the run began. All clients have one clock.
    pub at_ms: u64,
    /// The client's connection, counted from 1.
    pub connection: u32,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// An inbox of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Messages.
    Chat,
    /// Urgent events.
    Alert,
    /// All other events, those of feeds.
    Event,
}

/// The status of a message for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits.
    Sent,
    /// The recipient acked it.
    Delivered,
    /// The recipient read it.
    Read,
    /// The service gave it up, or the recipient rejected it for good.
    Failed,
    /// Its time is over, or its recipient left the chat.
    Expired,
}

/// A client's action, or a frame that it received. The fields have the names and units of the protocol; `ask` is the number of a
/// frame that wants an answer, unique within the client, and `node` is the node's place in the run, counted from 0.
#[expect(missing_docs, reason = "the fields are those of the protocol")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// The client tries to connect.
    Connecting { node: usize, device: Option<String>, since: Option<i64> },
    /// The service has greeted the connection.
    Ready { epoch: String, resumed: bool, last_seq: i64, settled_seq: i64 },
    /// The connection ended, or never began.
    Closed { code: Option<u16>, why: String },
    /// A message was put on the wire, for the first time or again.
    SendAttempted { message: Uuid, chat: Option<Uuid>, to: Option<String>, content: Arc<str> },
    /// The service has stored the message.
    SendConfirmed { message: Uuid, chat: Uuid, seq: i64, created_at: String, duplicate: bool },
    /// The service refused the message, for now or for good.
    SendRefused { message: Uuid, code: String, is_final: bool },
    /// An envelope came.
    Received { message: Uuid, chat: Uuid, seq: i64, class: Class, inbox_seq: i64, sender: Arc<str>, content: Arc<str>, attempt: u16 },
    /// The service named inbox numbers that will never come.
    Gap { class: Class, from: i64, to: i64, reason: String },
    /// The client acked messages by their ids.
    AckedIds { messages: Vec<Uuid>, ask: Option<u64> },
    /// The client acked everything up to an inbox number of this connection.
    AckedUpTo { class: Class, up_to: i64, ask: Option<u64> },
    /// `message:delivered:ok`: every ack of the connection up to that one is committed.
    AckConfirmed { ask: u64 },
    /// The client rejected a message.
    Rejected { message: Uuid, is_final: bool, ask: u64 },
    /// The client read the chat up to this number.
    ReadUpTo { chat: Uuid, seq: i64, ask: u64 },
    /// The reading is committed.
    ReadConfirmed { ask: u64 },
    /// A receipt came.
    Told(Receipt),
    /// The service has announced that what waited at connect is settled.
    Drained { class: Class },
    /// The client says how far it has an inbox of alerts or of events. It follows `Connecting`.
    Resuming { class: Class, since: i64 },
    /// The numbers of an inbox of alerts or of events in the service's greeting.
    ReadyOf { class: Class, last_seq: i64, settled_seq: i64 },
    /// An event was put on the wire, for the first time or again.
    PublishAttempted(Publication),
    /// The service has stored the event.
    PublishConfirmed { event: Uuid, created_at: String, duplicate: bool },
    /// The service refused the event, for now or for good.
    PublishRefused { event: Uuid, code: String, is_final: bool },
    /// An alert or an event came. `merged`: the number of events whose data it has.
    EventReceived {
        event: Uuid,
        class: Class,
        inbox_seq: i64,
        feed: Option<Uuid>,
        feed_seq: Option<i64>,
        data: Arc<str>,
        merged: Option<u32>,
        attempt: u16,
    },
    /// The service named events of a feed that will never come. They have one inbox number together.
    FeedGap { class: Class, seq: i64, feed: Uuid, from_feed_seq: i64, to_feed_seq: i64, count: i64, reason: String },
    /// The client asks over HTTP to follow a feed, or to follow it no more.
    FollowAsked { ask: u64, feed: Uuid, change: Change },
    /// The answer to that. What is not done may be done later all the same.
    FollowAnswered { ask: u64, is_done: bool, answer: String },
    /// The client asks to recall a message of its own, over the socket or over HTTP.
    RecallAsked { ask: u64, message: Uuid },
    /// The answer to that, with the time of the recall. What is not done may be done later all the same.
    RecallAnswered { ask: u64, recalled_at: Option<String>, answer: String },
    /// The notice of a recall came, through the inbox.
    NoticeReceived { notice: Uuid, message: Uuid, chat: Uuid, seq: i64, class: Class, inbox_seq: i64, attempt: u16 },
    /// The service told a recall to another connection of its sender.
    RecallTold { message: Uuid },
    /// The client asks over HTTP to mute these types of events, and no others.
    MuteAsked { ask: u64, types: Vec<String> },
    /// The answer to that. What is not done may be done later all the same.
    MuteAnswered { ask: u64, is_done: bool, answer: String },
    /// The client, or an application in SQL, asks that this user blocks another one, or blocks it no more.
    BlockAsked { ask: u64, user: String, other: String, blocks: bool },
    /// The answer to that. What is not done may be done later all the same.
    BlockAnswered { ask: u64, is_done: bool, answer: String },
    /// The client, or an application in SQL, asks that this user wants another one as a contact, or is none of it any more.
    ContactAsked { ask: u64, user: String, other: String, wants: bool },
    /// The answer to that. What is not done may be done later all the same.
    ContactAnswered { ask: u64, is_done: bool, answer: String },
    /// The service gave a reason for the end of a message of the client's.
    ToldWhy { chat: Uuid, reason: String },
    /// The token that the client presents: its `jti`, and the earliest time at which it may have been issued, its `iat` less the leeway of the
    /// service, in seconds since 1970. It follows `Connecting`.
    Presenting { token: String, issued_at: i64 },
    /// The service refused the token of the connection, at the connect or later.
    TokenRefused,
    /// An operator asks to revoke tokens.
    RevokeAsked { ask: u64, revoked: Revoked },
    /// The answer to that, with the time of the revocation in milliseconds since 1970. What is not done may be done later all the same.
    RevokeAnswered { ask: u64, revoked_at_ms: Option<i64>, answer: String },
    /// A message or an event came without its content, because the service cannot decrypt it.
    Unreadable { id: Uuid, class: Class },
    /// The client asked over HTTP to change who is in a group; `answer` says what came of it.
    Membership { chat: Uuid, user: String, change: Change, answer: String },
    /// The service said something that it must not say to a client that keeps the protocol.
    Objection { words: String },
}

/// A change of who is in a group, or follows a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Its admin added the user, or the user follows the feed.
    Join,
    /// The user left.
    Leave,
}

/// The tokens that a revocation is about. Those of a user or of a device were issued before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Revoked {
    /// All of a user.
    User(String),
    /// Those of a user, in the hands of one device.
    Device(String, String),
    /// The one with this id.
    Token(String),
}

/// An event as its publisher put it on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publication {
    /// Its id.
    pub event: Uuid,
    /// Its type.
    pub event_type: String,
    /// The inboxes that it goes to.
    pub class: Class,
    /// The users that are to get it.
    pub to: Audience,
    /// Users that are not to get it.
    pub except: Vec<String>,
    /// Milliseconds for which it lives; `None`: as long as the service likes.
    pub ttl_ms: Option<i64>,
    /// Its collapse key.
    pub collapse_key: Option<String>,
    /// Its data is merged with that of the events whose place it takes.
    pub merges: bool,
    /// Its data as JSON text.
    pub data: Arc<str>,
}

/// The users that an event is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Audience {
    /// The followers of a feed. That of everyone has an id of its own.
    Feed(Uuid),
    /// These users.
    Users(Vec<String>),
}

/// `message:status`, for named messages or up to a mark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The chat.
    pub chat: Uuid,
    /// The recipient.
    pub user: String,
    /// The status that the receipt tells.
    pub status: Status,
    /// The named messages; empty when `up_to` is set.
    pub messages: Vec<Uuid>,
    /// Everything of the chat up to this number.
    pub up_to: Option<i64>,
    /// Messages that `up_to` does not cover, each with its own status.
    pub except: Vec<(Uuid, Status)>,
}

/// One client's records, in the order in which they happened.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct History {
    /// The client's name.
    pub client: String,
    /// Its user.
    pub user: String,
    /// The records.
    pub records: Vec<Record>,
}

/// Writes a history as it happens: into memory, and line by line into a file where one is wanted.
#[derive(Debug)]
pub struct Recorder {
    history: History,
    began: Instant,
    file: Option<BufWriter<File>>,
}

impl Recorder {
    /// An empty history. `began` is the instant that counts as 0; it is the same for all clients.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn new(client: &str, user: &str, began: Instant, folder: Option<&Path>) -> std::io::Result<Self> {
        let file = folder.map(|folder| File::create(folder.join(format!("{client}.jsonl")))).transpose()?.map(BufWriter::new);
        Ok(Self { file, ..Self::in_memory(client, user, began) })
    }

    /// The same without a file.
    pub fn in_memory(client: &str, user: &str, began: Instant) -> Self {
        let history = History { client: client.to_owned(), user: user.to_owned(), records: Vec::new() };
        Self { history, began, file: None }
    }

    /// Adds a record of this moment.
    pub fn note(&mut self, connection: u32, event: Event) {
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let record = Record { at_ms, connection, event };
        if let Some(file) = &mut self.file {
            // People read the file. The judge reads the memory, so a write that fails does not change its findings.
            let _ = serde_json::to_writer(&mut *file, &record).map(|()| file.write_all(b"\n"));
        }
        self.history.records.push(record);
    }

    /// The number of records so far.
    pub const fn records(&self) -> usize {
        self.history.records.len()
    }

    /// Takes the records out. The history goes on without them.
    pub fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.history.records)
    }

    /// The client's name.
    pub fn client(&self) -> &str {
        &self.history.client
    }

    /// Ends the history and returns it.
    pub fn finish(mut self) -> History {
        if let Some(file) = &mut self.file {
            let _ = file.flush();
        }
        self.history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_written_as_lines_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new("anna-1", "anna", Instant::now(), Some(folder.path())).unwrap();
        let receipt = Receipt {
            chat: Uuid::nil(),
            user: "ben".into(),
            status: Status::Read,
            messages: vec![],
            up_to: Some(4),
            except: vec![(Uuid::nil(), Status::Failed)],
        };
        recorder.note(1, Event::Connecting { node: 0, device: Some("phone".into()), since: None });
        recorder.note(1, Event::Told(receipt));
        recorder.note(1, Event::AckedUpTo { class: Class::Chat, up_to: 7, ask: Some(3) });
        let history = recorder.finish();
        let lines = std::fs::read_to_string(folder.path().join("anna-1.jsonl")).unwrap();
        let read: Vec<Record> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, history.records);
        assert!(lines.contains(r#""what":"ackedUpTo","class":"chat","upTo":7"#), "{lines}");
    }
}
