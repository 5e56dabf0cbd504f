//! Judges events that merge: each has the data of the events whose place it took, each once, and the same data each time.
//!
//! The publishers of a run write `n`, which is 1 and summed, `ids`, a list of the event's own id and united, and ask for `times`, the count.
//! All events of a key merge, or none, and those that merge do not expire within a run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use uuid::Uuid;

use super::feeds::Board;
use super::findings::{Findings, Rule};
use super::history::{Event, History};
use super::snapshot::feeds::StoredEvent;

/// A union has this many values at most.
const VALUES_MAX: usize = 10;

pub(super) fn judge(board: &Board<'_, '_>, findings: &mut Findings) {
    let told = told(board, findings);
    let mut keys: BTreeMap<(Uuid, &str), Vec<(Uuid, &StoredEvent)>> = BTreeMap::new();
    for (id, event) in board.of_stream.values().flatten().filter(|(_, event)| event.merges) {
        if let Some(key) = &event.collapse_key {
            keys.entry((event.stream, key)).or_default().push((*id, event));
        }
    }
    for events in keys.values() {
        for user in board.index.users().filter(|user| is_plain(board, user, events)) {
            chain(board, user, events, &told, findings);
        }
    }
}

/// The number of events that each event that merges stands for, as each user was told.
fn told<'a>(board: &Board<'a, '_>, findings: &mut Findings) -> HashMap<(Uuid, &'a str), u32> {
    let mut told: HashMap<(Uuid, &str), (u32, &str)> = HashMap::new();
    for History { client, user, records } in &board.index.evidence.histories {
        for record in records {
            let Event::EventReceived { event, merged, data, .. } = &record.event else { continue };
            let Some(stored) = board.feeds.events.get(event).filter(|stored| stored.merges) else { continue };
            let merged = merged.unwrap_or_default();
            if let Some(why) = untrue(board, (*event, stored), user, merged, data) {
                findings.add(Rule::Merged, || format!("{client} got {event} with merged {merged} and {data}: {why}"));
            }
            let first = *told.entry((*event, user.as_str())).or_insert((merged, data));
            if first != (merged, &**data) {
                findings.add(Rule::Merged, || format!("{client} got {event} with {data}, {user} had got it with {}", first.1));
            }
        }
    }
    told.into_iter().map(|(of, (merged, _))| (of, merged)).collect()
}

/// The reason for which the data is not that of so many events. None: it is.
fn untrue(board: &Board<'_, '_>, (id, event): (Uuid, &StoredEvent), user: &str, merged: u32, data: &str) -> Option<String> {
    let data: Value = serde_json::from_str(data).ok()?;
    if data["n"] != merged || data["times"] != merged {
        return Some("the sum, the count and merged differ".to_owned());
    }
    let ids: Vec<Uuid> = data["ids"].as_array().into_iter().flatten().filter_map(|id| id.as_str()?.parse().ok()).collect();
    let wanted = usize::try_from(merged).unwrap_or(usize::MAX).min(VALUES_MAX);
    if ids.len() != wanted || ids.iter().collect::<BTreeSet<_>>().len() != wanted || ids.first() != Some(&id) {
        return Some(format!("{} ids, and {wanted} are wanted, its own first", ids.len()));
    }
    let is_one = |other: &Uuid| {
        board.feeds.events.get(other).is_some_and(|other_event| {
            let is_of_key = (other_event.stream, &other_event.collapse_key) == (event.stream, &event.collapse_key);
            is_of_key && other_event.seq <= event.seq && board.is_for(*other, other_event, user)
        })
    };
    ids.iter().find(|id| !is_one(id)).map(|id| format!("{id} is not of its key, or newer, or not for {user}"))
}

/// Tells whether every event of the key has one fate that is known to the end: nothing was removed, put back or left.
fn is_plain(board: &Board<'_, '_>, user: &str, events: &[(Uuid, &StoredEvent)]) -> bool {
    let Some((_, first)) = events.first() else { return false };
    let is_removed = |id: &Uuid| board.feeds.removed.iter().any(|row| row.message == *id && row.user == user);
    let is_known = |(id, _): &(Uuid, &StoredEvent)| !board.index.is_requeued(*id, user) && !is_removed(id);
    let followings = board.feeds.followings.iter().filter(|following| following.user == user && following.stream == first.stream);
    followings.filter(|following| following.has_left).count() == 0 && events.iter().all(is_known)
}

/// Checks that the next row has what was superseded since the last row that stands, and nothing else.
fn chain(board: &Board<'_, '_>, user: &str, events: &[(Uuid, &StoredEvent)], told: &HashMap<(Uuid, &str), u32>, findings: &mut Findings) {
    let mut superseded = 0;
    for (id, event) in events.iter().filter(|(id, event)| board.is_for(*id, event, user)) {
        let row = board.rows_of(*id, user).first();
        let is_over =
            row.is_some_and(|row| row.reason == "superseded") || board.gaps_over(event, user).any(|gap| gap.reason == "superseded");
        if is_over {
            superseded += 1;
        } else if row.is_some() {
            let wanted = 1 + std::mem::take(&mut superseded);
            if let Some(merged) = told.get(&(*id, user)).filter(|merged| **merged != wanted) {
                findings.add(Rule::Merged, || {
                    format!("{user} got {id}, number {} of stream {}, with merged {merged}, and {wanted} were due", event.seq, event.stream)
                });
            }
        }
    }
}
