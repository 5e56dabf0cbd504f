//! What can be measured, a file each.

mod ingest;
mod live;

use clap::ValueEnum;

use super::figure::Figure;
use super::load::Progress;
use super::sizes::Sizes;
use super::stand::{Stand, Subject};
pub use ingest::{DRAINED, STORED};

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Taking in messages for users who are away.
    Ingest,
    /// The same, and then those users come and take them.
    Drain,
    /// Pairs who are online.
    Live,
}

impl Scenario {
    /// Those that are measured when none is named.
    pub const SHORT: [Self; 2] = [Self::Drain, Self::Live];

    /// As it is named.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Drain => "drain",
            Self::Live => "live",
        }
    }

    /// Is it a load that the naive service can be put under as well?
    pub const fn has_baseline(self) -> bool {
        matches!(self, Self::Ingest | Self::Drain | Self::Live)
    }

    /// Measures it once.
    pub async fn run(self, stand: &Stand, sizes: &Sizes, label: &str) -> anyhow::Result<Vec<Figure>> {
        let progress = Progress::new(label);
        match self {
            Self::Ingest => Ok(vec![ingest::ingest(stand, sizes, &progress).await?.0]),
            Self::Drain => ingest::ingest_and_drain(stand, sizes, &progress).await,
            Self::Live => match stand.subject {
                Subject::Service => live::live(stand, sizes, &progress).await,
                // Beyond what it can take there is no latency to compare: only how much that is.
                Subject::Naive => live::highest_only(stand, sizes, &progress).await,
            },
        }
    }
}
