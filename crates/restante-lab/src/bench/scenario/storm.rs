//! A reconnect storm: thousands of clients connect within seconds and drain their inboxes. Meanwhile pairs go on sending, and should not
//! notice.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{Crowd, OpenLoop, Progress, Schedule, Socket, accept_all, drain, ensure_drained, pairs, quantiles, tidy, waiting};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::{Testbed, open_files};

/// Longer than any storm. Live traffic is stopped when the storm is over.
const LIVE_MAX: Duration = Duration::from_secs(600);

/// Measures live traffic alone, and then with the storm.
pub async fn storm(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    open_files::ensure_room(u64::from(sizes.connections) + 2 * u64::from(sizes.pairs))?;
    let crowd = crowd(testbed, sizes, progress).await?;
    let pairs = pairs(testbed, sizes.pairs, progress).await?;
    let content = sizes.content();
    let schedule = Schedule { rate: sizes.storm_rate, longest: sizes.time };
    progress.begin("live alone", (f64::from(schedule.rate) * schedule.longest.as_secs_f64()) as u64);
    let alone = OpenLoop::start(pairs, schedule, &content, Some(progress))?.finish().await?;

    let mut live = OpenLoop::start(alone.pairs, Schedule { longest: LIVE_MAX, ..schedule }, &content, None)?;
    let (began, spent) = (Instant::now(), testbed.meter.read());
    let clients = come_back(testbed, &crowd, sizes, progress).await?;
    let seconds = began.elapsed().as_secs_f64();
    live.stop();
    let spent = testbed.meter.since(spent);
    let live = live.finish().await?;
    ensure_drained(testbed, &crowd.recipients, clients.received, total(sizes)).await?;

    let mut figures = vec![
        Figure::new("first connect → all drained", seconds, Unit::Seconds),
        Figure::rate("drained and live together", total(sizes) + live.messages, seconds, spent),
    ];
    figures.extend(quantiles("connect → drained", &clients.latencies));
    figures.extend(quantiles("live alone: sent → recipient", &alone.latencies.there));
    figures.extend(quantiles("live meanwhile: sent → recipient", &live.latencies.there));
    figures.extend(quantiles("live alone: sent → sender told", &alone.latencies.told));
    figures.extend(quantiles("live meanwhile: sent → sender told", &live.latencies.told));
    Ok(figures)
}

fn total(sizes: &Sizes) -> u64 {
    u64::from(sizes.connections) * u64::from(sizes.waiting)
}

/// Makes the users who will connect, and the messages that wait for them.
async fn crowd(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Crowd> {
    progress.begin("filling", total(sizes));
    let crowd = Crowd::make(&testbed.database, sizes.senders, sizes.connections).await?;
    let letters = (0..sizes.waiting).flat_map(|_| crowd.letters());
    accept_all(&testbed.database, letters, &[sizes.content()], progress).await?;
    tidy(&testbed.database).await?;
    let there = waiting(&testbed.database, &crowd.recipients).await?;
    ensure!(there == total(sizes), "{there} messages wait where {} should", total(sizes));
    Ok(crowd)
}

/// The result of the storm's clients.
struct Clients {
    /// Microseconds from the instant at which a client was to connect until it was told that its queue is drained.
    latencies: Histogram<u64>,
    received: u64,
}

/// All clients connect, evenly spread in time, and drain. They stay until the last one is done.
async fn come_back(testbed: &Testbed, crowd: &Crowd, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Clients> {
    progress.begin("storm", total(sizes));
    let options: Vec<_> = crowd.recipients.iter().map(|user| testbed.options(&user.name)).collect::<Result<_, _>>()?;
    let (began, mut tasks) = (Instant::now(), JoinSet::new());
    for (place, options) in (0_u32..).zip(options) {
        let due = began + sizes.spread.0 * place / sizes.connections;
        let progress = progress.clone();
        tasks.spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            let mut socket = Socket::connect(&options).await?;
            let received = drain(&mut socket, &progress).await?;
            anyhow::Ok((socket, received, due, Instant::now()))
        });
    }
    let mut clients = Clients { latencies: Histogram::new_with_bounds(1, 600_000_000, 3)?, received: 0 };
    let mut sockets = Vec::new();
    while let Some(drained) = tasks.join_next().await {
        let (socket, received, due, done) = drained??;
        sockets.push(socket);
        clients.received += received;
        clients.latencies.saturating_record(u64::try_from((done - due).as_micros()).unwrap_or(u64::MAX));
    }
    Ok(clients)
}
