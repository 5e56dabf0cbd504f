//! The judge: decides over what clients saw and what the database holds in the end, by rules of its own. It uses no
//! module of the service, whose mistakes it would share, and asks nobody: the same evidence gets the same verdict.
//!
//! [`ledger`] is the database as the judge sees it. [`rows`] judges it by itself, [`sends`] against what was sent,
//! [`sights`] against what was received, [`receipts`] against what senders were told.

mod findings;
mod ledger;
mod receipts;
mod rows;
mod sends;
mod sights;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::history::{History, Status, What};
pub use findings::Findings;
use findings::Rule;
use ledger::{Ledger, Member, Message, Row, Stint};
pub use ledger::{read, watch_members};
use walk::Walk;

/// Everything that is known of a run.
#[derive(Debug, Default)]
pub struct Evidence {
    /// What the clients did and saw.
    pub histories: Vec<History>,
    /// What the database holds.
    pub ledger: Ledger,
    /// Users of whom no client was there in the end.
    pub away: BTreeSet<String>,
    /// Clients that did not come to their end, in words.
    pub stuck: Vec<String>,
    /// Nodes that ended by themselves, in words.
    pub died: Vec<String>,
    /// Messages that an operator put back, and for whom.
    pub requeued: HashSet<(Uuid, String)>,
    /// Attempts after which the service may give a message up.
    pub attempts_max: u16,
    /// Milliseconds after which an envelope that was not acked may come again.
    pub ack_timeout_ms: u64,
}

/// Decides. Pure.
pub fn judge(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let book = Book::of(evidence);
    rows::judge(&book, &mut findings);
    sends::judge(&book, &mut findings);
    sights::judge(&book, &mut findings);
    receipts::judge(&book, &mut findings);
    evidence.stuck.iter().for_each(|words| findings.add(Rule::Stuck, || words.clone()));
    evidence.died.iter().for_each(|words| findings.add(Rule::Died, || words.clone()));
    findings
}

/// The evidence, and ways to look things up in it.
struct Book<'a> {
    evidence: &'a Evidence,
    rows: HashMap<(Uuid, &'a str), &'a Row>,
    stints: HashMap<(Uuid, &'a str), Vec<&'a Stint>>,
    by_chat: HashMap<Uuid, Vec<(Uuid, &'a Message)>>,
    walks: Vec<Walk<'a>>,
    /// When a user first tried to send a message.
    first_sent: HashMap<(Uuid, &'a str), u64>,
    /// In each chat, those who ever were in it.
    people: HashMap<Uuid, BTreeSet<&'a str>>,
}

impl<'a> Book<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let Ledger { rows, stints, messages, .. } = &evidence.ledger;
        let mut book = Self {
            evidence,
            rows: rows.iter().map(|row| ((row.message, row.user.as_str()), row)).collect(),
            stints: HashMap::new(),
            by_chat: HashMap::new(),
            walks: evidence.histories.iter().map(|history| Walk::of(history, evidence.ack_timeout_ms)).collect(),
            first_sent: HashMap::new(),
            people: HashMap::new(),
        };
        for history in &evidence.histories {
            for record in &history.records {
                if let What::SendAttempted { message, .. } = &record.what {
                    let first = book.first_sent.entry((*message, &history.user)).or_insert(record.at_ms);
                    *first = record.at_ms.min(*first);
                }
            }
        }
        for stint in stints {
            book.stints.entry((stint.chat, &stint.user)).or_default().push(stint);
            book.people.entry(stint.chat).or_default().insert(&stint.user);
        }
        for (id, message) in messages {
            book.by_chat.entry(message.chat).or_default().push((*id, message));
        }
        book.by_chat.values_mut().for_each(|messages| messages.sort_by_key(|(_, message)| message.seq));
        book
    }

    fn message(&self, id: Uuid) -> Option<&'a Message> {
        self.evidence.ledger.messages.get(&id)
    }

    fn row(&self, message: Uuid, user: &str) -> Option<&'a Row> {
        self.rows.get(&(message, user)).copied()
    }

    /// Was the user in the chat at this number?
    fn was_member(&self, chat: Uuid, user: &str, seq: i64) -> bool {
        let stints = self.stints.get(&(chat, user));
        stints.is_some_and(|stints| stints.iter().any(|stint| seq > stint.joined && stint.left.is_none_or(|left| seq <= left)))
    }

    /// Did the user leave the chat after this number, having been in it?
    fn left_after(&self, chat: Uuid, user: &str, seq: i64) -> bool {
        let stints = self.stints.get(&(chat, user));
        stints.is_some_and(|stints| stints.iter().any(|stint| seq > stint.joined && stint.left.is_some_and(|left| seq <= left)))
    }

    /// When a client of the user first asked for this status.
    fn asked_at(&self, message: Uuid, stored: &Message, user: &str, status: Status) -> Option<u64> {
        let walks = self.walks.iter().filter(|walk| walk.history.user == user);
        let times = walks.flat_map(|walk| {
            let acked = if status == Status::Delivered { walk.deeds.acked.get(&message).copied() } else { None };
            acked.into_iter().chain(walk.deeds.read_at(stored.chat, stored.seq))
        });
        times.min()
    }

    fn is_requeued(&self, message: Uuid, user: &str) -> bool {
        self.evidence.requeued.contains(&(message, user.to_owned()))
    }
}
