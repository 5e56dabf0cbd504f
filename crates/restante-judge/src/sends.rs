//! Judges what was sent: nothing that was confirmed is missing, nothing is stored that nobody sent, the same id is answered alike
//! however often it is sent, and a connection's messages are numbered in the order in which it sent them.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::findings::{Findings, Rule};
use super::history::{Event, History};
use super::index::Index;

/// A message as its sender put it on the wire.
struct Sent<'a> {
    user: &'a str,
    chat: Option<Uuid>,
    content: &'a str,
}

pub(super) fn judge(index: &Index<'_>, findings: &mut Findings) {
    let sent = attempts(index);
    for history in &index.evidence.histories {
        answers(index, history, findings);
        order(history, findings);
        refusals(history, findings);
    }
    for (id, message) in &index.evidence.snapshot.messages {
        let is_it = |sent: &Sent<'_>| {
            let is_text = message.is_recalled || message.is_sealed || sent.content == message.content;
            sent.user == message.sender && is_text && sent.chat.is_none_or(|chat| chat == message.chat)
        };
        if !sent.get(id).is_some_and(is_it) {
            findings.add(Rule::Unsent, || format!("{id} of {}: {:?}", message.sender, message.content));
        }
    }
}

fn attempts<'a>(index: &Index<'a>) -> HashMap<Uuid, Sent<'a>> {
    let of_history = |history: &'a History| {
        history.records.iter().filter_map(|record| match &record.event {
            Event::SendAttempted { message, chat, content, .. } => Some((*message, Sent { user: &history.user, chat: *chat, content })),
            _ => None,
        })
    };
    index.evidence.histories.iter().flat_map(of_history).collect()
}

fn answers(index: &Index<'_>, history: &History, findings: &mut Findings) {
    let mut first: HashMap<Uuid, (Uuid, i64, &str)> = HashMap::new();
    // Tells of each attempt whether it was made after the first answer: an answer to an earlier attempt may come late.
    let mut attempts_after: HashMap<(Uuid, u32), bool> = HashMap::new();
    for record in &history.records {
        match &record.event {
            Event::SendAttempted { message, .. } => {
                attempts_after.insert((*message, record.connection), first.contains_key(message));
            }
            Event::SendConfirmed { message, chat, seq, created_at, duplicate } => {
                let name = || format!("{}: {message} of {}", history.client, history.user);
                match index.message(*message) {
                    Some(stored) if (stored.chat, stored.seq) == (*chat, *seq) => {}
                    Some(stored) => findings.add(Rule::Lost, || format!("{} was confirmed as {seq} and is {}", name(), stored.seq)),
                    None if index.is_purged(*chat, *seq) => {}
                    None => findings.add(Rule::Lost, || format!("{} was confirmed as number {seq} and is not there", name())),
                }
                let answer = (*chat, *seq, created_at.as_str());
                let known = *first.entry(*message).or_insert(answer);
                if known != answer {
                    findings.add(Rule::TwoAnswers, || format!("{}: {known:?}, then {answer:?}", name()));
                }
                if attempts_after.get(&(*message, record.connection)) == Some(&true) && !duplicate {
                    findings.add(Rule::NotDuplicate, || format!("{} was confirmed before, and again as new", name()));
                }
            }
            _ => {}
        }
    }
}

/// The course of one send.
#[derive(Default)]
struct Course {
    attempts: u32,
    /// The connection of the first attempt.
    connection: u32,
    was_refused: bool,
    /// The answer: its connection, chat and number.
    answer: Option<(u32, Uuid, i64)>,
}

/// Looks only at sends with one attempt, answered on the same connection. Of the others nobody knows which attempt was stored, and
/// a refusal may have been lost with its connection.
fn order(history: &History, findings: &mut Findings) {
    let (mut courses, mut in_order): (HashMap<Uuid, Course>, Vec<Uuid>) = (HashMap::new(), Vec::new());
    for record in &history.records {
        match &record.event {
            Event::SendAttempted { message, .. } => {
                let course = courses.entry(*message).or_insert_with(|| {
                    in_order.push(*message);
                    Course { connection: record.connection, ..Course::default() }
                });
                course.attempts += 1;
            }
            Event::SendRefused { message, .. } => courses.entry(*message).or_default().was_refused = true,
            Event::SendConfirmed { message, chat, seq, .. } => {
                courses.entry(*message).or_default().answer.get_or_insert((record.connection, *chat, *seq));
            }
            _ => {}
        }
    }
    let mut last: HashMap<(u32, Uuid), i64> = HashMap::new();
    for course in in_order.iter().map(|message| &courses[message]) {
        let Some((connection, chat, seq)) = course.answer else { continue };
        if course.attempts != 1 || course.was_refused || connection != course.connection {
            continue;
        }
        let before = last.entry((connection, chat)).or_default();
        if seq < *before {
            findings.add(Rule::SenderOrder, || format!("{} sent number {seq} of chat {chat} after number {before}", history.client));
        }
        *before = seq.max(*before);
    }
}

fn refusals(history: &History, findings: &mut Findings) {
    let mut open: BTreeMap<Uuid, &str> = BTreeMap::new();
    for record in &history.records {
        match &record.event {
            Event::SendAttempted { message, .. } => drop(open.entry(*message).or_insert("no answer")),
            Event::SendRefused { message, code, .. } => drop(open.insert(*message, code)),
            _ => {}
        }
    }
    for record in &history.records {
        if let Event::SendConfirmed { message, .. } = &record.event {
            open.remove(message);
        }
    }
    for (message, why) in open {
        findings.add(Rule::Refused, || format!("{}: {message}: {why}", history.client));
    }
}
