//! The findings of a run: how much was done, and what was wrong. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

/// The cases that are kept of each kind.
const CASES_MAX: usize = 5;

/// A kind of breach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breach {
    /// An event did not come.
    Missed,
    /// An event came a second time.
    Twice,
    /// An event came before an earlier one of its feed.
    Order,
    /// A connect failed.
    Connect,
}

impl Breach {
    const fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Twice => "twice",
            Self::Order => "order",
            Self::Connect => "connect",
        }
    }
}

/// The findings so far.
#[derive(Debug, Default)]
pub struct Findings {
    /// Connects that were made.
    pub connects: u32,
    /// Events that were published.
    pub events: u32,
    /// The time that it took, in seconds.
    pub seconds: f64,
    breaches: BTreeMap<Breach, (u32, Vec<String>)>,
}

impl Findings {
    /// Counts a breach.
    pub fn add(&mut self, breach: Breach, case: String) {
        let (count, cases) = self.breaches.entry(breach).or_default();
        *count += 1;
        if cases.len() < CASES_MAX {
            cases.push(case);
        }
    }

    /// True when nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.breaches.is_empty()
    }

    /// As text.
    pub fn text(&self, seed: u64) -> String {
        let mut out = format!("{} connects, {} events, {:.1} s\n", self.connects, self.events, self.seconds);
        for (breach, (count, cases)) in &self.breaches {
            let _ = writeln!(out, "BROKEN {} ({count}):\n  {}", breach.name(), cases.join("\n  "));
        }
        let verdict = if self.is_empty() { "HELD: every event came once and in order" } else { "BROKEN" };
        let _ = write!(out, "{verdict} (seed {seed})");
        out
    }

    /// As JSON, in the shape of a torture's verdict.
    pub fn json(&self, seed: u64) -> Value {
        let broken: Vec<Value> =
            self.breaches.iter().map(|(breach, (count, cases))| json!({"rule": breach.name(), "count": count, "cases": cases})).collect();
        let verdict = if self.is_empty() { "held" } else { "broken" };
        let counts = json!({"connects": self.connects, "events": self.events});
        json!({"seed": seed, "seconds": self.seconds, "counts": counts, "broken": broken, "verdict": verdict})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breach_is_in_the_verdict_with_its_cases() {
        let mut findings = Findings::default();
        assert_eq!(findings.json(1)["verdict"], "held");
        (0..9).for_each(|n| findings.add(Breach::Missed, n.to_string()));
        assert!(findings.text(1).contains("BROKEN missed (9)") && findings.text(1).ends_with("BROKEN (seed 1)"));
        let broken = &findings.json(1)["broken"][0];
        assert_eq!((&broken["rule"], &broken["count"], broken["cases"].as_array().map(Vec::len)), (&"missed".into(), &9.into(), Some(5)));
    }
}
