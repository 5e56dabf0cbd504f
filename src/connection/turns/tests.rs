//! Who is next. Nothing here waits for time: a turn is there when it is polled, or it is not.

use std::pin::{Pin, pin};

use futures_util::FutureExt;

use super::*;

/// 12 at once, 8 of them for the crowd; three openings may wait.
fn turns() -> Turns {
    Turns::new(16, 3, Arc::new(Metrics::default()))
}

fn user(name: &str) -> Name {
    Some(ExternalId::try_from(name.to_owned()).unwrap())
}

/// Takes a turn that must be free.
fn taken(turns: &Turns, purpose: Purpose, name: &str) -> Turn {
    turns.take(purpose, user(name)).now_or_never().expect("a turn is free")
}

type Waiter<'a> = Pin<Box<dyn Future<Output = Turn> + Send + 'a>>;

/// Stands in line.
fn waiting<'a>(turns: &'a Turns, purpose: Purpose, name: &str) -> Waiter<'a> {
    let mut waiter: Waiter<'a> = Box::pin(turns.take(purpose, user(name)));
    assert!((&mut waiter).now_or_never().is_none(), "{name} has a turn");
    waiter
}

/// The places of those who have their turn now; they keep it.
fn served(waiters: &mut [Waiter<'_>], turns: &mut Vec<Turn>) -> Vec<usize> {
    let mut places = Vec::new();
    for (place, waiter) in waiters.iter_mut().enumerate() {
        if let Some(turn) = waiter.now_or_never() {
            turns.push(turn);
            places.push(place);
        }
    }
    places
}

#[test]
fn a_pool_is_never_taken_as_a_whole_and_a_crowd_never_has_all_turns() {
    let sizes = |pool| {
        let turns = Turns::new(pool, 1, Arc::new(Metrics::default()));
        (turns.0.at_once, turns.0.crowd_at_once)
    };
    assert_eq!([2, 3, 4, 8, 16, 100].map(sizes), [(1, 1), (2, 2), (3, 2), (6, 4), (12, 8), (75, 50)]);
}

#[test]
fn who_is_live_is_served_beside_a_crowd_and_before_it() {
    let turns = turns();
    let mut crowd: Vec<Turn> = (0..8).map(|n| taken(&turns, Purpose::Drain, &format!("user-{n}"))).collect();
    let mut late = waiting(&turns, Purpose::Opening, "late");
    let mut live: Vec<Turn> = (0..4).map(|_| taken(&turns, Purpose::Live, "live")).collect();
    let mut more = waiting(&turns, Purpose::Live, "live");
    drop(crowd.pop());
    assert!((&mut late).now_or_never().is_none(), "who is live goes first");
    live.push((&mut more).now_or_never().unwrap());
    drop(crowd.pop());
    assert!((&mut late).now_or_never().is_some());
}

#[test]
fn a_crowd_is_never_without_a_turn_however_many_are_live() {
    let turns = turns();
    let mut live: Vec<Turn> = (0..12).map(|_| taken(&turns, Purpose::Live, "live")).collect();
    let mut others: Vec<_> = (0..5).map(|_| waiting(&turns, Purpose::Live, "live")).collect();
    let mut opening = waiting(&turns, Purpose::Opening, "late");
    drop(live.pop());
    let _turn = (&mut opening).now_or_never().unwrap();
    assert!(others.iter_mut().all(|other| other.now_or_never().is_none()));
}

#[test]
fn users_take_turns_however_many_connections_each_of_them_has() {
    let turns = turns();
    let mut held: Vec<Turn> = (0..8).map(|n| taken(&turns, Purpose::Drain, &format!("user-{n}"))).collect();
    let mut waiters: Vec<_> = (0..20).map(|_| waiting(&turns, Purpose::Drain, "many")).collect();
    waiters.extend(["ben", "cleo"].map(|name| waiting(&turns, Purpose::Drain, name)));
    let mut order = Vec::new();
    for _ in 0..4 {
        drop(held.remove(0));
        let places = served(&mut waiters, &mut held);
        assert_eq!(places.len(), 1);
        // Those who have had their turn are not asked again.
        waiters[places[0]] = Box::pin(std::future::pending());
        order.extend(places);
    }
    assert_eq!(order, [0, 20, 21, 1]);
}

#[test]
fn who_goes_away_leaves_no_place_behind_and_a_turn_that_nobody_took_is_free_again() {
    let turns = turns();
    let held: Vec<Turn> = (0..8).map(|n| taken(&turns, Purpose::Drain, &format!("user-{n}"))).collect();
    let gone: Vec<_> = (0..3).map(|_| waiting(&turns, Purpose::Opening, "gone")).collect();
    assert!(turns.is_crowded());
    drop(gone);
    assert!(!turns.is_crowded() && turns.0.lock().lines[CROWD].order.is_empty());
    let granted = waiting(&turns, Purpose::Drain, "granted");
    drop(held);
    drop(granted);
    assert_eq!(turns.0.lock().running, [0, 0]);
    drop((0..8).map(|_| taken(&turns, Purpose::Opening, "anybody")).collect::<Vec<_>>());
}

#[tokio::test]
async fn too_many_openings_are_refused_with_a_waiting_time_of_their_own() {
    let turns = turns();
    let _held: Vec<Turn> = (0..8).map(|n| taken(&turns, Purpose::Drain, &format!("user-{n}"))).collect();
    let _waiting: Vec<_> = (0..3).map(|_| waiting(&turns, Purpose::Opening, "early")).collect();
    let late = user("late").unwrap();
    let refusal = pin!(turns.take_to_open(&late)).now_or_never().unwrap().unwrap_err();
    let told: std::collections::HashSet<_> = (0..50).map(|_| Fault::from(refusal).retry_after_ms.unwrap()).collect();
    assert!(told.len() > 10 && told.iter().all(|ms| (2_000..=6_000).contains(ms)), "{told:?}");
    assert_eq!(Fault::from(refusal).code, Code::Busy);
    // What a session reads that has been opened is never refused.
    let _drain = waiting(&turns, Purpose::Drain, "opened");
}

#[test]
fn waiting_is_measured() {
    let turns = turns();
    let held: Vec<Turn> = (0..8).map(|n| taken(&turns, Purpose::Drain, &format!("user-{n}"))).collect();
    let mut opening = waiting(&turns, Purpose::Opening, "late");
    assert!(turns.0.metrics.render().contains(r#"restante_turns_waiting{purpose="opening"} 1"#));
    drop(held);
    assert!((&mut opening).now_or_never().is_some());
    drop(opening);
    let text = turns.0.metrics.render();
    for line in [
        r#"restante_turns_waiting{purpose="opening"} 0"#,
        r#"restante_turn_wait_seconds_count{purpose="opening"} 1"#,
        r#"restante_turn_wait_seconds_count{purpose="drain"} 8"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
