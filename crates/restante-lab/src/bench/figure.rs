//! What a scenario measured: figures with their units and costs, and the medians over repetitions.

use serde::Serialize;

use super::compare::Ratio;
use super::limit::{Batches, Limit, Share};
use super::testbed::{Cost, Subject};

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Per second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Of CPU time, in each second that passes: 10 are one hundredth of a processor.
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
    /// So many times another figure.
    #[serde(rename = "x")]
    Times,
    /// Things.
    #[serde(rename = "count")]
    Count,
}

/// One measured number.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it is, unique in its scenario.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Of what.
    pub unit: Unit,
    /// CPU seconds per 1,000 messages meanwhile.
    pub cost: Option<Cost>,
}

impl Figure {
    /// A number by itself.
    pub fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { name: name.into(), value, unit, cost: None }
    }

    /// So many messages in so many seconds, at this cost in all.
    pub fn rate(name: impl Into<String>, messages: u64, seconds: f64, spent: Option<Cost>) -> Self {
        let cost = spent.map(|spent| spent.per_1000(messages));
        Self { name: name.into(), value: messages as f64 / seconds, unit: Unit::PerSecond, cost }
    }
}

/// A whole number as people read it: `20,000`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A figure over all repetitions.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// The scenario.
    pub scenario: String,
    /// Of which service.
    pub subject: Subject,
    /// What it is.
    pub figure: String,
    /// Of what.
    pub unit: Unit,
    /// The median of the values.
    pub median: f64,
    /// One per repetition.
    pub values: Vec<f64>,
    /// CPU seconds per 1,000 messages, the median of each part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds_per1000: Option<Cost>,
    #[serde(skip)]
    costs: Vec<Cost>,
}

/// All figures of a run, and where it ran.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// This program's version.
    pub version: &'static str,
    /// The database's version and the settings of it that matter.
    pub database: String,
    /// Processors that may be used.
    pub processors: usize,
    /// The figures, in the order in which they were measured first.
    pub figures: Vec<Series>,
    /// With `--baseline`: how the service compares with the naive one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ratios: Vec<Ratio>,
    /// With `--limit`: what the database alone can do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// What part of that the service reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Share>,
    /// With `--limit`: how many messages the service had in a transaction, per scenario and repetition.
    #[serde(skip)]
    pub batches: Vec<(String, Batches)>,
}

impl Results {
    /// None yet.
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

    /// Adds what one repetition measured.
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
}

impl Series {
    /// The scenario as it is shown, with the service if it is not this one.
    pub fn label(&self) -> String {
        match self.subject {
            Subject::Service => self.scenario.clone(),
            Subject::Naive => format!("{}, naive", self.scenario),
        }
    }

    fn new(scenario: &str, subject: Subject, figure: String, unit: Unit) -> Self {
        let scenario = scenario.to_owned();
        Self { scenario, subject, figure, unit, median: 0.0, values: Vec::new(), cpu_seconds_per1000: None, costs: Vec::new() }
    }

    fn add(&mut self, value: f64, cost: Option<Cost>) {
        self.values.push(value);
        self.median = median(self.values.iter().copied());
        self.costs.extend(cost);
        let of = |part: fn(&Cost) -> f64| median(self.costs.iter().map(part));
        self.cpu_seconds_per1000 =
            (!self.costs.is_empty()).then(|| Cost { service: of(|c| c.service), database: of(|c| c.database), clients: of(|c| c.clients) });
    }
}

/// The middle one; of an even number the mean of the two in the middle. None: 0.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_one() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([].into_iter()), 0.0);
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }

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
