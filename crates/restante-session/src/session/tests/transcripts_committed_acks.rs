//! Acks that a client brings by another way than its connection: they free their places, move the cursor, and are not written again.

use crate::domain::{AttemptOutcome, ChatSeq, InboxSeq};
use crate::session::{AckTarget, Input, Scope};

use super::harness::*;

fn committed_ack(seqs: impl IntoIterator<Item = i64>) -> Input {
    Input::AckCommitted(AckTarget::Messages(seqs.into_iter().map(|seq| id(CHAT, seq)).collect()))
}

fn committed_up_to(seq: i64) -> Input {
    Input::AckCommitted(AckTarget::UpTo(CHAT, InboxSeq(seq)))
}

/// 1 to `n` wait for a session that keeps a cursor and has two places.
fn narrow(n: i64, scope: Scope) -> Stage {
    let mut stage = Stage::with(n, |start| {
        (start.scope, start.keeps_cursor, start.settings.window) = (scope, true, 2);
    });
    stage.on(short_page(CHAT, 0, rows(1..=n), n), ["emit 1 2"]);
    stage
}

#[test]
fn they_free_their_places_and_only_the_cursor_is_written() {
    for scope in [Scope::Waiting, Scope::Everything] {
        let mut stage = narrow(5, scope);
        stage.on(committed_ack([2]), ["emit 3"]);
        stage.on(committed_ack([1]), ["settle #1:, device 2 0 0", "emit 4"]);
        stage.on(committed_ack([1, 2]), []);
        stage.on(committed_up_to(4), ["settle #2:, device 4 0 0", "emit 5"]);
        assert_eq!(stage.session.in_flight(CHAT), 1);
    }
}

#[test]
fn one_up_to_a_number_covers_no_more_than_was_emitted() {
    let mut stage = narrow(4, Scope::Everything);
    stage.on(committed_up_to(9), ["settle #1:, device 2 0 0", "emit 3 4"]);
}

#[test]
fn what_waited_is_drained_once_they_have_come() {
    let mut stage = narrow(2, Scope::Waiting);
    stage.on(committed_up_to(2), ["settle #1:, device 2 0 0"]);
    stage.on(committed(1), ["drained 2", "advance low watermark of chat"]);
}

#[test]
fn they_are_signs_of_life_and_what_is_skipped_counts_an_attempt() {
    let mut stage = narrow(3, Scope::Waiting);
    stage.pass(20);
    stage.on(committed_ack([2]), ["emit 3"]);
    stage.at_deadline(10, ["count 1: ack timeout"]);
    stage.on(attempted(1, AttemptOutcome::Counted(1)), ["emit 1(attempt 2)"]);
}

#[test]
fn a_reject_is_a_sign_of_life_and_brings_the_envelope_again_after_a_pause() {
    let mut stage = narrow(2, Scope::Waiting);
    stage.pass(20);
    stage.on(Input::RejectCommitted { message: id(CHAT, 1), attempts: 3 }, []);
    stage.at_deadline(4, ["emit 1(attempt 4)"]);
    stage.on(Input::RejectCommitted { message: id(CHAT, 9), attempts: 1 }, []);
    // The time of 2 is over, and the client was heard of since.
    stage.at_deadline(6, []);
    assert_eq!(stage.session.in_flight(CHAT), 2);
}

#[test]
fn the_mark_of_a_later_ack_passes_them() {
    let mut stage = narrow(3, Scope::Waiting);
    stage.on(committed_ack([1]), ["settle #1:, device 1 0 0", "emit 3"]);
    stage.on(ack([2]), ["settle #2: 2, mark 1=2, device 2 0 0"]);
    stage.on(ack([3]), ["settle #3: 3, mark 1=3, device 3 0 0"]);
    assert_eq!(ChatSeq(3), row(3).message.seq);
}

#[test]
fn they_count_for_the_low_watermark() {
    let mut stage = Stage::live_with(0, |start| start.settings.low_watermark_every = 2);
    stage.does(offer(1));
    stage.does(offer(2));
    stage.on(committed_ack([1]), []);
    stage.on(committed_ack([2]), ["advance low watermark of chat"]);
}
