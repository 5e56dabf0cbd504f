//! What must hold, and what did not: a count per rule and the first few cases in words.

use std::collections::BTreeMap;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The replay comes to its end.
    Early,
    /// Every accepted message is seen by every recipient.
    Loss,
    /// First sights come in the order of the chat's numbers.
    Order,
    /// A speaker's messages are numbered in the order in which they were said.
    SpeakerOrder,
    /// The chat's numbers run from 1 without a hole.
    ChatGap,
    /// A device's inbox numbers run on, except where a gap was announced.
    InboxGap,
    /// A message has one number.
    TwoNumbers,
    /// Only what was sent is received.
    Stranger,
    /// Nobody receives their own message.
    Own,
    /// A message comes twice on one connection only as a counted further attempt.
    Duplicate,
    /// Every accepted message is read by every recipient in the end.
    Unread,
    /// Every line is accepted.
    Refused,
    /// Every frame is as the protocol says, and what waited is announced as drained.
    Protocol,
}

impl Rule {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Early => "ended early",
            Self::Loss => "losses",
            Self::Order => "order violations",
            Self::SpeakerOrder => "speaker's order violations",
            Self::ChatGap => "gaps in the chat",
            Self::InboxGap => "gaps in inboxes",
            Self::TwoNumbers => "messages with two numbers",
            Self::Stranger => "messages nobody sent",
            Self::Own => "own messages received",
            Self::Duplicate => "unexplained duplicates",
            Self::Unread => "not read in the end",
            Self::Refused => "refused",
            Self::Protocol => "protocol violations",
        }
    }
}

/// What broke: per rule how often, and the first few cases in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(BTreeMap<Rule, (u64, Vec<String>)>);

const EXAMPLES_MAX: usize = 3;

impl Findings {
    /// One more.
    pub fn add(&mut self, rule: Rule, case: impl FnOnce() -> String) {
        self.add_many(rule, 1, case);
    }

    /// So many more, or none, of which one case is told.
    pub fn add_many(&mut self, rule: Rule, more: u64, case: impl FnOnce() -> String) {
        if more == 0 {
            return;
        }
        let (count, cases) = self.0.entry(rule).or_default();
        *count += more;
        if cases.len() < EXAMPLES_MAX {
            cases.push(case());
        }
    }

    /// How often the rule was broken.
    pub fn count(&self, rule: Rule) -> u64 {
        self.0.get(&rule).map_or(0, |(count, _)| *count)
    }

    /// Everything held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over what another has found.
    pub fn merge(&mut self, other: &Self) {
        for (rule, (count, cases)) in &other.0 {
            let (mine, my_cases) = self.0.entry(*rule).or_default();
            *mine += count;
            my_cases.extend(cases.iter().take(EXAMPLES_MAX.saturating_sub(my_cases.len())).cloned());
        }
    }

    /// Rule, count and cases.
    pub fn iter(&self) -> impl Iterator<Item = (Rule, u64, &[String])> {
        self.0.iter().map(|(rule, (count, cases))| (*rule, *count, cases.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_keep_a_few_cases_and_count_all() {
        let mut findings = Findings::default();
        for n in 0..9 {
            findings.add(Rule::Loss, || n.to_string());
        }
        let mut all = Findings::default();
        all.merge(&findings);
        all.merge(&findings);
        assert_eq!(all.iter().next(), Some((Rule::Loss, 18, ["0".to_owned(), "1".to_owned(), "2".to_owned()].as_slice())));
    }
}
