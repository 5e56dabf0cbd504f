//! The limit (`--limit`): the rates of PostgreSQL alone on this machine. It writes the same rows in the same batches with the same
//! settings of the server, without service and sockets. A plain store is one `insert … select from unnest(…)` a batch into the
//! real tables, with numbers that the client made up; a plain ack is one `update … from unnest(…)`. Beside them it calls
//! [`store::accept`](restante::store::accept) and [`store::settle`](restante::store::settle) in the same way: the difference is the
//! price of the promises. The difference between them and the service is the price of sockets.
//!
//! [`database`] is the database, [`work`] a batch and its statements, [`share`] the part of the limit that the service reaches.

mod database;
mod share;
mod work;

use serde::Serialize;

use super::load::Progress;
use super::numbers::median;
use super::sizes::Sizes;
use database::BareDatabase;
pub use share::{Batches, Share, Three, shares};
pub use work::Work;

/// Messages in a batch.
const BATCHES: [usize; 3] = [50, 200, 500];
/// Connections that write at once.
const CONNECTIONS: [usize; 3] = [1, 2, 4];
/// Messages of each measurement: whole batches of every size on every number of connections.
const MESSAGES: usize = 24_000;
const MESSAGES_QUICK: usize = 4_000;

/// The rates of one kind of work with one batch size and number of connections, over all repetitions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// The work: the rows and the statement.
    pub work: Work,
    /// Messages in a transaction.
    pub batch: usize,
    /// Connections that write at once.
    pub connections: usize,
    /// The median of the rates, in messages a second.
    pub median: f64,
    /// The rates, one a repetition.
    pub values: Vec<f64>,
    /// CPU seconds of the database per 1,000 messages, the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_cpu_seconds_per1000: Option<f64>,
    #[serde(skip)]
    cpu_values: Vec<f64>,
}

impl Limit {
    const fn new(work: Work, batch: usize, connections: usize) -> Self {
        Self { work, batch, connections, median: 0.0, values: Vec::new(), database_cpu_seconds_per1000: None, cpu_values: Vec::new() }
    }

    fn add(&mut self, rate: f64, cpu_per_1000: Option<f64>) {
        self.values.push(rate);
        self.median = median(self.values.iter().copied());
        self.cpu_values.extend(cpu_per_1000);
        self.database_cpu_seconds_per1000 = (!self.cpu_values.is_empty()).then(|| median(self.cpu_values.iter().copied()));
    }
}

/// Measures all limits, each repetition on a fresh database.
///
/// # Errors
/// When a database cannot be started or a statement fails.
pub async fn measure(sizes: &Sizes, is_quick: bool, repeat: u32) -> anyhow::Result<Vec<Limit>> {
    let messages = if is_quick { MESSAGES_QUICK } else { MESSAGES };
    let mut limits: Vec<Limit> = Vec::new();
    for repetition in 1..=repeat {
        let progress = Progress::new(&format!("limit {repetition}/{repeat}"));
        progress.begin("starting a database", 0);
        let mut database = BareDatabase::start(sizes, CONNECTIONS[CONNECTIONS.len() - 1]).await?;
        progress.begin("writing without a service", (BATCHES.len() * CONNECTIONS.len() * Work::ALL.len() * messages) as u64);
        let measured = once(&mut database, messages, &mut limits, &progress).await;
        database.remove().await;
        measured?;
    }
    limits.sort_by_key(|limit| (limit.work, limit.batch, limit.connections));
    Ok(limits)
}

async fn once(database: &mut BareDatabase, messages: usize, limits: &mut Vec<Limit>, progress: &Progress) -> anyhow::Result<()> {
    for connections in CONNECTIONS {
        for batch in BATCHES {
            // An ack statement acks the messages that the store statement before it has stored.
            for work in Work::ALL {
                let (rate, cpu) = database.measure(work, batch, connections, messages).await?;
                let is_it = |limit: &Limit| (limit.work, limit.batch, limit.connections) == (work, batch, connections);
                let place = limits.iter().position(is_it).unwrap_or_else(|| {
                    limits.push(Limit::new(work, batch, connections));
                    limits.len() - 1
                });
                limits[place].add(rate, cpu);
                progress.advance(messages as u64);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measurement_is_of_whole_batches() {
        for messages in [MESSAGES, MESSAGES_QUICK] {
            for (batch, connections) in BATCHES.into_iter().flat_map(|batch| CONNECTIONS.map(|connections| (batch, connections))) {
                assert_eq!(messages % (batch * connections), 0, "{messages} in batches of {batch} on {connections} connections");
            }
        }
    }

    #[test]
    fn repetitions_come_together_as_medians() {
        let mut limit = Limit::new(Work::AckRows, 50, 1);
        for (rate, cpu) in [(3.0, Some(0.3)), (1.0, None), (2.0, Some(0.1))] {
            limit.add(rate, cpu);
        }
        assert_eq!((limit.median, limit.database_cpu_seconds_per1000), (2.0, Some(0.2)));
    }
}
