//! Alerts and events, rule by rule: they have no marks, are not read, and keep nothing of a chat back.

use crate::domain::{ChatSeq, Class, InboxSeq};
use crate::session::{AckTarget, ClassStart, Input, ReadTarget};

use super::harness::*;

/// A page of so many events that is not the last: more is always there.
fn endless(after: i64, count: i64) -> Input {
    full_page(EVENT, after, events(after + 1..=after + count))
}

#[test]
fn one_ack_names_what_came_in_several_classes_and_only_chats_get_marks() {
    let mut stage = Stage::waiting(1);
    stage.does(short_page(EVENT, 0, events([1]), 1));
    stage.does(short_page(ALERT, 0, alerts([1]), 1));
    stage.does(short_page(CHAT, 0, rows([1]), 1));
    stage.on(ack_ids([id(EVENT, 1), id(CHAT, 1), id(ALERT, 1), id(EVENT, 9)]), ["settle #1: e1 1 a1 messages 2000009, mark 1=1"]);
    stage.on(committed(1), ["drained 1", "advance low watermark of chat"]);
}

#[test]
fn a_class_that_is_full_and_endless_holds_neither_what_chats_emit_nor_their_marks() {
    let mut stage = Stage::with(0, |start| {
        (start.settings.window, start.settings.page_rows, start.settings.uncommitted_acks_max) = (2, 2, 2);
        // A client that resumes above what waits in the event inbox.
        start.classes.event = ClassStart { cursor: InboxSeq(40), last_seq: InboxSeq(90), settled_seq: InboxSeq(10), to_come: 0 };
    });
    stage.does(short_page(CHAT, 0, vec![], 0));
    stage.on(endless(40, 2), ["emit e41 e42", "read page after e42"]);
    stage.on(endless(42, 2), []);
    stage.on(offer(1), ["emit 1"]);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1"]);
    // Nothing of it is committed: no event is emitted, chats go on.
    stage.on(ack_ids([41, 42].map(|seq| id(EVENT, seq))), ["settle #2: e41 e42"]);
    stage.on(offer(2), ["emit 2"]);
    stage.on(committed(2), ["emit e43 e44", "read page after e44"]);
    stage.on(endless(44, 2), []);
    stage.on(ack([2]), ["settle #3: 2, mark 1=2"]);
}

#[test]
fn an_event_past_its_time_casts_no_doubt_on_a_chat() {
    let mut stage = Stage::live(0);
    let at = time::OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_secs(5);
    // The numbers of a feed and of a chat may be alike.
    stage.on(Input::Offer(expiring(envelope(EVENT, 1, chat(1), 1, id(EVENT, 1)), Some(at))), ["emit e1"]);
    stage.at_deadline(5, ["emit gap e1-1"]);
    stage.does(offer(1));
    stage.on(ack([1]), ["settle #1: 1, mark 1=1"]);
}

#[test]
fn a_read_that_names_a_feed_frees_settles_and_drops_nothing_of_it() {
    let mut stage = Stage::with(0, |start| start.settings.window = 1);
    stage.does(short_page(EVENT, 0, events([1, 2]), 2));
    stage.on(read(2, 9), ["mark chat 2 read to 9"]);
    let named = Input::Read { chat: chat(2), target: ReadTarget::Message(id(EVENT, 1)), ticket: None };
    stage.on(named, ["mark chat 2 read to message 2000001"]);
    stage.on(Input::ReadUpTo(chat(2), ChatSeq(9)), []);
    stage.on(Input::Left(chat(2), ChatSeq(9)), ["check e1 e2"]);
    assert_eq!((stage.session.in_flight(EVENT), stage.session.buffered(EVENT)), (1, 1));
}

#[test]
fn the_windows_of_the_classes_are_apart_whoever_is_full() {
    for full in Class::ALL {
        let mut stage = Stage::with(0, |start| start.settings.window = 1);
        for class in Class::ALL {
            let page = [1, 2].map(|seq| envelope(class, seq, chat(7), seq, id(class, seq)).into());
            assert_eq!(stage.does(short_page(class, 0, page.into(), 2)).len(), 2, "one is emitted, and the class is drained");
        }
        for class in Class::ALL.into_iter().filter(|class| *class != full) {
            stage.does(Input::Ack { target: AckTarget::UpTo(class, InboxSeq(1)), ticket: None });
            assert_eq!((stage.session.in_flight(class), stage.session.buffered(class)), (1, 0), "{class} goes on beside {full}");
        }
        assert_eq!((stage.session.in_flight(full), stage.session.buffered(full)), (1, 1));
    }
}

#[test]
fn what_ended_in_a_feed_is_a_gap_of_its_own_and_takes_no_place_in_the_window() {
    let mut stage = Stage::with(0, |start| start.settings.window = 1);
    let page = vec![feed_gap(1, 7, 1, 90), feed_gap(2, 8, 4, 4), gap(3, 3), gap(4, 5), event_of_feed(6, 7).into()];
    stage.on(short_page(EVENT, 0, page, 6), ["emit gap e1 of feed 7 1-90 gap e2 of feed 8 4-4 gap e3-5 e6", "drained e0"]);
}

#[test]
fn pages_of_feeds_that_bring_nothing_for_the_user_are_followed_by_the_next_and_not_for_ever() {
    let mut stage = Stage::waiting(0);
    stage.on(full_page(EVENT, 0, vec![]), ["drained e0", "read page after e0"]);
    for _ in 1..20 {
        stage.on(full_page(EVENT, 0, vec![]), ["read page after e0"]);
    }
    stage.on(full_page(EVENT, 0, vec![event_of_feed(1, 7).into()]), ["emit e1", "read page after e1"]);
    for _ in 0..20 {
        stage.on(full_page(EVENT, 1, vec![]), ["read page after e1"]);
    }
    stage.on(full_page(EVENT, 1, vec![]), []);
    // Of a chat there is none: it would not end.
    stage.on(full_page(CHAT, 0, vec![]), ["drained 0"]);
}

#[test]
fn drained_waits_for_what_had_no_number_at_connect_and_for_nothing_later() {
    let of_feed = |seqs: std::ops::RangeInclusive<i64>| seqs.map(|seq| event_of_feed(seq, 7).into()).collect::<Vec<_>>();
    let connect = || {
        Stage::with(0, |start| {
            start.classes.event = ClassStart { last_seq: InboxSeq(1), to_come: 3, ..start.classes.event };
        })
    };
    // More comes all the time, and what has waited is told all the same.
    let mut stage = connect();
    stage.on(full_page(EVENT, 0, vec![event(1).into(), feed_gap(2, 8, 1, 2)]), ["emit e1 gap e2 of feed 8 1-2", "read page after e2"]);
    stage.on(ack_event(1), ["settle #1: e1"]);
    stage.on(committed(1), []);
    stage.on(full_page(EVENT, 2, of_feed(3..=4)), ["emit e3 e4", "read page after e4"]);
    stage.on(ack_event(3), ["settle #2: e3"]);
    stage.on(committed(2), ["drained e3", "advance low watermark of event"]);

    // Less came than was counted: it had ended, or was of the user itself.
    let mut stage = connect();
    stage.on(short_page(EVENT, 0, vec![event(1).into(), event_of_feed(2, 7).into()], 2), ["emit e1 e2"]);
    stage.on(ack_event(1), ["settle #1: e1"]);
    stage.on(committed(1), []);
    stage.on(ack_event(2), ["settle #2: e2"]);
    stage.on(committed(2), ["drained e2", "advance low watermark of event"]);
}
