//! PostgreSQL as far as the protocol leans on it: rows, counters, row locks, and which statement sees what. A step is a
//! statement. It knows nothing of nodes, connections or hints.

use super::defect::Defect;
use super::taking::{Event, Take};

pub(crate) type Message = u8;
pub(crate) type Seq = u8;
pub(crate) type Node = u8;

/// A small set of small numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Set(u8);

impl Set {
    pub(crate) fn insert(&mut self, n: u8) {
        self.0 |= 1 << n;
    }

    pub(crate) fn remove(&mut self, n: u8) {
        self.0 &= !(1 << n);
    }

    pub(crate) fn contains(self, n: u8) -> bool {
        self.0 & (1 << n) != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (0..8).filter(move |n| self.contains(*n))
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Sent,
    Delivered,
    Failed,
}

/// The hint that follows a commit: the number of a row, or that the stream of an event has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Hint {
    Row(Seq),
    Event(Message),
}

impl Hint {
    /// Its place in a set: rows have small numbers.
    pub(crate) const fn place(self) -> u8 {
        match self {
            Self::Row(seq) => seq,
            Self::Event(message) => 4 + message,
        }
    }
}

/// A row of `message_status` and its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) message: Message,
    pub(crate) chat_seq: Seq,
    pub(crate) seq: Seq,
    pub(crate) status: Status,
    /// The number of times that it became `delivered`. Each time has a `delivered_at` and a receipt to the sender.
    pub(crate) deliveries: u8,
}

/// A transaction of `restante_accept`, on the connection of some node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Writer {
    Idle,
    /// The statement has begun and waits for its chat. `early`: what a defect has found out before it has the lock.
    Begun {
        message: Message,
        node: Node,
        early: Early,
    },
    /// Step 1 and 2: it has the chat, has looked what exists, and has numbered there.
    HasChat {
        message: Message,
        node: Node,
        chat_seq: Seq,
        seq: Option<Seq>,
    },
    /// Step 4: it has the inbox too, and has numbered there.
    HasInbox {
        message: Message,
        node: Node,
        chat_seq: Seq,
        seq: Seq,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Early {
    Nothing,
    IsNew(bool),
    Numbers { chat_seq: Seq, seq: Seq },
}

/// `restante_advance_settled`, under way at most once: it holds the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Advance {
    Idle,
    /// It has the inbox's lock, and has not looked yet.
    HasInbox,
    /// The defect: it looked (this was the first that waited), and waits for the lock.
    Looked {
        first_waiting: Option<Seq>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    /// `chats.last_seq`. Message `m` is of chat `m % 2`.
    pub(crate) chats: [Seq; 2],
    /// `inboxes.last_seq` of the one recipient.
    pub(crate) last_seq: Seq,
    pub(crate) settled_seq: Seq,
    /// In the order of their commits; a row that is requeued commits anew.
    pub(crate) rows: Vec<Row>,
    /// `inbox_gaps`.
    pub(crate) gaps: Set,
    /// `devices.session_no` and `acked_seq`.
    pub(crate) session_no: u8,
    pub(crate) acked_seq: Seq,
    pub(crate) writers: [Writer; 2],
    pub(crate) advance: Advance,
    /// The chats that are streams of feeds, a bit each; the recipient follows them. Their events, in the order of their commits.
    pub(crate) feeds: u8,
    pub(crate) events: Vec<Event>,
    /// `followers.cursor_seq`.
    pub(crate) cursors: [Seq; 2],
    /// Takes that are under way, by socket.
    pub(crate) takes: [Take; 2],
}

/// The result of a page statement, from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Page {
    pub(crate) rows: Vec<(Seq, Message)>,
    pub(crate) is_last: bool,
    /// `None` for as long as a defect has not read it.
    pub(crate) last_seq: Option<Seq>,
}

pub(crate) fn chat_of(message: Message) -> usize {
    usize::from(message % 2)
}

impl Database {
    pub(crate) fn new(feeds: u8) -> Self {
        Self {
            chats: [0; 2],
            last_seq: 0,
            settled_seq: 0,
            rows: Vec::new(),
            gaps: Set::default(),
            session_no: 0,
            acked_seq: 0,
            writers: [Writer::Idle; 2],
            advance: Advance::Idle,
            feeds,
            events: Vec::new(),
            cursors: [0; 2],
            takes: [Take::Idle; 2],
        }
    }

    /// Tells whether this message is an event of a feed.
    pub(crate) fn is_event(&self, message: Message) -> bool {
        self.feeds & (1 << chat_of(message)) != 0
    }

    fn chat_is_free(&self, chat: usize) -> bool {
        !self.writers.iter().any(|writer| match *writer {
            Writer::HasChat { message, .. } | Writer::HasInbox { message, .. } => chat_of(message) == chat,
            Writer::Idle | Writer::Begun { .. } => false,
        })
    }

    pub(super) fn inbox_is_free(&self) -> bool {
        self.advance != Advance::HasInbox
            && !self.is_taking()
            && !self.writers.iter().any(|writer| matches!(writer, Writer::HasInbox { .. }))
    }

    fn exists(&self, message: Message) -> bool {
        self.rows.iter().any(|row| row.message == message) || self.events.iter().any(|event| event.message == message)
    }

    /// A lane sends its statement.
    pub(crate) fn begin(&mut self, message: Message, node: Node, defect: Option<Defect>) -> bool {
        let early = match defect {
            Some(Defect::NumbersBeforeTheLock) => self.early_numbers(chat_of(message)),
            Some(Defect::LooksForTheIdBeforeTheLock) => Early::IsNew(!self.exists(message)),
            _ => Early::Nothing,
        };
        let Some(idle) = self.writers.iter_mut().find(|writer| **writer == Writer::Idle) else { return false };
        *idle = Writer::Begun { message, node, early };
        true
    }

    /// Numbers as a sequence gives them: no other send has them.
    fn early_numbers(&self, chat: usize) -> Early {
        let (mut in_chat, mut in_inbox) = (self.chats[chat], self.last_seq);
        for writer in self.writers {
            let (message, chat_seq, seq) = match writer {
                Writer::Begun { message, early: Early::Numbers { chat_seq, seq }, .. }
                | Writer::HasChat { message, chat_seq, seq: Some(seq), .. }
                | Writer::HasInbox { message, chat_seq, seq, .. } => (message, chat_seq, seq),
                Writer::Idle | Writer::Begun { .. } | Writer::HasChat { .. } => continue,
            };
            in_inbox = in_inbox.max(seq);
            in_chat = if chat_of(message) == chat { in_chat.max(chat_seq) } else { in_chat };
        }
        Early::Numbers { chat_seq: in_chat + 1, seq: in_inbox + 1 }
    }

    /// The next statement of a writer. True when it could go on; `accepted` is what was committed.
    pub(crate) fn write(&mut self, slot: usize, accepted: &mut Option<Hint>) -> bool {
        self.writers[slot] = match self.writers[slot] {
            Writer::Begun { message, .. } if !self.chat_is_free(chat_of(message)) => return false,
            Writer::Begun { message, node, early } => {
                // A statement after the lock, so a snapshot after the lock.
                let is_new = match early {
                    Early::IsNew(is_new) => is_new,
                    Early::Nothing | Early::Numbers { .. } => !self.exists(message),
                };
                match early {
                    // A duplicate: the first result is the answer.
                    _ if !is_new => Writer::Idle,
                    Early::Numbers { chat_seq, seq } => Writer::HasChat { message, node, chat_seq, seq: Some(seq) },
                    Early::Nothing | Early::IsNew(_) => {
                        Writer::HasChat { message, node, chat_seq: self.chats[chat_of(message)] + 1, seq: None }
                    }
                }
            }
            // `restante_publish_batch`: the event is stored once, and no inbox is waited for.
            Writer::HasChat { message, chat_seq, .. } if self.is_event(message) => {
                self.chats[chat_of(message)] = chat_seq;
                self.events.push(Event { message, seq: chat_seq });
                *accepted = Some(Hint::Event(message));
                Writer::Idle
            }
            Writer::HasChat { .. } if !self.inbox_is_free() => return false,
            Writer::HasChat { message, node, chat_seq, seq } => {
                Writer::HasInbox { message, node, chat_seq, seq: seq.unwrap_or(self.last_seq + 1) }
            }
            Writer::HasInbox { message, chat_seq, seq, .. } => {
                let chat = &mut self.chats[chat_of(message)];
                *chat = chat_seq.max(*chat);
                self.last_seq = seq.max(self.last_seq);
                self.rows.push(Row { message, chat_seq, seq, status: Status::Sent, deliveries: 0 });
                *accepted = Some(Hint::Row(seq));
                Writer::Idle
            }
            Writer::Idle => return false,
        };
        true
    }

    fn first_waiting(&self) -> Option<Seq> {
        self.rows.iter().filter(|row| row.status == Status::Sent && row.seq > self.settled_seq).map(|row| row.seq).min()
    }

    /// The next statement of `restante_advance_settled`.
    pub(crate) fn advance(&mut self, defect: Option<Defect>) -> bool {
        let in_one = defect == Some(Defect::SettledInTheLockingStatement);
        self.advance = match self.advance {
            // In one statement the sub-select sees what was committed when it began; only the locked row is read anew.
            Advance::Idle if in_one => Advance::Looked { first_waiting: self.first_waiting() },
            Advance::Idle | Advance::Looked { .. } if !self.inbox_is_free() => return false,
            Advance::Idle => Advance::HasInbox,
            Advance::HasInbox => {
                let first_waiting = self.first_waiting();
                return self.settle_up_to(first_waiting);
            }
            Advance::Looked { first_waiting } => return self.settle_up_to(first_waiting),
        };
        true
    }

    fn settle_up_to(&mut self, first_waiting: Option<Seq>) -> bool {
        self.settled_seq = self.settled_seq.max(first_waiting.map_or(self.last_seq, |seq| seq - 1));
        self.advance = Advance::Idle;
        true
    }

    /// `restante_open`: where a connection starts, and the number of this connection of its device.
    pub(crate) fn open(&mut self, has_device: bool) -> (Seq, u8) {
        if !has_device {
            return (self.settled_seq, 0);
        }
        if self.session_no == 0 {
            self.acked_seq = self.settled_seq;
        }
        self.session_no += 1;
        (self.acked_seq, self.session_no)
    }

    /// The page statement: rows and `last_seq` from one snapshot. A device gets what others acked, too.
    pub(crate) fn page(&self, after: Seq, rows_max: usize, has_device: bool, defect: Option<Defect>) -> Page {
        let is_wanted = |row: &&Row| row.seq > after && (row.status == Status::Sent || has_device && row.status == Status::Delivered);
        let mut rows: Vec<(Seq, Message)> = self.rows.iter().filter(is_wanted).map(|row| (row.seq, row.message)).collect();
        rows.sort_unstable();
        rows.truncate(rows_max);
        let is_last = rows.len() < rows_max;
        Page { rows, is_last, last_seq: (defect != Some(Defect::LastSeqFromALaterStatement)).then_some(self.last_seq) }
    }

    /// `restante_settle`, one transaction: statuses and the device's cursor.
    pub(crate) fn settle(&mut self, acked: Set, device_acked: Seq, defect: Option<Defect>) {
        for row in self.rows.iter_mut().filter(|row| acked.contains(row.message)) {
            match row.status {
                Status::Sent => {
                    row.status = Status::Delivered;
                    row.deliveries += 1;
                }
                Status::Delivered if defect == Some(Defect::SettlesWhateverTheStatus) => row.deliveries += 1,
                Status::Delivered | Status::Failed => {}
            }
        }
        self.acked_seq = self.acked_seq.max(device_acked);
    }

    /// `restante_attempt` with `final`.
    pub(crate) fn fail(&mut self, message: Message) -> bool {
        let Some(row) = self.rows.iter_mut().find(|row| row.message == message && row.status == Status::Sent) else { return false };
        row.status = Status::Failed;
        true
    }

    /// `restante_requeue`: a new number at the end, under the locks of chat and inbox.
    pub(crate) fn requeue(&mut self) -> Option<Hint> {
        let at = self.rows.iter().position(|row| row.status == Status::Failed)?;
        if !self.chat_is_free(chat_of(self.rows[at].message)) || !self.inbox_is_free() {
            return None;
        }
        let row = self.rows.remove(at);
        self.gaps.insert(row.seq);
        self.last_seq += 1;
        self.rows.push(Row { seq: self.last_seq, status: Status::Sent, ..row });
        Some(Hint::Row(self.last_seq))
    }

    /// The server rolls back what a node had under way.
    pub(crate) fn lost_node(&mut self, node: Node) {
        for writer in &mut self.writers {
            match *writer {
                Writer::Begun { node: its, .. } | Writer::HasChat { node: its, .. } | Writer::HasInbox { node: its, .. } if its == node => {
                    *writer = Writer::Idle;
                }
                Writer::Idle | Writer::Begun { .. } | Writer::HasChat { .. } | Writer::HasInbox { .. } => {}
            }
        }
        self.advance = Advance::Idle;
    }

    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.status == Status::Sent)
    }
}
