//! Rows that end while they are buffered or in flight, rule by rule.

use crate::domain::RowState::{Ended, Settled, Waits};
use crate::domain::{AttemptOutcome, ChatSeq, GapReason, InboxSeq, RowState, Status};
use crate::session::{Input, Scope};

use super::harness::*;

fn ended() -> Input {
    Input::SomethingEnded
}

fn left(up_to: i64) -> Input {
    Input::Left(chat(1), ChatSeq(up_to))
}

fn checked(rows: impl IntoIterator<Item = (i64, RowState)>) -> Input {
    Input::Checked(CHAT, rows.into_iter().map(|(seq, state)| (InboxSeq(seq), state)).collect())
}

/// A session with one place in its window, and 1 in flight.
fn narrow(device: bool, rows: Vec<crate::domain::PageRow>) -> Stage {
    let last = i64::try_from(rows.len()).unwrap();
    let mut stage = Stage::with(last, |start| {
        start.settings.window = 1;
        if device {
            (start.scope, start.keeps_cursor) = (Scope::Everything, true);
        }
    });
    stage.on(short_page(CHAT, 0, rows, last), ["emit 1"]);
    stage
}

#[test]
fn what_expires_in_the_buffer_is_a_gap_and_what_follows_comes_at_once() {
    for device in [false, true] {
        let rows = vec![row(1).into(), expiring_row(2, 5).into(), expiring_row(3, 5).into(), row(4).into()];
        let mut stage = narrow(device, rows);
        stage.pass(9);
        let settled = if device { "settle #1: 1, mark 1=1, device 1 0 0" } else { "settle #1: 1, mark 1=1" };
        stage.on(ack([1]), [settled, "emit gap 2-3 4"]);
    }
}

#[test]
fn what_expires_in_flight_frees_its_place_at_that_moment() {
    for device in [false, true] {
        let rows = (1..=10).map(|seq| expiring_row(seq, 5).into()).chain([row(11).into()]).collect();
        let mut stage = narrow(device, rows);
        stage.at_deadline(5, ["emit gap 1-10 11"]);
        assert_eq!(stage.session.in_flight(CHAT), 1);
    }
}

#[test]
fn five_unacked_that_expire_do_not_keep_five_new_ones_waiting() {
    let mut stage = Stage::live_with(0, |start| start.settings.window = 5);
    for seq in 1..=5 {
        stage.does(Input::Offer(expiring_row(seq, 3)));
    }
    stage.on(offer(6), ["read page after 5"]);
    stage.on(short_page(CHAT, 5, rows(6..=10), 10), []);
    stage.at_deadline(3, ["emit gap 1-5 6 7 8 9 10"]);
}

#[test]
fn a_read_does_not_settle_what_expired_in_the_buffer() {
    let mut stage = narrow(false, vec![row(1).into(), expiring_row(2, 5).into(), row(3).into(), row(4).into()]);
    stage.pass(9);
    // The mark stays below the expired row, which may still wait in the database.
    stage.on(read(1, 3), ["settle #1: 1 3, mark 1=1", "mark chat 1 read to 3", "emit gap 2-2 4"]);
}

#[test]
fn a_device_asks_whether_what_expires_was_read_elsewhere_or_ended() {
    let mut stage = narrow(true, vec![row(1).into(), expiring_row(2, 5).into(), row(3).into()]);
    stage.on(Input::ReadUpTo(chat(1), ChatSeq(3)), ["check 1 2 3"]);
    stage.on(checked([(2, Ended(GapReason::Expired))]), ["emit gap 2-2"]);
    stage.on(ack([1]), ["settle #1: 1, mark 1=2, device 1 0 0", "emit 3"]);
}

#[test]
fn an_offer_after_its_time_is_a_gap() {
    let mut stage = Stage::live(0);
    stage.pass(5);
    stage.on(Input::Offer(expiring_row(1, 5)), ["emit gap 1-1"]);
    stage.on(offer(2), ["emit 2"]);
}

#[test]
fn no_mark_passes_what_has_expired_here_before_the_database_shows_that_it_waits_no_more() {
    let mut stage = Stage::live_with(0, |start| start.settings.poll_interval = std::time::Duration::from_secs(20));
    stage.does(Input::Offer(expiring_row(1, 5)));
    stage.at_deadline(5, ["emit gap 1-1"]);
    stage.does(offer(2));
    stage.on(ack([2]), ["settle #1: 2"]);
    stage.does(committed(1));
    stage.pass(15);
    assert_eq!(stage.does(Input::Deadline)[0], "poll after 0 limit 50");
    stage.does(polled(0, vec![expiring_row(1, 5).into()], 2));
    stage.does(offer(3));
    stage.on(ack([3]), ["settle #2: 3"]);
    stage.does(committed(2));
    stage.pass(20);
    assert_eq!(stage.does(Input::Deadline)[0], "poll after 0 limit 50");
    stage.does(polled(0, vec![], 3));
    stage.does(offer(4));
    stage.on(ack([4]), ["settle #3: 4, mark 1=4"]);
}

#[test]
fn a_message_that_is_delivered_already_comes_to_a_device_after_its_time() {
    let mut stage = Stage::device(1);
    stage.pass(9);
    let row = crate::domain::Envelope { status: Status::Delivered, ..expiring_row(1, 5) };
    stage.on(short_page(CHAT, 0, vec![row.into()], 1), ["emit 1"]);
}

#[test]
fn what_is_rejected_does_not_come_again_after_its_time() {
    let mut stage = Stage::live(0);
    stage.does(Input::Offer(expiring_row(1, 3)));
    stage.on(reject(1), ["count 1: bad"]);
    stage.on(attempted(1, AttemptOutcome::Counted(3)), []);
    stage.at_deadline(3, ["emit gap 1-1"]);
    assert_eq!(stage.session.in_flight(CHAT), 0);
}

#[test]
fn after_a_hint_nothing_that_is_held_is_emitted_before_the_database_has_said_what_ended() {
    for device in [false, true] {
        let mut stage = narrow(device, rows(1..=4));
        stage.on(left(9), ["check 1 2 3 4"]);
        stage.does(ack([1]));
        assert_eq!(stage.session.in_flight(CHAT), 0, "1 is acked, and nothing takes its place");
        let answer = [(1, Waits), (2, Ended(GapReason::Left)), (3, Waits), (4, Ended(GapReason::Left))];
        stage.on(checked(answer), ["emit gap 2-2 3 gap 4-4"]);
    }
}

#[test]
fn what_ended_in_flight_frees_its_place() {
    for device in [false, true] {
        let mut stage = narrow(device, rows(1..=2));
        stage.on(ended(), ["check 1 2"]);
        stage.on(checked([(1, Ended(GapReason::Failed)), (2, Waits)]), ["emit gap 1-1 2"]);
        assert_eq!(stage.session.in_flight(CHAT), 1);
    }
}

#[test]
fn what_was_settled_elsewhere_comes_to_a_device_only_and_with_its_status() {
    let mut stage = narrow(false, rows(1..=3));
    stage.on(ended(), ["check 1 2 3"]);
    stage.on(checked([(1, Settled(Status::Delivered)), (2, Settled(Status::Read)), (3, Waits)]), ["emit 3"]);
    let mut stage = narrow(true, rows(1..=3));
    stage.on(ended(), ["check 1 2 3"]);
    stage.on(checked([(1, Waits), (2, Settled(Status::Delivered)), (3, Settled(Status::Read))]), []);
    assert_eq!(emitted_status(&mut stage, ack([1])), Some(Status::Delivered));
    assert_eq!(emitted_status(&mut stage, ack([2])), Some(Status::Read));
}

/// Broken by asking only of rows that wait: a device was shown what had been recalled, in the buffer and after a time-out.
#[test]
fn a_device_asks_of_what_was_settled_elsewhere_too_and_shows_none_of_it_that_was_recalled() {
    let mut stage = narrow(true, rows(1..=3));
    stage.on(Input::ReadUpTo(chat(1), ChatSeq(2)), []);
    stage.on(ended(), ["check 1 2 3"]);
    stage.on(checked([(1, Ended(GapReason::Recalled)), (2, Ended(GapReason::Recalled)), (3, Waits)]), ["emit gap 1-2 3"]);
    assert_eq!(stage.session.in_flight(CHAT), 1);
}

#[test]
fn what_was_read_elsewhere_comes_to_a_device_as_read() {
    let mut stage = narrow(true, rows(1..=3));
    stage.on(Input::ReadUpTo(chat(1), ChatSeq(2)), []);
    assert_eq!(emitted_status(&mut stage, ack([1])), Some(Status::Read));
    assert_eq!(emitted_status(&mut stage, ack([2])), Some(Status::Sent));
}

fn emitted_status(stage: &mut Stage, input: Input) -> Option<Status> {
    let effects = stage.session.handle(stage.now, input);
    effects.into_iter().find_map(|effect| match effect {
        crate::session::Effect::Emit(emissions) => emissions.into_iter().find_map(|emission| match emission {
            crate::session::Emission::Envelope { envelope, .. } => Some(envelope.status),
            crate::session::Emission::Gap { .. } => None,
        }),
        _ => None,
    })
}

#[test]
fn a_repetition_after_a_reject_waits_for_the_answer_too() {
    let mut stage = narrow(false, rows([1]));
    stage.on(reject(1), ["count 1: bad"]);
    stage.on(attempted(1, AttemptOutcome::Counted(1)), []);
    stage.on(ended(), ["check 1"]);
    stage.pass(1);
    stage.on(Input::Deadline, []);
    stage.on(checked([(1, Ended(GapReason::Failed))]), ["emit gap 1-1", "drained 1", "advance low watermark of chat"]);
    assert_eq!(stage.session.in_flight(CHAT), 0);
}

#[test]
fn many_hints_are_one_question_and_one_that_comes_meanwhile_is_asked_after_the_answer() {
    let mut stage = narrow(false, rows(1..=2));
    stage.on(ended(), ["check 1 2"]);
    stage.on(ended(), []);
    stage.on(ended(), []);
    stage.on(checked([(1, Waits), (2, Waits)]), ["check 1 2"]);
    stage.on(checked([(1, Waits), (2, Waits)]), []);
    stage.on(checked([(1, Ended(GapReason::Left))]), []);
    assert_eq!(stage.session.in_flight(CHAT), 1, "an answer that was not asked for is not believed");
}

#[test]
fn a_page_that_was_being_read_when_the_hint_came_is_looked_at_before_it_is_emitted() {
    let mut stage = Stage::waiting(2);
    stage.on(left(9), []);
    stage.on(short_page(CHAT, 0, rows(1..=2), 2), ["check 1 2"]);
    stage.on(checked([(1, Ended(GapReason::Left)), (2, Waits)]), ["emit gap 1-1 2"]);
}

#[test]
fn a_hint_to_a_session_that_holds_nothing_costs_nothing() {
    let mut stage = Stage::live(5);
    stage.on(ended(), []);
    stage.on(offer(6), ["emit 6"]);
}

#[test]
fn an_offer_of_a_chat_that_was_left_is_read_from_the_database() {
    let mut stage = Stage::live(0);
    stage.on(left(3), []);
    stage.on(offer(1), ["read page after 0"]);
    stage.on(short_page(CHAT, 0, vec![gap_because(1, GapReason::Left)], 1), ["emit gap 1-1"]);
    stage.on(Input::Offer(row_of(2, 1, 4)), ["emit 2"]);
}
