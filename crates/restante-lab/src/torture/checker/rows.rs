//! The database by itself: numbers without a hole, a row for everybody whom a message was for and for nobody else, an end
//! for each, with a cause.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::history::{Class, Status};
use super::{Book, Findings, Message, Row, Rule};

pub(super) fn judge(book: &Book<'_>, findings: &mut Findings) {
    chat_numbers(book, findings);
    inbox_numbers(book, findings);
    recipients(book, findings);
    for row in &book.evidence.ledger.rows {
        let Some(message) = book.message(row.message) else {
            findings.add(Rule::ForeignRow, || format!("{} has a row for {}, which does not exist", row.user, row.message));
            continue;
        };
        end(book, row, message, findings);
    }
    marks(book, findings);
}

fn chat_numbers(book: &Book<'_>, findings: &mut Findings) {
    for (chat, last) in &book.evidence.ledger.chats {
        let numbers: Vec<i64> = book.by_chat.get(chat).into_iter().flatten().map(|(_, message)| message.seq).collect();
        if numbers.iter().copied().ne(1..=*last) {
            let stored = numbers.len();
            findings.add(Rule::ChatGap, || format!("chat {chat} says its last number is {last} and has {stored} messages"));
        }
    }
}

fn inbox_numbers(book: &Book<'_>, findings: &mut Findings) {
    let ledger = &book.evidence.ledger;
    let mut numbers: HashMap<(&str, Class), Vec<i64>> = HashMap::new();
    let mut first_waiting: HashMap<(&str, Class), i64> = HashMap::new();
    for row in &ledger.rows {
        numbers.entry((&row.user, row.class)).or_default().push(row.seq);
        if row.status == Status::Sent {
            let first = first_waiting.entry((&row.user, row.class)).or_insert(row.seq);
            *first = (*first).min(row.seq);
        }
    }
    for (user, class, seq) in &ledger.gaps {
        numbers.entry((user, *class)).or_default().push(*seq);
    }
    for inbox in &ledger.inboxes {
        let key = (inbox.user.as_str(), inbox.class);
        let mut found = numbers.remove(&key).unwrap_or_default();
        found.sort_unstable();
        if found.iter().copied().ne(1..=inbox.last_seq) {
            findings.add(Rule::InboxGap, || {
                format!("inbox {:?} of {}: last number {}, {} rows and gaps", inbox.class, inbox.user, inbox.last_seq, found.len())
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

fn recipients(book: &Book<'_>, findings: &mut Findings) {
    let mut rows: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for row in &book.evidence.ledger.rows {
        rows.entry(row.message).or_default().push(&row.user);
    }
    let nobody = BTreeSet::new();
    for (id, message) in &book.evidence.ledger.messages {
        let found = rows.remove(id).unwrap_or_default();
        let people = book.people.get(&message.chat).unwrap_or(&nobody);
        let wanted: BTreeSet<&str> = people.iter().copied().filter(|user| is_for(book, message, user)).collect();
        for user in wanted.iter().filter(|user| !found.contains(user)) {
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

fn is_for(book: &Book<'_>, message: &Message, user: &str) -> bool {
    user != message.sender && book.was_member(message.chat, user, message.seq)
}

fn end(book: &Book<'_>, row: &Row, message: &Message, findings: &mut Findings) {
    let Row { user, message: id, reason, .. } = row;
    let who = || format!("{user}'s row for {id} (chat number {}, inbox number {})", message.seq, row.seq);
    let mut walks = book.walks.iter().filter(|walk| walk.history.user == *user);
    match row.status {
        Status::Sent if !book.evidence.away.contains(user) => findings.add(Rule::Waiting, || format!("{} waits still", who())),
        Status::Sent => {}
        Status::Delivered | Status::Read => {
            let is_read = walks.clone().any(|walk| walk.deeds.read_at(message.chat, message.seq).is_some());
            let is_acked = walks.any(|walk| walk.deeds.acked.contains_key(id));
            if !is_read && (row.status == Status::Read || !is_acked) {
                findings.add(Rule::Unacked, || format!("{} is {:?} and nobody did that", who(), row.status));
            }
        }
        Status::Failed => {
            let came: u64 = walks.clone().filter_map(|walk| walk.deeds.came.get(id)).sum();
            let is_used_up = u64::from(row.attempts.unsigned_abs()) >= u64::from(book.evidence.attempts_max);
            let is_tried = is_used_up && came >= u64::from(book.evidence.attempts_max);
            if !is_tried && !walks.any(|walk| walk.deeds.rejected_for_good.contains(id)) {
                let attempts = row.attempts;
                findings.add(Rule::EndedWithoutCause, || {
                    format!("{} failed ({reason}) after {attempts} attempts; it came {came} times", who())
                });
            }
        }
        Status::Expired if reason == "left" && !book.left_after(message.chat, user, message.seq) => {
            findings.add(Rule::EndedWithoutCause, || format!("{} ended as left, and its user never left", who()));
        }
        Status::Expired if reason != "left" && !message.is_over => {
            findings.add(Rule::EndedWithoutCause, || format!("{} expired ({reason}) before its time", who()));
        }
        Status::Expired => {}
    }
}

fn marks(book: &Book<'_>, findings: &mut Findings) {
    for member in book.evidence.ledger.members.iter().filter(|member| member.left.is_none()) {
        for (id, message) in book.by_chat.get(&member.chat).into_iter().flatten().filter(|(_, message)| message.seq > member.joined) {
            let Some(row) = book.row(*id, &member.user) else { continue };
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
