//! The drain, rule by rule: pages, cursor, offers, wakes, the window, `queue:drained`.

use crate::domain::AttemptOutcome;
use crate::session::{Input, Scope};

use super::harness::*;

#[test]
fn a_short_page_sets_the_cursor_to_its_last_seq() {
    let mut stage = Stage::waiting(9);
    stage.on(short_page(CHAT, 0, rows([2, 5]), 9), ["emit 2 5"]);
    stage.on(offer(10), ["emit 10"]);
}

#[test]
fn a_short_page_never_lowers_the_cursor() {
    let mut stage = Stage::waiting(2);
    stage.on(short_page(CHAT, 0, rows([1, 2]), 1), ["emit 1 2"]);
    stage.on(offer(2), []);
    stage.on(offer(3), ["emit 3"]);
}

#[test]
fn a_full_page_is_followed_by_the_next_read_behind_it() {
    let mut stage = Stage::waiting(9);
    stage.on(full_page(CHAT, 0, rows([1, 2])), ["emit 1 2", "read page after 2"]);
    stage.on(full_page(CHAT, 2, rows([3, 4])), ["emit 3 4", "read page after 4"]);
}

#[test]
fn a_full_page_that_brings_nothing_new_is_not_read_again_and_again() {
    let mut stage = Stage::waiting(9);
    stage.on(full_page(CHAT, 0, vec![]), []);
    stage.on(Input::Wake(CHAT), ["read page after 0"]);
}

#[test]
fn page_rows_at_or_below_the_cursor_are_dropped_and_gaps_clipped() {
    let mut stage = Stage::waiting(9);
    let mut page = rows([1, 2, 2, 1]);
    page.extend([gap(1, 4), gap(3, 4), row(4).into(), row(5).into()]);
    stage.on(short_page(CHAT, 0, page, 5), ["emit 1 2 gap 3-4 5"]);
}

#[test]
fn a_page_that_was_not_asked_for_is_ignored() {
    let mut stage = Stage::waiting(9);
    stage.on(short_page(CHAT, 3, rows([4]), 9), []);
    stage.on(short_page(CHAT, 0, rows([1]), 1), ["emit 1"]);
    stage.on(short_page(CHAT, 0, rows([2]), 2), []);
}

#[test]
fn an_offer_is_emitted_when_it_is_the_next_row_of_a_live_class() {
    let mut stage = Stage::live(4);
    stage.on(offer(5), ["emit 5"]);
    stage.on(offer(6), ["emit 6"]);
}

#[test]
fn an_offer_out_of_order_is_only_a_wake() {
    let mut stage = Stage::live(4);
    stage.on(offer(6), ["read page after 4"]);
    stage.on(offer(5), []);
    stage.on(short_page(CHAT, 4, rows([5, 6]), 6), ["emit 5 6"]);
}

#[test]
fn an_offer_at_or_below_the_cursor_is_ignored() {
    let mut stage = Stage::live(4);
    stage.on(offer(4), []);
    stage.on(offer(1), []);
}

#[test]
fn an_offer_during_a_page_read_is_not_emitted() {
    let mut stage = Stage::waiting(1);
    stage.on(offer(1), []);
    stage.on(short_page(CHAT, 0, rows([1]), 1), ["emit 1"]);
}

#[test]
fn an_offer_that_the_snapshot_did_not_see_is_read_for_again() {
    let mut stage = Stage::waiting(0);
    stage.on(offer(1), []);
    stage.on(short_page(CHAT, 0, vec![], 0), ["drained 0", "read page after 0"]);
    stage.on(short_page(CHAT, 0, rows([1]), 1), ["emit 1"]);
}

#[test]
fn a_wake_during_a_page_read_is_read_for_again() {
    let mut stage = Stage::waiting(1);
    stage.on(Input::Wake(CHAT), []);
    stage.on(Input::Wake(CHAT), []);
    stage.on(offer(1), []);
    stage.on(short_page(CHAT, 0, rows([1]), 1), ["emit 1", "read page after 1"]);
    stage.on(short_page(CHAT, 1, vec![], 1), []);
}

#[test]
fn a_wake_reads_one_page_however_often_it_comes() {
    let mut stage = Stage::live(4);
    stage.on(Input::Wake(CHAT), ["read page after 4"]);
    stage.on(Input::Wake(EVENT), ["read page after e0"]);
    stage.on(Input::Wake(CHAT), []);
}

#[test]
fn an_offer_into_a_full_window_waits_in_the_buffer() {
    let mut stage = Stage::live_with(0, |start| start.settings.window = 1);
    stage.on(offer(1), ["emit 1"]);
    stage.on(offer(2), ["read page after 1"]);
    stage.on(short_page(CHAT, 1, rows([2]), 2), []);
    stage.on(offer(3), []);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1", "emit 2", "read page after 2"]);
}

#[test]
fn the_next_page_is_read_while_the_window_is_full_and_only_one_is_buffered() {
    let mut stage = Stage::with(9, |start| start.settings.window = 2);
    stage.on(full_page(CHAT, 0, rows([1, 2])), ["emit 1 2", "read page after 2"]);
    stage.on(full_page(CHAT, 2, rows([3, 4])), []);
    stage.on(Input::Wake(CHAT), []);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1", "emit 3"]);
    stage.on(ack([2]), ["settle #2: 2, mark 1=2", "emit 4", "read page after 4"]);
}

#[test]
fn a_slot_is_free_when_the_ack_arrives_and_not_when_it_is_committed() {
    let mut stage = Stage::with(2, |start| start.settings.window = 1);
    stage.on(short_page(CHAT, 0, rows([1, 2]), 2), ["emit 1"]);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1", "emit 2"]);
    stage.on(committed(1), []);
}

#[test]
fn gaps_go_out_in_their_place_and_take_no_slot() {
    let mut stage = Stage::with(9, |start| start.settings.window = 1);
    let page = vec![gap(1, 1), row(2).into(), gap(3, 4), row(5).into(), gap(6, 6)];
    stage.on(short_page(CHAT, 0, page, 6), ["emit gap 1-1 2 gap 3-4"]);
    stage.on(ack([2]), ["settle #1: 2, mark 1=4", "emit 5 gap 6-6"]);
}

#[test]
fn events_have_their_own_window_and_chat_goes_first() {
    let mut stage = Stage::with(4, |start| {
        start.settings.window = 1;
        start.settings.uncommitted_acks_max = 2;
    });
    stage.on(short_page(EVENT, 0, events([1, 2]), 2), ["emit e1", "drained e0"]);
    stage.on(short_page(CHAT, 0, rows([1, 2]), 2), ["emit 1"]);
    stage.on(ack_event(1), ["settle #1: e1", "emit e2"]);
    stage.on(ack([1]), ["settle #2: 1, mark 1=1", "emit 2"]);
    stage.on(ack_event(2), ["settle #3: e2"]);
    stage.on(Input::Offer(event(3)), ["read page after e2"]);
    stage.on(short_page(EVENT, 2, events([3]), 3), []);
    stage.on(committed(2), []);
    stage.on(committed(1), ["emit e3"]);
}

#[test]
fn each_class_has_its_own_window_and_what_may_go_out_together_goes_in_the_order_chat_alert_event() {
    let mut stage = Stage::with(2, |start| start.settings.window = 1);
    stage.on(short_page(EVENT, 0, events([1, 2]), 2), ["emit e1", "drained e0"]);
    stage.on(short_page(ALERT, 0, alerts([1, 2]), 2), ["emit a1", "drained a0"]);
    stage.on(short_page(CHAT, 0, rows([1, 2]), 2), ["emit 1"]);
    let first = [(EVENT, 1), (ALERT, 1), (CHAT, 1)].map(|(class, seq)| id(class, seq));
    stage.on(ack_ids(first), ["settle #1: e1 a1 1, mark 1=1", "emit 2 a2 e2"]);
}

#[test]
fn after_ackless_connections_one_envelope_is_emitted_alone_until_the_first_ack() {
    let mut stage = Stage::with(3, |start| start.emit_alone = true);
    stage.on(short_page(CHAT, 0, rows([1, 2, 3]), 3), ["emit 1"]);
    stage.on(short_page(EVENT, 0, events([1]), 1), ["drained e0"]);
    assert!(stage.session.anything_emitted() && !stage.session.anything_acked());
    stage.on(ack_ids([id(CHAT, 77)]), ["settle #1: messages 77"]);
    stage.on(ack([1]), ["settle #2: 1, mark 1=1", "emit 2 3 e1"]);
    assert!(stage.session.anything_acked());
}

#[test]
fn an_offer_is_no_way_round_emitting_alone() {
    let mut stage = Stage::live_with(0, |start| start.emit_alone = true);
    stage.on(offer(1), ["emit 1"]);
    stage.on(Input::Offer(event(1)), ["read page after e0"]);
    stage.on(offer(2), ["read page after 1"]);
}

#[test]
fn drained_is_told_once_when_what_waited_at_connect_is_acked_and_committed() {
    let mut stage = Stage::waiting(2);
    stage.on(short_page(CHAT, 0, rows([1, 2, 3]), 3), ["emit 1 2 3"]);
    stage.on(ack([2]), ["settle #1: 2"]);
    stage.on(ack([1]), ["settle #2: 1, mark 1=2"]);
    stage.on(committed(2), []);
    stage.on(committed(1), ["drained 2", "advance low watermark of chat"]);
    stage.on(ack([3]), ["settle #3: 3, mark 1=3"]);
    stage.on(committed(3), []);
}

#[test]
fn an_empty_inbox_is_drained_after_its_first_page_and_has_nothing_to_settle() {
    let mut stage = Stage::waiting(0);
    stage.on(Input::Wake(CHAT), []);
    stage.on(short_page(CHAT, 0, vec![], 0), ["drained 0", "read page after 0"]);
    stage.on(short_page(EVENT, 0, vec![], 0), ["drained e0"]);
}

#[test]
fn an_inbox_whose_rows_ended_meanwhile_is_drained_after_its_last_page() {
    let mut stage = Stage::waiting(40);
    stage.on(short_page(CHAT, 0, vec![gap(1, 40)], 40), ["emit gap 1-40", "drained 40", "advance low watermark of chat"]);
}

#[test]
fn drained_does_not_wait_for_what_came_later() {
    let mut stage = Stage::waiting(1);
    stage.on(full_page(CHAT, 0, rows([1, 2])), ["emit 1 2", "read page after 2"]);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1"]);
    stage.on(committed(1), ["drained 1", "advance low watermark of chat"]);
}

#[test]
fn drained_waits_for_buffered_rows_and_for_attempts() {
    let mut stage = Stage::with(2, |start| start.settings.window = 1);
    stage.on(short_page(CHAT, 0, rows([1, 2]), 2), ["emit 1"]);
    stage.on(reject_for_good(1), ["count 1: never, final"]);
    stage.on(attempted(1, AttemptOutcome::Failed(5)), ["emit 2"]);
    stage.on(reject_for_good(2), ["count 2: never, final"]);
    stage.on(attempted(2, AttemptOutcome::Failed(5)), ["drained 2", "advance low watermark of chat"]);
}

#[test]
fn the_low_watermark_is_advanced_after_so_many_committed_acks_and_once_at_a_time() {
    let mut stage = Stage::live_with(0, |start| start.settings.low_watermark_every = 2);
    for seq in 1..=5 {
        stage.does(offer(seq));
    }
    stage.on(ack([1]), ["settle #1: 1, mark 1=1"]);
    stage.on(ack([2]), ["settle #2: 2, mark 1=2"]);
    stage.on(committed(1), []);
    stage.on(committed(2), ["advance low watermark of chat"]);
    stage.on(ack([3, 4]), ["settle #3: 3 4, mark 1=4"]);
    stage.on(committed(3), []);
    stage.on(low_watermark_advanced(2), ["advance low watermark of chat"]);
    stage.on(low_watermark_advanced(4), []);
}

#[test]
fn the_low_watermark_is_not_advanced_during_the_drain() {
    let mut stage = Stage::with(9, |start| start.settings.low_watermark_every = 1);
    stage.on(full_page(CHAT, 0, rows([1, 2])), ["emit 1 2", "read page after 2"]);
    stage.on(ack([1]), ["settle #1: 1, mark 1=1"]);
    stage.on(committed(1), []);
}

#[test]
fn emission_pauses_while_too_many_acks_are_uncommitted() {
    let mut stage = Stage::live_with(0, |start| start.settings.uncommitted_acks_max = 2);
    stage.on(offer(1), ["emit 1"]);
    stage.on(offer(2), ["emit 2"]);
    stage.on(ack([1, 2]), ["settle #1: 1 2, mark 1=2"]);
    stage.on(offer(3), ["read page after 2"]);
    stage.on(short_page(CHAT, 2, vec![row(3).into(), gap(4, 4)], 4), []);
    assert_eq!(stage.session.buffered(CHAT), 2);
    stage.on(committed(1), ["emit 3 gap 4-4"]);
}

#[test]
fn a_resumed_client_gets_everything_behind_its_own_number() {
    let mut stage = Stage::with(5, |start| {
        start.scope = Scope::Everything;
        start.classes.chat.cursor = crate::domain::InboxSeq(3);
    });
    stage.on(short_page(CHAT, 3, vec![delivered(4).into(), row(5).into()], 5), ["emit 4 5"]);
}

#[test]
fn a_requeued_message_frees_the_slot_of_its_old_number() {
    let mut stage = Stage::live(0);
    stage.on(offer(1), ["emit 1"]);
    stage.on(Input::Offer(envelope(CHAT, 2, chat(1), 1, id(CHAT, 1))), ["emit 2"]);
    assert_eq!(stage.session.in_flight(CHAT), 1);
    stage.on(ack([1]), ["settle #1: 2, mark 1=1"]);
}
