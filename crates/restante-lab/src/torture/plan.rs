//! The plan of faults: which fault comes when. The seed draws it before the run begins. Pure.

use std::time::Duration;

use super::rng::Rng;

macro_rules! kinds {
    ($($kind:ident $name:literal $weight:literal $shortest:literal $longest:literal $words:literal;)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $(#[doc = $words] $kind,)* }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// The kind in words.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$kind => $words,)* }
            }

            /// Its weight when one is drawn, relative to the others.
            const fn weight(self) -> u64 {
                match self { $(Self::$kind => $weight,)* }
            }

            /// The shortest and the longest time that it lasts, in milliseconds.
            const fn lasts(self) -> (u64, u64) {
                match self { $(Self::$kind => ($shortest, $longest),)* }
            }
        }
    };
}

kinds! {
    NodeKill "node-kill" 8 200 2500 "kill -9 of a node, which is started again after a pause";
    Clock "clock" 4 200 1500 "kill -9 of a node, which is started again with a clock that is off by up to ten minutes";
    NodeStop "node-stop" 6 500 7000 "SIGSTOP of a node, SIGCONT after a while";
    Cut "cut" 7 1 1 "all connections between clients and a node end";
    Stall "stall" 5 300 5000 "nothing passes between clients and a node";
    HalfOpen "half-open" 5 500 8000 "connections between clients and a node are dropped at one end only";
    Delay "delay" 4 1000 6000 "everything between clients and a node comes later";
    Slow "slow" 4 1000 6000 "clients of a node read and write slowly";
    Double "double" 5 1 1 "several clients open a second connection of the same device beside the first";
    DatabaseCut "db-cut" 7 1 1 "all connections between a node and PostgreSQL end";
    DatabaseStall "db-stall" 5 300 6000 "nothing passes between a node and PostgreSQL";
    DatabaseHalfOpen "db-half-open" 4 500 6000 "connections between a node and PostgreSQL are dropped at one end only";
    DatabaseLoss "db-lose" 4 1 1 "connections between a node and PostgreSQL are lost without a word, new ones work";
    DatabaseDelay "db-delay" 3 1000 5000 "everything between a node and PostgreSQL comes later";
    DiskFull "disk-full" 5 300 4000 "what a node writes is refused with SQLSTATE 53100";
    PostmasterKill "pg-kill" 3 200 1500 "kill -9 of the postmaster, and a new start";
    PostmasterStop "pg-stop" 3 500 6000 "SIGSTOP of the postmaster: nobody new comes in";
    PostgresFast "pg-fast" 2 100 1500 "PostgreSQL is stopped (fast) and started";
    PostgresImmediate "pg-immediate" 3 100 1500 "PostgreSQL is stopped (immediate), started, and recovers";
    BackendStop "backend-stop" 5 300 9000 "SIGSTOP of a backend: what it holds, all wait for";
    BackendKill "backend-kill" 2 1 1 "kill -9 of a backend: PostgreSQL ends all others and recovers";
    BackendEnd "backend-terminate" 5 1 1 "a backend is terminated";
    ListenerEnd "listener-terminate" 4 1 1 "a backend that listens is terminated";
    Promote "promote" 8 200 2500 "with --standby: PostgreSQL is killed or stopped for good, and its standby takes its place";
    StandbyStop "standby-stop" 4 300 6000 "with --standby: SIGSTOP of what receives at the standby: no commit is confirmed";
    StandbyKill "standby-kill" 3 200 2000 "with --standby: kill -9 of the standby, and a new start: no commit is confirmed";
    Requeue "requeue" 4 1 1 "an operator puts a failed message back";
    Recall "recall" 5 1 1 "an application recalls a message in SQL";
    Block "block" 5 1 1 "an application blocks a user in SQL, or blocks it no more";
    Revoke "revoke" 3 1 1 "an operator revokes tokens in SQL";
    Rotate "rotate" 6 200 1500 "with --encryption: data keys are rotated, and a node is killed while messages are sealed anew";
    MasterKeys "master-keys" 4 200 1500 "with --encryption: all nodes are killed, one after another, and started with their master keys in another order";
    Purge "purge" 6 1 1 "what a user has finished of alerts and events is removed, as if it were months old";
}

/// One fault of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its time since the run began.
    pub at: Duration,
    /// Its kind.
    pub kind: Kind,
    /// The number of the node that it is done to. Faults that concern no node ignore it.
    pub node: usize,
    /// Its duration.
    pub lasts: Duration,
    /// The seed of the fault's own random choices.
    pub chance: u64,
}

impl Kind {
    /// Tells whether it needs a standby.
    pub const fn needs_standby(self) -> bool {
        matches!(self, Self::Promote | Self::StandbyStop | Self::StandbyKill)
    }

    /// Tells whether it needs encryption at rest.
    pub const fn needs_encryption(self) -> bool {
        matches!(self, Self::Rotate | Self::MasterKeys)
    }

    /// Tells whether it breaks nothing: somebody asks the service, or the database, for something.
    pub const fn is_request(self) -> bool {
        matches!(self, Self::Double | Self::Requeue | Self::Recall | Self::Block | Self::Revoke | Self::Purge)
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// Draws faults of these kinds for `time`. The first one comes after the clients have settled in. The same seed gives the same plan.
pub fn draw(seed: u64, time: Duration, nodes: usize, kinds: &[Kind]) -> Vec<Fault> {
    let mut rng = Rng::new(seed, "faults");
    let mut plan = Vec::new();
    let mut at = rng.pause_ms(500, 1500);
    let weights: u64 = kinds.iter().map(|kind| kind.weight()).sum();
    while weights > 0 && at < time {
        let kind = weighed(kinds, rng.between(1, weights));
        let (shortest, longest) = kind.lasts();
        let (node, lasts, chance) = (rng.index(nodes), rng.pause_ms(shortest, longest), rng.draw());
        plan.push(Fault { at, kind, node, lasts, chance });
        at += rng.pause_ms(200, 3500);
    }
    plan
}

fn weighed(kinds: &[Kind], mut drawn: u64) -> Kind {
    for kind in kinds {
        if drawn <= kind.weight() {
            return *kind;
        }
        drawn -= kind.weight();
    }
    kinds[kinds.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_faults_and_another_one_others() {
        let plan = |seed| draw(seed, Duration::from_secs(60), 3, Kind::ALL);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        assert!(plan(7).len() > 15 && plan(7).iter().all(|fault| fault.node < 3 && fault.at < Duration::from_secs(60)));
    }

    #[test]
    fn only_kinds_that_are_asked_for_are_drawn_and_in_time_all_of_them() {
        let some = [Kind::Cut, Kind::NodeKill];
        assert!(draw(1, Duration::from_secs(600), 2, &some).iter().all(|fault| some.contains(&fault.kind)));
        assert!(draw(1, Duration::from_secs(600), 2, &[]).is_empty());
        let all = draw(1, Duration::from_secs(3600), 2, Kind::ALL);
        assert!(Kind::ALL.iter().all(|kind| all.iter().any(|fault| fault.kind == *kind)));
    }

    #[test]
    fn kinds_are_found_by_their_names_and_a_stopped_backend_goes_on_in_time() {
        assert!(Kind::ALL.iter().all(|kind| Kind::named(kind.name()) == Some(*kind)));
        assert_eq!(Kind::named("flood"), None);
        assert!(Kind::BackendStop.lasts().1 < 10_000);
    }
}
