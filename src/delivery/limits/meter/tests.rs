//! One meter alone, and those of several nodes that tell one another, on a drawn clock.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// More than any node can have spent.
const MOST: Told = Told { count: u32::MAX, unpaid: u32::MAX };

/// 50 in 10 s, and 100 at once.
fn rate() -> Rate {
    Rate::new(NonZeroU32::new(50).unwrap(), 10 * SECOND, NonZeroU32::new(100).unwrap())
}

fn at(now: Duration, nodes: u32) -> Conditions {
    Conditions { now, nodes, factor: 1 }
}

fn spent_of(meter: &Meter<u8>, conditions: Conditions) -> u32 {
    let mut spent = 0;
    while meter.take(&1, 1, conditions).is_ok() {
        spent += 1;
    }
    spent
}

/// Nodes that tell one another at each step of the clock. A telling takes one step.
struct Nodes {
    now: Duration,
    meters: Vec<Meter<u8>>,
    under_way: Vec<(usize, Vec<(u8, Told)>)>,
    told: usize,
}

impl Nodes {
    fn new(count: usize) -> Self {
        let meters = (0..count).map(|_| Meter::new(rate())).collect();
        Self { now: Duration::ZERO, meters, under_way: Vec::new(), told: 0 }
    }

    fn conditions(&self) -> Conditions {
        at(self.now, u32::try_from(self.meters.len()).unwrap())
    }

    fn step(&mut self) {
        self.now += TELL_EVERY;
        let conditions = self.conditions();
        for (teller, told) in std::mem::take(&mut self.under_way) {
            for (_, meter) in self.meters.iter().enumerate().filter(|(node, _)| *node != teller) {
                told.iter().for_each(|(user, told)| meter.add(user, *told, conditions));
            }
        }
        let told = self.meters.iter().enumerate().map(|(node, meter)| (node, meter.untold(10, |_| conditions)));
        self.under_way = told.collect();
        self.told += self.under_way.iter().map(|(_, told)| told.len()).sum::<usize>();
    }

    /// A user that asks at node after node as `demand` says, for so long. Returns what it got.
    fn spend(&mut self, time: Duration, mut demand: impl FnMut(usize) -> u32) -> u32 {
        let end = self.now + time;
        let mut spent = 0;
        while self.now < end {
            for (node, meter) in self.meters.iter().enumerate() {
                for _ in 0..demand(node) {
                    spent += u32::from(meter.take(&1, 1, self.conditions()).is_ok());
                }
            }
            self.step();
        }
        spent
    }

    fn flood(&mut self, seconds: u32) -> u32 {
        self.spend(seconds * SECOND, |_| 200)
    }
}

/// The messages that the rate alone gives a user in so many seconds.
const fn of_rate(seconds: u32) -> u32 {
    5 * seconds
}

fn assert_is_about(got: u32, expected: u32) {
    assert!(got * 10 >= expected * 8 && got * 10 <= expected * 12, "{got} of {expected}");
}

#[test]
fn a_burst_is_taken_at_once_and_the_refusal_says_when_one_more_fits() {
    let meter = Meter::new(rate());
    assert_eq!(spent_of(&meter, at(Duration::ZERO, 1)), 100);
    let wait = meter.take(&1, 1, at(Duration::ZERO, 1)).unwrap_err();
    assert_eq!(wait, SECOND / 5);
    meter.take(&2, 1, at(Duration::ZERO, 1)).unwrap();
    meter.take(&1, 1, at(wait, 1)).unwrap();
    meter.take(&1, 1, at(wait, 1)).unwrap_err();
    assert_eq!(spent_of(&meter, at(1_000 * SECOND, 1)), 100, "what is not used is kept up to a burst");
}

#[test]
fn more_than_a_burst_never_fits_and_spends_nothing() {
    let meter = Meter::new(rate());
    for count in [101, u32::MAX] {
        assert_eq!(meter.take(&1, count, at(Duration::ZERO, 1)), Err(NEVER));
    }
    meter.take(&1, 100, at(Duration::ZERO, 1)).unwrap();
}

#[test]
fn a_factor_multiplies_the_rate_and_the_burst() {
    let meter = Meter::new(rate());
    let raised = |now| Conditions { factor: 10, ..at(now, 1) };
    assert_eq!(spent_of(&meter, raised(Duration::ZERO)), 1_000);
    assert_eq!(meter.take(&1, 1, raised(Duration::ZERO)), Err(SECOND / 50));
    assert_eq!(spent_of(&meter, raised(SECOND)), 50);
    assert!(meter.take(&2, 1_001, raised(SECOND)).is_err());
}

#[test]
fn a_user_at_three_nodes_gets_the_rate_of_one() {
    let mut nodes = Nodes::new(3);
    // At the same moment each node gives a burst. That is paid back: in 100 s it is the rate and one burst.
    assert_is_about(nodes.flood(100), 100 + of_rate(100));
    assert_is_about(nodes.flood(100), of_rate(100));
}

/// Broken by leaving the telling out: three times the rate.
#[test]
fn a_user_has_one_rate_while_nodes_come_and_go() {
    let mut nodes = Nodes::new(3);
    nodes.flood(100);
    nodes.meters.pop();
    assert_is_about(nodes.flood(100), of_rate(100));
    nodes.meters.push(Meter::new(rate()));
    assert_is_about(nodes.flood(100), of_rate(100));
    nodes.meters.truncate(1);
    assert_is_about(nodes.flood(100), of_rate(100));
    nodes.meters.extend([Meter::new(rate()), Meter::new(rate()), Meter::new(rate())]);
    nodes.flood(100);
    assert_is_about(nodes.flood(100), of_rate(100));
}

#[test]
fn a_node_that_comes_learns_from_the_next_telling_what_is_not_paid() {
    let mut nodes = Nodes::new(2);
    nodes.flood(100);
    nodes.meters.push(Meter::new(rate()));
    // The user does not ask the new node before it has heard.
    nodes.spend(SECOND, |node| if node < 2 { 200 } else { 0 });
    let got = nodes.spend(4 * SECOND, |node| if node == 2 { 200 } else { 0 });
    assert!(got <= of_rate(6), "{got}");
}

#[test]
fn a_user_that_moves_from_node_to_node_keeps_one_rate() {
    let mut nodes = Nodes::new(3);
    nodes.spend(30 * SECOND, |node| if node == 0 { 200 } else { 0 });
    let mut step = 0;
    let moved = nodes.spend(200 * SECOND, |node| {
        step += usize::from(node == 0);
        if node == step / 8 % 3 { 200 } else { 0 }
    });
    assert_is_about(moved, of_rate(200));
}

#[test]
fn of_a_user_of_one_node_hardly_anything_is_told_and_of_a_moderate_one_nothing() {
    let mut nodes = Nodes::new(3);
    let at_one = nodes.spend(120 * SECOND, |node| if node == 0 { 200 } else { 0 });
    assert!(at_one >= 95 + of_rate(120), "{at_one}: the whole rate");
    assert!(nodes.told <= 5, "{} tellings in 120 s", nodes.told);
    let mut nodes = Nodes::new(3);
    let mut asked = 0;
    // One in 10 s at each node: 3 of 50.
    nodes.spend(400 * SECOND, |_| {
        asked += 1;
        u32::from(asked % 120 < 3)
    });
    assert_eq!(nodes.told, 0);
}

#[test]
fn a_user_that_begins_at_a_second_node_is_known_to_both_within_two_tellings() {
    let mut nodes = Nodes::new(2);
    nodes.spend(35 * SECOND, |node| if node == 0 { 200 } else { 0 });
    let before = nodes.told;
    nodes.spend(SECOND, |node| if node == 1 { 200 } else { 1 });
    let tellings = nodes.told - before;
    assert!(tellings >= 2, "{tellings}");
    assert_is_about(nodes.flood(100), of_rate(100));
}

/// Broken by taking the part of the rate away: nothing at all was left.
#[test]
fn whatever_is_told_a_user_keeps_its_part_of_the_rate_at_a_node() {
    let meter = Meter::new(rate());
    let mut spent = 0;
    for step in 0..20_000 {
        let conditions = at(step * (SECOND / 20), 4);
        meter.add(&1, MOST, conditions);
        spent += spent_of(&meter, conditions);
    }
    assert_is_about(spent, of_rate(1_000) / 4);
}

#[test]
fn what_was_told_by_a_node_that_died_is_paid_by_time_and_nobody_owes_more_than_a_burst_for_each_node() {
    let meter = Meter::new(rate());
    meter.add(&1, Told { count: 100, unpaid: 0 }, at(Duration::ZERO, 2));
    assert_eq!(spent_of(&meter, at(20 * SECOND, 2)), 100);
    for _ in 0..1_000 {
        meter.add(&2, MOST, at(20 * SECOND, 2));
    }
    assert!(meter.debt(&2, at(20 * SECOND, 1)) <= SECOND, "alone it counts its own");
    assert_eq!(spent_of(&meter, at(100 * SECOND, 2)), 100);
    let meter = Meter::new(rate());
    (0..1_000).for_each(|_| meter.add(&1, MOST, at(Duration::ZERO, 2)));
    assert_eq!(spent_of(&meter, at(60 * SECOND, 2)), 100);
}

#[test]
fn a_node_that_is_alone_has_nothing_to_tell() {
    let meter = Meter::new(rate());
    spent_of(&meter, at(Duration::ZERO, 1));
    assert!(meter.untold(10, |_| at(Duration::ZERO, 1)).is_empty());
    assert!(meter.untold(10, |_| at(SECOND, 2)).is_empty(), "what was spent before another came");
}

#[test]
fn only_so_many_users_are_told_at_once_and_the_others_with_the_next() {
    let meter: Meter<u32> = Meter::new(rate());
    for user in 0..25 {
        meter.take(&user, 50, at(Duration::ZERO, 2)).unwrap();
    }
    let told: Vec<usize> = (0..4).map(|_| meter.untold(10, |_| at(Duration::ZERO, 2)).len()).collect();
    assert_eq!(told, [10, 10, 5, 0]);
}

#[test]
fn users_who_have_paid_are_forgotten_and_beyond_the_bound_those_who_owe_least() {
    let meter: Meter<u32> = Meter::new(rate());
    for user in 0..10 * u32::try_from(USERS_MIN).unwrap() {
        meter.take(&user, 1, at(user * SECOND, 1)).unwrap();
    }
    assert!(meter.users().accounts.len() <= USERS_MIN);
    let begins = 1_000_000 * SECOND;
    meter.take(&u32::MAX, 100, at(begins, 2)).unwrap();
    for user in 0..2 * u32::try_from(USERS_MAX).unwrap() {
        meter.take(&user, 3, at(begins, 2)).unwrap();
    }
    let users = meter.users();
    assert!(users.accounts.len() <= USERS_MAX && users.due.len() <= USERS_MAX);
    assert!(users.accounts.contains_key(&u32::MAX), "it owes most");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a user divides what it asks among the nodes, it gets one user's rate.
    #[test]
    fn any_split_over_three_nodes_gives_the_rate_of_one(demands in prop::collection::vec(0_u32..12, 3..60), beginnings in 0_usize..3) {
        let total: u32 = demands.iter().sum();
        // Enough is asked in any time to use the rate up.
        prop_assume!(total * 10 >= 20 * u32::try_from(demands.len()).unwrap());
        let mut nodes = Nodes::new(3);
        let mut n = beginnings;
        let got = nodes.spend(300 * SECOND, |_| {
            n += 1;
            demands[n % demands.len()]
        });
        assert_is_about(got, 100 + of_rate(300));
    }
}
