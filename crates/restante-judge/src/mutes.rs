//! Judges mutes: what a user had muted before it was published is no row.

use std::collections::HashMap;

use uuid::Uuid;

use super::feeds::Board;
use super::findings::{Findings, Rule};
use super::history::Event;

/// A request of a client to mute these types and no others.
struct Request<'a> {
    types: &'a [String],
    asked: u64,
    /// From when on it is certainly done; `None`: nobody knows.
    done: Option<u64>,
}

pub(super) fn judge(board: &Board<'_, '_>, findings: &mut Findings) {
    let (requests, received) = (requests(board), received(board));
    for row in board.feeds.rows.iter().chain(&board.feeds.removed) {
        let Some((_, publication, published)) = board.published.get(&row.message) else { continue };
        let requests = requests.get(row.user.as_str()).map_or(&[][..], Vec::as_slice);
        let made_by = received.get(&(row.message, row.user.as_str())).copied().unwrap_or(u64::MAX);
        if is_certainly_muted(requests, &publication.event_type, (*published, made_by)) {
            findings.add(Rule::Muted, || {
                let event_type = &publication.event_type;
                format!("{} had muted {event_type:?} when {} was published at {published} ms, and has it", row.user, row.message)
            });
        }
    }
}

/// It was asked to mute the type, and was answered before the event was published; nothing that may have been done later, before the row
/// was made, asks for the type.
fn is_certainly_muted(requests: &[Request<'_>], event_type: &String, (published, made_by): (u64, u64)) -> bool {
    requests.iter().any(|mute| {
        let may_be_later = |other: &Request<'_>| {
            !other.types.contains(event_type) && other.asked <= made_by && other.done.is_none_or(|done| done >= mute.asked)
        };
        mute.types.contains(event_type) && mute.done.is_some_and(|done| done < published) && !requests.iter().any(may_be_later)
    })
}

/// When each user first received an event, in milliseconds of the run: its row had been made by then.
fn received<'a>(board: &Board<'a, '_>) -> HashMap<(Uuid, &'a str), u64> {
    let mut received = HashMap::new();
    for history in &board.index.evidence.histories {
        for record in &history.records {
            if let Event::EventReceived { event, .. } = &record.event {
                let first = received.entry((*event, history.user.as_str())).or_insert(record.at_ms);
                *first = record.at_ms.min(*first);
            }
        }
    }
    received
}

/// The requests of each user, from all its clients.
fn requests<'a>(board: &Board<'a, '_>) -> HashMap<&'a str, Vec<Request<'a>>> {
    let mut requests: HashMap<&str, Vec<Request<'_>>> = HashMap::new();
    for history in &board.index.evidence.histories {
        let done: HashMap<u64, u64> = history
            .records
            .iter()
            .filter_map(|record| match &record.event {
                Event::MuteAnswered { ask, is_done: true, .. } => Some((*ask, record.at_ms)),
                _ => None,
            })
            .collect();
        for record in &history.records {
            if let Event::MuteAsked { ask, types } = &record.event {
                let request = Request { types, asked: record.at_ms, done: done.get(ask).copied() };
                requests.entry(&history.user).or_default().push(request);
            }
        }
    }
    requests
}
