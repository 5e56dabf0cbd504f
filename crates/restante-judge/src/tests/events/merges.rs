//! Events that merge, and types that are muted: good histories, and for each rule one that breaks it.

use serde_json::json;

use super::*;

/// The data of the event `n` that stands for these, its own id first.
fn folded(ids: &[i64]) -> String {
    let ids: Vec<Uuid> = ids.iter().map(|n| event(*n)).collect();
    json!({"n": ids.len(), "times": ids.len(), "ids": ids}).to_string()
}

fn got_merged(n: i64, ids: &[i64]) -> Event {
    let Event::EventReceived { event, class, inbox_seq, feed, feed_seq, attempt, .. } = got(n, n) else { unreachable!() };
    let merged = u32::try_from(ids.len()).ok();
    Event::EventReceived { event, class, inbox_seq, feed, feed_seq, data: folded(ids).into(), merged, attempt }
}

/// The three events of the feed have one key and merge. The first two ended for the third, of which Ben is told this.
fn merging(told: Event) -> Case {
    let mut case = good();
    for n in 1..=3 {
        let stored = case.feeds().events.get_mut(&event(n)).unwrap();
        (stored.collapse_key, stored.merges, stored.data) = (Some("k".into()), true, folded(&[n]));
        let (row, is_last) = (&mut case.feeds().rows[usize::try_from(n - 1).unwrap()], n == 3);
        if !is_last {
            (row.status, row.reason) = (Status::Expired, "superseded".into());
        }
    }
    for record in &mut case.anna.0 {
        if let Event::PublishAttempted(publication) = &mut record.event
            && let Some(n) = (1..=3).find(|n| event(*n) == publication.event)
        {
            (publication.collapse_key, publication.merges, publication.data) = (Some("k".into()), true, folded(&[n]).into());
        }
    }
    let gap = Event::Gap { class: Class::Event, from: 1, to: 2, reason: "superseded".into() };
    let ben = phone(1).then(1, gap).then(1, told).acks_event(1, 3);
    case.with_ben((4..=5).fold(ben, |ben, n| ben.gets_event(1, n).acks_event(1, n)))
}

#[test]
fn event_has_the_data_of_each_whose_place_it_took_once() {
    assert_eq!(merging(got_merged(3, &[3, 2, 1])).broken_rules(), []);
    assert_eq!(merging(got_merged(3, &[3, 2])).broken_rules(), [Rule::Merged], "one is lost");
    assert_eq!(merging(got_merged(3, &[3, 2, 2])).broken_rules(), [Rule::Merged], "one is in it twice");
    assert_eq!(merging(got_merged(3, &[2, 3, 1])).broken_rules(), [Rule::Merged], "its own is the newest");
    assert_eq!(merging(got_merged(3, &[3, 2, 5])).broken_rules(), [Rule::Merged], "one is of another stream");
    let mut case = merging(got_merged(3, &[3, 2, 1]));
    (case.feeds().rows[0].status, case.feeds().rows[0].reason) = (Status::Delivered, String::new());
    let ben = phone(1).then(1, got_merged(1, &[1])).acks_event(1, 1);
    let gap = Event::Gap { class: Class::Event, from: 2, to: 2, reason: "superseded".into() };
    let rest = |merged: &[i64]| {
        let ben = Script(ben.0.clone()).then(1, gap.clone()).then(1, got_merged(3, merged)).acks_event(1, 3);
        (4..=5).fold(ben, |ben, n| ben.gets_event(1, n).acks_event(1, n))
    };
    let evidence = case.evidence.clone();
    let again = |merged: &[i64]| Case { anna: Script(case.anna.0.clone()), ben: rest(merged), evidence: evidence.clone() }.broken_rules();
    assert_eq!(again(&[3, 2]), []);
    assert_eq!(again(&[3, 2, 1]), [Rule::Merged], "what was acked goes on in none");
}

#[test]
fn event_that_comes_again_has_the_same_data() {
    let again = |merged: &[i64]| {
        let mut case = merging(got_merged(3, &[3, 2, 1]));
        let began = Event::Connecting { node: 0, device: None, since: None };
        case.ben.0.insert(0, Record { at_ms: 0, connection: 2, event: got_merged(3, merged) });
        case.ben.0.insert(0, Record { at_ms: 0, connection: 2, event: began });
        case.broken_rules()
    };
    assert_eq!(again(&[3, 2, 1]), []);
    assert_eq!(again(&[3, 1, 2]), [Rule::Merged]);
}

/// Ben asks to mute these types, and is answered 100 ms later or never.
fn mutes(case: &mut Case, requests: &[(u64, &[&str], bool)]) {
    for (ask, (at_ms, types, is_done)) in (700..).zip(requests) {
        let types = types.iter().map(|muted| (*muted).to_owned()).collect();
        case.ben.0.push(Record { at_ms: *at_ms, connection: 1, event: Event::MuteAsked { ask, types } });
        let answered = Event::MuteAnswered { ask, is_done: *is_done, answer: String::new() };
        case.ben.0.push(Record { at_ms: at_ms + 100, connection: 1, event: answered });
    }
}

#[test]
fn event_whose_type_was_muted_before_is_no_row_and_lies_in_a_gap_only_then() {
    let with = |mut case: Case, requests: &[(u64, &[&str], bool)]| {
        case.anna.0.iter_mut().chain(&mut case.ben.0).for_each(|record| record.at_ms += 2_000);
        mutes(&mut case, requests);
        case.broken_rules()
    };
    assert_eq!(with(good(), &[(0, &["tell"], true)]), [Rule::Muted]);
    assert_eq!(with(good(), &[(0, &["other"], true)]), []);
    assert_eq!(with(good(), &[(0, &["tell"], true), (1_000, &[], false)]), [], "it may want it again");
    assert_eq!(with(good(), &[(0, &["tell"], true), (9_000, &[], true)]), [Rule::Muted], "it got them before it wanted them again");
    assert_eq!(with(good(), &[(0, &["tell"], false)]), [], "nobody knows");
    assert_eq!(with(good(), &[(2_050, &["tell"], true)]), [], "it was answered after they were published");
    let gap = || good().with_gap(2, "muted");
    assert_eq!(with(gap(), &[]), [Rule::EndedWithoutCause]);
    assert_eq!(with(gap(), &[(2_050, &["tell"], true)]), []);
    let mut unlisted = good();
    unlisted.feeds().rows.truncate(4);
    unlisted.evidence.snapshot.inboxes[0].last_seq = 4;
    unlisted.evidence.snapshot.inboxes[0].settled_seq = 4;
    unlisted.ben.0.truncate(unlisted.ben.0.len() - 3);
    mutes(&mut unlisted, &[(2_050, &["tell"], true)]);
    assert_eq!(unlisted.broken_rules(), [], "listed users that have muted it are counted with the event");
}
