//! The limits of one node on the tests' clock, and that each kind counts at a second node. How much, and how nodes reach one another: `meter` and the
//! service's tests.

use super::exchange::{heard, untold};
use super::*;
use crate::bus::{Bus, Listing};
use crate::domain::{NodeId, RaisedLimit};
use crate::hub::Hub;

const RATES: RateSettings = RateSettings {
    sends: 5,
    events: 5,
    direct_chats: 2,
    groups: 3,
    named_users: 600,
    requests: 1_000,
    failed_tokens: 5,
    handshakes: 5,
    accounts: Some(AccountRates { requests_per_minute: 2, registrations_per_hour: 1 }),
};

fn limits(rates: RateSettings) -> Limits {
    let metrics = Arc::new(Metrics::default());
    Limits::new(rates, &Notifier::to_nobody(Arc::clone(&metrics)), &metrics)
}

fn name(name: &str) -> ExternalId {
    ExternalId::try_from(name.to_owned()).unwrap()
}

fn raised(user: UserId, external: &str, factor: u32) -> RaisedLimit {
    RaisedLimit { user, external: name(external), factor, set_at: time::OffsetDateTime::UNIX_EPOCH }
}

fn wait_of(refused: Result<(), Refusal>) -> Duration {
    match refused {
        Err(Refusal::RateLimited(wait) | Refusal::TooManyChats(wait)) => wait,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_twice_the_rate_and_the_refusal_says_when_to_come_again() {
    let limits = limits(RATES);
    for _ in 0..10 {
        limits.check_send(UserId(1)).unwrap();
    }
    assert_eq!(wait_of(limits.check_send(UserId(1))), Duration::from_secs(2));
    limits.check_send(UserId(2)).unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    limits.check_send(UserId(1)).unwrap();
    limits.check_send(UserId(1)).unwrap_err();
    assert_eq!(limits.0.metrics.limited.of("messages").get(), 2);
}

#[tokio::test(start_paused = true)]
async fn events_have_a_rate_of_their_own_and_zero_lifts_it_alone() {
    let both = limits(RATES);
    for _ in 0..10 {
        both.check_send(UserId(1)).unwrap();
        both.check_event(UserId(1)).unwrap();
    }
    assert!(wait_of(both.check_event(UserId(1))) <= Duration::from_secs(2));
    both.check_event(UserId(2)).unwrap();
    let lifted = limits(RateSettings { events: 0, ..RATES });
    for _ in 0..1_000 {
        lifted.check_event(UserId(1)).unwrap();
    }
    (0..10).for_each(|_| lifted.check_send(UserId(1)).unwrap());
    lifted.check_send(UserId(1)).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn users_that_are_named_are_counted_one_by_one_and_a_request_of_the_largest_size_always_fits_once() {
    let limits = limits(RATES);
    limits.check_named_users(UserId(1), 0).unwrap();
    limits.check_named_users(UserId(1), 500).unwrap();
    limits.check_named_users(UserId(1), 100).unwrap();
    assert!(wait_of(limits.check_named_users(UserId(1), 1)) <= Duration::from_secs(6));
    limits.check_named_users(UserId(2), 500).unwrap();
    limits.check_named_users(UserId(3), usize::MAX).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn direct_chats_and_groups_are_counted_apart_in_an_hour() {
    let limits = limits(RATES);
    (0..2).for_each(|_| limits.check_direct_chat(UserId(1)).unwrap());
    (0..3).for_each(|_| limits.check_group(UserId(1)).unwrap());
    assert_eq!(wait_of(limits.check_direct_chat(UserId(1))), Duration::from_secs(1_800));
    assert_eq!(wait_of(limits.check_group(UserId(1))), Duration::from_secs(1_200));
    tokio::time::advance(Duration::from_secs(1_200)).await;
    limits.check_group(UserId(1)).unwrap();
    limits.check_direct_chat(UserId(1)).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn zero_lifts_all_limits() {
    let limits = limits(RateSettings { sends: 0, requests: 0, ..RATES });
    for _ in 0..1_000 {
        limits.check_send(UserId(1)).unwrap();
        limits.check_event(UserId(1)).unwrap();
        limits.check_direct_chat(UserId(1)).unwrap();
        limits.check_group(UserId(1)).unwrap();
        limits.check_named_users(UserId(1), 500).unwrap();
        assert_eq!(limits.budget(&name("anna")).count(u32::MAX), Duration::ZERO);
    }
    assert!(limits.pace(UserId(1)).is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_factor_raises_every_limit_of_its_user_and_no_other() {
    let limits = limits(RATES);
    limits.0.raised.replace(vec![raised(UserId(1), "anna", 4)]);
    (0..40).for_each(|_| limits.check_send(UserId(1)).unwrap());
    (0..8).for_each(|_| limits.check_direct_chat(UserId(1)).unwrap());
    assert_eq!(wait_of(limits.check_send(UserId(1))), Duration::from_millis(500));
    assert_eq!(limits.budget(&name("anna")).count(2_000), Duration::ZERO);
    (0..10).for_each(|_| limits.check_send(UserId(2)).unwrap());
    limits.check_send(UserId(2)).unwrap_err();
    assert!(limits.budget(&name("ben")).count(2_000) > Duration::ZERO);
    limits.0.raised.replace(Vec::new());
    assert!(limits.check_send(UserId(1)).is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_told_counts_where_it_belongs_and_nothing_else_does() {
    let limits = limits(RATES);
    let spent = |kind, subject| Spent { kind, subject, count: 10, unpaid: 10 };
    let (anna, address) = (LimitSubject::User(UserId(1)), LimitSubject::Address("192.0.2.1".parse::<std::net::IpAddr>().unwrap().into()));
    let odd = [spent(LimitKind::Requests, anna.clone()), spent(LimitKind::Messages, LimitSubject::Name(name("anna")))];
    heard(&limits, &odd);
    heard(&limits, &[spent(LimitKind::Messages, address)]);
    (0..10).for_each(|_| limits.check_event(UserId(1)).unwrap());
    heard(&limits, &[spent(LimitKind::Messages, anna)]);
    let conditions = Conditions { nodes: 2, ..limits.conditions(1) };
    let sends = limits.0.meters.sends.as_ref().unwrap();
    assert_eq!(sends.take(&UserId(1), 1, conditions), Err(Duration::from_secs(2)));
    assert!(untold(&limits).is_empty(), "a node that is alone tells nothing");
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_points_is_half_the_rate_and_time_pays_for_what_is_beyond_it() {
    let limits = limits(RATES);
    let (anna, ben) = (limits.budget(&name("anna")), limits.budget(&name("ben")));
    assert_eq!(anna.count(500), Duration::ZERO);
    assert_eq!(limits.budget(&name("anna")).count(30), Duration::from_millis(300), "all connections of a user share it");
    assert_eq!(ben.debt(), Duration::ZERO);
    tokio::time::advance(Duration::from_millis(200)).await;
    assert_eq!(anna.debt(), Duration::from_millis(100));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(anna.count(501), Duration::from_millis(10), "what is not used is kept for 5 s and no longer");
}

#[tokio::test(start_paused = true)]
async fn callers_that_each_pause_for_what_is_owed_are_together_as_fast_as_the_rate() {
    let (limits, began) = (limits(RATES), Instant::now());
    let callers = (0..20).map(|_| async {
        let budget = limits.budget(&name("anna"));
        for _ in 0..50 {
            tokio::time::sleep(budget.count(10)).await;
        }
    });
    futures_util::future::join_all(callers).await;
    // 10,000 points at 100 in a second, less the burst.
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(94) && took <= Duration::from_secs(96), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_owes_points_without_bound() {
    let limits = limits(RateSettings { requests: 1, ..RATES });
    for _ in 0..100 {
        assert!(limits.budget(&name("anna")).count(u32::MAX) <= POINTS_DEBT_MAX);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_not_valid_are_counted_by_address_and_beyond_the_limit_none_is_looked_at() {
    let limits = limits(RATES);
    let block = |address: &str| AddressBlock::from(address.parse::<std::net::IpAddr>().unwrap());
    let (bad, good) = (block("192.0.2.1"), block("192.0.2.2"));
    for code in [Code::Internal, Code::Unavailable, Code::Forbidden].into_iter().cycle().take(100) {
        limits.token_judged(bad, code);
    }
    for code in [Code::NotAuthenticated, Code::TokenExpired, Code::TokenRevoked, Code::KeysUnavailable].into_iter().cycle().take(11) {
        limits.check_tokens_of(bad).expect("ten in a burst, and this one");
        limits.token_judged(bad, code);
    }
    assert_eq!(wait_of(limits.check_tokens_of(bad)), Duration::from_secs(2));
    limits.check_tokens_of(good).unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    limits.check_tokens_of(bad).unwrap();
}

#[tokio::test(start_paused = true)]
async fn connections_are_counted_by_address() {
    let limits = limits(RATES);
    let block = |address: &str| AddressBlock::from(address.parse::<std::net::IpAddr>().unwrap());
    for n in 0..10 {
        limits.check_handshake(block(&format!("2001:db8::{n}"))).unwrap();
    }
    assert_eq!(wait_of(limits.check_handshake(block("2001:db8::ffff"))), Duration::from_secs(2));
    limits.check_handshake(block("2001:db8:0:1::1")).unwrap();
}

/// The limits of a node that knows of another one.
fn limits_of_two_nodes() -> Limits {
    let (metrics, bus) = (Arc::new(Metrics::default()), Bus::new(NodeId::generate()));
    let live = [bus.me(), NodeId::generate()].map(|node| (node, node.0));
    bus.begin(Listing { boot: bus.me().0, live: live.to_vec(), ..Listing::default() });
    Limits::new(RATES, &Notifier::new(Hub::new(1), bus, Arc::clone(&metrics)), &metrics)
}

/// Spends one of a limit for the user, the name or the address of this number. Returns whether it was taken.
fn spends(limits: &Limits, kind: LimitKind, subject: u8) -> bool {
    let address = |subject: u8| AddressBlock::from(std::net::IpAddr::from([192, 0, 2, subject]));
    let (user, at) = (UserId(subject.into()), address(subject));
    match kind {
        LimitKind::Messages => limits.check_send(user).is_ok(),
        LimitKind::Events => limits.check_event(user).is_ok(),
        LimitKind::DirectChats => limits.check_direct_chat(user).is_ok(),
        LimitKind::Groups => limits.check_group(user).is_ok(),
        LimitKind::NamedUsers => limits.check_named_users(user, 1).is_ok(),
        LimitKind::Requests => limits.budget(&name(&format!("{subject}"))).count(1).is_zero(),
        LimitKind::FailedTokens => {
            let is_looked_at = limits.check_tokens_of(at).is_ok();
            limits.token_judged(at, Code::NotAuthenticated);
            is_looked_at
        }
        LimitKind::Handshakes => limits.check_handshake(at).is_ok(),
        LimitKind::AccountRequests => limits.check_account_request(at).is_ok(),
        LimitKind::LoginRenewals => limits.check_login_renewal(at).is_ok(),
        LimitKind::Registrations => limits.check_registration(at).is_ok(),
        // From an address of its own each, so that only the name is counted to its end; and few enough for the name from one address.
        LimitKind::Guesses => (1..=u8::MAX).any(|n| limits.check_guess(&name(&format!("from {subject}")), address(n)).is_ok()),
        LimitKind::GuessesFromAddress => limits.check_guess(&name(&format!("at {subject}")), at).is_ok(),
    }
}

/// Broken by a kind that is not told, that is not heard, or that is counted for another kind, or for nobody in particular.
#[tokio::test(start_paused = true)]
async fn each_limit_that_is_used_up_at_one_node_is_used_up_at_the_other_for_its_subject_alone() {
    for kind in LimitKind::ALL {
        let (here, there) = (limits_of_two_nodes(), limits_of_two_nodes());
        assert!(spends(&here, kind, 1), "{kind:?}: there is room for one at least");
        while spends(&here, kind, 1) {}
        heard(&there, &untold(&here));
        assert!(!spends(&there, kind, 1), "{kind:?} is used up for this subject");
        assert!(spends(&there, kind, 2), "{kind:?} is not used up for another one");
        for other in LimitKind::ALL.into_iter().filter(|other| *other != kind) {
            assert!(spends(&there, other, 1), "{kind:?} is used up, and not {other:?}");
        }
    }
}

/// Broken by a factor that counts where the user spends, and not in what is told or heard of it.
#[tokio::test(start_paused = true)]
async fn what_a_raised_user_has_spent_at_one_node_is_missing_at_the_other_and_no_more() {
    let (here, there) = (limits_of_two_nodes(), limits_of_two_nodes());
    for limits in [&here, &there] {
        limits.0.raised.replace(vec![raised(UserId(1), "anna", 4)]);
    }
    (0..20).for_each(|_| here.check_send(UserId(1)).unwrap());
    assert_eq!(here.budget(&name("anna")).count(1_000), Duration::ZERO);
    heard(&there, &untold(&here));
    assert_eq!(std::iter::repeat_with(|| there.check_send(UserId(1))).take_while(Result::is_ok).count(), 20, "of 40");
    assert_eq!(there.budget(&name("anna")).count(1_000), Duration::ZERO, "of 2,000");
    assert!(there.budget(&name("anna")).count(1) > Duration::ZERO);
}
