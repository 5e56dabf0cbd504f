//! Events: Anna publishes three to a feed that Ben follows, and two to listed users. Good histories, and for each rule one that breaks it.

mod merges;

use super::*;
use crate::history::{Audience, Change, Publication};
use crate::snapshot::Feeds;
use crate::snapshot::feeds::{FeedGap, Following, LISTED, StoredEvent, Stream};

const FEED: Uuid = Uuid::from_u128(0xf);

fn event(n: i64) -> Uuid {
    id(100 + n)
}

fn data(n: i64) -> String {
    format!("{{\"n\": {n}}}")
}

fn publication(n: i64) -> Publication {
    let to = if n <= 3 { Audience::Feed(FEED) } else { Audience::Users(vec!["ben".into(), "anna".into()]) };
    let data = format!("{{\"n\":{n}}}").into();
    Publication {
        event: event(n),
        event_type: "tell".into(),
        class: Class::Event,
        to,
        except: vec![],
        ttl_ms: None,
        collapse_key: None,
        merges: false,
        data,
    }
}

fn got(n: i64, inbox_seq: i64) -> Event {
    let (feed, feed_seq) = if n <= 3 { (Some(FEED), Some(n)) } else { (None, None) };
    Event::EventReceived { event: event(n), class: Class::Event, inbox_seq, feed, feed_seq, data: data(n).into(), merged: None, attempt: 1 }
}

impl Script {
    fn publishes(self, n: i64) -> Self {
        self.then(1, Event::PublishAttempted(publication(n)))
    }

    fn hears_published(self, n: i64, duplicate: bool) -> Self {
        self.then(1, Event::PublishConfirmed { event: event(n), created_at: "t".into(), duplicate })
    }

    fn gets_event(self, connection: u32, n: i64) -> Self {
        self.then(connection, got(n, n))
    }

    fn acks_event(self, connection: u32, n: i64) -> Self {
        self.acks(connection, 100 + n)
    }
}

fn following(followed_seq: i64, cursor_seq: i64, has_left: bool) -> Following {
    Following { user: "ben".into(), stream: FEED, followed_seq, cursor_seq, has_left }
}

fn gap(seq: i64, from: i64, to: i64, reason: &str) -> FeedGap {
    FeedGap { user: "ben".into(), class: Class::Event, seq, reason: reason.into(), feed: FEED, from, to, count: to - from + 1 }
}

fn told(gap: &FeedGap) -> Event {
    let FeedGap { class, seq, feed, from, to, count, reason, .. } = gap.clone();
    Event::FeedGap { class, seq, feed, from_feed_seq: from, to_feed_seq: to, count, reason }
}

fn feeds() -> Feeds {
    let stored = |n: i64| {
        let (stream, seq) = if n <= 3 { (FEED, n) } else { (LISTED, n - 3) };
        StoredEvent {
            stream,
            seq,
            publisher: "anna".into(),
            event_type: "tell".into(),
            is_sealed: false,
            data: data(n),
            collapse_key: None,
            merges: false,
            is_over: false,
        }
    };
    let row = |n: i64| Row {
        user: "ben".into(),
        class: Class::Event,
        seq: Some(n),
        message: event(n),
        status: Status::Delivered,
        attempts: 0,
        reason: String::new(),
        ended_later: 0,
    };
    let stream = |feed, last_seq| Stream { feed, class: Class::Event, last_seq, purged_seq: 0 };
    Feeds {
        streams: HashMap::from([(FEED, stream(FEED, 3)), (LISTED, stream(LISTED, 2))]),
        events: (1..=5).map(|n| (event(n), stored(n))).collect(),
        rows: (1..=5).map(row).collect(),
        followings: vec![following(0, 3, false)],
        ..Feeds::default()
    }
}

/// Ben follows before everything; on his phone he gets and acks all five events, after the messages.
fn good() -> Case {
    let mut case = Case::good();
    case.anna = (1..=5).fold(Script::default().connects(1, None), |anna, n| anna.publishes(n).hears_published(n, false));
    // The messages of the good case are not what is looked at here.
    case.evidence.snapshot = Snapshot { feeds: feeds(), ..Snapshot::default() };
    case.evidence.snapshot.inboxes = vec![Inbox { user: "ben".into(), class: Class::Event, last_seq: 5, settled_seq: 5, purged_seq: 0 }];
    case.ben = (1..=5).fold(phone(1), |ben, n| ben.gets_event(1, n).acks_event(1, n));
    case
}

fn phone(connection: u32) -> Script {
    let ready = Event::ReadyOf { class: Class::Event, last_seq: 0, settled_seq: 0 };
    Script::default().connects(connection, Some("phone")).then(connection, ready)
}

impl Case {
    fn feeds(&mut self) -> &mut Feeds {
        &mut self.evidence.snapshot.feeds
    }

    /// The first events of the feed, up to this number, have ended before they became rows.
    fn with_gap(mut self, to: i64, reason: &str) -> Self {
        let inbox_seq = |n: i64| n - to + 1;
        let gap = gap(1, 1, to, reason);
        self.ben = (to + 1..=5).fold(phone(1).then(1, told(&gap)), |ben, n| ben.then(1, got(n, inbox_seq(n))).acks_event(1, n));
        let feeds = self.feeds();
        feeds.rows.retain(|row| row.message > event(to));
        feeds.rows.iter_mut().for_each(|row| row.seq = row.seq.map(inbox_seq));
        feeds.gaps = vec![gap];
        self.evidence.snapshot.gaps.insert(("ben".into(), Class::Event, 1));
        let inbox = &mut self.evidence.snapshot.inboxes[0];
        (inbox.last_seq, inbox.settled_seq) = (inbox_seq(5), inbox_seq(5));
        self
    }
}

#[test]
fn events_that_reach_a_follower_once_and_in_order_are_accepted() {
    assert_eq!(good().broken_rules(), []);
}

#[test]
fn what_ended_before_it_was_a_row_is_a_gap_that_is_told() {
    let ended = |change: fn(&mut Case)| {
        let mut case = good().with_gap(2, "expired");
        case.feeds().events.values_mut().filter(|event| event.stream == FEED && event.seq <= 2).for_each(|event| event.is_over = true);
        change(&mut case);
        case.broken_rules()
    };
    assert_eq!(ended(|_| ()), []);
    assert_eq!(ended(|case| case.feeds().events.get_mut(&event(2)).unwrap().is_over = false), [Rule::EndedWithoutCause]);
    assert_eq!(ended(|case| case.feeds().gaps[0].count = 1), [Rule::EventGap], "it counts too few, and is told otherwise");
    assert_eq!(ended(|case| case.feeds().gaps[0].reason = "capped".into()), [Rule::EndedWithoutCause, Rule::EventGap]);
    let untold = |case: &mut Case| case.ben.0.retain(|record| !matches!(record.event, Event::FeedGap { .. }));
    assert_eq!(ended(untold), [Rule::DeviceHole], "the device hears of no number 1");
    assert_eq!(ended(|case| case.feeds().gaps[0].to = 1), [Rule::EventMissing, Rule::EventGap]);
    assert_eq!(ended(|case| case.feeds().gaps[0].to = 3), [Rule::EndedWithoutCause, Rule::EventTwice, Rule::EventGap]);
}

#[test]
fn confirmed_event_is_stored_as_it_was_published_and_always_answered_alike() {
    let mut case = good();
    case.anna = case.anna.publishes(6).hears_published(6, false);
    assert_eq!(case.broken_rules(), [Rule::EventLost]);
    for second in [("t", false), ("u", true)] {
        let mut case = good();
        let again = Event::PublishConfirmed { event: event(1), created_at: second.0.into(), duplicate: second.1 };
        case.anna = case.anna.publishes(1).then(1, again);
        assert_eq!(case.broken_rules(), [Rule::EventLost], "{second:?}");
    }
    let mut case = good();
    case.anna = case.anna.publishes(1).hears_published(1, true);
    assert_eq!(case.broken_rules(), []);
}

#[test]
fn event_that_nobody_published_so_is_found() {
    let mut case = good();
    case.feeds().events.get_mut(&event(2)).unwrap().data = data(9);
    assert_eq!(case.broken_rules(), [Rule::Altered, Rule::EventUnsent]);
    let mut case = good();
    case.feeds().events.get_mut(&event(5)).unwrap().publisher = "dora".into();
    assert_eq!(case.broken_rules(), [Rule::EventUnsent]);
}

#[test]
fn event_that_a_cursor_passed_is_missing() {
    let mut case = good();
    case.feeds().rows.retain(|row| row.message != event(3));
    case.ben = (1..=5).filter(|n| *n != 3).fold(phone(1), |ben, n| ben.gets_event(1, n).acks_event(1, n));
    case.evidence.snapshot.gaps.insert(("ben".into(), Class::Event, 3));
    let rules = case.broken_rules();
    assert_eq!(rules, [Rule::DeviceHole, Rule::EventMissing]);
    let mut case = good();
    case.feeds().exceptions.insert((event(3), "ben".into()));
    assert_eq!(case.broken_rules(), [Rule::EventForeign], "and if it excepts Ben, the row is too much");
    let mut case = good();
    case.feeds().followings[0].cursor_seq = 2;
    assert_eq!(case.broken_rules(), [Rule::Waiting, Rule::EventForeign], "the row is there, and the cursor stands before it");
}

#[test]
fn listed_user_without_a_row_and_a_row_of_one_who_is_not_listed_are_found() {
    let mut case = good();
    case.feeds().rows[4].user = "dora".into();
    case.evidence.snapshot.gaps.insert(("ben".into(), Class::Event, 5));
    let dora = Inbox { user: "dora".into(), class: Class::Event, last_seq: 5, settled_seq: 5, purged_seq: 4 };
    case.evidence.snapshot.inboxes.push(dora);
    let rules = case.broken_rules();
    assert!(rules.contains(&Rule::EventMissing) && rules.contains(&Rule::EventForeign), "{rules:?}");
}

#[test]
fn event_with_two_rows_is_found() {
    let mut case = good();
    let again = Row { seq: Some(6), ..case.feeds().rows[1].clone() };
    case.feeds().rows.push(again);
    (case.evidence.snapshot.inboxes[0].last_seq, case.evidence.snapshot.inboxes[0].settled_seq) = (6, 6);
    assert_eq!(case.broken_rules(), [Rule::EventTwice]);
}

#[test]
fn event_from_before_the_user_followed_or_after_it_left_is_foreign() {
    let mut case = good();
    case.feeds().followings[0].followed_seq = 1;
    assert_eq!(case.broken_rules(), [Rule::EventForeign], "before it followed");
    let mut case = good();
    case.feeds().followings = vec![following(0, 2, true)];
    assert_eq!(case.broken_rules(), [Rule::EventForeign], "after it had left");
    let mut case = good();
    case.feeds().followings = vec![following(0, 2, true), following(2, 3, false)];
    assert_eq!(case.broken_rules(), [], "it left and came back");
}

/// Ben asks before and after Anna has published all of it; one after the other, 1000 ms apart.
fn asks(case: &mut Case, requests: &[(u64, Change)]) {
    for (ask, (at_ms, change)) in (500..).zip(requests) {
        let asked = Event::FollowAsked { ask, feed: FEED, change: *change };
        let answered = Event::FollowAnswered { ask, is_done: true, answer: "done".into() };
        case.ben.0.push(Record { at_ms: *at_ms, connection: 1, event: asked });
        case.ben.0.push(Record { at_ms: at_ms + 100, connection: 1, event: answered });
    }
}

#[test]
fn times_of_following_and_publishing_are_held_against_the_rows() {
    let at_with = |requests: &[(u64, Change)], has_rows: bool, change: fn(&mut Case)| {
        let mut case = good();
        case.anna.0.iter_mut().for_each(|record| record.at_ms += 2_000);
        if !has_rows {
            // As if the database had numbered otherwise: by the numbers everything is right.
            case.feeds().followings = vec![following(3, 3, false)];
            case.feeds().rows.retain(|row| row.message > event(3));
            case.ben = (4..=5).fold(Script::default().connects(1, Some("phone")), |ben, n| ben.gets_event(1, n).acks_event(1, n));
            let inbox = &mut case.evidence.snapshot.inboxes[0];
            inbox.purged_seq = 3;
        }
        change(&mut case);
        asks(&mut case, requests);
        case.broken_rules()
    };
    let at = |requests: &[(u64, Change)], has_rows: bool| at_with(requests, has_rows, |_| ());
    assert_eq!(at(&[(0, Change::Join)], true), []);
    assert_eq!(at(&[(0, Change::Join)], false), [Rule::EventMissing]);
    assert_eq!(at(&[(9_000, Change::Join)], true), [Rule::EventForeign]);
    assert_eq!(at(&[(9_000, Change::Join)], false), []);
    assert_eq!(at(&[(0, Change::Join), (1_000, Change::Leave)], true), [Rule::EventForeign]);
    assert_eq!(at(&[(0, Change::Join), (1_000, Change::Leave)], false), []);
    assert_eq!(at(&[(0, Change::Join), (1_980, Change::Leave)], true), [], "it left while they were published");
    assert_eq!(at(&[(0, Change::Join), (1_980, Change::Leave)], false), []);
    assert_eq!(
        at(&[(0, Change::Join), (9_000, Change::Leave)], false),
        [Rule::EventMissing],
        "it left later, by a row that says nothing of it"
    );
    let left = |case: &mut Case| case.feeds().followings = vec![following(0, 0, true)];
    assert_eq!(at_with(&[(0, Change::Join), (9_000, Change::Leave)], false, left), [], "it left before it had taken them");
}

#[test]
fn event_out_of_order_altered_or_given_again_without_a_reason_is_found() {
    let take =
        |ben: Script, rest: &[i64]| good().with_ben(rest.iter().fold(ben, |ben, n| ben.gets_event(1, *n).acks_event(1, *n))).broken_rules();
    assert_eq!(take(phone(1), &[1, 3, 2, 4, 5]), [Rule::EventOrder]);
    assert_eq!(take(phone(1), &[1, 2, 3, 5, 4]), [Rule::EventOrder], "listed users have an order too");
    assert_eq!(take(phone(1), &[4, 1, 5, 2, 3]), [], "between feeds there is none");
    assert_eq!(take(phone(1).gets_event(1, 1).gets_event(1, 1), &[2, 3, 4, 5]), [Rule::Unacked, Rule::Duplicate]);
    assert_eq!(take(phone(1).then(1, got(1, 2)), &[1, 2, 3, 4, 5]), [Rule::Altered, Rule::Duplicate]);
    let mut case = good();
    case.ben = case.ben.connects(2, Some("phone")).gets_event(2, 5);
    assert_eq!(case.broken_rules(), [Rule::Duplicate], "its ack was confirmed before");
    // The number of a class that was claimed is its ack, and numbers of other classes say nothing of it.
    let resumes = |class| {
        let ben = (1..=4).fold(phone(1), |ben, n| ben.gets_event(1, n).acks_event(1, n)).gets_event(1, 5);
        let began = Event::Connecting { node: 0, device: Some("phone".into()), since: None };
        good().with_ben(ben.then(2, began).then(2, Event::Resuming { class, since: 5 })).broken_rules()
    };
    assert_eq!(resumes(Class::Event), []);
    assert_eq!(resumes(Class::Alert), [Rule::Unacked]);
}

#[test]
fn acks_up_to_a_number_are_of_one_inbox() {
    let acked = |class| {
        let ben = (1..=5).fold(phone(1), |ben, n| ben.gets_event(1, n));
        good().with_ben(ben.then(1, Event::AckedUpTo { class, up_to: 5, ask: None })).broken_rules()
    };
    assert_eq!(acked(Class::Event), []);
    assert_eq!(acked(Class::Chat), [Rule::Unacked]);
}

#[test]
fn superseded_event_needs_a_newer_one_of_its_key_that_stands() {
    let superseded = |which: &[i64]| {
        let mut case = good();
        let feeds = case.feeds();
        (1..=3).for_each(|n| feeds.events.get_mut(&event(n)).unwrap().collapse_key = Some("k".into()));
        let rows = feeds.rows.iter_mut().filter(|row| which.iter().any(|n| row.message == event(*n)));
        rows.for_each(|row| (row.status, row.reason) = (Status::Expired, "superseded".into()));
        case.broken_rules()
    };
    assert_eq!(superseded(&[1, 2]), []);
    assert_eq!(superseded(&[3]), [Rule::Collapsed], "the newest ended instead of the older");
    assert_eq!(superseded(&[1, 2, 3]), [Rule::Collapsed], "all of them ended");
    let mut case = good();
    (case.feeds().rows[0].status, case.feeds().rows[0].reason) = (Status::Expired, "superseded".into());
    assert_eq!(case.broken_rules(), [Rule::EndedWithoutCause], "it has no key");
    let gap = good().with_gap(2, "superseded");
    assert_eq!(gap.broken_rules(), [Rule::EndedWithoutCause], "a gap, likewise");
}

#[test]
fn removed_row_must_have_ended() {
    let removed = |status| {
        let mut case = good();
        let mut row = case.feeds().rows.remove(0);
        row.status = status;
        case.feeds().removed.push(row);
        case.evidence.snapshot.inboxes[0].purged_seq = 1;
        case.broken_rules()
    };
    assert_eq!(removed(Status::Delivered), []);
    assert_eq!(removed(Status::Sent), [Rule::Purged]);
}

#[test]
fn row_of_an_event_that_waits_ended_or_was_acked_without_a_cause_is_found() {
    let with = |status, reason: &str| {
        let mut case = good();
        (case.feeds().rows[2].status, case.feeds().rows[2].reason) = (status, reason.into());
        case.broken_rules()
    };
    assert_eq!(with(Status::Sent, ""), [Rule::Waiting, Rule::SettledAhead]);
    for (status, reason) in
        [(Status::Expired, "expired"), (Status::Expired, "left"), (Status::Expired, "capped"), (Status::Failed, "failed")]
    {
        assert_eq!(with(status, reason), [Rule::EndedWithoutCause], "{reason}");
    }
    let ben = (1..=4).fold(phone(1), |ben, n| ben.gets_event(1, n).acks_event(1, n));
    assert_eq!(good().with_ben(ben).broken_rules(), [Rule::NotReceived, Rule::Unacked]);
}

#[test]
fn a_stream_has_no_hole() {
    let mut case = good();
    case.feeds().streams.get_mut(&FEED).unwrap().last_seq = 4;
    assert_eq!(case.broken_rules(), [Rule::Waiting, Rule::ChatGap]);
}
