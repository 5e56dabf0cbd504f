//! Pairs who are online: how soon a message is there and its sender told, at a fixed rate and at the highest.

use std::time::Duration;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{ClosedLoop, OpenLoop, OpenLoopResult, Pair, Progress, Schedule, pairs, quantiles};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::Testbed;

/// Time at the highest rate before it counts.
const WARM_UP: Duration = Duration::from_secs(2);

/// Both loops.
pub async fn live(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let pairs = pairs(testbed, sizes.pairs, progress).await?;
    let (mut figures, pairs) = at_fixed_rate(testbed, pairs, sizes, progress).await?;
    figures.push(at_highest_rate(pairs, testbed, sizes, progress).await?);
    Ok(figures)
}

/// Every pair has so many messages under way, until its sender is told that they are delivered.
pub async fn at_highest_rate(pairs: Vec<Pair>, testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Figure> {
    let mut closed = ClosedLoop::start(pairs, sizes.unfinished, &sizes.content());
    closed.run(WARM_UP.min(sizes.time), progress).await?;
    let figure = closed.measure("highest rate, told".to_owned(), sizes.time, testbed, progress).await?;
    closed.finish().await?;
    Ok(figure)
}

/// All pairs together send so many messages a second.
async fn at_fixed_rate(
    testbed: &Testbed,
    pairs: Vec<Pair>,
    sizes: &Sizes,
    progress: &Progress,
) -> anyhow::Result<(Vec<Figure>, Vec<Pair>)> {
    progress.begin("at a fixed rate", (f64::from(sizes.rate) * sizes.time.as_secs_f64()) as u64);
    let spent = testbed.meter.read();
    let schedule = Schedule { rate: sizes.rate, longest: sizes.time };
    let OpenLoopResult { pairs, latencies, messages } =
        OpenLoop::start(pairs, schedule, &sizes.content(), Some(progress))?.finish().await?;
    let cost = testbed.meter.since(spent).map(|spent| spent.per_1000(messages));
    let mut figures = vec![Figure { cost, ..Figure::new("fixed rate", f64::from(sizes.rate), Unit::PerSecond) }];
    figures.extend(quantiles("sent → recipient", &latencies.there));
    figures.extend(quantiles("ack → sender told", &latencies.ack_told));
    figures.extend(quantiles("sent → sender told", &latencies.told));
    Ok((figures, pairs))
}
