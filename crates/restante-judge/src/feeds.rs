//! Judges events by what is stored: each was published so, each is for every follower one row or part of one gap, nobody else has it,
//! and what has ended has a cause.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use uuid::Uuid;

use super::findings::{Findings, Rule};
use super::history::{Audience, Class, Event, History, Publication, Status};
use super::index::Index;
use super::rows::{failed_with_cause, received};
use super::snapshot::Row;
use super::snapshot::feeds::{FeedGap, Feeds, Following, LISTED, StoredEvent, Stream};

/// More events than this may not wait for a user in a class: the oldest ones end.
const WAITING_MAX: usize = 1_000;

/// The feeds of a run with ways to look things up in them.
pub(super) struct Board<'a, 'b> {
    /// The evidence of the run.
    pub(super) index: &'b Index<'a>,
    /// The feeds at the end.
    pub(super) feeds: &'a Feeds,
    /// Events as their publishers put them on the wire, with the publisher and the time of the first attempt in milliseconds of the run.
    pub(super) published: HashMap<Uuid, (&'a str, &'a Publication, u64)>,
    /// The events of each stream in the order of their numbers.
    pub(super) of_stream: BTreeMap<Uuid, Vec<(Uuid, &'a StoredEvent)>>,
    rows: HashMap<(Uuid, &'a str), Vec<&'a Row>>,
    gaps: HashMap<(&'a str, Uuid, Class), Vec<&'a FeedGap>>,
    followings: HashMap<(Uuid, &'a str), Vec<&'a Following>>,
}

impl<'a, 'b> Board<'a, 'b> {
    pub(super) fn of(index: &'b Index<'a>) -> Self {
        let feeds = &index.evidence.snapshot.feeds;
        let mut board = Self {
            index,
            feeds,
            published: HashMap::new(),
            of_stream: BTreeMap::new(),
            rows: HashMap::new(),
            gaps: HashMap::new(),
            followings: HashMap::new(),
        };
        for history in &index.evidence.histories {
            for record in &history.records {
                if let Event::PublishAttempted(publication) = &record.event {
                    board.published.entry(publication.event).or_insert((&history.user, publication, record.at_ms));
                }
            }
        }
        for (id, event) in &feeds.events {
            board.of_stream.entry(event.stream).or_default().push((*id, event));
        }
        board.of_stream.values_mut().for_each(|events| events.sort_by_key(|(_, event)| event.seq));
        for row in &feeds.rows {
            board.rows.entry((row.message, &row.user)).or_default().push(row);
        }
        // A row that was put back, and was removed, stands for one that is there.
        for row in &feeds.removed {
            let rows = board.rows.entry((row.message, &row.user)).or_default();
            if rows.is_empty() {
                rows.push(row);
            }
        }
        for gap in &feeds.gaps {
            board.gaps.entry((&gap.user, gap.feed, gap.class)).or_default().push(gap);
        }
        for following in &feeds.followings {
            board.followings.entry((following.stream, &following.user)).or_default().push(following);
        }
        board
    }

    /// The rows that a user has, or had, of an event.
    pub(super) fn rows_of<'c>(&'c self, event: Uuid, user: &'c str) -> &'c [&'a Row] {
        self.rows.get(&(event, user)).map_or(&[], Vec::as_slice)
    }

    /// The gaps of a user in which an event lies.
    pub(super) fn gaps_over<'c>(&'c self, event: &StoredEvent, user: &'c str) -> impl Iterator<Item = &'c FeedGap> {
        let stream = self.feeds.streams.get(&event.stream);
        let gaps = stream.and_then(|stream| self.gaps.get(&(user, stream.feed, stream.class)));
        let seq = event.seq;
        gaps.into_iter().flatten().copied().filter(move |gap| (gap.from..=gap.to).contains(&seq))
    }

    /// The gap that a client was told of.
    pub(super) fn gap(&self, user: &str, feed: Uuid, class: Class, seq: i64) -> Option<&'a FeedGap> {
        self.gaps.get(&(user, feed, class))?.iter().copied().find(|gap| gap.seq == seq)
    }

    /// Tells whether an event of a stream that the user follows is for the user.
    pub(super) fn is_for(&self, id: Uuid, event: &StoredEvent, user: &str) -> bool {
        event.publisher != user && !self.feeds.exceptions.contains(&(id, user.to_owned()))
    }

    /// Tells whether the user followed the stream of the event at its number, and has taken it.
    fn has_taken(&self, event: &StoredEvent, user: &str) -> bool {
        let followings = self.followings.get(&(event.stream, user));
        followings.into_iter().flatten().any(|following| following.followed_seq < event.seq && event.seq <= following.cursor_seq)
    }

    /// Tells whether the user left the feed before it had taken the event. Then nothing of it is left.
    pub(super) fn left_before(&self, event: &StoredEvent, user: &str) -> bool {
        let followings = self.followings.get(&(event.stream, user));
        followings.into_iter().flatten().any(|of| of.has_left && of.followed_seq < event.seq && of.cursor_seq < event.seq)
    }

    fn is_listed(&self, stream: Uuid) -> bool {
        self.feeds.streams.get(&stream).is_some_and(|stream| stream.feed == LISTED)
    }

    /// The users that an event lists, as far as they are to get it.
    fn listed(&self, event: Uuid) -> BTreeSet<&'a str> {
        let Some((publisher, publication, _)) = self.published.get(&event) else { return BTreeSet::new() };
        let Audience::Users(users) = &publication.to else { return BTreeSet::new() };
        let is_meant = |user: &&str| user != publisher && !publication.except.iter().any(|except| except == user);
        users.iter().map(String::as_str).filter(is_meant).collect()
    }

    /// Tells whether the user ever asked to mute this type: a cause for an event to have no row.
    pub(super) fn may_be_muted(&self, user: &str, event_type: &str) -> bool {
        let histories = self.index.evidence.histories.iter().filter(|history| history.user == user);
        histories.flat_map(|history| &history.records).any(|record| match &record.event {
            Event::MuteAsked { types, .. } => types.iter().any(|muted| muted == event_type),
            _ => false,
        })
    }
}

pub(super) fn judge(board: &Board<'_, '_>, findings: &mut Findings) {
    for history in &board.index.evidence.histories {
        answers(board, history, findings);
    }
    for (id, event) in &board.feeds.events {
        unsent(board, *id, event, findings);
    }
    for (stream, events) in &board.of_stream {
        let last = board.feeds.streams.get(stream).map_or(0, |stream| stream.last_seq);
        let purged = board.feeds.streams.get(stream).map_or(0, |stream| stream.purged_seq);
        if events.iter().map(|(_, event)| event.seq).ne(purged + 1..=last) {
            findings.add(Rule::ChatGap, || format!("stream {stream} says its last number is {last} and has {} events", events.len()));
        }
        for (id, event) in events {
            if board.is_listed(*stream) { listed(board, *id, event, findings) } else { followers(board, *id, event, findings) }
        }
    }
    for following in board.feeds.followings.iter().filter(|following| !following.has_left) {
        untaken(board, following, findings);
    }
    board.feeds.rows.iter().for_each(|row| end(board, row, findings));
    board.feeds.gaps.iter().for_each(|gap| gap_cause(board, gap, findings));
    for row in board.feeds.removed_while_waiting() {
        findings.add(Rule::Purged, || {
            format!("{}'s row {} of {:?} for {} waited and was removed", row.user, number(row), row.class, row.message)
        });
    }
}

fn number(row: &Row) -> i64 {
    row.seq.unwrap_or_default()
}

/// The same JSON, however it is written.
pub(super) fn is_same_json(one: &str, other: &str) -> bool {
    let parsed = |text| serde_json::from_str::<Value>(text).ok();
    one == other || parsed(one).is_some_and(|one| parsed(other) == Some(one))
}

fn unsent(board: &Board<'_, '_>, id: Uuid, event: &StoredEvent, findings: &mut Findings) {
    let stream = board.feeds.streams.get(&event.stream);
    let is_it = board.published.get(&id).is_some_and(|(user, publication, _)| {
        let is_place = match &publication.to {
            Audience::Feed(feed) => stream.is_some_and(|stream| stream.feed == *feed),
            Audience::Users(_) => stream.is_some_and(|stream| stream.feed == LISTED),
        };
        let is_class = stream.is_some_and(|stream| stream.class == publication.class);
        let is_data = event.is_sealed || is_same_json(&publication.data, &event.data);
        *user == event.publisher && is_data && is_place && is_class
    });
    if !is_it {
        findings.add(Rule::EventUnsent, || format!("{id} of {}: {}", event.publisher, event.data));
    }
}

fn answers(board: &Board<'_, '_>, history: &History, findings: &mut Findings) {
    let mut first: HashMap<Uuid, &str> = HashMap::new();
    // As for messages: an answer to an attempt from before the first answer may come late.
    let mut is_repeated: HashMap<(Uuid, u32), bool> = HashMap::new();
    for record in &history.records {
        match &record.event {
            Event::PublishAttempted(publication) => {
                is_repeated.insert((publication.event, record.connection), first.contains_key(&publication.event));
            }
            Event::PublishConfirmed { event, created_at, duplicate } => {
                let name = || format!("{}: {event}", history.client);
                if !board.feeds.events.contains_key(event) {
                    findings.add(Rule::EventLost, || format!("{} was confirmed and is not there", name()));
                }
                let known = *first.entry(*event).or_insert(created_at);
                if known != created_at {
                    findings.add(Rule::EventLost, || format!("{} was stored at {known}, then at {created_at}", name()));
                }
                if is_repeated.get(&(*event, record.connection)) == Some(&true) && !duplicate {
                    findings.add(Rule::EventLost, || format!("{} was confirmed before, and again as new", name()));
                }
            }
            _ => {}
        }
    }
}

/// An event of a feed: everybody who has taken it has one row or one gap for it, and nobody else has a row.
fn followers(board: &Board<'_, '_>, id: Uuid, event: &StoredEvent, findings: &mut Findings) {
    let with_row = board.index.users().filter(|user| !board.rows_of(id, user).is_empty());
    let takers = board.followings.iter().filter(|((stream, _), _)| *stream == event.stream).map(|((_, user), _)| *user);
    let users: BTreeSet<&str> = with_row.chain(takers).collect();
    for user in users {
        let (rows, gaps) = (board.rows_of(id, user).len(), board.gaps_over(event, user).count());
        let is_due = board.is_for(id, event, user) && board.has_taken(event, user);
        let name = || format!("{id}, number {} of stream {}, for {user}", event.seq, event.stream);
        if is_due && rows + gaps == 0 {
            findings.add(Rule::EventMissing, || format!("{} was passed and has neither row nor gap", name()));
        } else if is_due && rows + gaps > 1 {
            findings.add(Rule::EventTwice, || format!("{} has {rows} rows and lies in {gaps} gaps", name()));
        } else if !is_due && rows > 0 {
            findings.add(Rule::EventForeign, || format!("{} has a row and should not", name()));
        }
    }
}

fn listed(board: &Board<'_, '_>, id: Uuid, event: &StoredEvent, findings: &mut Findings) {
    let wanted = board.listed(id);
    let with_row: BTreeSet<&str> = board.index.users().filter(|user| !board.rows_of(id, user).is_empty()).collect();
    let name = |user: &str| format!("{id} to listed users, number {}, for {user}", event.seq);
    // Those that have muted the type get no row, and are counted with the event.
    for user in wanted.difference(&with_row).filter(|user| !board.may_be_muted(user, &event.event_type)) {
        findings.add(Rule::EventMissing, || format!("{} has no row", name(user)));
    }
    for user in with_row.difference(&wanted) {
        findings.add(Rule::EventForeign, || format!("{} has a row and was not listed", name(user)));
    }
    for user in with_row.iter().filter(|user| board.rows_of(id, user).len() > 1) {
        findings.add(Rule::EventTwice, || format!("{} has two rows", name(user)));
    }
}

/// At the end everybody that came back has taken everything.
fn untaken(board: &Board<'_, '_>, following: &Following, findings: &mut Findings) {
    let Some(stream) = board.feeds.streams.get(&following.stream) else { return };
    if following.cursor_seq < stream.last_seq && !board.index.evidence.away.contains(&following.user) {
        findings.add(Rule::Waiting, || {
            let Following { user, cursor_seq, .. } = following;
            format!("{user} has taken stream {} up to {cursor_seq} of {}", following.stream, stream.last_seq)
        });
    }
}

fn end(board: &Board<'_, '_>, row: &Row, findings: &mut Findings) {
    let index = board.index;
    let Some(event) = board.feeds.events.get(&row.message) else { return };
    let traces = index.event_traces_of(&row.user, row.class);
    let name = || format!("{}'s row {} of {:?} for event {}", row.user, number(row), row.class, row.message);
    let is_back = !index.evidence.away.contains(&row.user);
    match row.status {
        Status::Sent if is_back => findings.add(Rule::Waiting, || format!("{} waits still", name())),
        Status::Sent => {}
        Status::Delivered | Status::Read => {
            if !traces.clone().any(|trace| trace.actions.acked.contains_key(&row.message)) {
                findings.add(Rule::Unacked, || format!("{} is {:?} and no client did that", name(), row.status));
            }
            if is_back && received(traces, row) == 0 {
                findings.add(Rule::NotReceived, || format!("no client received {}", name()));
            }
        }
        Status::Failed | Status::Expired => {
            let is_caused = match row.status {
                Status::Failed => failed_with_cause(index.evidence.attempts_max, traces, row),
                _ => ended_with_cause(board, row.message, event, &row.user, &row.reason),
            };
            if !is_caused {
                findings.add(Rule::EndedWithoutCause, || format!("{} is {:?} ({})", name(), row.status, row.reason));
            }
            if row.reason == "superseded" && !stands_for(board, event, &row.user) {
                findings.add(Rule::Collapsed, || format!("{} was superseded, and nothing newer of its key stands", name()));
            }
        }
    }
}

fn ended_with_cause(board: &Board<'_, '_>, id: Uuid, event: &StoredEvent, user: &str, reason: &str) -> bool {
    let left = || board.followings.get(&(event.stream, user)).into_iter().flatten().any(|of| of.has_left && of.followed_seq < event.seq);
    match reason {
        "expired" => event.is_over,
        "left" => left(),
        "superseded" => event.collapse_key.is_some(),
        "muted" => board.may_be_muted(user, &event.event_type),
        "capped" => waited_at_most(board, id, user) > WAITING_MAX,
        _ => false,
    }
}

/// The events that a user ever had in the class of this one: no more can have waited at a time.
fn waited_at_most(board: &Board<'_, '_>, id: Uuid, user: &str) -> usize {
    let class = board.feeds.events.get(&id).and_then(|event| board.feeds.streams.get(&event.stream)).map(|stream| stream.class);
    let rows = board.feeds.rows.iter().chain(&board.feeds.removed).filter(|row| row.user == user && Some(row.class) == class);
    let gaps = board.feeds.gaps.iter().filter(|gap| gap.user == user && Some(gap.class) == class);
    rows.count() + gaps.map(|gap| usize::try_from(gap.count).unwrap_or_default()).sum::<usize>()
}

/// Tells whether a newer event of the same key, for the same user, was not superseded itself. It may not have been taken.
fn stands_for(board: &Board<'_, '_>, event: &StoredEvent, user: &str) -> bool {
    let newer = board
        .of_stream
        .get(&event.stream)
        .into_iter()
        .flatten()
        .filter(|(id, other)| other.seq > event.seq && other.collapse_key == event.collapse_key && board.is_for(*id, other, user));
    newer.into_iter().any(|(id, other)| {
        let is_superseded = board.rows_of(*id, user).iter().any(|row| row.reason == "superseded")
            || board.gaps_over(other, user).any(|gap| gap.reason == "superseded");
        !is_superseded
    })
}

/// Events that ended before they became rows have a cause, and are counted.
fn gap_cause(board: &Board<'_, '_>, gap: &FeedGap, findings: &mut Findings) {
    let stream = board.feeds.streams.iter().find(|(_, stream)| stream.feed == gap.feed && stream.class == gap.class);
    let Some((stream, Stream { purged_seq, .. })) = stream else { return };
    let events = board.of_stream.get(stream).into_iter().flatten().filter(|(_, event)| (gap.from..=gap.to).contains(&event.seq));
    let due: Vec<_> = events.filter(|(id, event)| board.is_for(*id, event, &gap.user)).collect();
    let name = || format!("{}'s gap {} of {:?}, {} to {} of feed {}", gap.user, gap.seq, gap.class, gap.from, gap.to, gap.feed);
    let length = gap.to - gap.from + 1;
    let least = if *purged_seq >= gap.from { 1 } else { due.len() as i64 };
    if gap.count < least || gap.count > length {
        findings.add(Rule::EventGap, || format!("{} counts {}, and {} events in it were for the user", name(), gap.count, due.len()));
    }
    for (id, event) in due {
        if !ended_with_cause(board, *id, event, &gap.user, &gap.reason) {
            findings.add(Rule::EndedWithoutCause, || format!("{}: number {} is {}", name(), event.seq, gap.reason));
        }
        if gap.reason == "superseded" && !stands_for(board, event, &gap.user) {
            findings
                .add(Rule::Collapsed, || format!("{}: number {} was superseded, and nothing newer of its key stands", name(), event.seq));
        }
    }
}
