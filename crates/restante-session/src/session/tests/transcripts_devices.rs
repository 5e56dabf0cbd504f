//! A device's cursor, rule by rule: contiguous, never past what the device may not have, and growing only.

use crate::domain::AttemptOutcome::{Counted, Failed, Settled};
use crate::domain::Status;
use crate::session::Input;

use super::harness::*;

/// A device with 1 to `n` in flight.
fn device_with(n: i64) -> Stage {
    let mut stage = Stage::device(n);
    stage.does(short_page(CHAT, 0, rows(1..=n), n));
    stage
}

#[test]
fn the_cursor_stops_below_the_lowest_unacked_number() {
    let mut stage = device_with(4);
    stage.on(ack([3]), ["settle #1: 3, device 0 0 0"]);
    stage.on(ack([1]), ["settle #2: 1, mark 1=1, device 1 0 0"]);
    stage.on(ack([2]), ["settle #3: 2, mark 1=3, device 3 0 0"]);
}

#[test]
fn the_cursor_stops_below_what_is_buffered() {
    let mut stage = Stage::with(2, |start| {
        (start.scope, start.keeps_cursor) = (crate::session::Scope::Everything, true);
        start.settings.window = 1;
    });
    stage.on(short_page(CHAT, 0, rows([1, 2]), 2), ["emit 1"]);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1, device 1 0 0", "emit 2"]);
}

#[test]
fn a_gap_is_covered_once_it_is_acked_over() {
    let mut stage = Stage::device(5);
    stage.on(
        short_page(CHAT, 0, vec![gap(1, 1), row(2).into(), gap(3, 3), row(4).into(), gap(5, 5)], 5),
        ["emit gap 1-1 2 gap 3-3 4 gap 5-5"],
    );
    stage.on(ack([2]), ["settle #1: 2, mark 1=3, device 2 0 0"]);
    stage.on(ack([4]), ["settle #2: 4, mark 1=4, device 4 0 0"]);
}

#[test]
fn a_trailing_gap_is_covered_by_an_ack_up_to_it() {
    let mut stage = Stage::device(3);
    stage.on(short_page(CHAT, 0, vec![row(1).into(), gap(2, 3)], 3), ["emit 1 gap 2-3"]);
    stage.on(ack_up_to(1), ["settle #1: 1, mark 1=1, device 1 0 0"]);
    stage.on(with_ticket(ack_up_to(3), 1), ["settle #2:, device 3 0 0"]);
    stage.on(ack_up_to(3), []);
    stage.on(committed(1), ["drained 3", "advance low watermark of chat"]);
    stage.on(committed(2), ["confirm 1"]);
}

#[test]
fn an_ack_by_id_moves_no_cursor() {
    let mut stage = Stage::device(2);
    stage.on(ack([2]), ["settle #1: messages 2, device 0 0 0"]);
}

#[test]
fn a_row_that_another_device_settled_is_redelivered_within_the_session_and_then_given_up() {
    let mut stage = Stage::with(3, |start| {
        (start.scope, start.keeps_cursor) = (crate::session::Scope::Everything, true);
        start.settings.attempts_max = 2;
    });
    stage.on(short_page(CHAT, 0, vec![delivered(1).into(), row(2).into()], 2), ["emit 1 2"]);
    stage.on(ack([2]), ["settle #1: 2, device 0 0 0"]);
    stage.at_deadline(30, ["emit 1(attempt 2)"]);
    stage.on(offer(3), ["emit 3"]);
    stage.on(ack([3]), ["settle #2: 3, device 0 0 0"]);
    stage.at_deadline(30, ["emit 1(attempt 3)"]);
    stage.on(offer(4), ["emit 4"]);
    stage.on(ack([4]), ["settle #3: 4, device 0 0 0"]);
    stage.at_deadline(30, []);
    assert_eq!(stage.session.in_flight(CHAT), 0);
    stage.on(offer(5), ["emit 5"]);
    stage.on(ack([5]), ["settle #4: 5, mark 1=5, device 0 0 0"]);
}

/// A device that acked 2, 3 and 4, and to which 1 was emitted in vain until it was given up.
fn with_one_given_up() -> Stage {
    let mut stage = Stage::with(3, |start| {
        (start.scope, start.keeps_cursor) = (crate::session::Scope::Everything, true);
        start.settings.attempts_max = 1;
    });
    stage.on(short_page(CHAT, 0, vec![delivered(1).into(), row(2).into()], 2), ["emit 1 2"]);
    stage.on(ack([2]), ["settle #1: 2, device 0 0 0"]);
    stage.at_deadline(30, ["emit 1(attempt 2)"]);
    stage.on(offer(3), ["emit 3"]);
    stage.on(ack([3]), ["settle #2: 3, device 0 0 0"]);
    stage.at_deadline(30, []);
    assert_eq!(stage.session.in_flight(CHAT), 0);
    stage
}

#[test]
fn a_row_that_was_given_up_is_covered_once_its_device_acks_it_late() {
    let mut stage = with_one_given_up();
    stage.on(ack([9]), ["settle #3: messages 9, device 0 0 0"]);
    stage.on(ack([1]), ["settle #4: messages 1, device 3 0 0"]);
}

#[test]
fn an_ack_up_to_a_number_covers_what_was_given_up_below_it() {
    let mut stage = with_one_given_up();
    stage.on(ack_up_to(3), ["settle #3:, device 3 0 0"]);
}

/// Broken by writing the cursor with acks only: the device that had nothing more to ack got 2 and 3 again.
#[test]
fn a_row_that_ends_below_acked_ones_moves_the_cursor_though_nothing_is_acked_any_more() {
    let mut stage = Stage::with(3, |start| {
        (start.scope, start.keeps_cursor) = (crate::session::Scope::Everything, true);
    });
    stage.on(short_page(CHAT, 0, vec![expiring_row(1, 5).into(), row(2).into(), row(3).into()], 3), ["emit 1 2 3"]);
    stage.on(ack([2, 3]), ["settle #1: 2 3, device 0 0 0"]);
    stage.at_deadline(5, ["emit gap 1-1", "settle #2:, device 3 0 0"]);
}

#[test]
fn a_row_that_failed_here_is_covered_when_it_is_acked_over() {
    let mut stage = device_with(2);
    stage.on(reject_for_good(1), ["count 1: never, final"]);
    stage.on(attempted(1, Failed(5)), []);
    stage.on(ack([2]), ["settle #1: 2, mark 1=2, device 2 0 0"]);
}

#[test]
fn a_row_that_somebody_else_settled_is_still_owed_to_the_device() {
    let mut stage = device_with(2);
    stage.pass(1);
    stage.does(ack([2]));
    stage.at_deadline(29, ["count 1: ack timeout"]);
    stage.on(attempted(1, Settled(Status::Delivered, 0)), ["emit 1(attempt 2)"]);
    stage.on(ack([1]), ["settle #2: 1, mark 1=2, device 2 0 0"]);
}

#[test]
fn a_read_that_was_committed_elsewhere_frees_nothing_on_a_device() {
    let mut stage = device_with(2);
    stage.on(Input::ReadUpTo(chat(1), crate::domain::ChatSeq(2)), []);
    assert_eq!(stage.session.in_flight(CHAT), 2);
}

#[test]
fn what_a_device_reads_counts_as_acked_and_what_is_buffered_still_comes() {
    let mut stage = Stage::with(3, |start| {
        (start.scope, start.keeps_cursor) = (crate::session::Scope::Everything, true);
        start.settings.window = 1;
    });
    stage.on(short_page(CHAT, 0, rows([1, 2]), 2), ["emit 1"]);
    stage.on(read(1, 2), ["settle #1: 1, mark 1=1, device 1 0 0", "mark chat 1 read to 2", "emit 2"]);
}

#[test]
fn a_counted_attempt_of_a_device_is_redelivered_like_any_other() {
    let mut stage = device_with(2);
    stage.does(ack([2]));
    stage.at_deadline(30, ["count 1: ack timeout"]);
    stage.on(attempted(1, Counted(1)), ["emit 1(attempt 2)"]);
}
