//! Judges what senders were told: only what is true, nothing backwards, and by the end everything.
//!
//! The judge asks only for what the protocol promises. A mark speaks of the time since its member last joined. A sender is told
//! the marks of chats that it is in, of members that are in them. An end (failed or expired) is told to every sender that was
//! connected before it sent the message.

use std::collections::HashMap;

use uuid::Uuid;

use super::findings::{Findings, Rule};
use super::history::{Event, History, Receipt, Record, Status};
use super::index::Index;
use super::snapshot::{Member, Message, Row};

/// A client without a cursor, as in another epoch, is told this many of the rows that ended last.
const ENDINGS_TOLD_WITHOUT_CURSOR: i64 = 1_000;

/// The status of a message for a recipient, as far as the client knows it.
#[derive(Debug, Clone, Copy)]
struct Known {
    status: Status,
    /// The connection on which it was told by name; `None` when a mark told it.
    named_on: Option<u32>,
}

/// Everything that a client knows.
#[derive(Debug, Default)]
struct Knowledge<'a> {
    of: HashMap<(Uuid, &'a str), Known>,
    /// The highest mark per chat, member and status. A lower mark, or the same one again, says nothing new.
    marks: HashMap<(Uuid, &'a str, Status), i64>,
}

/// Holds one client's receipts against the evidence.
struct Reader<'a, 'b> {
    index: &'b Index<'a>,
    members: &'b HashMap<(Uuid, &'a str), &'a Member>,
    history: &'a History,
    knowledge: Knowledge<'a>,
    findings: &'b mut Findings,
}

pub(super) fn judge(index: &Index<'_>, findings: &mut Findings) {
    let members: HashMap<(Uuid, &str), &Member> =
        index.evidence.snapshot.members.iter().map(|member| ((member.chat, member.user.as_str()), member)).collect();
    for history in &index.evidence.histories {
        let mut reader = Reader { index, members: &members, history, knowledge: Knowledge::default(), findings };
        for record in &history.records {
            if let Event::Told(receipt) = &record.event {
                reader.learn(record, receipt);
            }
        }
        if !index.evidence.away.contains(&history.user) {
            reader.hold_against_rows();
        }
    }
}

impl<'a> Reader<'a, '_> {
    fn learn(&mut self, record: &Record, receipt: &'a Receipt) {
        let user = receipt.user.as_str();
        let named = receipt.messages.iter().map(|id| (*id, receipt.status)).chain(receipt.except.iter().copied());
        for (id, status) in named {
            self.told_by_name(record, (id, user), status);
        }
        if let (Some(up_to), Some(member)) = (receipt.up_to, self.members.get(&(receipt.chat, user)).copied()) {
            self.told_by_mark(record, receipt, up_to, member);
        }
    }

    fn told_by_mark(&mut self, record: &Record, receipt: &'a Receipt, up_to: i64, member: &Member) {
        let index = self.index;
        let user = receipt.user.as_str();
        let mark = self.knowledge.marks.entry((receipt.chat, user, receipt.status)).or_insert(member.joined);
        let above = std::mem::replace(mark, up_to.max(*mark));
        let messages = index.by_chat.get(&receipt.chat).map_or(&[][..], Vec::as_slice);
        let from = messages.partition_point(|(_, message)| message.seq <= above);
        let new = messages[from..].iter().take_while(|(_, message)| message.seq <= up_to);
        for (id, message) in new.filter(|(_, message)| message.sender == self.history.user) {
            let Some(row) = index.row(*id, user).filter(|_| !index.is_requeued(*id, user)) else { continue };
            if !matches!(row.status, Status::Failed | Status::Expired) {
                self.not_too_early(record, (*id, message), user, receipt.status);
            }
            let known = self.knowledge.of.entry((*id, user)).or_insert(Known { status: receipt.status, named_on: None });
            // The higher of two marks counts. A message that ended otherwise was named.
            if known.status < receipt.status {
                known.status = receipt.status;
            }
        }
    }

    /// `delivered` and `read` may be told only after a client of the recipient has asked for it. All clients have one clock.
    fn not_too_early(&mut self, record: &Record, (id, message): (Uuid, &Message), user: &str, status: Status) {
        if !matches!(status, Status::Delivered | Status::Read) {
            return;
        }
        if self.index.asked_at(id, message, user, status).is_none_or(|asked| asked > record.at_ms) {
            let (at, client) = (record.at_ms, &self.history.client);
            self.findings
                .add(Rule::Lie, || format!("{client} was told at {at} ms that {id} is {status:?} for {user}, who had not done that"));
        }
    }

    fn told_by_name(&mut self, record: &Record, (id, user): (Uuid, &'a str), status: Status) {
        let history = self.history;
        let name = || format!("{} was told that {id} is {status:?} for {user}", history.client);
        let (Some(message), Some(row)) = (self.index.message(id), self.index.row(id, user)) else {
            if !self.index.is_row_of_purged(id, user) {
                self.findings.add(Rule::Lie, || format!("{}, and there is no such row", name()));
            }
            return;
        };
        if message.sender != history.user {
            self.findings.add(Rule::NotTheirs, || format!("{}, and did not send it", name()));
        }
        if self.index.is_requeued(id, user) {
            return;
        }
        if !is_true(status, row) {
            self.findings.add(Rule::Lie, || format!("{}, and it is {:?} ({})", name(), row.status, row.reason));
        }
        self.not_too_early(record, (id, message), user, status);
        let connection = record.connection;
        let known = self.knowledge.of.entry((id, user)).or_insert(Known { status, named_on: Some(connection) });
        let is_end = |status| matches!(status, Status::Failed | Status::Expired);
        let is_back = known.status > status && (is_end(known.status) || known.named_on == Some(connection));
        if is_back || (is_end(status) && known.status != status && known.named_on.is_some()) {
            self.findings.add(Rule::Backward, || format!("{}, after {:?}", name(), known.status));
        }
        if known.status < status {
            *known = Known { status, named_on: Some(connection) };
        }
    }

    /// By the end the client knows the status of each row of its messages that the protocol promises to tell it.
    fn hold_against_rows(&mut self) {
        let (index, history) = (self.index, self.history);
        for row in &index.evidence.snapshot.rows {
            let Some(message) = index.message(row.message).filter(|message| message.sender == history.user) else { continue };
            if !self.must_be_told(row, message) || index.is_requeued(row.message, &row.user) {
                continue;
            }
            let known = self.knowledge.of.get(&(row.message, row.user.as_str())).map_or(Status::Sent, |known| known.status);
            if known != row.status {
                self.findings.add(Rule::Untold, || {
                    let (Message { chat, seq, .. }, client) = (message, &history.client);
                    format!("{client}: number {seq} of chat {chat} is {:?} for {} and the client knows {known:?}", row.status, row.user)
                });
            }
        }
    }

    /// A time before which the row cannot have got its status, in milliseconds of the run.
    fn moved_after(&self, row: &Row, message: &Message) -> u64 {
        let sent = || self.index.first_sent.get(&(row.message, message.sender.as_str())).copied();
        let asked = match row.status {
            Status::Delivered | Status::Read => self.index.asked_at(row.message, message, &row.user, row.status),
            Status::Sent | Status::Failed | Status::Expired => None,
        };
        asked.or_else(sent).unwrap_or_default()
    }

    fn must_be_told(&self, row: &Row, message: &Message) -> bool {
        let (index, history) = (self.index, self.history);
        if index.policies.may_hide(row.message, &history.user, &row.user, self.moved_after(row, message)) {
            return false;
        }
        let is_member = |user: &str| {
            let member = self.members.get(&(message.chat, user));
            member.is_some_and(|member| member.left.is_none() && message.seq > member.joined)
        };
        match row.status {
            Status::Sent => false,
            // A recipient that stayed away may have left a row that waits, and no mark passes that row.
            Status::Delivered | Status::Read => {
                is_member(&row.user) && is_member(&history.user) && !index.evidence.away.contains(&row.user)
            }
            Status::Failed | Status::Expired if row.ended_later >= ENDINGS_TOLD_WITHOUT_CURSOR && lost_its_cursor(history) => false,
            Status::Failed | Status::Expired => {
                is_member(&row.user) && is_member(&history.user) || was_connected_before(index, history, row.message)
            }
        }
    }
}

/// Tells whether a status that was told by name agrees with the row at the end.
fn is_true(told: Status, row: &Row) -> bool {
    match told {
        Status::Sent => false,
        Status::Delivered => matches!(row.status, Status::Delivered | Status::Read),
        Status::Read | Status::Failed | Status::Expired => row.status == told,
    }
}

/// Tells whether the service greeted the client before its user first sent the message. A client that comes later has no cursor
/// from before the message.
fn was_connected_before(index: &Index<'_>, history: &History, message: Uuid) -> bool {
    let is_ready = |record: &&Record| matches!(record.event, Event::Ready { .. });
    let greeted = history.records.iter().find(is_ready).map(|record| record.at_ms);
    let sent = index.first_sent.get(&(message, history.user.as_str()));
    greeted.zip(sent).is_some_and(|(greeted, sent)| greeted < *sent)
}

/// Tells whether the client has been in two epochs. A cursor of the one is of no use in the other.
fn lost_its_cursor(history: &History) -> bool {
    let mut epochs = history.records.iter().filter_map(|record| match &record.event {
        Event::Ready { epoch, .. } => Some(epoch),
        _ => None,
    });
    let first = epochs.next();
    epochs.any(|epoch| Some(epoch) != first)
}
