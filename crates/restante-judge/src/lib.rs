//! The judge: it decides over a run, from what its clients did and received and from what the database holds at the end. It uses
//! no module of the service, because it would share that module's mistakes. The same evidence always gets the same findings.
//!
//! [`history`] is what a client writes down, [`snapshot`] is the database at the end. `rows` judges the rows by themselves,
//! `sends` holds them against what was sent, `deliveries` against what was received, and `receipts` against what senders
//! were told. `feeds` and `event_deliveries` do the same for events, `merges` and `mutes` look at what of these is merged and muted, and
//! `recalls` at messages that were recalled. `blocks` and `revocations` judge what a user and an operator have closed (`policies`), `sealing`
//! what is encrypted. [`findings`] lists the rules.

mod blocks;
mod deliveries;
mod event_deliveries;
mod feeds;
pub mod findings;
pub mod history;
mod index;
mod merges;
mod mutes;
mod policies;
mod recalls;
mod receipts;
mod revocations;
mod rows;
mod sealing;
mod sends;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{BTreeSet, HashSet};

use uuid::Uuid;

pub use findings::{Findings, Rule};
pub use history::{Event, History, Receipt, Record, Recorder, Status};
use index::Index;
pub use snapshot::Snapshot;

/// Everything that is known of a run.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The clients' histories, one a client.
    pub histories: Vec<History>,
    /// The rows at the end.
    pub snapshot: Snapshot,
    /// Users of whom no client was connected at the end.
    pub away: BTreeSet<String>,
    /// Clients that did not come to their end, each with its reason in words.
    pub stuck: Vec<String>,
    /// Nodes that ended by themselves, each with its reason in words.
    pub died: Vec<String>,
    /// Messages that an application recalled in SQL.
    pub recalled: HashSet<Uuid>,
    /// Messages that an operator put back, with the recipient.
    pub requeued: HashSet<(Uuid, String)>,
    /// The acts of operators and applications beside the clients: their blocks and revocations.
    pub acts: Vec<Record>,
    /// Only contacts may write to one another.
    pub contacts_only: bool,
    /// Milliseconds after the answer to a revocation from which on its tokens are worth nothing anywhere.
    pub revocation_max_ms: u64,
    /// Attempts after which the service may give a message up.
    pub attempts_max: u16,
    /// Milliseconds after which an envelope that was not acked may come again.
    pub ack_timeout_ms: u64,
    /// Rules that this run does not promise, or that its evidence cannot decide.
    pub exempt: BTreeSet<Rule>,
}

/// Decides over a run. Pure: it reads nothing but the evidence.
pub fn judge(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let index = Index::of(evidence);
    rows::judge(&index, &mut findings);
    sends::judge(&index, &mut findings);
    deliveries::judge(&index, &mut findings);
    receipts::judge(&index, &mut findings);
    recalls::judge(&index, &mut findings);
    blocks::judge(&index, &mut findings);
    revocations::judge(evidence, &mut findings);
    sealing::judge(evidence, &mut findings);
    let board = feeds::Board::of(&index);
    feeds::judge(&board, &mut findings);
    event_deliveries::judge(&board, &mut findings);
    merges::judge(&board, &mut findings);
    mutes::judge(&board, &mut findings);
    for (rule, cases) in
        [(Rule::Stuck, &evidence.stuck), (Rule::Died, &evidence.died), (Rule::Inconsistent, &evidence.snapshot.inconsistencies)]
    {
        cases.iter().for_each(|words| findings.add(rule, || words.clone()));
    }
    findings.drop_rules(&evidence.exempt);
    findings
}
