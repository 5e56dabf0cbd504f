//! The figures of a scenario with their units and costs, and their medians over repetitions.

use serde::Serialize;

use super::numbers::median;
use super::testbed::{Cost, Subject};

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Times a second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds of CPU time in each second: 10 are one hundredth of a processor.
    #[serde(rename = "ms/s")]
    MillisecondsPerSecond,
    /// 1,024 bytes.
    #[serde(rename = "KiB")]
    Kibibytes,
    /// 1,024 KiB.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Hundredths of another figure.
    #[serde(rename = "%")]
    Percent,
    /// A factor: how many times another figure.
    #[serde(rename = "x")]
    Times,
    /// A number of things.
    #[serde(rename = "count")]
    Count,
}

/// One measured number.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Its name, unique in its scenario.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
    /// CPU seconds per 1,000 messages while it was measured.
    pub cost: Option<Cost>,
}

impl Figure {
    /// A figure without a cost.
    pub fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { name: name.into(), value, unit, cost: None }
    }

    /// Messages a second: `messages` in `seconds`, at the cost `spent` in all.
    pub fn rate(name: impl Into<String>, messages: u64, seconds: f64, spent: Option<Cost>) -> Self {
        let cost = spent.map(|spent| spent.per_1000(messages));
        Self { name: name.into(), value: messages as f64 / seconds, unit: Unit::PerSecond, cost }
    }
}

/// A figure over all repetitions.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// The scenario.
    pub scenario: String,
    /// The service that was measured.
    pub subject: Subject,
    /// The figure's name.
    pub figure: String,
    /// Its unit.
    pub unit: Unit,
    /// The median of the values.
    pub median: f64,
    /// The values, one a repetition.
    pub values: Vec<f64>,
    /// CPU seconds per 1,000 messages, the median of each part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds_per1000: Option<Cost>,
    #[serde(skip)]
    costs: Vec<Cost>,
}

impl Series {
    /// The scenario's name in the table, with the service if it is the naive one.
    pub fn label(&self) -> String {
        match self.subject {
            Subject::Service => self.scenario.clone(),
            Subject::Naive => format!("{}, naive", self.scenario),
        }
    }

    pub(super) fn new(scenario: &str, subject: Subject, figure: String, unit: Unit) -> Self {
        let scenario = scenario.to_owned();
        Self { scenario, subject, figure, unit, median: 0.0, values: Vec::new(), cpu_seconds_per1000: None, costs: Vec::new() }
    }

    pub(super) fn add(&mut self, value: f64, cost: Option<Cost>) {
        self.values.push(value);
        self.median = median(self.values.iter().copied());
        self.costs.extend(cost);
        let of = |part: fn(&Cost) -> f64| median(self.costs.iter().map(part));
        self.cpu_seconds_per1000 =
            (!self.costs.is_empty()).then(|| Cost { service: of(|c| c.service), database: of(|c| c.database), clients: of(|c| c.clients) });
    }
}
