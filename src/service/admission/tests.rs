//! The order of admissions. Nothing here waits for time: a permit is there when it is polled, or it is not.

use std::pin::{Pin, pin};

use futures_util::FutureExt;

use super::*;
use crate::protocol::Code;

/// 12 permits, 8 of them for a crowd, 5 for requests, 3 for events, 10 for these together; three openings may wait.
fn queue() -> AdmissionQueue {
    AdmissionQueue::new(16, 3, Arc::new(Metrics::default()))
}

fn user(name: &str) -> Option<ExternalId> {
    Some(ExternalId::try_from(name.to_owned()).unwrap())
}

/// Takes a permit that must be free.
fn taken(queue: &AdmissionQueue, purpose: Purpose, name: &str) -> Admission {
    queue.admit(purpose, user(name)).now_or_never().expect("a permit is free")
}

/// The crowd, with all permits that it may have.
fn crowd(queue: &AdmissionQueue) -> Vec<Admission> {
    (0..8).map(|n| taken(queue, Purpose::Drain, &format!("user-{n}"))).collect()
}

type Waiter<'a> = Pin<Box<dyn Future<Output = Admission> + Send + 'a>>;

/// Stands in line.
fn waiting<'a>(queue: &'a AdmissionQueue, purpose: Purpose, name: &str) -> Waiter<'a> {
    let mut waiter: Waiter<'a> = Box::pin(queue.admit(purpose, user(name)));
    assert!((&mut waiter).now_or_never().is_none(), "{name} has a permit");
    waiter
}

/// The places of those who have their permit now; they keep it.
fn served(waiters: &mut [Waiter<'_>], permits: &mut Vec<Admission>) -> Vec<usize> {
    let mut places = Vec::new();
    for (place, waiter) in waiters.iter_mut().enumerate() {
        if let Some(permit) = waiter.now_or_never() {
            permits.push(permit);
            places.push(place);
            // It is not asked again.
            *waiter = Box::pin(std::future::pending());
        }
    }
    places
}

/// Takes permits until one would have to wait.
fn as_many_as_there_are(queue: &AdmissionQueue, purpose: Purpose) -> Vec<Admission> {
    (0..1_000).map_while(|n| queue.admit(purpose, user(&format!("{purpose:?}-{n}"))).now_or_never()).collect()
}

#[test]
fn a_pool_is_never_taken_as_a_whole_and_a_crowd_never_has_all_permits() {
    let sizes = |pool| {
        let share = Share::of(pool);
        (share.all, share.crowd)
    };
    assert_eq!([2, 3, 4, 8, 16, 100].map(sizes), [(1, 1), (2, 2), (3, 2), (6, 4), (12, 8), (75, 50)]);
}

#[test]
fn requests_never_hold_more_than_a_third_of_the_pool_and_live_delivery_goes_on_beside_them_and_a_crowd() {
    for pool in 2..200_u32 {
        let queue = AdmissionQueue::new(pool, 3, Arc::new(Metrics::default()));
        let requests = as_many_as_there_are(&queue, Purpose::Request);
        assert!(requests.len() == 1 || requests.len() <= usize::try_from(pool / 3).unwrap(), "{pool}: {}", requests.len());
        let crowd = as_many_as_there_are(&queue, Purpose::Drain);
        let live = as_many_as_there_are(&queue, Purpose::Live);
        let all = requests.len() + crowd.len() + live.len();
        assert!(all < usize::try_from(pool).unwrap(), "{pool}: {all}");
        assert!(!live.is_empty() || pool < 4, "{pool}: nothing is left for live delivery");
    }
}

#[test]
fn who_is_live_is_served_beside_a_crowd_and_before_it() {
    let queue = queue();
    let mut crowd = crowd(&queue);
    let mut late = waiting(&queue, Purpose::Opening, "late");
    let mut live: Vec<Admission> = (0..4).map(|_| taken(&queue, Purpose::Live, "live")).collect();
    let mut more = waiting(&queue, Purpose::Live, "more");
    drop(crowd.pop());
    assert!((&mut late).now_or_never().is_none(), "who is live goes first");
    live.push((&mut more).now_or_never().unwrap());
    drop(crowd.pop());
    assert!((&mut late).now_or_never().is_some());
}

#[test]
fn neither_a_crowd_nor_requests_are_ever_without_a_permit_however_many_are_live() {
    let queue = queue();
    let mut live: Vec<Admission> = (0..12).map(|n| taken(&queue, Purpose::Live, &format!("live-{n}"))).collect();
    let mut others: Vec<_> = (0..5).map(|n| waiting(&queue, Purpose::Live, &format!("other-{n}"))).collect();
    let mut opening = waiting(&queue, Purpose::Opening, "late");
    let mut request = waiting(&queue, Purpose::Request, "asks");
    drop(live.pop());
    let _opened = (&mut opening).now_or_never().unwrap();
    drop(live.pop());
    let _asked = (&mut request).now_or_never().unwrap();
    assert!(others.iter_mut().all(|other| other.now_or_never().is_none()));
}

#[test]
fn events_hold_a_quarter_of_the_permits_and_messages_go_on_beside_any_number_of_them() {
    for pool in 2..200_u32 {
        let queue = AdmissionQueue::new(pool, 3, Arc::new(Metrics::default()));
        let events = as_many_as_there_are(&queue, Purpose::Events);
        assert_eq!(events.len(), (queue.0.share.all / 4).max(1), "{pool}");
        let others: Vec<_> = [Purpose::Request, Purpose::Drain].iter().flat_map(|purpose| as_many_as_there_are(&queue, *purpose)).collect();
        let live = as_many_as_there_are(&queue, Purpose::Live);
        assert!(!live.is_empty() || pool < 4, "{pool}: nothing is left for messages, beside {}", others.len());
    }
}

#[test]
fn a_permit_that_comes_back_goes_to_a_message_before_an_event() {
    let queue = queue();
    let mut events = as_many_as_there_are(&queue, Purpose::Events);
    let mut live = as_many_as_there_are(&queue, Purpose::Live);
    let mut event = waiting(&queue, Purpose::Events, "event");
    let mut message = waiting(&queue, Purpose::Live, "message");
    drop(events.pop());
    live.push((&mut message).now_or_never().expect("a message goes first"));
    assert!((&mut event).now_or_never().is_none());
    drop(live.pop());
    assert!((&mut event).now_or_never().is_some());
}

#[test]
fn with_a_single_permit_the_lines_take_turns() {
    let queue = AdmissionQueue::new(2, 3, Arc::new(Metrics::default()));
    let mut permits = vec![taken(&queue, Purpose::Drain, "user")];
    let purposes = [Purpose::Drain, Purpose::Live, Purpose::Request, Purpose::Drain, Purpose::Live, Purpose::Request];
    let mut waiters = purposes.map(|purpose| waiting(&queue, purpose, "user"));
    let mut order = Vec::new();
    for _ in 0..6 {
        permits.clear();
        order.extend(served(&mut waiters, &mut permits));
    }
    assert_eq!(order, [1, 2, 0, 4, 5, 3]);
}

#[test]
fn users_take_turns_however_many_connections_each_of_them_has() {
    let queue = queue();
    let mut held = crowd(&queue);
    let mut waiters: Vec<_> = (0..20).map(|_| waiting(&queue, Purpose::Drain, "many")).collect();
    waiters.extend(["ben", "cleo"].map(|name| waiting(&queue, Purpose::Drain, name)));
    let mut order = Vec::new();
    for _ in 0..4 {
        drop(held.remove(0));
        let places = served(&mut waiters, &mut held);
        assert_eq!(places.len(), 1);
        order.extend(places);
    }
    assert_eq!(order, [0, 20, 21, 1]);
}

#[test]
fn four_requests_of_a_user_run_at_a_time_and_the_others_of_it_wait_behind_nobody_elses() {
    let queue = AdmissionQueue::new(100, 3, Arc::new(Metrics::default()));
    let mut held: Vec<Admission> = (0..4).map(|_| taken(&queue, Purpose::Request, "many")).collect();
    let mut waiters: Vec<_> = (0..3).map(|_| waiting(&queue, Purpose::Request, "many")).collect();
    let ben = taken(&queue, Purpose::Request, "ben");
    drop(ben);
    assert_eq!(served(&mut waiters, &mut held), [0; 0], "somebody else's permit is none for it");
    drop(held.remove(0));
    assert_eq!(served(&mut waiters, &mut held), [0]);
    drop(held.split_off(2));
    assert_eq!(served(&mut waiters, &mut held), [1, 2]);
    drop(held);
    let state = queue.0.lock();
    assert!(state.lines[REQUESTS].is_idle() && state.lines[REQUESTS].may_run(&user("many").map(Claimant::User)));
    drop(state);
    // Its sessions have permits of their own.
    drop((0..4).map(|_| taken(&queue, Purpose::Live, "many")).collect::<Vec<_>>());
}

#[test]
fn one_user_never_holds_more_than_four_permits_of_a_line_and_the_others_find_the_rest() {
    for purpose in [Purpose::Opening, Purpose::Drain, Purpose::Live, Purpose::Request] {
        let queue = AdmissionQueue::new(100, 1_000, Arc::new(Metrics::default()));
        let mut held: Vec<Admission> = (0..4).map(|_| taken(&queue, purpose, "many")).collect();
        let mut waiters: Vec<_> = (0..3).map(|_| waiting(&queue, purpose, "many")).collect();
        drop(taken(&queue, purpose, "ben"));
        assert_eq!(served(&mut waiters, &mut held), [0; 0], "{purpose:?}: somebody else's permit is none for it");
        drop(held.remove(0));
        assert_eq!(served(&mut waiters, &mut held), [0], "{purpose:?}");
    }
}

#[test]
fn one_user_does_not_take_all_places_of_those_who_wait_to_be_opened() {
    let queue = AdmissionQueue::new(16, 1_000, Arc::new(Metrics::default()));
    let (many, ben) = (user("many").unwrap(), user("ben").unwrap());
    let permits: Vec<_> = (0..4).map(|_| taken(&queue, Purpose::Opening, "many")).collect();
    let places: Vec<_> = (0..128).map(|_| waiting(&queue, Purpose::Opening, "many")).collect();
    let refused = pin!(queue.admit_opening(&many)).now_or_never().unwrap().unwrap_err();
    assert_eq!(refused, Refusal::Crowded);
    assert!(!queue.is_crowded() && queue.0.lock().lines[CROWD].may_wait(&Some(Claimant::User(ben))));
    // A session that is open already gets its page.
    drop(waiting(&queue, Purpose::Drain, "many"));
    drop((permits, places));
}

#[test]
fn requests_of_users_take_turns_while_they_are_full() {
    let queue = queue();
    let mut held: Vec<Admission> = (0..5).map(|n| taken(&queue, Purpose::Request, &format!("user-{n}"))).collect();
    let mut waiters: Vec<_> = (0..6).map(|_| waiting(&queue, Purpose::Request, "many")).collect();
    waiters.push(waiting(&queue, Purpose::Request, "ben"));
    let mut order = Vec::new();
    for _ in 0..5 {
        drop(held.remove(0));
        order.extend(served(&mut waiters, &mut held));
    }
    assert_eq!(order, [0, 6, 1, 2, 3], "and not more than four of one user");
}

#[test]
fn sixty_four_requests_of_a_user_wait_and_more_are_told_that_it_is_busy() {
    let queue = queue();
    let many = user("many").unwrap();
    let ask = || Box::pin(queue.admit_request(&many));
    let mut asked: Vec<_> = (0..68).map(|_| ask()).collect();
    let running: Vec<_> = asked.iter_mut().filter_map(|asked| asked.now_or_never()).collect::<Result<_, _>>().unwrap();
    assert_eq!(running.len(), 4);
    assert_eq!(ask().now_or_never().unwrap().unwrap_err(), Refusal::BUSY);
    assert!(queue.admit_request(&user("ben").unwrap()).now_or_never().unwrap().is_ok(), "it concerns nobody else");
    asked.pop();
    assert!(ask().now_or_never().is_none(), "a request that is given up leaves its place");
}

#[test]
fn a_user_who_is_called_like_an_address_stands_in_another_line() {
    let (queue, address) = (queue(), IpAddr::from([203, 0, 113, 7]));
    let named = user(&address.to_string()).unwrap();
    let mut asked: Vec<_> = (0..68).map(|_| Box::pin(queue.admit_request(&named))).collect();
    let running: Vec<_> = asked.iter_mut().filter_map(|asked| asked.now_or_never()).collect::<Result<_, _>>().unwrap();
    assert_eq!(running.len(), 4);
    assert!(queue.admit_request(&named).now_or_never().unwrap().is_err());
    assert!(queue.admit_request(address).now_or_never().unwrap().is_ok());
}

#[test]
fn who_goes_away_leaves_no_place_behind_and_a_permit_that_nobody_took_is_free_again() {
    let queue = queue();
    let held = crowd(&queue);
    let gone: Vec<_> = (0..3).map(|_| waiting(&queue, Purpose::Opening, "gone")).collect();
    assert!(queue.is_crowded());
    drop(gone);
    assert!(!queue.is_crowded() && queue.0.lock().lines[CROWD].is_idle());
    let granted = waiting(&queue, Purpose::Drain, "granted");
    drop(held);
    drop(granted);
    assert_eq!(queue.0.lock().running, [0; LINES]);
    drop((0..8).map(|n| taken(&queue, Purpose::Opening, &format!("anybody-{n}"))).collect::<Vec<_>>());
}

#[tokio::test]
async fn too_many_openings_are_refused_with_a_waiting_time_of_their_own() {
    let queue = queue();
    let _held = crowd(&queue);
    let _waiting: Vec<_> = (0..3).map(|_| waiting(&queue, Purpose::Opening, "early")).collect();
    let late = user("late").unwrap();
    let refusal = pin!(queue.admit_opening(&late)).now_or_never().unwrap().unwrap_err();
    let told: std::collections::HashSet<_> = (0..50).map(|_| refusal.to_one_of_a_crowd().retry_after_ms.unwrap()).collect();
    assert!(told.len() > 10 && told.iter().all(|ms| (2_000..=6_000).contains(ms)), "{told:?}");
    assert_eq!(refusal.code(), Code::Busy);
    // A session that has been opened is never refused its reads.
    let _drain = waiting(&queue, Purpose::Drain, "opened");
}

#[test]
fn waiting_is_measured() {
    let queue = queue();
    let held = crowd(&queue);
    let mut opening = waiting(&queue, Purpose::Opening, "late");
    assert!(queue.0.metrics.render().contains(r#"restante_turns_waiting{purpose="opening"} 1"#));
    drop(held);
    assert!((&mut opening).now_or_never().is_some());
    drop(opening);
    drop(taken(&queue, Purpose::Request, "asks"));
    let text = queue.0.metrics.render();
    for line in [
        r#"restante_turns_waiting{purpose="opening"} 0"#,
        r#"restante_turn_wait_seconds_count{purpose="opening"} 1"#,
        r#"restante_turn_wait_seconds_count{purpose="drain"} 8"#,
        r#"restante_turn_wait_seconds_count{purpose="request"} 1"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
