//! Judges events by what clients saw: each gets its own, in the order of the feed and as they were published; an event comes again only
//! for a reason; gaps are told as they are stored. What was published between a client's following and its leaving has to be there.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::deliveries::{Order, holes, name};
use super::feeds::{Board, is_same_json};
use super::findings::{Findings, Rule};
use super::history::{Audience, Change, Event, History};
use super::trace::{Delivery, Repetition, Trace};

pub(super) fn judge(board: &Board<'_, '_>, findings: &mut Findings) {
    for trace in board.index.event_traces.iter().flatten() {
        envelopes(board, trace, findings);
        holes(trace, findings);
        gaps(board, trace, findings);
    }
    followed(board, findings);
}

fn envelopes(board: &Board<'_, '_>, trace: &Trace<'_>, findings: &mut Findings) {
    let mut order = Order::default();
    for (stream, delivery) in &trace.deliveries {
        let Event::EventReceived { event, .. } = delivery.event else { continue };
        let user = &trace.history.user;
        let said = || name(trace, stream, delivery);
        contents(board, trace, delivery, findings);
        let is_requeued = board.index.is_requeued(*event, user);
        let why = match delivery.repetition {
            Repetition::AckedBefore => "although its ack was confirmed before this connection began",
            Repetition::SameConnection => "on the same connection, as the same attempt, not rejected, and too soon",
            Repetition::Explained | Repetition::First => "",
        };
        if !why.is_empty() && !is_requeued {
            findings.add(Rule::Duplicate, || format!("{} got event {event} {why}", said()));
        }
        let Some(stored) = board.feeds.events.get(event).filter(|_| delivery.repetition == Repetition::First && !is_requeued) else {
            continue;
        };
        if let Some(last) = order.breach(stream, trace.began(delivery.connection), delivery, stored.stream, stored.seq) {
            findings
                .add(Rule::EventOrder, || format!("{} received number {} of stream {} after {last}", said(), stored.seq, stored.stream));
        }
    }
}

/// The envelope says what is stored, and the user has a row for it.
fn contents(board: &Board<'_, '_>, trace: &Trace<'_>, delivery: &Delivery<'_>, findings: &mut Findings) {
    let Event::EventReceived { event, class, inbox_seq, feed, feed_seq, data, .. } = delivery.event else { return };
    let (user, client) = (&trace.history.user, &trace.history.client);
    let (Some(stored), Some(row)) = (board.feeds.events.get(event), board.rows_of(*event, user).first()) else {
        findings.add(Rule::EventForeign, || format!("{client} received event {event}, for which {user} has no row"));
        return;
    };
    let stream = board.feeds.streams.get(&stored.stream);
    let place = stream.filter(|stream| stream.feed != super::snapshot::feeds::LISTED).map(|stream| (stream.feed, stored.seq));
    // Of an event that is sealed only its publisher has the data.
    let published = board.published.get(event).filter(|_| stored.is_sealed).map(|(_, publication, _)| &*publication.data);
    let is_same = place == feed.zip(*feed_seq)
        && stream.is_some_and(|stream| stream.class == *class)
        && (stored.merges || is_same_json(published.unwrap_or(&stored.data), data));
    // A requeue moves the row to a higher number of its inbox.
    let is_there = row.seq.is_none_or(|seq| seq == *inbox_seq || (board.index.is_requeued(*event, user) && *inbox_seq < seq));
    if !is_same || !is_there || row.class != *class {
        findings.add(Rule::Altered, || format!("{client} received {:?}, stored are {stored:?} and {row:?}", delivery.event));
    }
}

fn gaps(board: &Board<'_, '_>, trace: &Trace<'_>, findings: &mut Findings) {
    let History { client, user, records } = trace.history;
    for record in records {
        let Event::FeedGap { class, seq, feed, from_feed_seq, to_feed_seq, count, reason } = &record.event else { continue };
        if *class != trace.class {
            continue;
        }
        let stored = board.gap(user, *feed, *class, *seq);
        let is_same =
            stored.is_some_and(|gap| (gap.from, gap.to, gap.count, &gap.reason) == (*from_feed_seq, *to_feed_seq, *count, reason));
        if !is_same {
            findings.add(Rule::EventGap, || format!("{client} was told {:?}, stored is {stored:?}", record.event));
        }
    }
}

/// A client's request to follow a feed, or to leave it.
#[derive(Debug, Clone, Copy)]
struct Request {
    change: Change,
    /// When it was made, in milliseconds of the run.
    asked: u64,
    /// From when on it is certainly done; `None`: nobody knows.
    done: Option<u64>,
}

/// Holds the rows against the times at which clients followed, published and left: these say nothing of numbers.
fn followed(board: &Board<'_, '_>, findings: &mut Findings) {
    let (requests, confirmed) = (requests(board), confirmed(board));
    for ((user, feed), requests) in &requests {
        for (event, (publisher, publication, published)) in &board.published {
            let (Audience::Feed(of), Some(stored)) = (&publication.to, board.feeds.events.get(event)) else { continue };
            if of != feed || publisher == user || !board.is_for(*event, stored, user) {
                continue;
            }
            let is_there = !board.rows_of(*event, user).is_empty() || board.gaps_over(stored, user).next().is_some();
            let stored_by = confirmed.get(event).copied();
            let is_excused = board.index.evidence.away.contains(*user) || board.left_before(stored, user);
            if !is_there && !is_excused && is_certainly_due(requests, *published, stored_by) {
                findings.add(Rule::EventMissing, || {
                    format!(
                        "{user} followed feed {feed} when {event} (number {}) was published at {published} ms, and has nothing of it",
                        stored.seq
                    )
                });
            } else if is_there && !may_be_due(requests, *published, stored_by) {
                findings.add(Rule::EventForeign, || {
                    format!(
                        "{user} did not follow feed {feed} when {event} (number {}) was published at {published} ms, and has it",
                        stored.seq
                    )
                });
            }
        }
    }
}

/// It was asked to follow and was answered before the event was published, and did not ask to leave before the event was confirmed.
fn is_certainly_due(requests: &[Request], published: u64, stored_by: Option<u64>) -> bool {
    let Some(stored_by) = stored_by else { return false };
    requests.iter().any(|follow| {
        let has_left = |leave: &Request| {
            leave.change == Change::Leave && leave.done.is_none_or(|done| done >= follow.asked) && leave.asked <= stored_by
        };
        follow.change == Change::Join && follow.done.is_some_and(|done| done < published) && !requests.iter().any(has_left)
    })
}

/// It asked to follow before the event was confirmed, and had not certainly left when it was published.
fn may_be_due(requests: &[Request], published: u64, stored_by: Option<u64>) -> bool {
    requests.iter().any(|follow| {
        let has_left = |leave: &Request| {
            let is_later = follow.done.is_some_and(|done| done < leave.asked);
            leave.change == Change::Leave && is_later && leave.done.is_some_and(|done| done < published)
        };
        follow.change == Change::Join && stored_by.is_none_or(|by| follow.asked <= by) && !requests.iter().any(has_left)
    })
}

/// The requests of each user about each feed, from all its clients.
fn requests<'a>(board: &Board<'a, '_>) -> BTreeMap<(&'a str, Uuid), Vec<Request>> {
    let mut requests: BTreeMap<(&str, Uuid), Vec<Request>> = BTreeMap::new();
    for history in &board.index.evidence.histories {
        let mut answers: HashMap<u64, u64> = HashMap::new();
        for record in &history.records {
            if let Event::FollowAnswered { ask, is_done: true, .. } = &record.event {
                answers.insert(*ask, record.at_ms);
            }
        }
        for record in &history.records {
            if let Event::FollowAsked { ask, feed, change } = &record.event {
                let request = Request { change: *change, asked: record.at_ms, done: answers.get(ask).copied() };
                requests.entry((&history.user, *feed)).or_default().push(request);
            }
        }
    }
    requests
}

/// When each event was first confirmed to its publisher, in milliseconds of the run.
fn confirmed(board: &Board<'_, '_>) -> HashMap<Uuid, u64> {
    let mut confirmed = HashMap::new();
    for record in board.index.evidence.histories.iter().flat_map(|history| &history.records) {
        if let Event::PublishConfirmed { event, .. } = &record.event {
            let first = confirmed.entry(*event).or_insert(record.at_ms);
            *first = record.at_ms.min(*first);
        }
    }
    confirmed
}
