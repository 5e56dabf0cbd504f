//! Time, rule by rule: skipped envelopes, silent clients, a database that is away, acks that cannot be written.

use crate::domain::AttemptOutcome::{Counted, Failed, Settled};
use crate::domain::Status;
use crate::session::Input;

use super::harness::*;

/// Live, with 1 to `n` in flight, and then one second passed.
fn in_flight(n: i64) -> Stage {
    let mut stage = Stage::live(0);
    for seq in 1..=n {
        stage.does(offer(seq));
    }
    stage.pass(1);
    stage
}

/// 1 was skipped: 2 was emitted later and acked. Its attempt is being counted.
fn skipped() -> Stage {
    let mut stage = in_flight(2);
    stage.does(ack([2]));
    stage.does(committed(1));
    stage.at_deadline(29, ["count 1: ack timeout"]);
    stage
}

#[test]
fn an_envelope_is_skipped_when_a_later_one_was_acked_and_its_attempt_counts() {
    let mut stage = skipped();
    stage.on(attempted(1, Counted(1)), ["emit 1(attempt 2)"]);
    stage.on(attempted(1, Counted(2)), []);
    stage.on(ack([1]), ["settle #2: 1, mark 1=2"]);
}

#[test]
fn a_redelivered_envelope_is_the_newest_in_the_order_of_emission() {
    let mut stage = skipped();
    stage.on(offer(3), ["emit 3"]);
    stage.on(attempted(1, Counted(1)), ["emit 1(attempt 2)"]);
    stage.pass(1);
    stage.on(ack([3]), ["settle #2: 3"]);
    // 3 was emitted before the redelivery: that it was acked says nothing about it.
    stage.at_deadline(29, []);
    stage.at_deadline(1, ["close NoAcks"]);
}

#[test]
fn the_ack_of_an_earlier_envelope_is_no_skip_but_a_sign_of_life() {
    let mut stage = in_flight(2);
    stage.pass(9);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1"]);
    stage.at_deadline(20, []);
    stage.at_deadline(10, ["close NoAcks"]);
}

#[test]
fn a_silent_client_is_closed_and_nothing_is_counted() {
    let mut stage = in_flight(2);
    stage.at_deadline(29, ["close NoAcks"]);
    assert_eq!(stage.session.next_deadline(), None);
    stage.on(ack([1]), []);
    stage.on(offer(3), []);
    stage.on(Input::Deadline, []);
}

#[test]
fn events_and_chat_share_the_order_of_emission() {
    let mut stage = in_flight(1);
    stage.on(Input::Offer(event(1)), ["emit e1"]);
    stage.on(ack_event(1), ["settle #1: e1"]);
    stage.at_deadline(29, ["count 1: ack timeout"]);
}

#[test]
fn the_slot_stays_taken_while_the_attempt_is_counted() {
    let mut stage = skipped();
    assert_eq!(stage.session.in_flight(CHAT), 1);
    stage.on(attempted(1, Failed(5)), []);
    assert_eq!(stage.session.in_flight(CHAT), 0);
}

#[test]
fn a_row_that_somebody_else_settled_frees_its_slot() {
    let mut stage = skipped();
    stage.on(attempted(1, Settled(Status::Delivered, 0)), []);
    assert_eq!(stage.session.in_flight(CHAT), 0);
}

#[test]
fn an_ack_while_the_attempt_is_counted_settles_the_row() {
    for outcome in [Counted(1), Failed(5), Settled(Status::Delivered, 0)] {
        let mut stage = skipped();
        stage.on(ack([1]), ["settle #2: 1, mark 1=2"]);
        stage.on(attempted(1, outcome), []);
        assert_eq!(stage.session.in_flight(CHAT), 0);
    }
}

#[test]
fn an_attempt_of_something_unknown_is_ignored() {
    let mut stage = in_flight(1);
    stage.on(attempted(1, Failed(5)), []);
    stage.on(attempted(9, Failed(5)), []);
    assert_eq!(stage.session.in_flight(CHAT), 1);
}

#[test]
fn attempts_counted_before_this_connection_show_on_the_wire() {
    let mut stage = Stage::live(0);
    stage.on(Input::Offer(crate::domain::Envelope { attempts: 3, ..row(1) }), ["emit 1(attempt 4)"]);
}

#[test]
fn no_deadline_fires_while_the_database_is_away_and_each_starts_anew_when_it_is_back() {
    let mut stage = in_flight(1);
    stage.on(Input::DatabaseAway, []);
    assert_eq!(stage.session.next_deadline(), None);
    stage.pass(1_000);
    stage.on(Input::Deadline, []);
    stage.on(Input::DatabaseBack, []);
    stage.at_deadline(30, ["close NoAcks"]);
}

#[test]
fn an_envelope_that_was_skipped_before_the_database_went_away_gets_its_whole_time_again() {
    let mut stage = in_flight(2);
    stage.does(ack([2]));
    stage.on(Input::DatabaseAway, []);
    stage.pass(1_000);
    stage.on(Input::DatabaseBack, []);
    stage.at_deadline(30, ["count 1: ack timeout"]);
}

#[test]
fn acks_that_cannot_be_written_for_too_long_close_the_connection() {
    let mut stage = Stage::live_with(0, |start| start.settings.uncommitted_acks_max = 1);
    stage.on(ack([70, 71]), ["settle #1: messages 70 71"]);
    stage.at_deadline(10, ["close Stalled"]);
}

#[test]
fn acks_that_wait_for_a_database_that_is_away_do_not_close_the_connection() {
    let mut stage = Stage::live_with(0, |start| start.settings.uncommitted_acks_max = 1);
    stage.on(ack([70, 71]), ["settle #1: messages 70 71"]);
    stage.on(Input::DatabaseAway, []);
    assert_eq!(stage.session.next_deadline(), None);
    stage.pass(1_000);
    stage.on(Input::DatabaseBack, []);
    stage.at_deadline(10, ["close Stalled"]);
}

#[test]
fn silence_while_the_socket_is_not_read_is_not_the_clients() {
    let mut stage = Stage::live_with(0, |start| {
        start.settings.uncommitted_acks_max = 1;
        start.settings.stalled_max = std::time::Duration::from_secs(60);
    });
    stage.does(offer(1));
    stage.on(ack([70, 71]), ["settle #1: messages 70 71"]);
    stage.pass(40);
    stage.on(Input::Deadline, []);
    stage.on(committed(1), []);
    stage.at_deadline(30, ["close NoAcks"]);
}

#[test]
fn a_deadline_that_has_not_come_does_nothing() {
    let mut stage = in_flight(1);
    stage.on(Input::Deadline, []);
    stage.pass(28);
    stage.on(Input::Deadline, []);
    stage.at_deadline(1, ["close NoAcks"]);
}

#[test]
fn late_acks_of_another_connection_are_a_sign_of_life() {
    let mut stage = in_flight(1);
    stage.pass(19);
    stage.on(ack([70]), ["settle #1: messages 70"]);
    stage.at_deadline(10, []);
    stage.at_deadline(20, ["close NoAcks"]);
}

#[test]
fn while_frames_may_lie_unread_no_ack_is_missing_and_its_time_begins_anew() {
    let mut stage = in_flight(2);
    stage.does(Input::FramesUnread);
    stage.at_deadline(30, ["close NoAcks"]);
    let mut stage = skipped_soon();
    stage.pass(28);
    stage.does(Input::FramesUnread);
    stage.on(Input::Deadline, []);
    stage.at_deadline(30, ["count 1: ack timeout"]);
}

/// 1 was skipped, and its time is not over.
fn skipped_soon() -> Stage {
    let mut stage = in_flight(2);
    stage.does(ack([2]));
    stage.does(committed(1));
    stage
}
