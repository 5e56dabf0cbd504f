//! Answers nobody asked for, numbers at the ends of their range, frames at the wrong time: a session ignores what makes
//! no sense, stays within its bounds, and never panics.

use std::time::Duration;

use crate::domain::{AttemptOutcome, ChatSeq, Class, Envelope, GapReason, InboxSeq, Page, PageRow, RowState, Status};
use crate::session::{AckTarget, Effect, Input, ReadTarget, SettlementNo, Ticket};

use super::harness::*;

fn seq(rng: &mut fastrand::Rng) -> i64 {
    match rng.u8(..12) {
        0 => i64::MAX,
        1 => i64::MIN,
        2 => 0,
        3.. => rng.i64(1..12),
    }
}

fn class(rng: &mut fastrand::Rng) -> Class {
    rng.choice(Class::ALL).unwrap_or_default()
}

fn garbled(rng: &mut fastrand::Rng) -> Envelope {
    let n = rng.i64(1..12);
    let garbled = envelope(class(rng), seq(rng), chat(rng.u128(1..4)), seq(rng), id(CHAT, n));
    let expires_at = rng.bool().then(|| time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(rng.u64(..200)));
    expiring(garbled, expires_at)
}

fn page(rng: &mut fastrand::Rng) -> Page {
    let row = |rng: &mut fastrand::Rng| if rng.bool() { garbled(rng).into() } else { gap(seq(rng), seq(rng)) };
    let rows: Vec<PageRow> = (0..rng.usize(..5)).map(|_| row(rng)).collect();
    Page { class: class(rng), after: InboxSeq(rng.i64(0..3)), rows, is_last: rng.bool(), last_seq: InboxSeq(seq(rng)) }
}

fn input(rng: &mut fastrand::Rng) -> Input {
    let ticket = rng.bool().then(|| Ticket(rng.u64(..)));
    let message = id(CHAT, rng.i64(1..12));
    let outcomes = [AttemptOutcome::Counted(rng.u16(..)), AttemptOutcome::Failed(rng.u16(..)), AttemptOutcome::Settled(Status::Expired, 1)];
    match rng.u8(..20) {
        0 => Input::Page(page(rng)),
        1 => Input::Polled(page(rng)),
        2 => Input::Offer(garbled(rng)),
        3 => Input::Wake(class(rng)),
        4 => Input::Ack { target: AckTarget::Messages(vec![message, id(CHAT, rng.i64(1..12)), message]), ticket },
        5 => Input::Ack { target: AckTarget::UpTo(class(rng), InboxSeq(seq(rng))), ticket },
        6 => Input::Reject { message, reason: String::new(), is_final: rng.bool(), ticket },
        7 => Input::Read { chat: chat(rng.u128(1..4)), target: ReadTarget::Seq(ChatSeq(seq(rng))), ticket },
        8 => Input::ReadUpTo(chat(rng.u128(1..4)), ChatSeq(seq(rng))),
        9 => Input::Committed(SettlementNo(rng.choice([0, 1, 2, 3, 4, 5, u64::MAX]).unwrap_or(0))),
        10 => Input::Attempted { class: class(rng), seq: InboxSeq(seq(rng)), outcome: rng.choice(outcomes) },
        11 => Input::LowWatermarkAdvanced(class(rng), InboxSeq(seq(rng))),
        12 => rng.choice([Input::DatabaseAway, Input::DatabaseBack, Input::FramesUnread, Input::Leave]).unwrap_or(Input::Deadline),
        13 => Input::Left(chat(rng.u128(1..4)), ChatSeq(seq(rng))),
        14 => Input::SomethingEnded,
        15 => {
            let states = [RowState::Waits, RowState::Settled(Status::Read), RowState::Ended(GapReason::Left)];
            let mut rows = Vec::new();
            for _ in 0..rng.usize(..4) {
                rows.push((InboxSeq(seq(rng)), rng.choice(states).unwrap_or(RowState::Waits)));
            }
            Input::Checked(class(rng), rows)
        }
        16 => Input::AckCommitted(AckTarget::Messages(vec![message, message])),
        17 => Input::AckCommitted(AckTarget::UpTo(class(rng), InboxSeq(seq(rng)))),
        18 => Input::RejectCommitted { message, attempts: rng.u16(..) },
        19.. => Input::Deadline,
    }
}

#[test]
fn whatever_comes_in_a_session_neither_panics_nor_speaks_after_its_close() {
    for seed in 0..2_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut stage = if rng.bool() { Stage::waiting(rng.i64(0..9)) } else { Stage::device(rng.i64(0..9)) };
        let mut is_closed = false;
        for _ in 0..60 {
            stage.now += Duration::from_secs(rng.u64(..5));
            let effects = stage.session.handle(stage.now, input(&mut rng));
            assert!(!is_closed || effects.is_empty(), "seed {seed}: {effects:?} after the close");
            is_closed |= effects.iter().any(|effect| matches!(effect, Effect::Close(_)));
            assert!(Class::ALL.iter().all(|class| stage.session.in_flight(*class) <= 50), "seed {seed}: more than the window");
        }
    }
}
