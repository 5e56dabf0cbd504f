//! Runs that are judged to their end: every message reaches every recipient and is read, every send is confirmed, and nobody had
//! anything before the run.

use super::*;

/// A run in which Ben reads all three messages, and in which that is expected.
fn read_case() -> Case {
    let mut case = Case::good().with_anna(anna_sent().told(Status::Read, &[1, 2, 3]));
    (1..=3).for_each(|n| case.row(n).status = Status::Read);
    case.evidence.snapshot.members[1].read = 3;
    case.ben = case.ben.then(1, Event::ReadUpTo { chat: CHAT, seq: 3, ask: 70 });
    case.evidence.exempt.clear();
    case
}

fn ben() -> Script {
    Script::default().connects(1, Some("phone"))
}

/// Ben reads what he got.
fn reads(ben: Script) -> Script {
    ben.then(1, Event::ReadUpTo { chat: CHAT, seq: 3, ask: 70 })
}

#[test]
fn run_in_which_everything_is_read_is_good() {
    assert_eq!(read_case().broken_rules(), []);
}

#[test]
fn message_that_no_client_received_is_found() {
    let case = read_case().with_ben(reads(ben().gets(1, 1).gets(1, 2)));
    assert_eq!(case.broken_rules(), [Rule::NotReceived]);
}

#[test]
fn row_that_is_not_read_is_found_where_that_is_expected() {
    let mut case = read_case().with_anna(anna_sent().told(Status::Read, &[1, 2]).told(Status::Delivered, &[3]));
    case.row(3).status = Status::Delivered;
    case.evidence.snapshot.members[1].read = 2;
    assert_eq!(case.broken_rules(), [Rule::Unread]);
}

#[test]
fn send_without_a_confirmation_is_found_where_that_is_expected() {
    let mut case = read_case();
    case.anna = case.anna.sends(4).then(1, Event::SendRefused { message: id(4), code: "invalid".into(), is_final: true });
    assert_eq!(case.broken_rules(), [Rule::Refused]);
    let mut case = read_case();
    case.anna = case.anna.sends(4);
    assert_eq!(case.broken_rules(), [Rule::Refused], "no answer");
}

#[test]
fn missing_inbox_number_is_a_hole_unless_it_was_named() {
    let got = |ben: Script| {
        let mut case = read_case().with_ben(reads(ben.then(1, received(3, 3, 5)).acks(1, 3)));
        case.row(3).seq = Some(5);
        case.evidence.snapshot.gaps = [3, 4].map(|n| ("ben".to_owned(), Class::Chat, n)).into();
        let last = &mut case.evidence.snapshot.inboxes[1];
        (last.last_seq, last.settled_seq) = (5, 5);
        case.broken_rules()
    };
    let two = || ben().gets(1, 1).acks(1, 1).gets(1, 2).acks(1, 2);
    assert_eq!(got(two()), [Rule::DeviceHole]);
    assert_eq!(got(two().then(1, Event::Gap { class: Class::Chat, from: 3, to: 4, reason: "left".into() })), []);
}

#[test]
fn new_device_whose_numbers_do_not_begin_above_the_settled_one_has_a_hole() {
    let shifted = |device: Option<&str>, settled_seq| {
        let began = Event::Connecting { node: 0, device: device.map(str::to_owned), since: None };
        let ready = Event::Ready { epoch: "e".into(), resumed: false, last_seq: 4, settled_seq };
        let ben = (1..=3).fold(Script::default().then(1, began).then(1, ready), |ben, n| ben.then(1, received(n, n, n + 1)).acks(1, n));
        let mut case = read_case().with_ben(reads(ben));
        (1..=3).for_each(|n| case.row(n).seq = Some(n as i64 + 1));
        case.evidence.snapshot.gaps = [("ben".to_owned(), Class::Chat, 1)].into();
        let last = &mut case.evidence.snapshot.inboxes[1];
        (last.last_seq, last.settled_seq) = (4, 4);
        case.broken_rules()
    };
    assert_eq!(shifted(Some("phone"), 0), [Rule::DeviceHole]);
    assert_eq!(shifted(Some("phone"), 1), [], "the first number was settled before the device came");
    assert_eq!(shifted(None, 0), [], "without a device missing inbox numbers mean nothing");
}

#[test]
fn second_delivery_on_one_connection_as_the_first_attempt_is_a_duplicate_and_a_counted_one_is_not() {
    let again = |attempt| {
        let mut again = received(3, 3, 3);
        if let Event::Received { attempt: of, .. } = &mut again {
            *of = attempt;
        }
        let ben = ben().gets(1, 1).acks(1, 1).gets(1, 2).acks(1, 2).gets(1, 3).then(1, again).acks(1, 3);
        read_case().with_ben(reads(ben)).broken_rules()
    };
    assert_eq!(again(1), [Rule::Duplicate]);
    assert_eq!(again(2), []);
}

#[test]
fn two_messages_with_one_number_are_found() {
    let mut case = read_case();
    case.evidence.snapshot.messages.get_mut(&id(3)).unwrap().seq = 2;
    let rules = case.broken_rules();
    assert!([Rule::Lost, Rule::ChatGap, Rule::Altered].iter().all(|rule| rules.contains(rule)), "{rules:?}");
}

#[test]
fn message_that_came_under_another_number_the_second_time_is_altered() {
    let ben = ben().gets(1, 1).acks(1, 1).gets(1, 2).acks(1, 2).gets(1, 3).connects(2, Some("phone"));
    let case = read_case().with_ben(reads(ben.then(2, received(3, 9, 3)).acks(2, 3)));
    assert_eq!(case.broken_rules(), [Rule::Altered]);
}

#[test]
fn message_that_nobody_sent_is_not_theirs() {
    let ben = (1..=3).fold(ben(), |ben, n| ben.gets(1, n).acks(1, n)).then(1, received(8, 8, 4));
    assert_eq!(read_case().with_ben(reads(ben)).broken_rules(), [Rule::NotTheirs]);
}

#[test]
fn senders_messages_numbered_otherwise_are_found_unless_one_was_refused_for_now_or_sent_twice() {
    let swapped = |anna: Script| {
        let anna = anna.hears_stored(2, 1, false).hears_stored(1, 2, false).hears_stored(3, 3, false);
        let mut case = read_case().with_anna(anna.told(Status::Read, &[1, 2, 3]));
        for (n, seq) in [(1, 2), (2, 1)] {
            case.evidence.snapshot.messages.get_mut(&id(n)).unwrap().seq = seq;
            case.row(usize::try_from(n).unwrap()).seq = Some(seq);
        }
        let ben = ben().then(1, received(2, 1, 1)).acks(1, 2).then(1, received(1, 2, 2)).acks(1, 1).gets(1, 3).acks(1, 3);
        case.with_ben(reads(ben)).broken_rules()
    };
    let sent = || (1..=3).fold(Script::default().connects(1, None), Script::sends);
    assert_eq!(swapped(sent()), [Rule::SenderOrder]);
    let refused = Event::SendRefused { message: id(1), code: "busy".into(), is_final: false };
    assert_eq!(swapped(sent().then(1, refused)), []);
    assert_eq!(swapped(sent().sends(1)), [], "nobody knows which of two attempts was stored");
}

#[test]
fn tables_that_do_not_agree_are_found() {
    let mut case = read_case();
    case.evidence.snapshot.inconsistencies.push("chat c has 2 heads".into());
    assert_eq!(case.broken_rules(), [Rule::Inconsistent]);
}

#[test]
fn a_gap_moves_the_cursor_of_a_device_once_an_ack_that_followed_it_is_confirmed() {
    let gap = || Event::Gap { class: Class::Chat, from: 1, to: 1, reason: "expired".into() };
    let began = || Script::default().connects(1, Some("phone")).gets(1, 1).gets(1, 2).gets(1, 3).acks(1, 2);
    let broken = |ben: Script| Case::good().with_ben(ben).broken_rules().contains(&Rule::Duplicate);
    let last = began().acks(1, 3).then(1, gap());
    assert!(!broken(last.connects(2, Some("phone")).gets(2, 2)), "the service may not know that the gap was heard");
    let followed = began().then(1, gap()).acks(1, 3);
    assert!(broken(followed.connects(2, Some("phone")).gets(2, 2)));
}

#[test]
fn a_gap_with_nothing_behind_it_acked_on_its_connection_moves_no_cursor_of_a_device() {
    let gap =
        |connection| move |ben: Script| ben.then(connection, Event::Gap { class: Class::Chat, from: 1, to: 1, reason: "expired".into() });
    let began = || Script::default().connects(1, Some("phone")).gets(1, 1).gets(1, 2).gets(1, 3).acks(1, 2).acks(1, 3);
    let broken = |ben: Script| Case::good().with_ben(ben.connects(3, Some("phone")).gets(3, 2)).broken_rules().contains(&Rule::Duplicate);
    let again = |by: fn(Script) -> Script| by(gap(2)(began().connects(2, Some("phone"))));
    assert!(!broken(again(|ben| ben.acks(2, 1))), "an ack of what has ended says nothing");
    assert!(!broken(again(|ben| up_to(ben, 2, Class::Alert, 9))), "an ack in another inbox says nothing");
    assert!(broken(again(|ben| ben.gets(2, 3).acks(2, 3))));
    assert!(broken(again(|ben| up_to(ben, 2, Class::Chat, 1))));
}

/// Acks everything up to a number, and hears that it is committed.
fn up_to(script: Script, connection: u32, class: Class, up_to: i64) -> Script {
    let ask = script.0.len() as u64;
    script.then(connection, Event::AckedUpTo { class, up_to, ask: Some(ask) }).then(connection, Event::AckConfirmed { ask })
}

#[test]
fn who_is_stuck_what_died_and_what_the_service_objects_to_is_found() {
    let mut case = Case::good();
    case.evidence.stuck.push("ben-1".into());
    assert_eq!(case.broken_rules(), [Rule::Stuck]);
    let mut case = Case::good();
    case.evidence.died.push("node 1".into());
    assert_eq!(case.broken_rules(), [Rule::Died]);
    let mut case = Case::good();
    case.ben = case.ben.then(1, Event::Objection { words: "error internal".into() });
    assert_eq!(case.broken_rules(), [Rule::Objection]);
}
