//! What senders were told: nothing that is not so, nothing backwards, and in the end everything.
//!
//! What the protocol does not promise is not asked for: a mark speaks of the time since its member joined last, and a
//! sender is told the marks of chats that it is in, of members that are in them. What failed or expired is told in
//! any case to whoever had been there before it was sent.

use std::collections::HashMap;

use uuid::Uuid;

use super::super::history::{History, Receipt, Record, Status, What};
use super::{Book, Findings, Member, Message, Rule};

/// Who has no cursor, as in another epoch, is told so many of those that ended last.
const ENDINGS_TOLD_WITHOUT_CURSOR: i64 = 1_000;

/// What a client knows of a message for a recipient.
#[derive(Debug, Clone, Copy)]
struct Known {
    status: Status,
    /// The connection on which it was told by name; none: by a mark.
    named_on: Option<u32>,
}

/// What a client knows.
#[derive(Debug, Default)]
struct Knowledge<'a> {
    of: HashMap<(Uuid, &'a str), Known>,
    /// Per chat, member and status: up to where a mark has said it. Whoever is told it again learns nothing new below.
    marks: HashMap<(Uuid, &'a str, Status), i64>,
}

pub(super) fn judge(book: &Book<'_>, findings: &mut Findings) {
    let members: HashMap<(Uuid, &str), &Member> =
        book.evidence.ledger.members.iter().map(|member| ((member.chat, member.user.as_str()), member)).collect();
    for history in &book.evidence.histories {
        let mut knowledge = Knowledge::default();
        for record in &history.records {
            if let What::Told(receipt) = &record.what {
                learn(book, &members, history, record, receipt, &mut knowledge, findings);
            }
        }
        if !book.evidence.away.contains(&history.user) {
            truth(book, &members, history, &knowledge, findings);
        }
    }
}

fn learn<'a>(
    book: &Book<'a>,
    members: &HashMap<(Uuid, &str), &Member>,
    history: &History,
    record: &Record,
    receipt: &'a Receipt,
    knowledge: &mut Knowledge<'a>,
    findings: &mut Findings,
) {
    let user = receipt.user.as_str();
    let named = receipt.messages.iter().map(|id| (*id, receipt.status)).chain(receipt.except.iter().copied());
    for (id, status) in named {
        told_by_name(book, history, record, (id, user), status, knowledge, findings);
    }
    let (Some(up_to), Some(member)) = (receipt.up_to, members.get(&(receipt.chat, user))) else { return };
    let said = knowledge.marks.entry((receipt.chat, user, receipt.status)).or_insert(member.joined);
    let above = std::mem::replace(said, up_to.max(*said));
    let messages = book.by_chat.get(&receipt.chat).map_or(&[][..], Vec::as_slice);
    let from = messages.partition_point(|(_, message)| message.seq <= above);
    let new = messages[from..].iter().take_while(|(_, message)| message.seq <= up_to);
    for (id, message) in new.filter(|(_, message)| message.sender == history.user) {
        let Some(row) = book.row(*id, user).filter(|_| !book.is_requeued(*id, user)) else { continue };
        if !matches!(row.status, Status::Failed | Status::Expired) {
            not_before_it_was(book, history, record, (*id, message), user, receipt.status, findings);
        }
        let known = knowledge.of.entry((*id, user)).or_insert(Known { status: receipt.status, named_on: None });
        // Of two marks the greater one counts, and what ended otherwise has been named.
        if known.status < receipt.status {
            known.status = receipt.status;
        }
    }
}

/// Who is told `delivered` or `read` is told it after a client of the recipient has asked for it. All clients have one clock.
fn not_before_it_was(
    book: &Book<'_>,
    history: &History,
    record: &Record,
    (id, message): (Uuid, &Message),
    user: &str,
    status: Status,
    findings: &mut Findings,
) {
    if !matches!(status, Status::Delivered | Status::Read) {
        return;
    }
    if book.asked_at(id, message, user, status).is_none_or(|asked| asked > record.at_ms) {
        let at = record.at_ms;
        findings
            .add(Rule::Lie, || format!("{} was told at {at} ms that {id} is {status:?} for {user}, who had not done that", history.client));
    }
}

fn told_by_name<'a>(
    book: &Book<'a>,
    history: &History,
    record: &Record,
    (id, user): (Uuid, &'a str),
    status: Status,
    knowledge: &mut Knowledge<'a>,
    findings: &mut Findings,
) {
    let name = || format!("{} was told that {id} is {status:?} for {user}", history.client);
    let (Some(message), Some(row)) = (book.message(id), book.row(id, user)) else {
        findings.add(Rule::Lie, || format!("{}, and there is no such row", name()));
        return;
    };
    if message.sender != history.user {
        findings.add(Rule::NotTheirs, || format!("{}, and did not send it", name()));
    }
    if book.is_requeued(id, user) {
        return;
    }
    let is_so = match status {
        Status::Sent => false,
        Status::Delivered => matches!(row.status, Status::Delivered | Status::Read),
        Status::Read | Status::Failed | Status::Expired => row.status == status,
    };
    if !is_so {
        findings.add(Rule::Lie, || format!("{}, and it is {:?} ({})", name(), row.status, row.reason));
    }
    not_before_it_was(book, history, record, (id, message), user, status, findings);
    let connection = record.connection;
    let known = knowledge.of.entry((id, user)).or_insert(Known { status, named_on: Some(connection) });
    let is_end = |status| matches!(status, Status::Failed | Status::Expired);
    let is_back = known.status > status && (is_end(known.status) || known.named_on == Some(connection));
    if is_back || (is_end(status) && known.status != status && known.named_on.is_some()) {
        findings.add(Rule::Backward, || format!("{}, after {:?}", name(), known.status));
    }
    if known.status < status {
        *known = Known { status, named_on: Some(connection) };
    }
}

/// Had the client been greeted before the message was first sent? Whoever comes later has no cursor from before it.
fn was_there_before(book: &Book<'_>, history: &History, message: Uuid) -> bool {
    let is_ready = |record: &&Record| matches!(record.what, What::Ready { .. });
    let greeted = history.records.iter().find(is_ready).map(|record| record.at_ms);
    let sent = book.first_sent.get(&(message, history.user.as_str()));
    greeted.zip(sent).is_some_and(|(greeted, sent)| greeted < *sent)
}

/// Has the client been in two epochs? A cursor of the one says nothing in the other.
fn lost_its_cursor(history: &History) -> bool {
    let mut epochs = history.records.iter().filter_map(|record| match &record.what {
        What::Ready { epoch, .. } => Some(epoch),
        _ => None,
    });
    let first = epochs.next();
    epochs.any(|epoch| Some(epoch) != first)
}

fn truth(book: &Book<'_>, members: &HashMap<(Uuid, &str), &Member>, history: &History, knowledge: &Knowledge<'_>, findings: &mut Findings) {
    for row in &book.evidence.ledger.rows {
        let Some(message) = book.message(row.message).filter(|message| message.sender == history.user) else { continue };
        let there = |user: &str| members.get(&(message.chat, user)).is_some_and(|m| m.left.is_none() && message.seq > m.joined);
        let is_told = match row.status {
            Status::Sent => false,
            // Whoever stayed away may have left a hole, and no mark passes it.
            Status::Delivered | Status::Read => there(&row.user) && there(&history.user) && !book.evidence.away.contains(&row.user),
            Status::Failed | Status::Expired if row.ended_later >= ENDINGS_TOLD_WITHOUT_CURSOR && lost_its_cursor(history) => false,
            Status::Failed | Status::Expired => there(&row.user) && there(&history.user) || was_there_before(book, history, row.message),
        };
        if !is_told || book.is_requeued(row.message, &row.user) {
            continue;
        }
        let known = knowledge.of.get(&(row.message, row.user.as_str())).map_or(Status::Sent, |known| known.status);
        if known != row.status {
            findings.add(Rule::Untold, || {
                let Message { chat, seq, .. } = message;
                format!(
                    "{}: number {seq} of chat {chat} is {:?} for {} and the client knows {known:?}",
                    history.client, row.status, row.user
                )
            });
        }
    }
}
