//! Messages that were read long ago stay for a while: draining must not get slower for them.

use anyhow::{Context, ensure};

use super::ingest::ingest_and_drain;
use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{Crowd, Progress, fill_history, tidy};
use crate::bench::numbers::thousands;
use crate::bench::sizes::Sizes;
use crate::bench::testbed::Testbed;

/// The figure that is compared.
const DRAINED: &str = "drained";

/// Ingest and drain with each number of finished rows, in the same tables, each for a crowd with a history of its own.
pub async fn history(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let (mut figures, mut rates) = (Vec::new(), Vec::new());
    for rows in &sizes.history.0 {
        let crowd = with_history(testbed, sizes, u64::from(*rows), progress).await?;
        let of_this = ingest_and_drain(testbed, &crowd, sizes, progress).await?;
        rates.extend(of_this.iter().find(|figure| figure.name == DRAINED).map(|drained| (*rows, drained.value)));
        let what = format!("{} finished", thousands(u64::from(*rows)));
        figures.extend(of_this.into_iter().map(|figure| Figure { name: format!("{what}: {}", figure.name), ..figure }));
    }
    let ((few, before), (many, after)) = (rates.first().zip(rates.last())).context("without a size there is nothing to measure")?;
    let name = format!("drained with {} / with {}", thousands(u64::from(*many)), thousands(u64::from(*few)));
    figures.push(Figure::new(name, 100.0 * after / before, Unit::Percent));
    Ok(figures)
}

/// A new crowd, whose history brings the finished rows of the whole database to this number.
async fn with_history(testbed: &Testbed, sizes: &Sizes, rows: u64, progress: &Progress) -> anyhow::Result<Crowd> {
    let there = finished(testbed).await?;
    let missing = rows.saturating_sub(there);
    progress.begin("filling", missing);
    let crowd = Crowd::make(&testbed.database, sizes.senders, sizes.users).await?;
    let each = u32::try_from(missing.div_ceil(u64::from(sizes.users)))?;
    fill_history(&testbed.database, &crowd, each, &sizes.content(), progress).await?;
    progress.begin("vacuum", 0);
    tidy(&testbed.database).await?;
    let now = finished(testbed).await?;
    ensure!(now >= rows, "{now} rows are finished where {rows} should be");
    Ok(crowd)
}

/// Rows of the queue that are delivered or read.
async fn finished(testbed: &Testbed) -> anyhow::Result<u64> {
    let count = "select count(*) from message_status where status in ('delivered', 'read')";
    let count: i64 = sqlx::query_scalar(count).fetch_one(&testbed.database).await?;
    Ok(count.try_into()?)
}
