//! Recalls: Anna recalls her third message. Ben has it and gets the notice, or does not have it. Good histories, and for each rule one that
//! breaks it.

use super::*;
use crate::snapshot::Notice;

/// The id of the notice.
const NOTICE: i64 = 900;

fn recall(at_ms: u64, recalled_at: Option<&str>, answer: &str) -> [Record; 2] {
    let asked = Event::RecallAsked { ask: at_ms, message: id(3) };
    let answered = Event::RecallAnswered { ask: at_ms, recalled_at: recalled_at.map(str::to_owned), answer: answer.into() };
    [Record { at_ms, connection: 1, event: asked }, Record { at_ms: at_ms + 10, connection: 1, event: answered }]
}

fn noticed(inbox_seq: i64) -> Event {
    let (notice, message) = (id(NOTICE), id(3));
    Event::NoticeReceived { notice, message, chat: CHAT, seq: 3, class: Class::Chat, inbox_seq, attempt: 1 }
}

impl Script {
    fn gets_notice(self, connection: u32) -> Self {
        self.then(connection, noticed(4))
    }
}

/// The third message is recalled. Ben's notice of it lies behind it.
fn had() -> Case {
    let mut case = Case::good();
    case.anna.0.extend(recall(5_000, Some("t"), "done"));
    let stored = case.evidence.snapshot.messages.get_mut(&id(3)).unwrap();
    (stored.content, stored.is_recalled) = (String::new(), true);
    let row = Row { seq: Some(4), message: id(NOTICE), ..case.row(3).clone() };
    case.evidence.snapshot.notices = vec![Notice { row, of: id(3) }];
    (case.evidence.snapshot.inboxes[1].last_seq, case.evidence.snapshot.inboxes[1].settled_seq) = (4, 4);
    case.ben = case.ben.gets_notice(1).acks(1, NOTICE);
    case
}

/// The same, before Ben has got it.
fn not_had() -> Case {
    let mut case = had();
    case.evidence.snapshot.notices.clear();
    (case.evidence.snapshot.inboxes[1].last_seq, case.evidence.snapshot.inboxes[1].settled_seq) = (3, 3);
    (case.row(3).status, case.row(3).reason) = (Status::Expired, "recalled".into());
    case.anna = anna_sent().told(Status::Delivered, &[1, 2]).told(Status::Expired, &[3]);
    case.anna.0.extend(recall(5_000, Some("t"), "done"));
    let gap = Event::Gap { class: Class::Chat, from: 3, to: 3, reason: "recalled".into() };
    case.ben = (1..=2).fold(Script::default().connects(1, Some("phone")), |ben, n| ben.gets(1, n).acks(1, n)).then(1, gap);
    case
}

/// A connection that began after the recall was answered.
fn later(mut case: Case, events: impl IntoIterator<Item = Event>) -> Case {
    let began = Event::Connecting { node: 0, device: Some("phone".into()), since: None };
    for event in std::iter::once(began).chain(events) {
        case.ben.0.push(Record { at_ms: 9_000, connection: 2, event });
    }
    case
}

#[test]
fn recalls_are_accepted_whether_the_recipient_had_the_message_or_not() {
    assert_eq!(had().broken_rules(), []);
    assert_eq!(not_had().broken_rules(), []);
    let mut in_sql = had();
    in_sql.anna.0.retain(|record| !matches!(record.event, Event::RecallAsked { .. } | Event::RecallAnswered { .. }));
    in_sql.evidence.recalled.insert(id(3));
    assert_eq!(in_sql.broken_rules(), []);
}

#[test]
fn recall_that_was_answered_or_told_and_does_not_stand_is_found_and_so_is_one_that_nobody_asked_for() {
    let unrecalled = |change: fn(&mut Case)| {
        let mut case = Case::good();
        change(&mut case);
        case.broken_rules()
    };
    assert_eq!(unrecalled(|case| case.anna.0.extend(recall(5_000, Some("t"), "done"))), [Rule::RecallLost]);
    assert_eq!(unrecalled(|case| case.anna.0.extend(recall(5_000, None, "no answer"))), [], "nobody knows");
    assert_eq!(unrecalled(|case| case.anna.0.extend(recall(5_000, None, "not_found"))), [Rule::RecallLost], "it had been confirmed");
    let told = |case: &mut Case| case.anna.0.push(Record { at_ms: 9_000, connection: 1, event: Event::RecallTold { message: id(3) } });
    assert_eq!(unrecalled(told), [Rule::RecallLost]);
    let mut case = had();
    case.anna.0.extend(recall(6_000, Some("another time"), "done"));
    assert_eq!(case.broken_rules(), [Rule::RecallLost]);
    let mut case = had();
    case.anna.0.retain(|record| !matches!(record.event, Event::RecallAsked { .. }));
    assert_eq!(case.broken_rules(), [Rule::RecallLost], "another user cannot do it");
}

#[test]
fn message_that_is_shown_after_its_recall_was_answered_or_told_is_found() {
    assert_eq!(later(not_had(), [received(3, 3, 3)]).broken_rules(), [Rule::Reshown]);
    let mut case = not_had();
    case.ben = case.ben.gets(1, 3);
    assert_eq!(case.broken_rules(), [], "it may have been under way");
    let mut case = had();
    let again = case.ben.0.len() as u64 * 10 + 9_000;
    case.ben.0.push(Record { at_ms: again, connection: 1, event: received(3, 3, 3) });
    assert_eq!(case.broken_rules(), [Rule::Reshown], "its notice had come before");
}

#[test]
fn notice_that_is_missing_too_much_or_before_its_message_is_found() {
    let with = |change: fn(&mut Case)| {
        let mut case = had();
        change(&mut case);
        case.broken_rules()
    };
    let none = with(|case| case.evidence.snapshot.notices.clear());
    assert_eq!(none, [Rule::InboxGap, Rule::Notice]);
    let two = with(|case| {
        let notice = case.evidence.snapshot.notices[0].clone();
        case.evidence.snapshot.notices.push(notice);
    });
    assert_eq!(two, [Rule::InboxGap, Rule::Notice]);
    assert_eq!(with(|case| case.evidence.snapshot.notices[0].of = id(8)), [Rule::Notice], "of a message that it does not have");
    let mut case = not_had();
    (case.row(3).status, case.row(3).reason) = (Status::Delivered, String::new());
    assert!(case.broken_rules().contains(&Rule::Notice), "who has it gets one");
    assert_eq!(with(|case| case.ben.0.retain(|record| record.event != noticed(4))), [Rule::NotReceived]);
    assert_eq!(with(|case| case.evidence.snapshot.notices[0].row.status = Status::Sent), [Rule::Waiting, Rule::SettledAhead]);
    assert_eq!(with(|case| case.evidence.snapshot.notices[0].row.status = Status::Failed), [Rule::EndedWithoutCause]);
    let unacked = |case: &mut Case| {
        let is_of_notice = |record: &Record| matches!(&record.event, Event::AckedIds { messages, .. } if *messages == [id(NOTICE)]);
        case.ben.0.retain(|record| !is_of_notice(record));
    };
    assert_eq!(with(unacked), [Rule::Unacked]);
}

#[test]
fn notice_that_comes_again_without_a_reason_or_out_of_its_turn_is_found() {
    assert_eq!(later(had(), [noticed(4)]).broken_rules(), [Rule::Duplicate], "its ack was confirmed before");
    let mut case = had();
    let last = case.ben.0.iter().position(|record| record.event == received(3, 3, 3)).unwrap();
    let early = case.ben.0.iter().position(|record| record.event == noticed(4)).unwrap();
    case.ben.0.swap(last, early);
    let rules = case.broken_rules();
    assert!(rules.contains(&Rule::Order), "{rules:?}");
}

#[test]
fn message_that_was_read_unseen_after_its_recall_is_found() {
    let read = |at_ms: u64| {
        let mut case = not_had();
        (case.row(3).status, case.row(3).reason) = (Status::Read, String::new());
        let row = Row { seq: Some(4), message: id(NOTICE), status: Status::Delivered, ..case.row(3).clone() };
        case.evidence.snapshot.notices = vec![Notice { row, of: id(3) }];
        (case.evidence.snapshot.inboxes[1].last_seq, case.evidence.snapshot.inboxes[1].settled_seq) = (4, 4);
        case.anna = anna_sent().told(Status::Delivered, &[1, 2]).told(Status::Read, &[3]);
        case.anna.0.extend(recall(5_000, Some("t"), "done"));
        case.ben.0.push(Record { at_ms, connection: 1, event: Event::ReadUpTo { chat: CHAT, seq: 3, ask: 70 } });
        case.ben = case.ben.gets_notice(1).acks(1, NOTICE);
        case.broken_rules()
    };
    assert_eq!(read(4_000), []);
    assert_eq!(read(9_000), [Rule::Notice]);
}
