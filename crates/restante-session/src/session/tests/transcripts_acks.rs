//! Acks, rule by rule: what a settlement holds, which marks it proposes, who is confirmed when, and when the socket
//! is not read.

use crate::session::{AckTarget, Input};

use super::harness::*;

/// Live, with 1 to `n` in flight.
fn in_flight(n: i64) -> Stage {
    let mut stage = Stage::live(0);
    for seq in 1..=n {
        stage.does(offer(seq));
    }
    stage
}

#[test]
fn nothing_is_settled_by_emitting() {
    let mut stage = Stage::waiting(2);
    stage.on(short_page(CHAT, 0, rows([1, 2]), 2), ["emit 1 2"]);
    assert_eq!(stage.session.in_flight(CHAT), 2);
    assert_eq!(stage.session.uncommitted_acks(), 0);
}

#[test]
fn one_frame_makes_one_settlement() {
    let mut stage = in_flight(3);
    stage.on(ack([3, 1, 3, 1]), ["settle #1: 3 1, mark 1=1"]);
}

#[test]
fn messages_that_are_not_in_flight_here_are_settled_by_id() {
    let mut stage = in_flight(2);
    stage.on(ack([70, 2, 71, 70]), ["settle #1: 2 messages 70 71"]);
}

#[test]
fn a_message_that_is_buffered_is_settled_by_id_and_still_emitted() {
    let mut stage = Stage::with(2, |start| start.settings.window = 1);
    stage.on(short_page(CHAT, 0, rows([1, 2]), 2), ["emit 1"]);
    stage.on(ack([2]), ["settle #1: messages 2"]);
    stage.on(ack([1]), ["settle #2: 1, mark 1=1", "emit 2"]);
}

#[test]
fn an_ack_that_repeats_an_uncommitted_one_adds_nothing() {
    let mut stage = in_flight(1);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1"]);
    stage.on(with_ticket(ack([1]), 5), []);
    stage.on(committed(1), ["confirm 5"]);
    stage.on(ack([1]), ["settle #2: messages 1"]);
}

#[test]
fn an_ack_up_to_a_number_takes_everything_in_flight_up_to_it() {
    let mut stage = in_flight(4);
    stage.on(ack([2]), ["settle #1: 2"]);
    stage.on(ack_up_to(3), ["settle #2: 1 3, mark 1=3"]);
    assert_eq!(stage.session.in_flight(CHAT), 1);
}

#[test]
fn an_ack_up_to_more_than_was_emitted_changes_nothing() {
    let mut stage = in_flight(2);
    stage.on(with_ticket(ack_up_to(3), 8), ["ack ahead of 2"]);
    assert_eq!(stage.session.in_flight(CHAT), 2);
}

#[test]
fn a_gap_that_was_emitted_may_be_acked_up_to() {
    let mut stage = Stage::waiting(4);
    stage.on(short_page(CHAT, 0, vec![row(1).into(), gap(2, 4)], 4), ["emit 1 gap 2-4"]);
    stage.on(ack_up_to(4), ["settle #1: 1, mark 1=1"]);
}

#[test]
fn what_is_buffered_was_not_emitted_and_cannot_be_acked_up_to() {
    let mut stage = Stage::with(2, |start| start.settings.window = 1);
    stage.on(short_page(CHAT, 0, rows([1, 2]), 2), ["emit 1"]);
    stage.on(ack_up_to(2), ["ack ahead of 1"]);
}

#[test]
fn an_ack_up_to_what_lies_before_the_session_is_no_error() {
    let mut stage = Stage::live(7);
    stage.on(ack_up_to(7), []);
    stage.on(with_ticket(ack_up_to(3), 1), ["confirm 1"]);
}

#[test]
fn a_ticket_is_confirmed_when_everything_before_it_is_committed() {
    let mut stage = in_flight(3);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1"]);
    stage.on(with_ticket(ack([2]), 20), ["settle #2: 2, mark 1=2"]);
    stage.on(with_ticket(ack([]), 21), []);
    stage.on(with_ticket(ack([3]), 30), ["settle #3: 3, mark 1=3"]);
    stage.on(committed(2), []);
    stage.on(committed(2), []);
    stage.on(committed(1), ["confirm 20", "confirm 21"]);
    stage.on(committed(9), []);
    stage.on(committed(0), []);
    stage.on(committed(3), ["confirm 30"]);
}

#[test]
fn a_mark_stops_below_the_lowest_number_of_its_chat_that_is_not_acked() {
    let mut stage = Stage::live(0);
    for (seq, chat_no, chat_seq) in [(1, 7, 11), (2, 8, 5), (3, 7, 13), (4, 7, 14)] {
        stage.does(Input::Offer(row_of(seq, chat_no, chat_seq)));
    }
    stage.on(ack([3]), ["settle #1: 3, mark 7=10"]);
    stage.on(ack([2, 1]), ["settle #2: 2 1, mark 7=13, mark 8=5"]);
    stage.on(ack([4]), ["settle #3: 4, mark 7=14"]);
}

#[test]
fn a_mark_never_covers_what_is_buffered() {
    let mut stage = Stage::with(9, |start| start.settings.window = 1);
    let page = vec![row_of(1, 7, 11).into(), row_of(2, 7, 15).into()];
    stage.on(short_page(CHAT, 0, page, 2), ["emit 1"]);
    stage.on(ack([1]), ["settle #1: 1, mark 7=14", "emit 2"]);
}

#[test]
fn a_requeued_message_holds_the_mark_back_under_either_number() {
    let mut stage = Stage::with(2, |start| start.settings.window = 2);
    let requeued = envelope(CHAT, 3, chat(1), 1, id(CHAT, 1));
    stage.on(short_page(CHAT, 0, vec![row(1).into(), row(2).into(), requeued.into()], 3), ["emit 1 2"]);
    stage.on(ack([2]), ["settle #1: 2", "emit 3"]);
    stage.on(ack([1]), ["settle #2: 3, mark 1=2"]);
}

#[test]
fn only_chats_of_which_something_is_held_are_remembered() {
    let mut stage = Stage::live(0);
    for seq in 1..=20 {
        stage.does(Input::Offer(row_of(seq, 100 + seq as u128, 1)));
        stage.does(ack([seq]));
    }
    assert_eq!(stage.session.marks.len(), 0);
}

#[test]
fn at_twice_the_bound_the_socket_is_not_read_and_no_ack_is_dropped() {
    let mut stage = Stage::live_with(0, |start| start.settings.uncommitted_acks_max = 2);
    for seq in 1..=2 {
        stage.does(offer(seq));
    }
    stage.on(ack([1, 2, 50]), ["settle #1: 1 2 messages 50, mark 1=2"]);
    assert!(stage.session.may_read());
    stage.on(ack([51]), ["settle #2: messages 51"]);
    assert!(!stage.session.may_read());
    stage.on(with_ticket(ack([52]), 1), ["settle #3: messages 52"]);
    stage.on(committed(1), []);
    assert!(stage.session.may_read());
    stage.on(committed(2), []);
    stage.on(committed(3), ["confirm 1"]);
    assert_eq!(stage.session.uncommitted_acks(), 0);
}

#[test]
fn tickets_that_wait_are_bounded_too() {
    let mut stage = Stage::live_with(0, |start| start.settings.uncommitted_acks_max = 2);
    stage.on(with_ticket(ack([60]), 0), ["settle #1: messages 60"]);
    for ticket in 1..=3 {
        assert!(stage.session.may_read());
        stage.on(with_ticket(ack([]), ticket), []);
    }
    assert!(!stage.session.may_read());
    stage.on(committed(1), ["confirm 0", "confirm 1", "confirm 2", "confirm 3"]);
    assert!(stage.session.may_read());
}

#[test]
fn an_empty_ack_is_answered_at_once_when_nothing_is_under_way() {
    let mut stage = Stage::live(0);
    stage.on(Input::Ack { target: AckTarget::Messages(vec![]), ticket: Some(crate::session::Ticket(4)) }, ["confirm 4"]);
}
