//! Judges the rows by themselves: numbers have no hole, every recipient of a message has a row for it and nobody else has one, and
//! every row comes to an end that has a cause.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::findings::{Findings, Rule};
use super::history::{Class, Status};
use super::index::Index;
use super::snapshot::{Message, Row};
use super::trace::Trace;

pub(super) fn judge(index: &Index<'_>, findings: &mut Findings) {
    chat_numbers(index, findings);
    inbox_numbers(index, findings);
    recipients(index, findings);
    for row in &index.evidence.snapshot.rows {
        let Some(message) = index.message(row.message) else {
            findings.add(Rule::ForeignRow, || format!("{} has a row for {}, which does not exist", row.user, row.message));
            continue;
        };
        end(index, row, message, findings);
        receipt(index, row, message, findings);
    }
    marks(index, findings);
}

fn chat_numbers(index: &Index<'_>, findings: &mut Findings) {
    for (chat, last) in &index.evidence.snapshot.chats {
        let numbers: Vec<i64> = index.by_chat.get(chat).into_iter().flatten().map(|(_, message)| message.seq).collect();
        let purged = index.evidence.snapshot.purged.get(chat).copied().unwrap_or_default();
        if numbers.iter().copied().ne(purged + 1..=*last) {
            let stored = numbers.len();
            findings.add(Rule::ChatGap, || format!("chat {chat} says its last number is {last} and has {stored} messages"));
        }
    }
}

fn inbox_numbers(index: &Index<'_>, findings: &mut Findings) {
    let snapshot = &index.evidence.snapshot;
    let mut numbers: HashMap<(&str, Class), Vec<i64>> = HashMap::new();
    let mut first_waiting: HashMap<(&str, Class), i64> = HashMap::new();
    for row in snapshot.rows.iter().chain(&snapshot.feeds.rows).chain(snapshot.notices.iter().map(|notice| &notice.row)) {
        let Some(seq) = row.seq else { continue };
        numbers.entry((&row.user, row.class)).or_default().push(seq);
        if row.status == Status::Sent {
            let first = first_waiting.entry((&row.user, row.class)).or_insert(seq);
            *first = (*first).min(seq);
        }
    }
    for (user, class, seq) in &snapshot.gaps {
        numbers.entry((user, *class)).or_default().push(*seq);
    }
    for inbox in &snapshot.inboxes {
        let key = (inbox.user.as_str(), inbox.class);
        let mut found = numbers.remove(&key).unwrap_or_default();
        found.sort_unstable();
        if found.iter().copied().ne(inbox.purged_seq + 1..=inbox.last_seq) {
            findings.add(Rule::InboxGap, || {
                format!("inbox {:?} of {}: last number {}, {} rows and gaps", inbox.class, inbox.user, inbox.last_seq, found.len())
            });
        }
        if inbox.purged_seq > inbox.settled_seq {
            findings.add(Rule::SettledAhead, || {
                format!("{}: removed up to {}, settled up to {}", inbox.user, inbox.purged_seq, inbox.settled_seq)
            });
        }
        if let Some(first) = first_waiting.get(&key).filter(|first| **first <= inbox.settled_seq) {
            findings.add(Rule::SettledAhead, || format!("{} waits at {first}, settled up to {}", inbox.user, inbox.settled_seq));
        }
    }
    for (user, class) in numbers.into_keys() {
        findings.add(Rule::InboxGap, || format!("{user} has rows of class {class:?} and no inbox"));
    }
}

fn recipients(index: &Index<'_>, findings: &mut Findings) {
    let mut rows: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for row in &index.evidence.snapshot.rows {
        rows.entry(row.message).or_default().push(&row.user);
    }
    let nobody = BTreeSet::new();
    for (id, message) in &index.evidence.snapshot.messages {
        let found = rows.remove(id).unwrap_or_default();
        let people = index.people.get(&message.chat).unwrap_or(&nobody);
        let wanted: BTreeSet<&str> = people.iter().copied().filter(|user| is_for(index, message, user)).collect();
        let is_missing = |user: &&&str| !found.contains(*user) && !index.is_row_purged(message.chat, user, message.seq);
        for user in wanted.iter().filter(is_missing) {
            findings.add(Rule::MissingRow, || format!("{user} was in the chat at number {} and has no row for {id}", message.seq));
        }
        for user in found.iter().filter(|user| !wanted.contains(**user)) {
            findings.add(Rule::ForeignRow, || format!("{user} has a row for {id}, number {} of a chat it was not in then", message.seq));
        }
        if found.len() > found.iter().collect::<BTreeSet<_>>().len() {
            findings.add(Rule::ForeignRow, || format!("somebody has two rows for {id}"));
        }
    }
}

fn is_for(index: &Index<'_>, message: &Message, user: &str) -> bool {
    user != message.sender && index.was_member(message.chat, user, message.seq)
}

/// Names a row in a finding.
fn name(row: &Row, message: &Message) -> String {
    let number = row.seq.map_or_else(|| "unknown".to_owned(), |seq| seq.to_string());
    format!("{}'s row for {} (chat number {}, inbox number {number})", row.user, row.message, message.seq)
}

fn end(index: &Index<'_>, row: &Row, message: &Message, findings: &mut Findings) {
    let Row { user, message: id, reason, .. } = row;
    let mut traces = index.traces_of(user);
    match row.status {
        Status::Sent if !index.evidence.away.contains(user) => {
            findings.add(Rule::Waiting, || format!("{} waits still", name(row, message)));
        }
        Status::Sent => {}
        Status::Delivered | Status::Read => {
            let is_read = traces.clone().any(|trace| trace.actions.read_at(message.chat, message.seq).is_some());
            let is_acked = traces.any(|trace| trace.actions.acked.contains_key(id));
            if !is_read && (row.status == Status::Read || !is_acked) {
                findings.add(Rule::Unacked, || format!("{} is {:?} and no client did that", name(row, message), row.status));
            }
        }
        Status::Failed if !failed_with_cause(index.evidence.attempts_max, traces.clone(), row) => {
            findings.add(Rule::EndedWithoutCause, || {
                let (times, attempts) = (received(traces, row), row.attempts);
                format!("{} failed ({reason}) after {attempts} attempts; it came {times} times", name(row, message))
            })
        }
        Status::Expired if reason == "left" && !index.left_after(message.chat, user, message.seq) => {
            findings.add(Rule::EndedWithoutCause, || format!("{} ended as left, and its user never left", name(row, message)));
        }
        Status::Expired if reason == "recalled" && message.is_recalled => {}
        Status::Expired if reason == "undelivered" && index.policies.may_have_ended(*id, &message.sender, user) => {}
        Status::Expired if reason != "left" && !message.is_over => {
            findings.add(Rule::EndedWithoutCause, || format!("{} expired ({reason}) before its time", name(row, message)));
        }
        Status::Failed | Status::Expired => {}
    }
}

/// Tells whether a client rejected the message for good, or received it as often as the service has to try.
pub(super) fn failed_with_cause<'a, 'b: 'a>(attempts_max: u16, traces: impl Iterator<Item = &'a Trace<'b>> + Clone, row: &Row) -> bool {
    let attempts_max = u64::from(attempts_max);
    let is_used_up = u64::from(row.attempts.unsigned_abs()) >= attempts_max;
    (is_used_up && received(traces.clone(), row) >= attempts_max)
        || traces.into_iter().any(|trace| trace.actions.rejected_for_good.contains(&row.message))
}

/// The number of times that clients received the row's message.
pub(super) fn received<'a, 'b: 'a>(traces: impl Iterator<Item = &'a Trace<'b>>, row: &Row) -> u64 {
    traces.filter_map(|trace| trace.actions.received.get(&row.message)).sum()
}

/// A row that has not ended otherwise has reached a client, and is read where the run expects that.
fn receipt(index: &Index<'_>, row: &Row, message: &Message, findings: &mut Findings) {
    let has_ended = matches!(row.status, Status::Failed | Status::Expired);
    // Of a message that was recalled a reader beyond it may have got the notice alone.
    if !has_ended && !message.is_recalled && !index.evidence.away.contains(&row.user) && received(index.traces_of(&row.user), row) == 0 {
        findings.add(Rule::NotReceived, || format!("no client received {}", name(row, message)));
    }
    if row.status != Status::Read {
        findings.add(Rule::Unread, || format!("{} is {:?}", name(row, message), row.status));
    }
}

fn marks(index: &Index<'_>, findings: &mut Findings) {
    for member in index.evidence.snapshot.members.iter().filter(|member| member.left.is_none()) {
        for (id, message) in index.by_chat.get(&member.chat).into_iter().flatten().filter(|(_, message)| message.seq > member.joined) {
            let Some(row) = index.row(*id, &member.user) else { continue };
            let is_ahead = match row.status {
                Status::Sent => message.seq <= member.delivered,
                Status::Delivered => message.seq <= member.read,
                Status::Read | Status::Failed | Status::Expired => false,
            };
            if is_ahead {
                findings.add(Rule::MarkAhead, || {
                    format!(
                        "{}: number {} is {:?}, its marks {} and {}",
                        member.user, message.seq, row.status, member.delivered, member.read
                    )
                });
            }
        }
    }
}
