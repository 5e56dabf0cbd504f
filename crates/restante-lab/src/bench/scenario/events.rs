//! Events that wait beside live chat: pairs who talk, and for each of whom very many events wait. A message must not come later for them,
//! neither while the events wait for acks nor while they are drained over the same connections.

use std::time::Duration;

use anyhow::ensure;
use hdrhistogram::Histogram;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{OpenLoop, OpenLoopResult, Pair, Progress, Schedule, pairs, quantiles, tidy, users};
use crate::bench::numbers::thousands;
use crate::bench::sizes::Sizes;
use crate::bench::testbed::Testbed;

/// The most events of a class that wait for a user.
const OF_USER_MAX: u32 = 1_000;
/// The events that are sent to a client that acks none.
const WINDOW: u32 = 50;
/// The figure that is compared.
const THERE: &str = "sent → recipient";

/// Measures pairs alone, beside events that wait and are not acked, and while the same connections drain them.
pub async fn events(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let people = 2 * sizes.pairs;
    let each = sizes.waiting_events / people.max(1);
    ensure!((1..=OF_USER_MAX).contains(&each), "1 to {OF_USER_MAX} events may wait for each of {people} users, and not {each}");
    // A service is slower in its first seconds, and what is compared later would look better for it.
    let (_, online) = live(pairs(testbed, sizes.pairs, progress).await?, "warming up", sizes, progress).await?;
    let (without, online) = live(online, "without", sizes, progress).await?;

    progress.begin("publishing", u64::from(each));
    publish_to_everyone(&testbed.database, each, &sizes.content()).await?;
    let online = with_full_windows(online, each.min(WINDOW) as usize).await?;
    until_no_more_rows_are_made(&testbed.database).await?;
    tidy(&testbed.database).await?;
    let (beside, mut online) = live(online, "beside them", sizes, progress).await?;
    for pair in &mut online {
        pair.sender.ack_events();
        pair.recipient.ack_events();
    }
    let acked_before = acked(&testbed.database).await?;
    let (draining, _online) = live(online, "while they are drained", sizes, progress).await?;
    let drained = acked(&testbed.database).await? - acked_before;
    let capped: i64 = sqlx::query_scalar("select count(*) from inbox_gaps").fetch_one(&testbed.database).await?;
    ensure!(capped == 0, "some events ended before they were rows: EVENTS_MAX is below --waiting-events");

    let waiting = format!("{} events wait", thousands(u64::from(each * people)));
    let mut figures = Vec::new();
    for (when, latencies) in [("without", &without), ("beside", &beside), ("while they are drained", &draining)] {
        figures.extend(quantiles(&format!("{waiting}, {when}: {THERE}"), latencies));
    }
    let p99 = |latencies: &Histogram<u64>| latencies.value_at_quantile(0.99).max(1) as f64;
    figures.push(Figure::new(format!("{THERE}, p99: beside / without"), p99(&beside) / p99(&without), Unit::Times));
    figures.push(Figure::new(format!("{THERE}, p99: while they are drained / without"), p99(&draining) / p99(&without), Unit::Times));
    figures.push(Figure::new("drained meanwhile in a second", drained as f64 / sizes.time.as_secs_f64(), Unit::Count));
    Ok(figures)
}

/// Waits until each client has as many events as are sent to it without an ack: the rest waits, and that is what is measured.
async fn with_full_windows(pairs: Vec<Pair>, count: usize) -> anyhow::Result<Vec<Pair>> {
    let mut tasks = JoinSet::new();
    for (place, Pair { mut sender, mut recipient, chat }) in pairs.into_iter().enumerate() {
        tasks.spawn(async move {
            tokio::try_join!(sender.read_events(count), recipient.read_events(count))?;
            anyhow::Ok((place, Pair { sender, recipient, chat }))
        });
    }
    let mut pairs: Vec<(usize, Pair)> = tasks.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;
    pairs.sort_by_key(|(place, _)| *place);
    Ok(pairs.into_iter().map(|(_, pair)| pair).collect())
}

/// Waits until the service has made as many rows of events as it makes ahead: what is measured is that they wait, not that they are written.
async fn until_no_more_rows_are_made(database: &PgPool) -> anyhow::Result<()> {
    let mut known = -1_i64;
    loop {
        let rows = sqlx::query_scalar("select count(*) from message_status where class = 'event'").fetch_one(database).await?;
        if rows == known {
            return Ok(());
        }
        known = rows;
        sleep(Duration::from_secs(1)).await;
    }
}

/// Pairs send at a fixed rate. Returns how soon messages are there, and the pairs.
async fn live(pairs: Vec<Pair>, when: &str, sizes: &Sizes, progress: &Progress) -> anyhow::Result<(Histogram<u64>, Vec<Pair>)> {
    progress.begin(when, (f64::from(sizes.storm_rate) * sizes.time.as_secs_f64()) as u64);
    let schedule = Schedule { rate: sizes.storm_rate, longest: sizes.time };
    let OpenLoopResult { pairs, latencies, .. } = OpenLoop::start(pairs, schedule, &sizes.content(), Some(progress))?.finish().await?;
    Ok((latencies.there, pairs))
}

/// Publishes events that every user gets, in one transaction.
async fn publish_to_everyone(database: &PgPool, count: u32, content: &str) -> anyhow::Result<()> {
    let publisher = users(database, "publisher", 1).await?.remove(0).name;
    let publish = "select restante_publish($1, 'bench', jsonb_build_object('text', $3, 'n', n)) from generate_series(1, $2) n";
    sqlx::query(publish).bind(publisher).bind(i32::try_from(count)?).bind(content).execute(database).await?;
    Ok(())
}

/// The events that recipients have acked.
async fn acked(database: &PgPool) -> anyhow::Result<u64> {
    let count = "select count(*) from message_status where class = 'event' and status = 'delivered'";
    let count: i64 = sqlx::query_scalar(count).fetch_one(database).await?;
    Ok(count.try_into()?)
}
