//! Rejects and reads, rule by rule.

use crate::domain::AttemptOutcome::{Counted, Failed, Settled};
use crate::domain::{ChatSeq, InboxSeq, Status};
use crate::session::{Input, Scope};

use super::harness::*;

/// Live, with 1 to `n` in flight.
fn in_flight(n: i64) -> Stage {
    let mut stage = Stage::live(0);
    for seq in 1..=n {
        stage.does(offer(seq));
    }
    stage
}

/// The same for a device, with 1 in flight.
fn device_in_flight() -> Stage {
    let mut stage = Stage::live_with(0, |start| (start.scope, start.keeps_cursor) = (Scope::Everything, true));
    stage.on(offer(1), ["emit 1"]);
    stage
}

#[test]
fn a_rejected_envelope_comes_again_after_a_pause_that_doubles() {
    let mut stage = in_flight(1);
    stage.on(reject(1), ["count 1: bad"]);
    stage.on(attempted(1, Counted(1)), []);
    assert_eq!(stage.session.in_flight(CHAT), 1);
    stage.at_deadline(1, ["emit 1(attempt 2)"]);
    stage.on(reject(1), ["count 1: bad"]);
    stage.on(attempted(1, Counted(2)), []);
    stage.at_deadline(2, ["emit 1(attempt 3)"]);
    stage.on(reject(1), ["count 1: bad"]);
    stage.on(attempted(1, Counted(9)), []);
    stage.at_deadline(30, ["emit 1(attempt 10)"]);
}

#[test]
fn an_attempt_that_could_not_be_counted_is_told_so_and_its_row_is_left_to_the_fallback_poll() {
    for mut stage in [in_flight(1), device_in_flight()] {
        stage.on(with_ticket(reject(1), 6), ["count 1: bad"]);
        stage.on(Input::Attempted { class: CHAT, seq: InboxSeq(1), outcome: None }, ["reject 6: not counted"]);
        assert_eq!(stage.session.in_flight(CHAT), 0);
    }
}

#[test]
fn a_reject_of_what_has_ended_is_told_its_status_and_frees_the_slot() {
    for mut stage in [in_flight(1), device_in_flight()] {
        stage.on(with_ticket(reject(1), 6), ["count 1: bad"]);
        stage.on(attempted(1, Settled(Status::Expired, 1)), ["emit gap 1-1", "reject 6: Settled(Expired, 1)"]);
        assert_eq!(stage.session.in_flight(CHAT), 0);
    }
}

#[test]
fn a_reject_after_which_the_row_is_failed_frees_the_slot() {
    let mut stage = in_flight(2);
    stage.on(with_ticket(reject(1), 6), ["count 1: bad"]);
    stage.on(attempted(1, Failed(5)), ["reject 6: Failed(5)"]);
    assert_eq!(stage.session.in_flight(CHAT), 1);
    stage.on(ack([2]), ["settle #1: 2, mark 1=2"]);
}

#[test]
fn a_reject_of_what_somebody_settled_frees_the_slot() {
    let mut stage = in_flight(1);
    stage.on(reject(1), ["count 1: bad"]);
    stage.on(attempted(1, Settled(Status::Delivered, 0)), []);
    assert_eq!(stage.session.in_flight(CHAT), 0);
}

#[test]
fn a_rejects_ticket_waits_for_its_attempt_and_for_the_acks_before() {
    let mut stage = in_flight(2);
    stage.on(ack([2]), ["settle #1: 2"]);
    stage.on(with_ticket(reject(1), 6), ["count 1: bad"]);
    stage.on(attempted(1, Counted(1)), []);
    stage.on(committed(1), ["reject 6: Counted(1)"]);
}

#[test]
fn an_ack_settles_what_was_rejected_before_and_the_reject_is_told_what_its_attempt_came_to() {
    let mut stage = in_flight(1);
    stage.on(with_ticket(reject(1), 6), ["count 1: bad"]);
    stage.on(with_ticket(reject_for_good(1), 7), []);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1"]);
    stage.on(attempted(1, Failed(5)), []);
    stage.on(committed(1), ["reject 6: Failed(5)", "reject 7: Failed(5)"]);
}

#[test]
fn one_emission_rejected_twice_is_counted_once() {
    let mut stage = in_flight(1);
    stage.on(reject(1), ["count 1: bad"]);
    stage.on(with_ticket(reject(1), 7), []);
    stage.on(attempted(1, Counted(1)), ["reject 7: Counted(1)"]);
    stage.on(with_ticket(reject(1), 8), ["reject 8: Counted(1)"]);
    stage.at_deadline(1, ["emit 1(attempt 2)"]);
}

#[test]
fn a_final_reject_is_not_lost_behind_an_attempt_that_is_being_counted() {
    let mut stage = in_flight(1);
    stage.on(with_ticket(reject(1), 1), ["count 1: bad"]);
    stage.on(with_ticket(reject_for_good(1), 2), []);
    stage.on(attempted(1, Counted(1)), ["count 1: never, final", "reject 1: Counted(1)"]);
    stage.on(attempted(1, Failed(2)), ["reject 2: Failed(2)"]);
    assert_eq!(stage.session.in_flight(CHAT), 0);
}

#[test]
fn a_final_reject_during_the_pause_is_counted_at_once() {
    let mut stage = in_flight(1);
    stage.on(reject(1), ["count 1: bad"]);
    stage.on(attempted(1, Counted(1)), []);
    stage.on(reject_for_good(1), ["count 1: never, final"]);
}

#[test]
fn a_reject_while_a_timeout_is_counted_takes_the_pause() {
    let mut stage = in_flight(2);
    stage.does(ack([2]));
    stage.at_deadline(30, ["count 1: ack timeout"]);
    stage.on(reject(1), []);
    stage.on(attempted(1, Counted(1)), []);
    stage.at_deadline(1, ["emit 1(attempt 2)"]);
}

#[test]
fn a_reject_of_what_is_not_in_flight_goes_by_id() {
    let mut stage = in_flight(1);
    stage.on(reject(70), ["reject message 70: bad"]);
}

#[test]
fn a_reject_is_a_sign_of_life() {
    let mut stage = Stage::with(3, |start| start.emit_alone = true);
    stage.on(short_page(CHAT, 0, rows([1, 2]), 2), ["emit 1"]);
    stage.pass(29);
    stage.on(reject(1), ["count 1: bad", "emit 2"]);
    assert!(stage.session.anything_acked());
    stage.at_deadline(30, ["close NoAcks"]);
}

#[test]
fn a_settled_row_that_a_device_rejects_is_redelivered_here_alone() {
    let mut stage = Stage::device(1);
    stage.on(short_page(CHAT, 0, vec![delivered(1).into()], 1), ["emit 1"]);
    stage.on(with_ticket(reject(1), 2), ["reject 2: Settled(Delivered, 0)"]);
    stage.at_deadline(1, ["emit 1(attempt 2)"]);
    stage.on(reject_for_good(1), ["drained 1", "advance low watermark of chat"]);
}

#[test]
fn a_read_frees_the_slots_of_its_chat_and_settles_them_before_it_is_written() {
    let mut stage = Stage::live(0);
    for (seq, chat_no, chat_seq) in [(1, 7, 1), (2, 8, 1), (3, 7, 2), (4, 7, 3)] {
        stage.does(Input::Offer(row_of(seq, chat_no, chat_seq)));
    }
    stage.on(with_ticket(read(7, 2), 1), ["settle #1: 1 3, mark 7=2", "mark chat 7 read to 2"]);
    assert_eq!(stage.session.in_flight(CHAT), 2);
}

#[test]
fn a_read_settles_what_is_buffered_too() {
    let mut stage = Stage::with(9, |start| start.settings.window = 1);
    stage.on(short_page(CHAT, 0, rows([1, 2, 3]), 3), ["emit 1"]);
    stage.on(read(1, 2), ["settle #1: 1 2, mark 1=2", "mark chat 1 read to 2", "emit 3"]);
}

#[test]
fn a_read_of_a_message_in_flight_takes_its_number() {
    let mut stage = in_flight(3);
    stage.on(read_message(1, 2), ["settle #1: 1 2, mark 1=2", "mark chat 1 read to message 2"]);
}

#[test]
fn a_read_of_a_message_under_another_chat_frees_nothing() {
    let mut stage = in_flight(1);
    stage.on(read_message(3, 1), ["mark chat 3 read to message 1"]);
    assert_eq!(stage.session.in_flight(CHAT), 1);
}

#[test]
fn a_read_of_a_message_that_is_not_in_flight_frees_slots_when_it_is_committed() {
    let mut stage = Stage::with(9, |start| start.settings.window = 2);
    stage.on(short_page(CHAT, 0, rows([1, 2, 3, 4]), 4), ["emit 1 2"]);
    stage.on(read_message(1, 70), ["mark chat 1 read to message 70"]);
    stage.on(Input::ReadUpTo(chat(1), ChatSeq(3)), ["emit 4"]);
    assert_eq!(stage.session.in_flight(CHAT), 1);
}

#[test]
fn a_read_is_a_sign_of_life() {
    let mut stage = in_flight(2);
    stage.pass(20);
    stage.on(read(1, 1), ["settle #1: 1, mark 1=1", "mark chat 1 read to 1"]);
    stage.at_deadline(10, []);
    stage.at_deadline(20, ["close NoAcks"]);
}

/// The notice that message `chat_seq` of chat 1 was recalled.
fn notice(seq: i64, chat_seq: i64) -> Input {
    Input::Offer(envelope(CHAT, seq, chat(1), -chat_seq, id(CHAT, seq)))
}

#[test]
fn a_read_of_a_chat_leaves_the_notice_of_a_recall_in_flight_and_in_the_buffer() {
    let mut stage = Stage::live(0);
    stage.on(offer(1), ["emit 1"]);
    stage.on(notice(2, 1), ["emit 2"]);
    stage.does(read(1, 9));
    assert_eq!(stage.session.in_flight(CHAT), 1, "the notice was not acked");
    stage.does(Input::ReadUpTo(chat(1), ChatSeq(9)));
    assert_eq!(stage.session.in_flight(CHAT), 1, "nor by a read elsewhere");
    stage.does(ack([2]));
    assert_eq!(stage.session.in_flight(CHAT), 0);
}

#[test]
fn no_mark_waits_for_the_notice_of_a_recall_and_none_is_proposed_for_its_ack() {
    let mut stage = Stage::live(0);
    stage.on(notice(1, 5), ["emit 1"]);
    stage.on(Input::Offer(row_of(2, 1, 6)), ["emit 2"]);
    stage.on(ack([2]), ["settle #1: 2, mark 1=6"]);
    stage.on(ack([1]), ["settle #2: 1"]);
}
