//! Compares the service with the naive one: ratios of their medians. Pure.

use serde::Serialize;

use super::figure::{Series, Unit};
use super::testbed::{Cost, Subject};

/// A rate of the service beside that of the naive one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ratio {
    /// The scenario.
    pub scenario: String,
    /// The rate.
    pub figure: String,
    /// The service's rate by that of the naive one.
    pub rate: f64,
    /// The CPU time that the naive one spends on a message, by that of the service. `None` where it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuRatio>,
}

/// CPU time of the naive one by that of the service.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CpuRatio {
    /// CPU time of the service process.
    pub service: f64,
    /// CPU time of the database.
    pub database: f64,
    /// CPU time of both together.
    pub both: f64,
}

/// The ratios of all rates that were measured on both.
pub fn ratios(figures: &[Series]) -> Vec<Ratio> {
    let naive =
        |of: &Series| figures.iter().find(|it| it.subject == Subject::Naive && it.scenario == of.scenario && it.figure == of.figure);
    let rates = figures.iter().filter(|it| it.subject == Subject::Service && it.unit == Unit::PerSecond);
    rates.filter_map(|service| Some(Ratio::of(service, naive(service)?))).collect()
}

impl Ratio {
    fn of(service: &Series, naive: &Series) -> Self {
        let cpu = service.cpu_seconds_per1000.zip(naive.cpu_seconds_per1000);
        Self {
            scenario: service.scenario.clone(),
            figure: service.figure.clone(),
            rate: service.median / naive.median,
            cpu: cpu.map(|(service, naive)| CpuRatio::of(service, naive)),
        }
    }
}

impl CpuRatio {
    fn of(service: Cost, naive: Cost) -> Self {
        Self {
            service: naive.service / service.service,
            database: naive.database / service.database,
            both: (naive.service + naive.database) / (service.service + service.database),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::Figure;
    use crate::bench::results::Results;

    #[test]
    fn rates_of_both_are_compared_by_their_medians() {
        let mut results = Results::of_this_machine();
        let rate = |messages, service, database| {
            vec![
                Figure::rate("drained", messages, 1.0, Some(Cost { service, database, clients: 1.0 }.times(messages))),
                Figure::new("time to drain all", 1.0, Unit::Seconds),
            ]
        };
        for messages in [10_000, 20_000, 30_000] {
            results.add("drain", Subject::Service, rate(messages, 0.1, 0.1));
            results.add("drain", Subject::Naive, rate(messages / 10, 0.2, 0.6));
        }
        results.add("idle", Subject::Service, vec![Figure::rate("accepted", 1, 1.0, None)]);
        results.compare();
        assert_eq!(results.ratios.len(), 1, "{:?}", results.ratios);
        let ratio = &results.ratios[0];
        assert_eq!((&*ratio.scenario, &*ratio.figure), ("drain", "drained"));
        let cpu = ratio.cpu.unwrap();
        for (value, wanted) in [(ratio.rate, 10.0), (cpu.service, 2.0), (cpu.database, 6.0), (cpu.both, 4.0)] {
            assert!((value - wanted).abs() < 1e-9, "{value} instead of {wanted}");
        }
    }

    impl Cost {
        fn times(self, messages: u64) -> Self {
            let factor = messages as f64 / 1000.0;
            Self { service: self.service * factor, database: self.database * factor, clients: self.clients * factor }
        }
    }
}
