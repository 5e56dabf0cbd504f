//! The fallback poll, rule by rule.

use std::time::Duration;

use crate::domain::{AttemptOutcome, InboxSeq};
use crate::session::Input;

use super::harness::*;

/// Live behind `last_seq`; a fallback poll comes every 20 s.
fn polling(last_seq: i64) -> Stage {
    Stage::live_with(last_seq, |start| {
        start.settings.poll_interval = Duration::from_secs(20);
        start.classes.chat.settled_seq = InboxSeq(1);
    })
}

const POLLS: [&str; 3] = ["poll after 4 limit 50", "poll after a0 limit 50", "poll after e0 limit 50"];

#[test]
fn a_live_session_polls_from_the_low_watermark_on() {
    let mut stage = polling(4);
    stage.at_deadline(20, POLLS);
    stage.on(polled(4, vec![], 4), []);
    stage.at_deadline(20, ["poll after 4 limit 50"]);
}

#[test]
fn a_poll_that_finds_a_higher_number_is_a_wake() {
    let mut stage = polling(4);
    stage.at_deadline(20, POLLS);
    stage.on(polled(4, rows([5]), 5), ["read page after 4"]);
    stage.on(short_page(CHAT, 4, rows([5]), 5), ["emit 5"]);
}

#[test]
fn a_poll_takes_waiting_rows_that_the_session_passed_by() {
    let mut stage = polling(4);
    stage.at_deadline(20, POLLS);
    let found = vec![delivered(1).into(), row(2).into(), gap(3, 3), row(4).into()];
    stage.on(polled(4, found, 4), ["emit 2 4"]);
    stage.on(ack([4]), ["settle #1: 4, mark 1=1"]);
}

#[test]
fn strays_wait_for_room_in_the_order_of_their_numbers() {
    let mut stage = Stage::live_with(4, |start| {
        start.settings.poll_interval = Duration::from_secs(20);
        start.settings.window = 1;
    });
    stage.does(offer(5));
    stage.does(offer(6));
    stage.on(short_page(CHAT, 5, rows([6, 7]), 7), []);
    stage.at_deadline(20, ["poll after 4 limit 53", "poll after a0 limit 50", "poll after e0 limit 50"]);
    stage.on(polled(4, rows([2, 3, 5, 6, 7]), 7), []);
    stage.on(ack([5]), ["settle #1: 5, mark 1=1", "emit 2"]);
    stage.on(ack([2]), ["settle #2: 2, mark 1=2", "emit 3"]);
    stage.on(ack([3]), ["settle #3: 3, mark 1=5", "emit 6"]);
}

#[test]
fn an_ack_up_to_a_number_covers_no_stray_that_was_emitted_after_it() {
    let mut stage = polling(4);
    stage.does(offer(5));
    stage.at_deadline(20, ["poll after 4 limit 51", "poll after a0 limit 50", "poll after e0 limit 50"]);
    stage.on(polled(4, rows([2]), 5), ["emit 2"]);
    stage.on(ack_up_to(5), ["settle #1: 5, mark 1=1"]);
    stage.on(offer(6), ["emit 6"]);
    stage.on(ack_up_to(6), ["settle #2: 2 6, mark 1=6"]);
}

#[test]
fn a_row_that_is_settled_while_the_poll_is_under_way_is_no_stray() {
    let mut stage = polling(4);
    for seq in 5..=7 {
        stage.does(offer(seq));
    }
    stage.on(ack([5]), ["settle #1: 5, mark 1=5"]);
    stage.at_deadline(20, ["poll after 4 limit 53", "poll after a0 limit 50", "poll after e0 limit 50"]);
    stage.on(ack([6]), ["settle #2: 6, mark 1=6"]);
    stage.on(committed(1), []);
    stage.on(committed(2), []);
    // Taken when all three still waited.
    stage.on(polled(4, rows([5, 6, 7]), 7), []);
}

#[test]
fn a_row_that_came_after_the_poll_was_asked_is_no_stray() {
    let mut stage = polling(4);
    stage.at_deadline(20, POLLS);
    stage.on(offer(5), ["emit 5"]);
    stage.on(ack([5]), ["settle #1: 5, mark 1=5"]);
    stage.on(polled(4, rows([5]), 5), []);
}

#[test]
fn there_is_no_poll_while_a_drain_is_under_way() {
    let mut stage = polling(4);
    stage.on(Input::Wake(CHAT), ["read page after 4"]);
    stage.at_deadline(20, ["poll after a0 limit 50", "poll after e0 limit 50"]);
    stage.on(short_page(CHAT, 4, vec![], 4), []);
    stage.at_deadline(20, ["poll after 4 limit 50"]);
}

#[test]
fn a_poll_that_was_not_asked_for_is_ignored() {
    let mut stage = polling(4);
    stage.on(polled(4, rows([2]), 9), []);
}

#[test]
fn a_poll_starts_at_the_low_watermark() {
    let mut stage = polling(4);
    stage.on(low_watermark_advanced(9), []);
    stage.on(low_watermark_advanced(6), []);
    stage.at_deadline(20, ["poll after 9 limit 50", "poll after a0 limit 50", "poll after e0 limit 50"]);
}

#[test]
fn polls_are_postponed_by_the_time_the_database_was_away() {
    let mut stage = polling(4);
    stage.pass(5);
    stage.on(Input::DatabaseAway, []);
    stage.pass(100);
    stage.on(Input::DatabaseBack, []);
    stage.at_deadline(15, POLLS);
}

#[test]
fn a_stray_is_timed_like_any_other_envelope() {
    let mut stage = polling(4);
    stage.at_deadline(20, POLLS);
    stage.on(polled(4, rows([2]), 4), ["emit 2"]);
    stage.on(offer(5), ["emit 5"]);
    stage.on(ack([5]), ["settle #1: 5, mark 1=1"]);
    stage.at_deadline(20, ["poll after 4 limit 52"]);
    stage.at_deadline(10, ["count 2: ack timeout"]);
    stage.on(attempted(2, AttemptOutcome::Counted(1)), ["emit 2(attempt 2)"]);
}
