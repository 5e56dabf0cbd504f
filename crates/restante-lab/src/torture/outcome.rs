//! The outcomes of the faults: for each fault, whether it was done; for each kind, how many were drawn, how many were done, and why
//! the others were not. A run in which a fault of the standby failed has shown nothing about the standby, and says so. Pure.

use std::collections::BTreeMap;

use super::plan::{Fault, Kind};

/// The outcome of one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultOutcome {
    /// It was done; the words describe it, and may be empty.
    Done(String),
    /// It had no target, or another one was under way; the words say which.
    PassedOver(String),
    /// It could not be done, or not to its end; the words say why.
    Failed(String),
}

/// The outcomes of one kind of faults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number in the plan.
    pub drawn: u64,
    /// Number that were done.
    pub done: u64,
    passed_over: u64,
    why_failed: Option<String>,
    why_passed_over: Option<String>,
}

/// The outcomes of all faults, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tallies(BTreeMap<Kind, Tally>);

impl Tally {
    /// Number that were not done.
    pub const fn not_done(&self) -> u64 {
        self.drawn - self.done
    }

    /// The reason of the first one that failed, else of the first one that was passed over.
    pub fn why_not(&self) -> Option<&str> {
        self.why_failed.as_deref().or(self.why_passed_over.as_deref())
    }

    /// Number that failed. A fault whose task panicked has no outcome, and counts as failed.
    const fn failed(&self) -> u64 {
        self.not_done() - self.passed_over
    }
}

impl Tallies {
    /// The tallies of a plan of which nothing is done yet.
    pub fn of(plan: &[Fault]) -> Self {
        let mut tallies = Self::default();
        plan.iter().for_each(|fault| tallies.0.entry(fault.kind).or_default().drawn += 1);
        tallies
    }

    /// Counts the outcome of one fault.
    pub fn count(&mut self, kind: Kind, outcome: FaultOutcome) {
        let tally = self.0.entry(kind).or_default();
        match outcome {
            FaultOutcome::Done(_) => tally.done += 1,
            FaultOutcome::PassedOver(why) => {
                tally.passed_over += 1;
                tally.why_passed_over.get_or_insert(why);
            }
            FaultOutcome::Failed(why) => {
                tally.why_failed.get_or_insert(why);
            }
        }
    }

    /// The kinds of the plan with their tallies.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &Tally)> {
        self.0.iter().map(|(kind, tally)| (*kind, tally))
    }

    /// Says that a fault of the standby failed; `None` when none did. After such a failure the run has no verdict.
    pub fn standby_failed(&self) -> Option<String> {
        let (kind, tally) = self.iter().find(|(kind, tally)| kind.needs_standby() && tally.failed() > 0)?;
        let why = tally.why_failed.as_deref().and_then(|why| why.lines().next()).unwrap_or("it broke");
        let (failed, drawn) = (tally.failed(), tally.drawn);
        Some(format!("{} could not be done, {failed} of {drawn}: {why}", kind.name()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn plan(kinds: &[Kind]) -> Vec<Fault> {
        kinds.iter().map(|kind| Fault { at: Duration::ZERO, kind: *kind, node: 0, lasts: Duration::ZERO, chance: 0 }).collect()
    }

    fn done() -> FaultOutcome {
        FaultOutcome::Done(String::new())
    }

    #[test]
    fn faults_are_counted_by_kind_and_the_first_failure_says_why() {
        let mut tallies = Tallies::of(&plan(&[Kind::Promote, Kind::Cut, Kind::Promote, Kind::Promote, Kind::Promote]));
        tallies.count(Kind::Cut, done());
        tallies.count(Kind::Promote, FaultOutcome::PassedOver("not yet".into()));
        assert_eq!(tallies.0[&Kind::Promote].why_not(), Some("not yet"));
        tallies.count(Kind::Promote, done());
        tallies.count(Kind::Promote, FaultOutcome::Failed("no room".into()));
        tallies.count(Kind::Promote, FaultOutcome::Failed("no way".into()));
        let told: Vec<_> = tallies.iter().map(|(kind, t)| (kind, t.drawn, t.done, t.not_done(), t.why_not())).collect();
        assert_eq!(told, [(Kind::Cut, 1, 1, 0, None), (Kind::Promote, 4, 1, 3, Some("no room"))]);
        assert_eq!(tallies.standby_failed().unwrap(), "promote could not be done, 2 of 4: no room");
    }

    #[test]
    fn only_a_fault_of_the_standby_that_failed_leaves_the_run_without_a_verdict() {
        let mut tallies = Tallies::of(&plan(&[Kind::Promote, Kind::StandbyKill, Kind::BackendKill]));
        tallies.count(Kind::BackendKill, FaultOutcome::Failed("there is no such backend".into()));
        tallies.count(Kind::Promote, FaultOutcome::PassedOver("not yet".into()));
        let broken = tallies.standby_failed().unwrap();
        assert_eq!(broken, "standby-kill could not be done, 1 of 1: it broke", "its task told of no outcome");
        tallies.count(Kind::StandbyKill, done());
        assert_eq!(tallies.standby_failed(), None);
    }
}
