//! The scenarios, one a file.

mod backlog;
mod compression;
mod events;
mod feed;
mod flood;
mod group;
mod held;
mod history;
mod idle;
mod ingest;
mod live;
mod pairs;
mod promises;
mod publish;
mod retention;
mod seal;
mod storm;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::figure::Figure;
use super::load::{Crowd, Progress, pairs};
use super::sizes::Sizes;
use super::testbed::{Subject, Testbed};
pub use ingest::{DRAINED, STORED};

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Messages to users who are away.
    Ingest,
    /// The same, and then those users connect and drain their inboxes.
    Drain,
    /// Pairs of online users.
    Live,
    /// The same, with senders at one node and recipients at another.
    Nodes,
    /// One user with a large backlog.
    Backlog,
    /// One user's backlog, with and without compression.
    Compression,
    /// One message to very many recipients.
    Group,
    /// Clients that are connected and silent.
    Idle,
    /// A reconnect storm.
    Storm,
    /// Every sender writes to every recipient by name.
    Pairs,
    /// The times that users notice.
    Promises,
    /// A pair of users beside one who asks for everything at once.
    Flood,
    /// Drain with very many finished rows in the tables.
    History,
    /// Pairs while a transaction stays open.
    Held,
    /// Months that are written and removed.
    Retention,
    /// An event to very many followers.
    Feed,
    /// Pairs beside events that wait.
    Events,
    /// Many publishers at once.
    Publish,
    /// Encryption at rest by itself.
    Seal,
}

impl Scenario {
    /// All scenarios.
    const ALL: [Self; 19] = [
        Self::Ingest,
        Self::Drain,
        Self::Live,
        Self::Nodes,
        Self::Backlog,
        Self::Compression,
        Self::Group,
        Self::Idle,
        Self::Storm,
        Self::Pairs,
        Self::Promises,
        Self::Flood,
        Self::History,
        Self::Held,
        Self::Retention,
        Self::Feed,
        Self::Events,
        Self::Publish,
        Self::Seal,
    ];
    /// The scenarios of a run without names: each takes about a minute, and ingest is a part of drain.
    const SHORT: [Self; 15] = [
        Self::Drain,
        Self::Live,
        Self::Nodes,
        Self::Backlog,
        Self::Compression,
        Self::Group,
        Self::Idle,
        Self::Storm,
        Self::Pairs,
        Self::Promises,
        Self::Flood,
        Self::Feed,
        Self::Events,
        Self::Publish,
        Self::Seal,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Drain => "drain",
            Self::Live => "live",
            Self::Nodes => "nodes",
            Self::Backlog => "backlog",
            Self::Compression => "compress",
            Self::Group => "group",
            Self::Idle => "idle",
            Self::Storm => "storm",
            Self::Pairs => "pairs",
            Self::Promises => "promises",
            Self::Flood => "flood",
            Self::History => "history",
            Self::Held => "held",
            Self::Retention => "retention",
            Self::Feed => "feed",
            Self::Events => "events",
            Self::Publish => "publish",
            Self::Seal => "seal",
        }
    }

    /// The number of nodes that it needs.
    pub const fn nodes(self) -> usize {
        match self {
            Self::Nodes => 2,
            _ => 1,
        }
    }

    /// The setting `REQUEST_RATE` of its service. A flood is measured with the default: the limit is what holds it off. Elsewhere one
    /// user stands for many.
    pub const fn request_rate(self) -> Option<&'static str> {
        match self {
            Self::Flood => None,
            _ => Some("0"),
        }
    }

    /// Tells whether the naive service can be put under this load.
    pub const fn has_baseline(self) -> bool {
        matches!(self, Self::Ingest | Self::Drain | Self::Live)
    }

    /// Runs the scenario once.
    pub async fn run(self, testbed: &Testbed, sizes: &Sizes, label: &str) -> anyhow::Result<Vec<Figure>> {
        let progress = Progress::new(label);
        match self {
            Self::Ingest => Ok(vec![ingest::ingest(testbed, &crowd(testbed, sizes, &progress).await?, sizes, &progress).await?]),
            Self::Drain => ingest::ingest_and_drain(testbed, &crowd(testbed, sizes, &progress).await?, sizes, &progress).await,
            Self::Live => match testbed.subject {
                Subject::Service => live::live(testbed, sizes, &progress).await,
                // The fixed rate is above the naive service's capacity, so only its highest rate is measured.
                Subject::Naive => {
                    Ok(vec![live::at_highest_rate(pairs(testbed, sizes.pairs, &progress).await?, testbed, sizes, &progress).await?])
                }
            },
            Self::Nodes => live::live(testbed, sizes, &progress).await,
            Self::Backlog => backlog::backlog(testbed, sizes, &progress).await,
            Self::Compression => compression::compression(testbed, sizes, &progress).await,
            Self::Group => group::group(testbed, sizes, &progress).await,
            Self::Idle => idle::idle(testbed, sizes, &progress).await,
            Self::Storm => storm::storm(testbed, sizes, &progress).await,
            Self::Pairs => pairs::by_name(testbed, sizes, &progress).await,
            Self::Promises => promises::promises(testbed, sizes, &progress).await,
            Self::Flood => flood::flood(testbed, sizes, &progress).await,
            Self::History => history::history(testbed, sizes, &progress).await,
            Self::Held => held::held(testbed, sizes, &progress).await,
            Self::Retention => retention::retention(testbed, sizes, &progress).await,
            Self::Feed => feed::feed(testbed, sizes, &progress).await,
            Self::Events => events::events(testbed, sizes, &progress).await,
            Self::Publish => publish::publish(testbed, sizes, &progress).await,
            Self::Seal => seal::seal(sizes, &progress),
        }
    }
}

async fn crowd(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Crowd> {
    progress.begin("making users and chats", 0);
    Crowd::make(&testbed.database, sizes.senders, sizes.users).await
}

/// A choice on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Every scenario but ingest, which is a part of drain.
    All,
    /// This scenario.
    One(Scenario),
}

impl Choice {
    /// The scenarios of these choices.
    pub fn scenarios(choices: &[Self]) -> Vec<Scenario> {
        if choices.is_empty() {
            return Scenario::SHORT.to_vec();
        }
        let of = |choice: &Self| match choice {
            Self::All => Scenario::ALL.into_iter().filter(|scenario| *scenario != Scenario::Ingest).collect(),
            Self::One(scenario) => vec![*scenario],
        };
        choices.iter().flat_map(of).collect()
    }
}

impl ValueEnum for Choice {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Choice; Scenario::ALL.len() + 1] = {
            let mut choices = [Choice::All; Scenario::ALL.len() + 1];
            let mut place = 0;
            while place < Scenario::ALL.len() {
                choices[place] = Choice::One(Scenario::ALL[place]);
                place += 1;
            }
            choices
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::All => "all",
            Self::One(scenario) => scenario.name(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_can_be_asked_for() {
        let all = Choice::scenarios(&[Choice::All]);
        assert_eq!(all.len(), Scenario::ALL.len() - 1, "ingest is in drain");
        for scenario in Scenario::ALL {
            assert_eq!(Choice::from_str(scenario.name(), false), Ok(Choice::One(scenario)));
            assert!(super::super::ABOUT.contains(&format!("\n  {:<10}", scenario.name())), "{}", scenario.name());
        }
        assert_eq!(Choice::scenarios(&[]), Scenario::SHORT);
    }
}
