//! The part of the limit that the service reaches. Pure arithmetic on the figures of one run.

use serde::Serialize;

use super::{Limit, Work};
use crate::bench::figure::Series;
use crate::bench::numbers::median;
use crate::bench::scenario::{DRAINED, STORED};
use crate::bench::testbed::Subject;

/// Messages in a transaction of the service, on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Batches {
    /// Messages that were stored.
    pub stored: f64,
    /// Messages that were acked; 0 when none was.
    pub acked: f64,
}

/// The same work done in three ways.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Three {
    /// By plain statements that write the rows.
    pub rows: f64,
    /// By the service's own statement.
    pub statement: f64,
    /// By the service.
    pub service: f64,
}

/// A rate of the service beside that of the database alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// The scenario.
    pub scenario: String,
    /// The rate.
    pub figure: String,
    /// Messages in a transaction of the service, on average.
    pub service_batch: f64,
    /// Messages in a transaction of the database alone.
    pub batch: usize,
    /// Connections to the database alone: the number on which plain statements were fastest.
    pub connections: usize,
    /// Messages a second.
    pub rate: Three,
    /// CPU seconds of the database per 1,000 messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_cpu: Option<Three>,
    /// The service's rate by that of plain statements.
    pub share_of_rate: f64,
    /// The database's CPU time for plain statements by that for the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_of_database_cpu: Option<f64>,
}

impl Batches {
    /// Reads the service's metrics. `None` when they have no accepted message. The size of a settling batch is counted in clients, of
    /// which each may have acked many rows, so acked messages are divided by the number of batches.
    pub fn of_metrics(text: &str) -> Option<Self> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
        let mean = |sum: Option<f64>, count: Option<f64>| sum.unwrap_or(0.0) / count.unwrap_or(0.0).max(1.0);
        let accepted = value(r#"restante_lane_batch_items_sum{lane="accept"}"#)?;
        Some(Self {
            stored: mean(Some(accepted), value(r#"restante_lane_batch_items_count{lane="accept"}"#)),
            acked: mean(
                value(r#"restante_rows_settled_total{status="delivered"}"#),
                value(r#"restante_lane_batch_items_count{lane="settle"}"#),
            ),
        })
    }
}

/// The shares of the limits that the service's rates of storing and draining reach. `batches` has an entry a scenario and repetition.
pub fn shares(figures: &[Series], limits: &[Limit], batches: &[(String, Batches)]) -> Vec<Share> {
    let rates = figures.iter().filter(|series| series.subject == Subject::Service);
    rates.filter_map(|series| share_of(series, limits, batches)).collect()
}

fn share_of(series: &Series, limits: &[Limit], batches: &[(String, Batches)]) -> Option<Share> {
    let (rows, statement, batch_of): (_, _, fn(&Batches) -> f64) = match series.figure.as_str() {
        STORED => (Work::StoreRows, Work::StoreAccept, |batches| batches.stored),
        DRAINED => (Work::AckRows, Work::AckSettle, |batches| batches.acked),
        _ => return None,
    };
    let batches: Vec<f64> =
        batches.iter().filter(|(scenario, _)| *scenario == series.scenario).map(|(_, batches)| batch_of(batches)).collect();
    let service_batch = (!batches.is_empty()).then(|| median(batches.into_iter()))?;
    let limit = nearest(limits, rows, service_batch)?;
    let same = |other: &&Limit| (other.work, other.batch, other.connections) == (statement, limit.batch, limit.connections);
    let statement = limits.iter().find(same)?;
    let rate = Three { rows: limit.median, statement: statement.median, service: series.median };
    let cpu = |limit: &Limit| limit.database_cpu_seconds_per1000;
    let database_cpu = cpu(limit).zip(cpu(statement)).zip(series.cpu_seconds_per1000);
    let database_cpu = database_cpu.map(|((rows, statement), cost)| Three { rows, statement, service: cost.database });
    Some(Share {
        scenario: series.scenario.clone(),
        figure: series.figure.clone(),
        service_batch,
        batch: limit.batch,
        connections: limit.connections,
        rate,
        database_cpu,
        share_of_rate: rate.service / rate.rows,
        share_of_database_cpu: database_cpu.map(|cpu| cpu.rows / cpu.service),
    })
}

/// The fastest limit among those whose batch is nearest in size. The distance is a factor: 100 is as far from 50 as from 200.
fn nearest(limits: &[Limit], work: Work, batch: f64) -> Option<&Limit> {
    let distance = |limit: &Limit| (limit.batch as f64 / batch.max(1.0)).ln().abs();
    let of_work = || limits.iter().filter(move |limit| limit.work == work);
    let nearest = of_work().min_by(|one, other| distance(one).total_cmp(&distance(other)))?.batch;
    of_work().filter(|limit| limit.batch == nearest).max_by(|one, other| one.median.total_cmp(&other.median))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::Figure;
    use crate::bench::results::Results;
    use crate::bench::testbed::Cost;

    const METRICS: &str = "\
# TYPE restante_lane_batch_items histogram
restante_lane_batch_items_sum{lane=\"accept\"} 1000.0
restante_lane_batch_items_count{lane=\"accept\"} 8
restante_lane_batch_items_sum{lane=\"settle\"} 50.0
restante_lane_batch_items_count{lane=\"settle\"} 10
restante_rows_settled_total{status=\"delivered\"} 900
# EOF";

    #[test]
    fn batches_are_counted_in_messages() {
        assert_eq!(Batches::of_metrics(METRICS), Some(Batches { stored: 125.0, acked: 90.0 }));
        let accepted_only: String = METRICS.lines().take(3).map(|line| format!("{line}\n")).collect();
        assert_eq!(Batches::of_metrics(&accepted_only), Some(Batches { stored: 125.0, acked: 0.0 }));
        assert_eq!(Batches::of_metrics("# EOF"), None);
    }

    fn limit(work: Work, batch: usize, connections: usize, rate: f64, cpu: f64) -> Limit {
        let mut limit = Limit::new(work, batch, connections);
        limit.add(rate, Some(cpu));
        limit
    }

    #[test]
    fn the_share_is_of_the_fastest_with_batches_like_the_services() {
        let mut results = Results::of_this_machine();
        let spent = Cost { service: 10.0, database: 4.0, clients: 1.0 };
        results.add("drain", Subject::Service, vec![Figure::rate(DRAINED, 10_000, 1.0, Some(spent))]);
        results.add("drain", Subject::Naive, vec![Figure::rate(DRAINED, 1_000, 1.0, Some(spent))]);
        results.batches = vec![("drain".to_owned(), Batches { stored: 400.0, acked: 120.0 })];
        results.limits = vec![
            limit(Work::AckRows, 50, 1, 90_000.0, 0.01),
            limit(Work::AckRows, 200, 1, 40_000.0, 0.02),
            limit(Work::AckRows, 200, 4, 50_000.0, 0.1),
            limit(Work::AckSettle, 200, 1, 25_000.0, 0.1),
            limit(Work::AckSettle, 200, 4, 20_000.0, 0.2),
            limit(Work::StoreRows, 200, 4, 1.0, 1.0),
        ];
        results.compare();
        assert_eq!(results.shares.len(), 1);
        let share = &results.shares[0];
        assert_eq!((share.batch, share.connections, share.service_batch), (200, 4, 120.0));
        assert_eq!(share.rate, Three { rows: 50_000.0, statement: 20_000.0, service: 10_000.0 });
        assert_eq!(share.database_cpu, Some(Three { rows: 0.1, statement: 0.2, service: 0.4 }));
        assert_eq!((share.share_of_rate, share.share_of_database_cpu), (0.2, Some(0.25)));
    }

    #[test]
    fn without_limits_there_is_no_share() {
        let mut results = Results::of_this_machine();
        results.add("ingest", Subject::Service, vec![Figure::rate(STORED, 1, 1.0, None)]);
        results.batches = vec![("ingest".to_owned(), Batches { stored: 1.0, acked: 0.0 })];
        results.compare();
        assert_eq!(results.shares, []);
    }
}
