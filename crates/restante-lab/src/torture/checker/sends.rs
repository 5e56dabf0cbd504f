//! What was sent: that nothing confirmed is missing, nothing is there that nobody sent, and that the same id is answered
//! alike however often it is sent.

use std::collections::HashMap;

use uuid::Uuid;

use super::super::history::What;
use super::{Book, Findings, Rule};

/// What a user has sent under an id.
struct Sent<'a> {
    user: &'a str,
    chat: Option<Uuid>,
    content: &'a str,
}

pub(super) fn judge(book: &Book<'_>, findings: &mut Findings) {
    let sent = attempts(book);
    for history in &book.evidence.histories {
        answers(book, history, findings);
    }
    for (id, message) in &book.evidence.ledger.messages {
        let is_it = |sent: &Sent<'_>| {
            sent.user == message.sender && sent.content == message.content && sent.chat.is_none_or(|chat| chat == message.chat)
        };
        if !sent.get(id).is_some_and(is_it) {
            findings.add(Rule::Unsent, || format!("{id} of {}: {:?}", message.sender, message.content));
        }
    }
}

fn attempts<'a>(book: &Book<'a>) -> HashMap<Uuid, Sent<'a>> {
    let of_history = |history: &'a super::History| {
        history.records.iter().filter_map(|record| match &record.what {
            What::SendAttempted { message, chat, content, .. } => Some((*message, Sent { user: &history.user, chat: *chat, content })),
            _ => None,
        })
    };
    book.evidence.histories.iter().flat_map(of_history).collect()
}

fn answers(book: &Book<'_>, history: &super::History, findings: &mut Findings) {
    let mut first: HashMap<Uuid, (Uuid, i64, &str)> = HashMap::new();
    // Which attempts were made after the first answer: an answer to an earlier one may come late.
    let mut attempts_after: HashMap<(Uuid, u32), bool> = HashMap::new();
    for record in &history.records {
        match &record.what {
            What::SendAttempted { message, .. } => {
                attempts_after.insert((*message, record.connection), first.contains_key(message));
            }
            What::SendConfirmed { message, chat, seq, created_at, duplicate } => {
                let name = || format!("{}: {message} of {}", history.client, history.user);
                match book.message(*message) {
                    Some(stored) if (stored.chat, stored.seq) == (*chat, *seq) => {}
                    Some(stored) => findings.add(Rule::Lost, || format!("{} was confirmed as {seq} and is {}", name(), stored.seq)),
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
