//! What a client saw and did, record by record: the evidence that the checker decides over. Plain values that are
//! written as JSON lines and read back; nothing here knows the service, whose own types would share its mistakes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One thing that a client did or saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Since the run began. One clock for all clients.
    pub at_ms: u64,
    /// Which of the client's connections, counted from 1.
    pub connection: u32,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// Which inbox.
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

/// What became of a message for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits.
    Sent,
    /// Acked.
    Delivered,
    /// Read.
    Read,
    /// Given up.
    Failed,
    /// Over.
    Expired,
}

/// What a client did or saw. `ask` is the number of a frame that wants an answer, unique within the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum What {
    /// A connection is tried.
    Connecting { node: usize, device: Option<String>, since: Option<i64> },
    /// It is greeted.
    Ready { epoch: String, resumed: bool, last_seq: i64, settled_seq: i64 },
    /// It ended, or never began.
    Closed { code: Option<u16>, why: String },
    /// A message was put on the wire, for the first time or again.
    SendAttempted { message: Uuid, chat: Option<Uuid>, to: Option<String>, content: String },
    /// It is stored.
    SendConfirmed { message: Uuid, chat: Uuid, seq: i64, created_at: String, duplicate: bool },
    /// It is refused, for now or for good.
    SendRefused { message: Uuid, code: String, is_final: bool },
    /// An envelope came.
    Received { message: Uuid, chat: Uuid, seq: i64, class: Class, inbox_seq: i64, sender: String, content: String, attempt: u16 },
    /// Numbers that will never come.
    Gap { class: Class, from: i64, to: i64, reason: String },
    /// Acked by id.
    AckedIds { messages: Vec<Uuid>, ask: Option<u64> },
    /// Acked up to a number of this connection.
    AckedUpTo { class: Class, up_to: i64, ask: Option<u64> },
    /// `message:delivered:ok`: every ack of the connection up to that one is committed.
    AckConfirmed { ask: u64 },
    /// Rejected.
    Rejected { message: Uuid, is_final: bool, ask: u64 },
    /// Read up to there.
    ReadUpTo { chat: Uuid, seq: i64, ask: u64 },
    /// The reading is committed.
    ReadConfirmed { ask: u64 },
    /// A receipt.
    Told(Receipt),
    /// What waited at connect is settled.
    Drained { class: Class },
    /// A membership was changed over HTTP, or not.
    Membership { chat: Uuid, user: String, change: Change, answer: String },
    /// The service said something that it must not say to a client that keeps the protocol.
    Objection { words: String },
}

/// A change of who is in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Added by its admin.
    Join,
    /// Left by itself.
    Leave,
}

/// `message:status`, by name or up to a mark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The chat.
    pub chat: Uuid,
    /// The recipient.
    pub user: String,
    /// What became of it.
    pub status: Status,
    /// Named messages; none where `up_to` says it.
    pub messages: Vec<Uuid>,
    /// Everything of the chat up to here.
    pub up_to: Option<i64>,
    /// … except these.
    pub except: Vec<(Uuid, Status)>,
}

/// One client's records, in order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct History {
    /// The client.
    pub client: String,
    /// Its user.
    pub user: String,
    /// What it did and saw.
    pub records: Vec<Record>,
}

/// Writes a history as it happens: into memory, and line by line into a file where one is wanted.
#[derive(Debug)]
pub struct Scribe {
    history: History,
    began: Instant,
    file: Option<BufWriter<File>>,
}

impl Scribe {
    /// A history that is empty. `began`: the instant that counts as 0, the same for all clients.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn new(client: &str, user: &str, began: Instant, folder: Option<&Path>) -> std::io::Result<Self> {
        let file = folder.map(|folder| File::create(folder.join(format!("{client}.jsonl")))).transpose()?.map(BufWriter::new);
        let history = History { client: client.to_owned(), user: user.to_owned(), records: Vec::new() };
        Ok(Self { history, began, file })
    }

    /// Notes it.
    pub fn note(&mut self, connection: u32, what: What) {
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let record = Record { at_ms, connection, what };
        if let Some(file) = &mut self.file {
            // The file is a copy for people; the verdict is made from memory.
            let _ = serde_json::to_writer(&mut *file, &record).map(|()| file.write_all(b"\n"));
        }
        self.history.records.push(record);
    }

    /// All of it.
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
        let mut scribe = Scribe::new("anna-1", "anna", Instant::now(), Some(folder.path())).unwrap();
        let receipt = Receipt {
            chat: Uuid::nil(),
            user: "ben".into(),
            status: Status::Read,
            messages: vec![],
            up_to: Some(4),
            except: vec![(Uuid::nil(), Status::Failed)],
        };
        scribe.note(1, What::Connecting { node: 0, device: Some("phone".into()), since: None });
        scribe.note(1, What::Told(receipt));
        scribe.note(1, What::AckedUpTo { class: Class::Chat, up_to: 7, ask: Some(3) });
        let history = scribe.finish();
        let lines = std::fs::read_to_string(folder.path().join("anna-1.jsonl")).unwrap();
        let read: Vec<Record> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, history.records);
        assert!(lines.contains(r#""what":"ackedUpTo","class":"chat","upTo":7"#), "{lines}");
    }
}
