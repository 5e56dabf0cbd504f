//! Revocations: Ben's token is revoked. Good histories, and for each rule one that breaks it.

use super::*;
use crate::history::Revoked;

/// A revocation takes this long at most.
const TAKES_MS: u64 = 1_000;
/// When the tokens of Ben's first connection was issued, in seconds since 1970.
const ISSUED_AT: i64 = 100;

fn presents(token: &str, issued_at: i64) -> Event {
    Event::Presenting { token: token.into(), issued_at }
}

/// Ben's first connection has the token `first`.
fn with_token() -> Case {
    let mut case = Case::good();
    case.ben.0.insert(1, Record { at_ms: 0, connection: 1, event: presents("first", ISSUED_AT) });
    case.evidence.revocation_max_ms = TAKES_MS;
    case
}

/// Asked after 5 s of the run, and answered 10 ms later with a time that is later than the token's.
fn revoke(revoked: Revoked, revoked_at_ms: Option<i64>) -> [Record; 2] {
    let answered = Event::RevokeAnswered { ask: 1, revoked_at_ms, answer: "done".into() };
    let of = |at_ms, event| Record { at_ms, connection: 1, event };
    [of(5_000, Event::RevokeAsked { ask: 1, revoked }), of(5_010, answered)]
}

fn of_user() -> [Record; 2] {
    revoke(Revoked::User("ben".into()), Some(200_500))
}

fn at(mut case: Case, at_ms: u64, connection: u32, event: Event) -> Case {
    case.ben.0.push(Record { at_ms, connection, event });
    case
}

/// Connects a second time, at this time, with this token.
fn again(case: Case, at_ms: u64, token: Event) -> Case {
    let case = at(case, at_ms, 2, Event::Connecting { node: 0, device: Some("phone".into()), since: None });
    let case = at(case, at_ms, 2, token);
    at(case, at_ms + 1, 2, Event::Ready { epoch: "e".into(), resumed: false, last_seq: 3, settled_seq: 3 })
}

#[test]
fn session_that_is_served_and_one_that_is_opened_after_the_stated_time_is_found() {
    let served = |at_ms: u64, revocation: [Record; 2]| {
        let mut case = at(with_token(), at_ms, 1, Event::Drained { class: Class::Chat });
        case.evidence.acts = revocation.into();
        case.broken_rules()
    };
    assert_eq!(served(5_900, of_user()), [], "it was on its way");
    assert_eq!(served(6_011, of_user()), [Rule::Revoked]);
    assert_eq!(served(6_011, revoke(Revoked::User("ben".into()), None)), [], "nobody knows whether it was done");
    assert_eq!(served(6_011, revoke(Revoked::User("anna".into()), Some(200_500))), []);
    assert_eq!(served(6_011, revoke(Revoked::User("ben".into()), Some(99_000))), [], "the token is younger");
    assert_eq!(served(6_011, revoke(Revoked::Token("first".into()), Some(99_000))), [Rule::Revoked]);
    assert_eq!(served(6_011, revoke(Revoked::Token("second".into()), Some(200_500))), []);
    assert_eq!(served(6_011, revoke(Revoked::Device("ben".into(), "phone".into()), Some(200_500))), [Rule::Revoked]);
    assert_eq!(served(6_011, revoke(Revoked::Device("ben".into(), "tablet".into()), Some(200_500))), []);
    let opened = |token: Event| {
        let mut case = again(with_token(), 7_000, token);
        case.anna.0.extend(of_user());
        case.broken_rules()
    };
    assert_eq!(opened(presents("first", ISSUED_AT)), [Rule::Revoked]);
    assert_eq!(opened(presents("second", 201)), [], "he has logged in again");
}

#[test]
fn token_that_is_refused_and_was_not_revoked_is_found() {
    let refused = |token: Event, acts: Vec<Record>| {
        let mut case = at(with_token(), 4_900, 2, Event::Connecting { node: 0, device: None, since: None });
        case.evidence.acts = acts;
        at(at(case, 4_900, 2, token), 5_005, 2, Event::TokenRefused).broken_rules()
    };
    assert_eq!(refused(presents("first", ISSUED_AT), of_user().into()), []);
    assert_eq!(refused(presents("first", ISSUED_AT), vec![]), [Rule::TokenRefused]);
    assert_eq!(refused(presents("second", 201), of_user().into()), [Rule::TokenRefused], "a new token works");
    assert_eq!(refused(presents("second", 201), revoke(Revoked::User("ben".into()), None).into()), [], "it may be done later");
    let of_tablet = revoke(Revoked::Device("ben".into(), "tablet".into()), Some(200_500));
    assert_eq!(refused(presents("first", ISSUED_AT), of_tablet.into()), [Rule::TokenRefused], "the connection names no device");
    let late = of_user().map(|record| Record { at_ms: record.at_ms + 500, ..record });
    assert_eq!(refused(presents("first", ISSUED_AT), late.into()), [Rule::TokenRefused], "it was asked for later");
}
