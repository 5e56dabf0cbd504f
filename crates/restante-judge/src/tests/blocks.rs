//! Blocks: Anna sends three direct messages to Ben, who blocks her, or is no contact of hers. Good histories, and for each rule one that
//! breaks it.

use super::*;

/// All messages go to Ben and to no group.
fn direct(mut case: Case) -> Case {
    for record in &mut case.anna.0 {
        if let Event::SendAttempted { chat, to, .. } = &mut record.event {
            (*chat, *to) = (None, Some("ben".into()));
        }
    }
    case
}

/// Ben blocks Anna, or blocks her no more: when it was asked, and answered.
fn block(blocks: bool, asked: u64, done: Option<u64>) -> Vec<Record> {
    let request = Event::BlockAsked { ask: asked, user: "ben".into(), other: "anna".into(), blocks };
    let answer = |at_ms| Record { at_ms, connection: 1, event: Event::BlockAnswered { ask: asked, is_done: true, answer: "done".into() } };
    [Record { at_ms: asked, connection: 1, event: request }].into_iter().chain(done.map(answer)).collect()
}

/// The rules that are broken when Ben asks this beside his messages.
fn broken_with(mut case: Case, requests: impl IntoIterator<Item = Vec<Record>>) -> Vec<Rule> {
    case.ben.0.extend(requests.into_iter().flatten());
    case.broken_rules()
}

fn gap(reason: &str) -> Event {
    Event::Gap { class: Class::Chat, from: 3, to: 3, reason: reason.into() }
}

/// The third message waited when Ben blocked her.
fn waited() -> Case {
    let ben = (1..=2).fold(Script::default().connects(1, Some("phone")), |ben, n| ben.gets(1, n).acks(1, n));
    let mut case = direct(Case::good().with_ben(ben.then(1, gap("blocked"))).with_anna(anna_sent().told(Status::Delivered, &[1, 2])));
    (case.row(3).status, case.row(3).reason) = (Status::Expired, "undelivered".into());
    case
}

fn at(mut case: Case, at_ms: u64, connection: u32, event: Event) -> Case {
    case.ben.0.push(Record { at_ms, connection, event });
    case
}

fn connects_again(case: Case) -> Case {
    at(case, 8_000, 2, Event::Connecting { node: 0, device: Some("phone".into()), since: None })
}

/// Anna is told a mark up to this number, which excepts the third message.
fn passed(anna: Script, up_to: i64) -> Script {
    let except = vec![(id(3), Status::Expired)];
    let receipt = Receipt { chat: CHAT, user: "ben".into(), status: Status::Delivered, messages: vec![], up_to: Some(up_to), except };
    anna.then(1, Event::Told(receipt))
}

#[test]
fn what_was_delivered_before_a_block_and_what_ended_with_it_is_accepted() {
    assert_eq!(broken_with(direct(Case::good()), [block(true, 5_000, Some(5_010))]), []);
    assert_eq!(broken_with(waited(), [block(true, 5_000, Some(5_010))]), []);
    assert_eq!(broken_with(waited(), [block(true, 5_000, None)]), [], "nobody knows when it was done");
    let mut told = waited();
    told.anna = passed(told.anna, 3);
    assert_eq!(broken_with(told, [block(true, 5_000, Some(5_010)), block(false, 6_000, Some(6_010))]), [], "once it is open again");
    let mut told = waited();
    told.anna = passed(passed(told.anna, 3), 2);
    let open_again = || [block(true, 5_000, Some(5_010)), block(false, 6_000, Some(6_010))];
    assert_eq!(broken_with(told, open_again()), [], "the mark of another status does not reach as far");
    let mut told = waited();
    told.anna = passed(passed(told.anna, 2), 3);
    assert_eq!(broken_with(told, open_again()), [], "and it may come first");
    let mut told = waited();
    let why = || Event::ToldWhy { chat: CHAT, reason: "undelivered".into() };
    told.anna = passed(passed(told.anna, 2).then(1, why()).then(1, why()), 3);
    assert_eq!(broken_with(told, open_again()), [], "the reasons of what the first mark excepts come between the two");
    let mut in_sql = waited();
    in_sql.evidence.acts = block(true, 5_000, Some(5_010));
    in_sql.ben.0.extend(block(false, 6_000, None));
    assert_eq!(in_sql.broken_rules(), []);
    let under_way = at(waited(), 5_500, 1, received(3, 3, 3));
    assert_eq!(broken_with(under_way, [block(true, 5_000, Some(5_010))]), [], "it was on its way");
}

#[test]
fn message_that_is_accepted_while_a_block_stands_is_found() {
    let broken = |requests: Vec<Vec<Record>>| broken_with(direct(Case::good()), requests);
    assert_eq!(broken(vec![block(true, 5, Some(8))]), [Rule::Blocked]);
    assert_eq!(broken(vec![block(true, 5, None)]), [], "it may be done later");
    assert_eq!(broken(vec![block(true, 5, Some(8)), block(false, 12, Some(15))]), []);
    assert_eq!(broken(vec![block(true, 5, Some(8)), block(false, 12, None)]), [], "the block may be over");
    assert_eq!(broken(vec![block(false, 1, Some(2)), block(true, 5, Some(8)), block(false, 900, Some(910))]), [Rule::Blocked]);
    assert_eq!(broken_with(Case::good(), [block(true, 5, Some(8))]), [], "a group is open");
    // The other way round, Anna blocks Ben.
    let mut case = direct(Case::good());
    for mut record in block(true, 5, Some(8)) {
        if let Event::BlockAsked { user, other, .. } = &mut record.event {
            std::mem::swap(user, other);
        }
        case.anna.0.push(record);
    }
    assert_eq!(case.broken_rules(), [Rule::Blocked]);
}

#[test]
fn message_that_waited_at_a_block_and_comes_later_is_found() {
    let requests = || [block(true, 5_000, Some(5_010)), block(false, 6_000, Some(6_010))];
    let again = at(connects_again(waited()), 8_010, 2, received(3, 3, 3));
    assert_eq!(broken_with(again, requests()), [Rule::Blocked], "what has ended stays ended");
    let mut acked = at(waited(), 8_000, 1, received(3, 3, 3));
    acked = at(acked, 8_010, 1, Event::AckedIds { messages: vec![id(3)], ask: None });
    (acked.row(3).status, acked.row(3).reason) = (Status::Delivered, String::new());
    acked.anna = acked.anna.told(Status::Delivered, &[3]);
    assert_eq!(broken_with(acked, requests()), [Rule::Blocked]);
    let mut waits = waited();
    (waits.row(3).status, waits.row(3).reason) = (Status::Sent, String::new());
    (waits.evidence.snapshot.inboxes[1].settled_seq, waits.evidence.snapshot.members[1].delivered) = (2, 2);
    waits.evidence.away = BTreeSet::from(["ben".to_owned()]);
    assert_eq!(broken_with(waits, requests()), [Rule::Blocked]);
}

#[test]
fn message_that_ended_as_blocked_without_a_block_or_after_its_ack_is_found() {
    let mut case = waited();
    case.ben.0.pop();
    case = at(case, 90, 1, gap("expired"));
    case.anna = case.anna.told(Status::Expired, &[3]);
    assert_eq!(case.broken_rules(), [Rule::EndedWithoutCause]);
    let mut in_group = waited();
    let to_group = |record: &mut Record| {
        if let Event::SendAttempted { chat, to, .. } = &mut record.event {
            (*chat, *to) = (Some(CHAT), None);
        }
    };
    in_group.anna.0.iter_mut().for_each(to_group);
    in_group.anna = in_group.anna.told(Status::Expired, &[3]);
    assert_eq!(broken_with(in_group, [block(true, 5_000, Some(5_010))]), [Rule::EndedWithoutCause]);
    let mut acked = waited();
    acked.ben = acked.ben.gets(1, 3).acks(1, 3);
    assert_eq!(broken_with(acked, [block(true, 5_000, Some(5_010))]), [Rule::Blocked]);
}

#[test]
fn refusal_without_a_block_or_of_a_message_that_was_confirmed_is_found() {
    let refused = |n: i64, at_ms: u64, requests: Vec<Vec<Record>>| {
        let mut case = Case::good();
        let again = Script::default().sends(n).then(1, Event::SendRefused { message: id(n), code: "not_accepted".into(), is_final: true });
        case.anna.0.extend(again.0.into_iter().map(|record| Record { at_ms, ..record }));
        broken_with(direct(case), requests)
    };
    assert_eq!(refused(4, 6_000, vec![block(true, 5_000, Some(5_010))]), []);
    assert_eq!(refused(4, 6_000, vec![block(true, 5_000, Some(5_010)), block(false, 5_500, None)]), [], "it may stand still");
    assert_eq!(refused(4, 6_000, vec![]), [Rule::RefusedUnblocked]);
    assert_eq!(refused(4, 6_000, vec![block(true, 5_000, Some(5_010)), block(false, 5_500, Some(5_600))]), [Rule::RefusedUnblocked]);
    assert_eq!(refused(4, 6_000, vec![block(true, 7_000, Some(7_010))]), [Rule::RefusedUnblocked], "it came later");
    assert_eq!(refused(2, 6_000, vec![block(true, 5_000, Some(5_010))]), [Rule::RefusedUnblocked], "a repeated id is a duplicate");
}

#[test]
fn sender_that_is_told_why_is_found() {
    let mut case = waited();
    case.anna = case.anna.then(1, Event::ToldWhy { chat: CHAT, reason: "undelivered".into() });
    assert_eq!(broken_with(case, [block(true, 5_000, Some(5_010))]), []);
    for by_itself in [passed(waited().anna, 2), passed(waited().anna, 0), waited().anna.told(Status::Expired, &[3])] {
        let case = waited().with_anna(by_itself);
        let requests = [block(true, 5_000, Some(5_010)), block(false, 6_000, Some(6_010))];
        assert_eq!(broken_with(case, requests), [Rule::BlockTold], "no mark passes it");
    }
    let mut case = waited();
    case.anna = case.anna.then(1, Event::ToldWhy { chat: CHAT, reason: "blocked".into() });
    assert_eq!(broken_with(case, [block(true, 5_000, Some(5_010))]), [Rule::BlockTold]);
    let mut case = waited();
    case.row(3).reason = "blocked".into();
    assert_eq!(broken_with(case, [block(true, 5_000, Some(5_010))]), [Rule::EndedWithoutCause, Rule::BlockTold]);
    let mut case = direct(Case::good());
    case.anna = case.anna.then(1, Event::Gap { class: Class::Alert, from: 1, to: 1, reason: "blocked".into() });
    assert_eq!(broken_with(case, [block(true, 5_000, Some(5_010))]), [Rule::BlockTold], "it is the gap of the other one");
}

/// One of the two wants the other as a contact, or no longer.
fn wish(user: &str, wants: bool, asked: u64, done: Option<u64>) -> Vec<Record> {
    let other = if user == "ben" { "anna" } else { "ben" };
    let request = Event::ContactAsked { ask: asked, user: user.into(), other: other.into(), wants };
    let answer =
        |at_ms| Record { at_ms, connection: 1, event: Event::ContactAnswered { ask: asked, is_done: true, answer: "done".into() } };
    [Record { at_ms: asked, connection: 1, event: request }].into_iter().chain(done.map(answer)).collect()
}

fn both_want(asked: u64) -> [Vec<Record>; 2] {
    [wish("anna", true, asked, Some(asked + 1)), wish("ben", true, asked + 2, Some(asked + 3))]
}

#[test]
fn message_of_a_stranger_that_is_accepted_where_only_contacts_may_write_is_found() {
    let accepted = |contacts_only: bool, requests: Vec<Vec<Record>>| {
        let mut case = direct(Case::good());
        case.evidence.contacts_only = contacts_only;
        broken_with(case, requests)
    };
    let removed = |done| [both_want(1).to_vec(), vec![wish("ben", false, 5, done)]].concat();
    assert_eq!(accepted(true, both_want(1).into()), []);
    assert_eq!(accepted(true, removed(Some(6))), [Rule::Stranger]);
    assert_eq!(accepted(false, removed(Some(6))), [], "everybody may write");
    assert_eq!(accepted(true, removed(None)), [], "it may be done later");
    let anew = |wishes: Vec<Vec<Record>>| accepted(true, [removed(Some(6)), wishes].concat());
    assert_eq!(anew(vec![wish("anna", true, 7, Some(8))]), [Rule::Stranger], "the other one does not want her");
    assert_eq!(anew(both_want(7).into()), []);
    assert_eq!(anew(vec![wish("anna", true, 7, Some(8)), wish("ben", true, 9, None)]), [], "he may want her");
}

#[test]
fn refusal_between_contacts_is_found() {
    let refused = |requests: Vec<Vec<Record>>| {
        let mut case = Case::good();
        let more = Script::default().sends(4).then(1, Event::SendRefused { message: id(4), code: "not_accepted".into(), is_final: true });
        case.anna.0.extend(more.0.into_iter().map(|record| Record { at_ms: 6_000, ..record }));
        case.evidence.contacts_only = true;
        broken_with(direct(case), requests)
    };
    assert_eq!(refused(both_want(1).into()), [Rule::RefusedUnblocked]);
    assert_eq!(refused(vec![wish("anna", true, 1, Some(2)), wish("ben", true, 3, None)]), [], "nobody knows whether he wants her");
    assert_eq!(refused([both_want(1).to_vec(), vec![wish("anna", false, 5_000, Some(5_010))]].concat()), []);
    assert_eq!(refused([both_want(1).to_vec(), vec![block(true, 5_000, Some(5_010)), block(false, 5_020, Some(5_030))]].concat()), []);
}
