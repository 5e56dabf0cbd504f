//! Judges blocks: between two users of whom one blocks the other nothing new is accepted, what waited has ended, and nobody is told why.
//!
//! Where contacts alone may write to one another, the same holds between two that are none. It looks at direct messages alone, and asks
//! [`Policies`](super::policies::Policies) what stood when.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::findings::{Findings, Rule};
use super::history::{Event, History, Receipt, Record, Status};
use super::index::Index;
use super::snapshot::Row;
use super::trace::Trace;

/// The code with which a direct message is refused.
const NOT_ACCEPTED: &str = "not_accepted";
/// The reason for which a row has ended that waited at a block, as its sender may read it.
const UNDELIVERED: &str = "undelivered";
/// The reason of the gaps that the user who blocks is told of.
const GAP: &str = "blocked";

pub(super) fn judge(index: &Index<'_>, findings: &mut Findings) {
    let accepted = accepted(index);
    let mut ended = HashMap::new();
    for (id, message) in &index.evidence.snapshot.messages {
        let Some(to) = index.policies.recipient(*id, &message.sender) else { continue };
        let by = accepted.get(id).copied().unwrap_or(u64::MAX);
        let first = index.first_sent.get(&(*id, message.sender.as_str())).copied().unwrap_or_default();
        if index.policies.are_certainly_strangers(&message.sender, to, first, by) {
            findings.add(Rule::Stranger, || format!("{id} of {} to {to} was first sent at {first} ms, and accepted", message.sender));
        }
        if index.policies.is_certainly_closed(&message.sender, to, first, by) {
            findings.add(Rule::Blocked, || format!("{id} of {} to {to} was first sent at {first} ms, and accepted", message.sender));
        }
        let Some(row) = index.row(*id, to) else { continue };
        let ended_by = index.policies.ended_by(to, &message.sender, by);
        end(index, row, &message.sender, (first, ended_by), findings);
        if let Some(at) = ended_by.filter(|_| row.status == Status::Expired) {
            ended.insert((*id, to), at);
        }
    }
    for history in &index.evidence.histories {
        reshown(history, &ended, findings);
        refusals(index, history, findings);
        told(index, history, findings);
    }
}

/// When each message was certainly accepted, in milliseconds of the run.
fn accepted(index: &Index<'_>) -> HashMap<Uuid, u64> {
    let mut accepted = HashMap::new();
    for record in index.evidence.histories.iter().flat_map(|history| &history.records) {
        if let Event::SendConfirmed { message, .. } | Event::Received { message, .. } = &record.event {
            let first = accepted.entry(*message).or_insert(record.at_ms);
            *first = record.at_ms.min(*first);
        }
    }
    accepted
}

/// A row that waited at a block has ended, and one that ended so was not delivered before.
fn end(index: &Index<'_>, row: &Row, sender: &str, (first, ended_by): (u64, Option<u64>), findings: &mut Findings) {
    let Row { user, message: id, status, reason, .. } = row;
    let Some(message) = index.message(*id) else { return };
    if index.is_requeued(*id, user) {
        return;
    }
    match (status, ended_by) {
        (Status::Sent, Some(at)) => {
            findings.add(Rule::Blocked, || format!("{id} waits for {user}, who had blocked {sender} at {at} ms"));
        }
        (Status::Delivered | Status::Read, Some(at)) => {
            if index.asked_at(*id, message, user, Status::Delivered).is_some_and(|asked| asked > at) {
                findings
                    .add(Rule::Blocked, || format!("{id} is {status:?} for {user}, who did that after it had blocked {sender} at {at} ms"));
            }
        }
        (Status::Expired, _) if reason == UNDELIVERED => {
            let acked = index.traces_of(user).filter_map(|trace| trace.confirmed_at(*id)).min();
            if let Some(acked) = acked.filter(|acked| !index.policies.may_block(user, sender, first, *acked)) {
                findings.add(Rule::Blocked, || format!("{id} was acked by {user} before any block, at {acked} ms, and ended as blocked"));
            }
        }
        (Status::Expired, _) if reason == GAP => {
            findings.add(Rule::BlockTold, || format!("{sender} may read that {id} was blocked by {user}"));
        }
        (Status::Sent | Status::Delivered | Status::Read | Status::Failed | Status::Expired, _) => {}
    }
}

/// A message that has ended by a block comes on no connection that began after the answer to the block.
fn reshown(History { client, user, records }: &History, ended: &HashMap<(Uuid, &str), u64>, findings: &mut Findings) {
    let mut began: HashMap<u32, u64> = HashMap::new();
    for Record { at_ms, connection, event } in records {
        match event {
            Event::Connecting { .. } => _ = began.insert(*connection, *at_ms),
            Event::Received { message, .. } => {
                let connected = began.get(connection).copied().unwrap_or_default();
                if let Some(at) = ended.get(&(*message, user.as_str())).filter(|at| **at < connected) {
                    findings.add(Rule::Blocked, || {
                        format!("{client} connected at {connected} ms and got {message}, whose sender was blocked at {at} ms")
                    });
                }
            }
            _ => {}
        }
    }
}

/// A direct message is refused only where there may be a block, and a repeated id never.
fn refusals(index: &Index<'_>, History { client, user, records }: &History, findings: &mut Findings) {
    let mut confirmed = HashSet::new();
    // The last attempt of each message on each connection: its time, and whether the message was confirmed before.
    let mut attempts = HashMap::new();
    for Record { at_ms, connection, event } in records {
        match event {
            Event::SendAttempted { message, .. } => {
                attempts.insert((*message, *connection), (*at_ms, confirmed.contains(message)));
            }
            Event::SendConfirmed { message, .. } => _ = confirmed.insert(*message),
            Event::SendRefused { message, code, .. } if code == NOT_ACCEPTED => {
                let (attempted, was_confirmed) = attempts.get(&(*message, *connection)).copied().unwrap_or_default();
                let to = index.policies.recipient(*message, user);
                let may_be = to.is_some_and(|to| index.policies.may_be_refused(user, to, attempted, *at_ms));
                if was_confirmed || !may_be {
                    let why = if was_confirmed { "it was confirmed before" } else { "nothing may have stood between them" };
                    findings.add(Rule::RefusedUnblocked, || format!("{client} sent {message} to {to:?}, refused at {at_ms} ms, and {why}"));
                }
            }
            _ => {}
        }
    }
}

/// Nobody is told of being blocked.
fn told(index: &Index<'_>, History { client, user, records }: &History, findings: &mut Findings) {
    let has_blocked = index.policies.has_ever_blocked(user);
    // The highest mark so far, of whichever status, in each chat and of each recipient.
    let mut marks: HashMap<(Uuid, &str), i64> = HashMap::new();
    for (at, Record { at_ms, event, .. }) in records.iter().enumerate() {
        match event {
            Event::ToldWhy { chat, reason } if reason.contains("block") => {
                findings.add(Rule::BlockTold, || format!("{client} was told at {at_ms} ms of chat {chat}: {reason}"));
            }
            Event::Gap { from, to, reason, .. } if reason == GAP && !has_blocked => {
                findings.add(Rule::BlockTold, || format!("{client} was told that {from} to {to} is {reason}, and has blocked nobody"));
            }
            Event::Told(receipt) => {
                let mark = marks.entry((receipt.chat, &receipt.user)).or_default();
                *mark = receipt.up_to.max(other_mark(&records[at..], receipt)).unwrap_or_default().max(*mark);
                told_by_itself(index, (client, user, *at_ms), (receipt, *mark), findings);
            }
            _ => {}
        }
    }
}

/// The marks of one read are told one after the other, each with all that they except and the reasons of these: where the other of the two stands.
fn other_mark(records: &[Record], receipt: &Receipt) -> Option<i64> {
    let (Record { connection, .. }, rest) = records.split_first()?;
    let next = rest.iter().find(|record| !matches!(record.event, Event::ToldWhy { .. }))?;
    let Record { connection: of, event: Event::Told(other), .. } = next else { return None };
    let is_same_read = of == connection && (other.chat, &other.user, &other.except) == (receipt.chat, &receipt.user, &receipt.except);
    if is_same_read { other.up_to } else { None }
}

/// A row that a block has ended is named once a mark has passed it, and not by itself: its sender would hear of the block.
fn told_by_itself(index: &Index<'_>, (client, user, at_ms): (&str, &str, u64), (receipt, mark): (&Receipt, i64), findings: &mut Findings) {
    let named = receipt.messages.iter().map(|id| (*id, receipt.status)).chain(receipt.except.iter().copied());
    for (id, status) in named.filter(|(_, status)| *status == Status::Expired) {
        let (Some(message), Some(row)) = (index.message(id), index.row(id, &receipt.user)) else { continue };
        let is_by_a_block = row.reason == UNDELIVERED && index.policies.may_have_ended(id, user, &receipt.user);
        if is_by_a_block && mark < message.seq {
            findings.add(Rule::BlockTold, || {
                format!("{client} was told at {at_ms} ms that {id} is {status:?} for {}, and no mark passes it", receipt.user)
            });
        }
    }
}

impl Trace<'_> {
    /// When an ack of the message was first confirmed, in milliseconds of the run.
    fn confirmed_at(&self, message: Uuid) -> Option<u64> {
        self.confirmations(message).map(|at| self.history.records[at].at_ms).min()
    }
}
