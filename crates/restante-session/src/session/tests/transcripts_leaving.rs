//! The node stops: the session takes what its client still says, and begins nothing new.

use crate::domain::AttemptOutcome::Counted;
use crate::session::Input;

use super::harness::*;

/// Live, with 1 to `n` in flight, and told to leave.
fn leaving(n: i64) -> Stage {
    let mut stage = Stage::live(0);
    for seq in 1..=n {
        stage.does(offer(seq));
    }
    stage.on(Input::Leave, []);
    stage
}

#[test]
fn a_session_that_leaves_emits_and_reads_nothing_more() {
    let mut stage = leaving(1);
    stage.on(offer(2), []);
    stage.on(Input::Wake(CHAT), []);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1"]);
    stage.on(offer(3), []);
    stage.on(committed(1), []);
}

#[test]
fn a_page_that_comes_too_late_stays_where_it_is() {
    let mut stage = Stage::waiting(2);
    stage.on(Input::Leave, []);
    stage.on(short_page(CHAT, 0, vec![gap(1, 1), row(2).into()], 2), []);
    assert!(stage.session.is_quiet());
}

#[test]
fn it_is_quiet_once_what_was_emitted_is_acked_and_committed() {
    let mut stage = leaving(2);
    assert!(!stage.session.is_quiet());
    stage.does(ack([1]));
    stage.does(committed(1));
    assert!(!stage.session.is_quiet());
    stage.on(with_ticket(ack([2]), 7), ["settle #2: 2, mark 1=2"]);
    assert!(!stage.session.is_quiet());
    stage.on(committed(2), ["confirm 7"]);
    assert!(stage.session.is_quiet());
}

#[test]
fn what_was_rejected_is_waited_for_until_it_is_counted_and_does_not_come_again() {
    let mut stage = leaving(1);
    stage.on(reject(1), ["count 1: bad"]);
    assert!(!stage.session.is_quiet());
    stage.on(attempted(1, Counted(1)), []);
    assert!(stage.session.is_quiet());
    assert_eq!(stage.session.next_deadline(), None);
}

#[test]
fn no_deadline_fires_and_a_time_out_that_was_being_counted_emits_nothing() {
    let mut stage = Stage::live(0);
    for seq in 1..=2 {
        stage.does(offer(seq));
    }
    stage.pass(1);
    stage.does(ack([2]));
    stage.does(committed(1));
    stage.at_deadline(29, ["count 1: ack timeout"]);
    stage.on(Input::Leave, []);
    stage.on(attempted(1, Counted(1)), []);
    assert!(stage.session.is_quiet());
    stage.pass(1_000);
    stage.on(Input::Deadline, []);
}
