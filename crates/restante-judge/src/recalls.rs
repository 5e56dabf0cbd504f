//! Judges recalls: one that was answered stands, nobody is shown the message later, and who has it gets one notice, in order.
//!
//! An envelope may be under way when its message is recalled. So the judge looks at connections that began after the answer, and at those
//! that were told of the recall before.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::deliveries::{Order, name};
use super::findings::{Findings, Rule};
use super::history::{Event, History, Status};
use super::index::Index;
use super::rows::{failed_with_cause, received};
use super::snapshot::{Notice, Row};
use super::trace::{Delivery, Repetition, Trace};

/// A request of a client to recall a message.
struct Request<'a> {
    user: &'a str,
    /// The answer: its time in the run, and the time of the recall.
    answer: Option<(u64, &'a str)>,
}

/// The recalls of a run.
struct Recalls<'a> {
    requests: HashMap<Uuid, Vec<Request<'a>>>,
}

pub(super) fn judge(index: &Index<'_>, findings: &mut Findings) {
    let recalls = Recalls { requests: requests(index) };
    answers(index, &recalls, findings);
    refusals(index, findings);
    for trace in &index.traces {
        reshown(index, &recalls, trace, findings);
        in_order(index, trace, findings);
    }
    read_unseen(index, &recalls, findings);
    notices(index, findings);
}

impl Recalls<'_> {
    /// From when on the message is certainly recalled, in milliseconds of the run.
    fn answered_at(&self, message: Uuid) -> Option<u64> {
        self.requests.get(&message)?.iter().filter_map(|request| request.answer).map(|(at, _)| at).min()
    }
}

fn requests<'a>(index: &Index<'a>) -> HashMap<Uuid, Vec<Request<'a>>> {
    let mut requests: HashMap<Uuid, Vec<Request<'a>>> = HashMap::new();
    for history in &index.evidence.histories {
        let answers: HashMap<u64, (u64, &str)> = history
            .records
            .iter()
            .filter_map(|record| match &record.event {
                Event::RecallAnswered { ask, recalled_at: Some(at), .. } => Some((*ask, (record.at_ms, at.as_str()))),
                _ => None,
            })
            .collect();
        for record in &history.records {
            if let Event::RecallAsked { ask, message } = &record.event {
                let request = Request { user: &history.user, answer: answers.get(ask).copied() };
                requests.entry(*message).or_default().push(request);
            }
        }
    }
    requests
}

/// A recall that was answered, or was told, stands; what is recalled was recalled by its sender, or in SQL.
fn answers(index: &Index<'_>, recalls: &Recalls<'_>, findings: &mut Findings) {
    for (message, requests) in &recalls.requests {
        let times: HashSet<&str> = requests.iter().filter_map(|request| request.answer).map(|(_, at)| at).collect();
        if !times.is_empty() && !stands(index, *message) {
            findings.add(Rule::RecallLost, || format!("the recall of {message} was answered, and it is not recalled"));
        }
        if times.len() > 1 {
            findings.add(Rule::RecallLost, || format!("{message} was recalled at several times: {times:?}"));
        }
    }
    for history in &index.evidence.histories {
        for record in &history.records {
            if let Event::RecallTold { message } = &record.event
                && !stands(index, *message)
            {
                findings.add(Rule::RecallLost, || format!("{} was told that {message} was recalled, and it is not", history.client));
            }
        }
    }
    for (id, message) in index.evidence.snapshot.messages.iter().filter(|(_, message)| message.is_recalled) {
        let by_sender = |requests: &Vec<Request<'_>>| requests.iter().any(|request| request.user == message.sender);
        if !recalls.requests.get(id).is_some_and(by_sender) && !index.evidence.recalled.contains(id) {
            findings.add(Rule::RecallLost, || format!("{id} of {} is recalled, and nobody asked for that", message.sender));
        }
    }
}

/// Tells whether the message is recalled, or was removed.
fn stands(index: &Index<'_>, message: Uuid) -> bool {
    index.message(message).is_none_or(|stored| stored.is_recalled)
}

/// A message whose send was confirmed before is found.
fn refusals(index: &Index<'_>, findings: &mut Findings) {
    for history in &index.evidence.histories {
        let (mut confirmed, mut asked) = (HashSet::new(), HashMap::new());
        for record in &history.records {
            match &record.event {
                Event::SendConfirmed { message, .. } => _ = confirmed.insert(*message),
                Event::RecallAsked { ask, message } if confirmed.contains(message) => _ = asked.insert(*ask, *message),
                Event::RecallAnswered { ask, recalled_at: None, answer } if answer.contains("not_found") => {
                    if let Some(message) = asked.get(ask) {
                        findings.add(Rule::RecallLost, || format!("{} sent {message}, and could not recall it", history.client));
                    }
                }
                _ => {}
            }
        }
    }
}

/// No message comes on a connection that began after its recall was answered, or that was told of it.
fn reshown(index: &Index<'_>, recalls: &Recalls<'_>, trace: &Trace<'_>, findings: &mut Findings) {
    let mut told: HashSet<(u32, Uuid)> = HashSet::new();
    let began = connections(trace.history);
    for record in &trace.history.records {
        match &record.event {
            Event::NoticeReceived { message, .. } => _ = told.insert((record.connection, *message)),
            Event::Received { message, .. } if index.message(*message).is_some_and(|stored| stored.is_recalled) => {
                let client = &trace.history.client;
                let connected = began.get(&record.connection).copied().unwrap_or_default();
                if let Some(at) = recalls.answered_at(*message).filter(|at| *at < connected) {
                    findings.add(Rule::Reshown, || format!("{client} connected at {connected} ms and got {message}, recalled at {at} ms"));
                } else if told.contains(&(record.connection, *message)) {
                    findings.add(Rule::Reshown, || {
                        format!("{client} (connection {}) got {message} at {} ms, after its notice", record.connection, record.at_ms)
                    });
                }
            }
            _ => {}
        }
    }
}

/// When each connection began, in milliseconds of the run.
fn connections(history: &History) -> HashMap<u32, u64> {
    let began = history.records.iter().filter(|record| matches!(record.event, Event::Connecting { .. }));
    began.map(|record| (record.connection, record.at_ms)).collect()
}

/// Notices stand between the messages of their chat, in the order of the inbox, and come again only for a reason.
fn in_order(index: &Index<'_>, trace: &Trace<'_>, findings: &mut Findings) {
    let mut order = Order::default();
    let user = &trace.history.user;
    for (stream, delivery) in &trace.deliveries {
        let Some((id, chat, inbox_seq)) = place(delivery) else { continue };
        if index.is_requeued(id, user) {
            continue;
        }
        let said = || name(trace, stream, delivery);
        let is_notice = matches!(delivery.event, Event::NoticeReceived { .. });
        match delivery.repetition {
            Repetition::AckedBefore | Repetition::SameConnection if is_notice => {
                findings.add(Rule::Duplicate, || format!("{} got notice {id} again, without a reason", said()));
            }
            Repetition::First => {
                if let Some(last) = order.breach(stream, trace.began(delivery.connection), delivery, chat, inbox_seq) {
                    findings.add(Rule::Order, || format!("{} received inbox number {inbox_seq} of chat {chat} after {last}", said()));
                }
            }
            _ => {}
        }
    }
}

/// The id of a message or notice, its chat and its number in the inbox.
const fn place(delivery: &Delivery<'_>) -> Option<(Uuid, Uuid, i64)> {
    match delivery.event {
        Event::Received { message, chat, inbox_seq, .. } => Some((*message, *chat, *inbox_seq)),
        Event::NoticeReceived { notice, chat, inbox_seq, .. } => Some((*notice, *chat, *inbox_seq)),
        _ => None,
    }
}

/// A message that no client of its recipient had received is not delivered by a read that is asked for after the recall.
fn read_unseen(index: &Index<'_>, recalls: &Recalls<'_>, findings: &mut Findings) {
    for row in &index.evidence.snapshot.rows {
        let Some(message) = index.message(row.message).filter(|message| message.is_recalled) else { continue };
        let Some(answered) = recalls.answered_at(row.message) else { continue };
        let is_had = matches!(row.status, Status::Delivered | Status::Read);
        if !is_had || received(index.traces_of(&row.user), row) > 0 {
            continue;
        }
        if index.asked_at(row.message, message, &row.user, row.status).is_some_and(|asked| asked > answered) {
            findings.add(Rule::Notice, || {
                format!("{} is {:?} for {}, who read it unseen after it was recalled at {answered} ms", row.message, row.status, row.user)
            });
        }
    }
}

/// Each that has the message has one notice behind it, and each notice comes to an end.
fn notices(index: &Index<'_>, findings: &mut Findings) {
    let snapshot = &index.evidence.snapshot;
    let mut of: HashMap<(Uuid, &str), Vec<&Notice>> = HashMap::new();
    for notice in &snapshot.notices {
        of.entry((notice.of, notice.row.user.as_str())).or_default().push(notice);
        end(index, notice, findings);
    }
    for row in &snapshot.rows {
        let Some(message) = index.message(row.message) else { continue };
        let has_it = message.is_recalled && matches!(row.status, Status::Delivered | Status::Read);
        let found = of.remove(&(row.message, row.user.as_str())).unwrap_or_default();
        let is_behind = found.iter().all(|notice| notice.row.seq > row.seq);
        if found.len() != usize::from(has_it) || !is_behind {
            let places: Vec<_> = found.iter().map(|notice| notice.row.seq).collect();
            findings.add(Rule::Notice, || {
                format!("{} is {:?} for {} under {:?}, with notices under {places:?}", row.message, row.status, row.user, row.seq)
            });
        }
    }
    for ((message, user), _) in of {
        findings.add(Rule::Notice, || format!("{user} has a notice of {message}, and no row of it"));
    }
}

fn end(index: &Index<'_>, Notice { row, of }: &Notice, findings: &mut Findings) {
    let Row { user, status, seq, .. } = row;
    let traces = index.traces_of(user);
    let words = || format!("{user}'s notice of {of} under {seq:?}");
    let is_back = !index.evidence.away.contains(user);
    match status {
        Status::Sent if is_back => findings.add(Rule::Waiting, || format!("{} waits still", words())),
        Status::Sent => {}
        Status::Delivered | Status::Read => {
            if !traces.clone().any(|trace| trace.actions.acked.contains_key(&row.message)) {
                findings.add(Rule::Unacked, || format!("{} is {status:?} and no client did that", words()));
            }
            if is_back && received(traces, row) == 0 {
                findings.add(Rule::NotReceived, || format!("no client received {}", words()));
            }
        }
        Status::Failed if failed_with_cause(index.evidence.attempts_max, traces, row) => {}
        Status::Failed | Status::Expired => {
            findings.add(Rule::EndedWithoutCause, || format!("{} is {status:?} ({})", words(), row.reason));
        }
    }
}
