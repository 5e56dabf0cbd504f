//! Hand-made histories: good ones, which the judge must accept, and for each rule one that breaks it and nothing else.

mod blocks;
mod events;
mod recalls;
mod revocations;
mod sealing;
mod whole_runs;

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::history::{Class, Event, History, Receipt, Record, Status};
use super::snapshot::{Inbox, Member, MemberInterval, Message, Row, Snapshot};
use super::{Evidence, Rule, judge};

const CHAT: Uuid = Uuid::from_u128(0xc);

fn id(n: i64) -> Uuid {
    Uuid::from_u128(u128::from(n.unsigned_abs()))
}

/// Records as they are written down: time goes on by 10 ms.
#[derive(Default)]
struct Script(Vec<Record>);

/// Receipts come this much later: by then Ben is done in every script.
const LATER_MS: u64 = 10_000;

impl Script {
    fn then(mut self, connection: u32, event: Event) -> Self {
        let is_late = matches!(event, Event::Told(_));
        let at_ms = self.0.len() as u64 * 10 + if is_late { LATER_MS } else { 0 };
        self.0.push(Record { at_ms, connection, event });
        self
    }

    fn connects(self, connection: u32, device: Option<&str>) -> Self {
        let ready = Event::Ready { epoch: "e".into(), resumed: false, last_seq: 0, settled_seq: 0 };
        self.then(connection, Event::Connecting { node: 0, device: device.map(str::to_owned), since: None }).then(connection, ready)
    }

    fn sends(self, n: i64) -> Self {
        self.then(1, Event::SendAttempted { message: id(n), chat: Some(CHAT), to: None, content: words(n).into() })
    }

    fn hears_stored(self, n: i64, seq: i64, duplicate: bool) -> Self {
        self.then(1, Event::SendConfirmed { message: id(n), chat: CHAT, seq, created_at: "t".into(), duplicate })
    }

    fn gets(self, connection: u32, n: i64) -> Self {
        self.then(connection, received(n, n, n))
    }

    /// Acks by id, and hears that it is committed.
    fn acks(self, connection: u32, n: i64) -> Self {
        let ask = self.0.len() as u64;
        self.then(connection, Event::AckedIds { messages: vec![id(n)], ask: Some(ask) }).then(connection, Event::AckConfirmed { ask })
    }

    fn told(self, status: Status, messages: &[i64]) -> Self {
        let messages = messages.iter().map(|n| id(*n)).collect();
        self.then(1, Event::Told(Receipt { chat: CHAT, user: "ben".into(), status, messages, up_to: None, except: vec![] }))
    }

    fn told_up_to(self, status: Status, seq: i64) -> Self {
        self.then(1, Event::Told(Receipt { chat: CHAT, user: "ben".into(), status, messages: vec![], up_to: Some(seq), except: vec![] }))
    }
}

fn words(n: i64) -> String {
    format!("message {n}")
}

fn received(n: i64, seq: i64, inbox_seq: i64) -> Event {
    let (message, content) = (id(n), words(n).into());
    Event::Received { message, chat: CHAT, seq, class: Class::Chat, inbox_seq, sender: "anna".into(), content, attempt: 1 }
}

/// Anna sends three messages to Ben, who gets and acks them on his phone.
struct Case {
    anna: Script,
    ben: Script,
    evidence: Evidence,
}

impl Case {
    fn good() -> Self {
        let anna = (1..=3).fold(Script::default().connects(1, None), |anna, n| anna.sends(n).hears_stored(n, n, false));
        let ben = (1..=3).fold(Script::default().connects(1, Some("phone")), |ben, n| ben.gets(1, n).acks(1, n));
        Self { anna: anna.told(Status::Delivered, &[1, 2, 3]), ben, evidence: Evidence { snapshot: snapshot(), ..evidence() } }
    }

    fn broken_rules(mut self) -> Vec<Rule> {
        let history = |user: &str, Script(records)| History { client: format!("{user}-1"), user: user.into(), records };
        self.evidence.histories = vec![history("anna", self.anna), history("ben", self.ben)];
        judge(&self.evidence).iter().map(|(rule, _, _)| rule).collect()
    }

    fn row(&mut self, n: usize) -> &mut Row {
        &mut self.evidence.snapshot.rows[n - 1]
    }

    /// The case with another script of Ben's.
    fn with_ben(mut self, ben: Script) -> Self {
        self.ben = ben;
        self
    }

    fn with_anna(mut self, anna: Script) -> Self {
        self.anna = anna;
        self
    }
}

fn evidence() -> Evidence {
    let exempt = BTreeSet::from([Rule::Unread, Rule::Refused]);
    Evidence { attempts_max: 5, ack_timeout_ms: 4000, exempt, ..Evidence::default() }
}

fn snapshot() -> Snapshot {
    let message =
        |n| Message { chat: CHAT, seq: n, sender: "anna".into(), content: words(n), is_over: false, is_recalled: false, is_sealed: false };
    let row = |n| Row {
        user: "ben".into(),
        class: Class::Chat,
        seq: Some(n),
        message: id(n),
        status: Status::Delivered,
        attempts: 0,
        reason: String::new(),
        ended_later: 0,
    };
    let inbox = |user: &str, last_seq| Inbox { user: user.into(), class: Class::Chat, last_seq, settled_seq: last_seq, purged_seq: 0 };
    let member = |user: &str| Member { chat: CHAT, user: user.into(), joined: 0, left: None, delivered: 3, read: 0, purged: 0 };
    let interval = |user: &str| MemberInterval { chat: CHAT, user: user.into(), joined: 0, left: None };
    Snapshot {
        chats: HashMap::from([(CHAT, 3)]),
        messages: (1..=3).map(|n| (id(n), message(n))).collect(),
        rows: (1..=3).map(row).collect(),
        inboxes: vec![inbox("anna", 0), inbox("ben", 3)],
        members: vec![member("anna"), member("ben")],
        intervals: vec![interval("anna"), interval("ben")],
        ..Snapshot::default()
    }
}

/// Anna's actions and answers, up to her confirmations.
fn anna_sent() -> Script {
    (1..=3).fold(Script::default().connects(1, None), |anna, n| anna.sends(n).hears_stored(n, n, false))
}

#[test]
fn good_history_is_accepted() {
    assert_eq!(Case::good().broken_rules(), []);
}

#[test]
fn what_is_explained_is_accepted() {
    let phone = Some("phone");
    // Never acked, so it comes again on the next connection; acks by number; a read acks too.
    let again = Script::default().connects(1, phone).gets(1, 1).connects(2, phone).gets(2, 1).gets(2, 2).gets(2, 3);
    let ask = Some(99);
    let again =
        again.then(2, Event::AckedUpTo { class: Class::Chat, up_to: 2, ask }).then(2, Event::ReadUpTo { chat: CHAT, seq: 3, ask: 100 });
    assert_eq!(Case::good().with_ben(again).broken_rules(), []);
    // Rejected once, and given again on the same connection.
    let ben = Script::default().connects(1, phone).gets(1, 1).then(1, Event::Rejected { message: id(1), is_final: false, ask: 50 });
    assert_eq!(Case::good().with_ben((2..=3).fold(ben.gets(1, 1).acks(1, 1), |ben, n| ben.gets(1, n).acks(1, n))).broken_rules(), []);
    // Acked by a device while a lower number was not: the cursor stands below, so it comes again.
    let ben = Script::default().connects(1, phone).gets(1, 1).gets(1, 2).acks(1, 2).connects(2, phone).gets(2, 1).acks(2, 1).gets(2, 2);
    assert_eq!(Case::good().with_ben(ben.gets(2, 3).acks(2, 3)).broken_rules(), []);
    // The first connection was given messages before they were acked elsewhere: they come late, and in order.
    let ben = Script::default().connects(1, None).connects(2, None).gets(2, 3).acks(2, 3).gets(1, 1).acks(1, 1).gets(1, 2).acks(1, 2);
    assert_eq!(Case::good().with_ben(ben).broken_rules(), []);
    // The same the other way round: the second read its page first, and the first was read out sooner.
    let ben = Script::default().connects(1, None).connects(2, None).gets(1, 3).acks(1, 3).gets(2, 1).acks(2, 1).gets(2, 2).acks(2, 2);
    assert_eq!(Case::good().with_ben(ben).broken_rules(), []);
    // The first connection of two lives on beside the second.
    let ben = Script::default().connects(1, None).connects(2, None).gets(2, 1).acks(2, 1).gets(1, 1);
    assert_eq!(Case::good().with_ben((2..=3).fold(ben, |ben, n| ben.gets(2, n).acks(2, n))).broken_rules(), []);
}

#[test]
fn sender_that_asks_twice_and_hears_late_is_accepted() {
    let anna = anna_sent().sends(2).hears_stored(2, 2, true).told_up_to(Status::Delivered, 3);
    assert_eq!(Case::good().with_anna(anna).broken_rules(), []);
    // Marks say more than what is named before, and less than what ended otherwise.
    let mut case = Case::good().with_anna(anna_sent().told(Status::Failed, &[2]).told_up_to(Status::Delivered, 3));
    (case.row(2).status, case.row(2).reason) = (Status::Failed, "no".into());
    case.ben = case.ben.then(1, Event::Rejected { message: id(2), is_final: true, ask: 77 });
    assert_eq!(case.broken_rules(), []);
}

#[test]
fn row_of_somebody_who_never_came_back_may_wait() {
    let mut case = Case::good().with_ben(Script::default()).with_anna(anna_sent());
    case.evidence.snapshot.rows.iter_mut().for_each(|row| row.status = Status::Sent);
    case.evidence.snapshot.inboxes[1].settled_seq = 0;
    case.evidence.snapshot.members[1].delivered = 0;
    case.evidence.away = BTreeSet::from(["ben".to_owned()]);
    assert_eq!(case.broken_rules(), []);
    // It acked the second message and not the first: no mark tells that to a sender that was away.
    let mut case = Case::good().with_ben(Script::default().connects(1, Some("phone")).gets(1, 1).gets(1, 2).acks(1, 2).gets(1, 3));
    case.anna = anna_sent();
    (case.row(1).status, case.row(3).status) = (Status::Sent, Status::Sent);
    (case.evidence.snapshot.inboxes[1].settled_seq, case.evidence.snapshot.members[1].delivered) = (0, 0);
    case.evidence.away = BTreeSet::from(["ben".to_owned()]);
    assert_eq!(case.broken_rules(), []);
}

#[test]
fn confirmed_message_that_is_missing_is_lost() {
    let anna = anna_sent().sends(4).hears_stored(4, 4, false).told(Status::Delivered, &[1, 2, 3]);
    assert_eq!(Case::good().with_anna(anna).broken_rules(), [Rule::Lost]);
}

#[test]
fn message_that_nobody_sent_is_found() {
    let mut case = Case::good();
    case.anna.0.retain(|record| !matches!(&record.event, Event::SendAttempted { message, .. } if *message == id(2)));
    assert_eq!(case.broken_rules(), [Rule::Unsent]);
}

#[test]
fn second_answer_that_differs_is_found() {
    let mut case = Case::good();
    case.anna = case
        .anna
        .sends(2)
        .then(1, Event::SendConfirmed { message: id(2), chat: CHAT, seq: 2, created_at: "another time".into(), duplicate: true });
    assert_eq!(case.broken_rules(), [Rule::TwoAnswers]);
}

#[test]
fn second_answer_that_is_no_duplicate_is_found() {
    let mut case = Case::good();
    case.anna = case.anna.sends(2).hears_stored(2, 2, false);
    assert_eq!(case.broken_rules(), [Rule::NotDuplicate]);
}

#[test]
fn member_without_a_row_is_found() {
    let mut case = Case::good();
    let interval = |joined| MemberInterval { chat: CHAT, user: "cleo".into(), joined, left: None };
    case.evidence.snapshot.intervals.push(interval(2));
    assert_eq!(case.broken_rules(), [Rule::MissingRow]);
    let mut case = Case::good();
    case.evidence.snapshot.intervals.push(interval(3));
    assert_eq!(case.broken_rules(), [], "who joins at number 3 gets what comes after it");
}

#[test]
fn row_of_somebody_who_was_not_there_is_found() {
    let mut case = Case::good();
    case.evidence.snapshot.intervals[1].left = Some(2);
    assert_eq!(case.broken_rules(), [Rule::ForeignRow, Rule::NotTheirs]);
}

#[test]
fn row_that_waits_in_the_end_is_found() {
    let mut case = Case::good().with_anna(anna_sent().told(Status::Delivered, &[1, 2]));
    case.row(3).status = Status::Sent;
    (case.evidence.snapshot.inboxes[1].settled_seq, case.evidence.snapshot.members[1].delivered) = (2, 2);
    assert_eq!(case.broken_rules(), [Rule::Waiting]);
}

#[test]
fn end_without_a_cause_is_found() {
    for (status, reason) in [(Status::Failed, "no"), (Status::Expired, "left"), (Status::Expired, "expired")] {
        let mut case = Case::good().with_anna(anna_sent().told(Status::Delivered, &[1, 2]).told(status, &[3]));
        (case.row(3).status, case.row(3).reason) = (status, reason.into());
        assert_eq!(case.broken_rules(), [Rule::EndedWithoutCause], "{status:?}");
    }
}

#[test]
fn delivered_without_an_ack_is_found() {
    let ben = Script::default().connects(1, Some("phone")).gets(1, 1).acks(1, 1).gets(1, 2).acks(1, 2).gets(1, 3);
    assert_eq!(Case::good().with_ben(ben).broken_rules(), [Rule::Unacked, Rule::Lie]);
    let mut case = Case::good().with_anna(anna_sent().told(Status::Delivered, &[1, 2]).told(Status::Read, &[3]));
    case.row(3).status = Status::Read;
    assert_eq!(case.broken_rules(), [Rule::Unacked, Rule::Lie], "acked is not read");
}

#[test]
fn holes_in_the_numbers_are_found() {
    let mut case = Case::good();
    case.evidence.snapshot.chats.insert(CHAT, 4);
    assert_eq!(case.broken_rules(), [Rule::ChatGap]);
    let mut case = Case::good();
    case.evidence.snapshot.inboxes[1].last_seq = 4;
    assert_eq!(case.broken_rules(), [Rule::InboxGap]);
    let mut case = Case::good();
    case.evidence.snapshot.inboxes[1].last_seq = 4;
    case.evidence.snapshot.gaps.insert(("ben".into(), Class::Chat, 4));
    assert_eq!(case.broken_rules(), [], "a number that is named as a gap is no hole");
}

#[test]
fn settled_number_above_what_waits_is_found() {
    let mut case = Case::good().with_anna(anna_sent().told(Status::Delivered, &[1, 2]));
    case.row(3).status = Status::Sent;
    case.evidence.snapshot.members[1].delivered = 2;
    case.evidence.away = BTreeSet::from(["ben".to_owned()]);
    assert_eq!(case.broken_rules(), [Rule::SettledAhead]);
}

#[test]
fn mark_above_what_is_not_read_is_found() {
    let mut case = Case::good();
    case.evidence.snapshot.members[1].read = 1;
    assert_eq!(case.broken_rules(), [Rule::MarkAhead]);
}

#[test]
fn later_message_seen_first_is_out_of_order() {
    let ben = Script::default().connects(1, Some("phone")).gets(1, 1).acks(1, 1).gets(1, 3).acks(1, 3).gets(1, 2).acks(1, 2);
    assert_eq!(Case::good().with_ben(ben).broken_rules(), [Rule::Order]);
    let ben = Script::default().connects(1, None).gets(1, 1).acks(1, 1).gets(1, 3).acks(1, 3).connects(2, None).gets(2, 2).acks(2, 2);
    assert_eq!(Case::good().with_ben(ben).broken_rules(), [Rule::Order], "on a later connection too");
    let ben = Script::default().connects(1, None).connects(2, None).gets(2, 3).acks(2, 3).gets(1, 2).acks(1, 2).gets(1, 1).acks(1, 1);
    assert_eq!(Case::good().with_ben(ben).broken_rules(), [Rule::Order], "a connection beside a newer one has an order too");
    let ben = Script::default().connects(1, None).gets(1, 3).connects(2, None).gets(2, 1).acks(2, 1).gets(2, 2).acks(2, 2).acks(1, 3);
    assert_eq!(Case::good().with_ben(ben).broken_rules(), [Rule::Order], "of what was seen before it began, nothing older comes first");
}

#[test]
fn requeued_message_may_come_late_under_a_new_number() {
    let anna = anna_sent().told(Status::Failed, &[2]).told(Status::Delivered, &[1, 2, 3]);
    let ben = Script::default().connects(1, Some("phone")).gets(1, 1).acks(1, 1);
    let gap = Event::Gap { class: Class::Chat, from: 2, to: 2, reason: "requeued".into() };
    let ben = ben.then(1, gap).gets(1, 3).acks(1, 3).then(1, received(2, 2, 4)).acks(1, 2);
    let mut case = Case::good().with_anna(anna).with_ben(ben);
    case.row(2).seq = Some(4);
    case.evidence.snapshot.inboxes[1] = Inbox { user: "ben".into(), class: Class::Chat, last_seq: 4, settled_seq: 4, purged_seq: 0 };
    case.evidence.snapshot.gaps.insert(("ben".into(), Class::Chat, 2));
    case.evidence.requeued.insert((id(2), "ben".into()));
    assert_eq!(case.broken_rules(), []);
}

/// The good case after the first numbers of the chat and of Ben's inbox were removed.
fn purged() -> Case {
    let mut case = Case::good();
    let snapshot = &mut case.evidence.snapshot;
    snapshot.messages.remove(&id(1));
    snapshot.rows.retain(|row| row.message != id(1));
    snapshot.inboxes[1].purged_seq = 1;
    snapshot.members[1].purged = 1;
    snapshot.purged.insert(CHAT, 1);
    case
}

#[test]
fn removed_prefix_is_no_hole_and_nothing_else_may_be_missing() {
    assert_eq!(purged().broken_rules(), []);
    let mut case = purged();
    case.evidence.snapshot.purged.clear();
    assert_eq!(case.broken_rules(), [Rule::Lost, Rule::ChatGap, Rule::Lie], "a chat that says nothing of it");
    let mut case = purged();
    case.evidence.snapshot.inboxes[1].purged_seq = 0;
    assert_eq!(case.broken_rules(), [Rule::InboxGap], "an inbox that says nothing of it");
    let mut case = purged();
    case.evidence.snapshot.inboxes[1].purged_seq = 2;
    assert_eq!(case.broken_rules(), [Rule::InboxGap], "a number that is there and is said to be removed");
    let mut case = purged();
    case.evidence.snapshot.rows.retain(|row| row.message != id(3));
    assert!(case.broken_rules().contains(&Rule::MissingRow), "a row that is no part of the prefix");
    let mut case = purged();
    case.evidence.snapshot.inboxes[1].settled_seq = 0;
    assert_eq!(case.broken_rules(), [Rule::SettledAhead], "what is not settled was removed");
}

#[test]
fn own_message_and_one_of_a_chat_not_shared_are_not_theirs() {
    let mut case = Case::good();
    case.anna = case.anna.gets(1, 2);
    assert_eq!(case.broken_rules(), [Rule::NotTheirs]);
}

#[test]
fn envelope_that_says_something_else_is_altered() {
    let script =
        |event: Event| Script::default().connects(1, Some("phone")).gets(1, 1).acks(1, 1).gets(1, 2).acks(1, 2).then(1, event).acks(1, 3);
    let mut other = received(3, 3, 3);
    if let Event::Received { content, .. } = &mut other {
        *content = "something else".into();
    }
    for event in [other, received(3, 4, 3), received(3, 3, 4)] {
        let rules = Case::good().with_ben(script(event)).broken_rules();
        assert!(rules.contains(&Rule::Altered), "{rules:?}");
    }
}

#[test]
fn duplicates_without_a_reason_are_found() {
    let phone = Some("phone");
    let after_ack = |ben: Script| Case::good().with_ben(ben).broken_rules();
    let all = || (1..=3).fold(Script::default().connects(1, phone), |ben, n| ben.gets(1, n).acks(1, n));
    assert_eq!(after_ack(all().connects(2, phone).gets(2, 3)), [Rule::Duplicate], "confirmed before");
    assert_eq!(after_ack(all().gets(1, 3)), [Rule::Duplicate], "the same connection");
    let plain = || (1..=3).fold(Script::default().connects(1, None), |ben, n| ben.gets(1, n).acks(1, n));
    assert_eq!(after_ack(plain().connects(2, None).gets(2, 1)), [Rule::Duplicate], "without a device");
    let read = Script::default().connects(1, None).gets(1, 1).gets(1, 2).gets(1, 3);
    let read = read.then(1, Event::ReadUpTo { chat: CHAT, seq: 3, ask: 60 }).then(1, Event::ReadConfirmed { ask: 60 });
    assert_eq!(after_ack(read.connects(2, None).gets(2, 2)), [Rule::Duplicate], "read before");
}

#[test]
fn number_that_a_device_never_got_is_a_hole() {
    let ben = Script::default().connects(1, Some("phone")).gets(1, 1).acks(1, 1).gets(1, 3).acks(1, 3);
    // Somebody else acked it: a client of Ben's without a device.
    let ben = ben.connects(2, None).gets(2, 2).acks(2, 2);
    assert_eq!(Case::good().with_ben(ben).broken_rules(), [Rule::DeviceHole]);
}

#[test]
fn receipt_that_is_not_so_is_a_lie() {
    let mut case = Case::good();
    case.anna = case.anna.told(Status::Read, &[2]);
    let rules = case.broken_rules();
    assert_eq!(rules, [Rule::Lie, Rule::Untold]);
}

#[test]
fn receipt_that_comes_before_the_ack_is_a_lie() {
    for by_name in [true, false] {
        let mut case = Case::good().with_anna(anna_sent());
        case.anna = if by_name { case.anna.told(Status::Delivered, &[1, 2, 3]) } else { case.anna.told_up_to(Status::Delivered, 3) };
        case.anna.0.iter_mut().for_each(|record| record.at_ms = 45);
        assert_eq!(case.broken_rules(), [Rule::Lie]);
    }
}

#[test]
fn status_that_goes_back_is_found() {
    let mut case = Case::good().with_anna(anna_sent().told(Status::Read, &[1, 2, 3]).told(Status::Delivered, &[2]));
    (1..=3).for_each(|n| case.row(n).status = Status::Read);
    case.ben = case.ben.then(1, Event::ReadUpTo { chat: CHAT, seq: 3, ask: 88 });
    assert_eq!(case.broken_rules(), [Rule::Backward]);
}

#[test]
fn sender_that_is_never_told_is_found() {
    let case = Case::good().with_anna(anna_sent().told(Status::Delivered, &[1, 2]));
    assert_eq!(case.broken_rules(), [Rule::Untold]);
}

#[test]
fn an_end_beyond_the_last_thousand_may_be_unknown_to_who_came_into_another_epoch() {
    let broken = |ended_later, epoch: &str| {
        let ready = Event::Ready { epoch: epoch.into(), resumed: false, last_seq: 0, settled_seq: 0 };
        let mut case = Case::good().with_anna(anna_sent().told(Status::Delivered, &[1, 2]).then(2, ready));
        let row = case.row(3);
        (row.status, row.reason, row.ended_later) = (Status::Expired, "left".into(), ended_later);
        case.evidence.snapshot.intervals[1].left = Some(3);
        case.broken_rules()
    };
    assert_eq!(broken(1_000, "f"), []);
    assert_eq!(broken(999, "f"), [Rule::Untold]);
    assert_eq!(broken(1_000, "e"), [Rule::Untold], "its cursor is good");
}

#[test]
fn every_rule_has_a_history_here_that_breaks_it() {
    let text = [
        include_str!("tests.rs"),
        include_str!("tests/whole_runs.rs"),
        include_str!("tests/recalls.rs"),
        include_str!("tests/events.rs"),
        include_str!("tests/events/merges.rs"),
        include_str!("tests/blocks.rs"),
        include_str!("tests/revocations.rs"),
        include_str!("tests/sealing.rs"),
    ]
    .concat();
    for rule in Rule::ALL {
        assert!(text.contains(&format!("Rule::{rule:?}")), "{rule:?}");
    }
}

#[test]
fn the_judge_uses_no_crate_of_the_service() {
    let manifest = include_str!("../Cargo.toml");
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
    assert!(!dependencies.contains("restante"), "{dependencies}");
}
