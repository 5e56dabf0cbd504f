//! The time that a stop holds, its places, and their greatest number.

use super::*;
use crate::domain::{ChatId, ExternalId};

fn to(chat: ChatId) -> Place {
    Place { name: None, chat: Some(chat) }
}

fn refused(message: MessageId) -> Refused {
    Refused { message, no: 5, expires_at: None, pace: Duration::ZERO }
}

const SECOND: Duration = Duration::from_secs(1);

/// A place, stopped behind a message that may come again after a second.
fn stopped(now: Instant) -> (Stops, Place, MessageId) {
    let (mut stops, place, message) = (Stops::default(), to(ChatId::generate()), MessageId::generate());
    stops.stop(now, place.clone(), &refused(message), Code::Unavailable, SECOND);
    (stops, place, message)
}

#[test]
fn a_later_message_to_the_same_chat_is_refused_and_is_told_behind_which_one_and_when() {
    let now = Instant::now();
    let (mut stops, place, message) = stopped(now);
    let fault = stops.refusal(now + SECOND / 2, &place, 6).unwrap();
    assert_eq!((fault.code, fault.behind), (Code::Unavailable, Some(message)));
    let next = stops.refusal(now + SECOND / 2, &place, 6).unwrap();
    let times = [fault, next].map(|fault| fault.retry_after_ms.unwrap());
    assert!(times[0] >= 500 && times[1] > times[0], "in order, and not before the first one: {times:?}");
    assert_eq!(stops.refusal(now, &to(ChatId::generate()), 6), None, "another chat goes on");
}

#[test]
fn a_stop_ends_when_its_message_comes_again_or_is_skipped_and_by_no_other() {
    let now = Instant::now();
    let (mut stops, place, message) = stopped(now);
    stops.lift(MessageId::generate());
    assert!(stops.refusal(now, &place, 6).is_some());
    stops.lift(message);
    assert_eq!(stops.refusal(now, &place, 6), None);
}

#[test]
fn a_stop_ends_thirty_seconds_after_its_time_to_try_again() {
    let now = Instant::now();
    let (mut stops, place, _) = stopped(now);
    assert!(stops.refusal(now + SECOND + PATIENCE - Duration::from_millis(1), &place, 6).is_some());
    assert_eq!(stops.refusal(now + SECOND + PATIENCE, &place, 6), None);
}

#[test]
fn a_stop_ends_with_its_message() {
    let now = Instant::now();
    let (mut stops, place) = (Stops::default(), to(ChatId::generate()));
    let refused = Refused { expires_at: Some(now + SECOND * 2), ..refused(MessageId::generate()) };
    stops.stop(now, place.clone(), &refused, Code::Busy, SECOND);
    assert!(stops.refusal(now + SECOND, &place, 6).is_some());
    assert_eq!(stops.refusal(now + SECOND * 2, &place, 6), None);
}

#[test]
fn a_name_and_its_chat_are_one_place_once_both_are_known() {
    let (now, chat) = (Instant::now(), ChatId::generate());
    let name = Some(ExternalId::try_from("bob".to_owned()).unwrap());
    let mut stops = Stops::default();
    let both = Place { name: name.clone(), chat: Some(chat) };
    stops.stop(now, both, &refused(MessageId::generate()), Code::Busy, SECOND);
    assert!(stops.refusal(now, &to(chat), 6).is_some());
    assert!(stops.refusal(now, &Place { name, chat: None }, 6).is_some());
    assert_eq!(stops.refusal(now, &Place { name: None, chat: None }, 6), None);
}

#[test]
fn an_earlier_message_that_is_refused_later_takes_the_place_of_the_stop() {
    let now = Instant::now();
    let (mut stops, place, later) = stopped(now);
    let earlier = MessageId::generate();
    stops.stop(now, place.clone(), &Refused { no: 4, ..refused(earlier) }, Code::Busy, SECOND);
    stops.lift(later);
    assert_eq!(stops.refusal(now, &place, 5).unwrap().behind, Some(earlier));
    assert_eq!(stops.refusal(now, &place, 3), None, "it was received before both");
    stops.stop(now, place.clone(), &refused(later), Code::Busy, SECOND);
    assert_eq!(stops.refusal(now, &place, 6).unwrap().behind, Some(earlier), "a later message stops nothing more");
}

#[test]
fn beyond_its_bound_one_stop_holds_for_every_chat() {
    let (now, mut stops) = (Instant::now(), Stops::default());
    let places: Vec<Place> = (0..STOPS_MAX + 50).map(|_| to(ChatId::generate())).collect();
    for place in &places {
        stops.stop(now, place.clone(), &refused(MessageId::generate()), Code::Busy, SECOND);
    }
    assert_eq!(stops.0.len(), STOPS_MAX + 1);
    assert!(places.iter().all(|place| stops.refusal(now, place, 6).is_some()), "none may be overtaken");
    assert!(stops.refusal(now, &to(ChatId::generate()), 6).is_some());
    assert_eq!(stops.refusal(now + SECOND + PATIENCE, &to(ChatId::generate()), 6), None);
    assert!(stops.0.is_empty());
}
