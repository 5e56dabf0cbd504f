//! The results of a run: all figures, and what follows from them.

use serde::Serialize;

use super::compare::{Ratio, ratios};
use super::figure::{Figure, Series};
use super::limit::{Batches, Limit, Share, shares};
use super::testbed::Subject;

/// All figures of a run, with its database and machine.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// This program's version.
    pub version: &'static str,
    /// The database's version, and the settings that decide over the cost of a commit.
    pub database: String,
    /// Processors that may be used.
    pub processors: usize,
    /// The figures, in the order in which they were measured first.
    pub figures: Vec<Series>,
    /// With `--baseline`: the service's rates and costs beside those of the naive one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ratios: Vec<Ratio>,
    /// With `--limit`: the rates of the database alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// With `--limit`: the part of those rates that the service reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Share>,
    /// With `--limit`: messages in a transaction of the service, one entry a scenario and repetition.
    #[serde(skip)]
    pub batches: Vec<(String, Batches)>,
}

impl Results {
    /// Results without figures, of this machine.
    pub fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            database: String::new(),
            processors,
            figures: Vec::new(),
            ratios: Vec::new(),
            limits: Vec::new(),
            shares: Vec::new(),
            batches: Vec::new(),
        }
    }

    /// Adds the figures of one repetition.
    pub fn add(&mut self, scenario: &str, subject: Subject, figures: Vec<Figure>) {
        for Figure { name, value, unit, cost } in figures {
            let is_it = |series: &Series| series.scenario == scenario && series.subject == subject && series.figure == name;
            let place = self.figures.iter().position(is_it).unwrap_or_else(|| {
                self.figures.push(Series::new(scenario, subject, name, unit));
                self.figures.len() - 1
            });
            self.figures[place].add(value, cost);
        }
    }

    /// Compares the service with the naive one, and with the database alone.
    pub fn compare(&mut self) {
        self.ratios = ratios(&self.figures);
        self.shares = shares(&self.figures, &self.limits, &self.batches);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::Unit;
    use crate::bench::testbed::Cost;

    #[test]
    fn repetitions_of_a_figure_come_together() {
        let mut results = Results::of_this_machine();
        for messages in [100, 300, 200] {
            let spent = Cost { service: 2.0, database: 4.0, clients: 6.0 };
            results.add(
                "drain",
                Subject::Service,
                vec![Figure::rate("acked", messages, 1.0, Some(spent)), Figure::new("worst", 5.0, Unit::Milliseconds)],
            );
        }
        assert_eq!(results.figures.len(), 2);
        assert_eq!(results.figures[0].median, 200.0);
        assert_eq!(results.figures[0].cpu_seconds_per1000.unwrap().service, 10.0);
        assert_eq!(results.figures[1].cpu_seconds_per1000, None);
    }
}
