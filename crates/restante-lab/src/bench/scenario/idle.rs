//! Clients who are connected and have nothing to say: what each of them takes of the service's memory, and what their heartbeats
//! and the service's looks for itself cost.

use anyhow::Context;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{ConnectedClients, Progress, users};
use crate::bench::numbers::thousands;
use crate::bench::sizes::{Sizes, Time};
use crate::bench::testbed::{Testbed, open_files};

/// Connected before memory is read first: what the first connections of a service make stays.
const WARM_UP: u32 = 50;
/// Steps in which a rest is shown.
const STEPS: u32 = 60;

/// Connects all, lets them be, and looks.
pub async fn idle(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let count = u64::from(sizes.connections);
    open_files::ensure_room(count + u64::from(WARM_UP))?;
    let mut first = connected(testbed, WARM_UP, progress).await?;
    rest(sizes.rest, 10, progress).await;
    let before = testbed.meter.service_kib();
    let mut all = connected(testbed, sizes.connections, progress).await?;
    // The handshakes' memory is given back, and what they made the database do is done.
    rest(sizes.rest, 10, progress).await;
    let spent = testbed.meter.read();
    rest(sizes.rest, 1, progress).await;
    let spent = testbed.meter.since(spent);
    first.ensure_complete().and_then(|()| all.ensure_complete()).context("while nothing was done")?;
    let after = testbed.meter.service_kib();

    let mut figures = vec![Figure::new("connections", count as f64, Unit::Count)];
    if let (Some(before), Some(after)) = (before, after) {
        let growth = after.saturating_sub(before) as f64;
        figures.push(Figure::new("memory of the service per connection", growth / count.max(1) as f64, Unit::Kibibytes));
        figures.push(Figure::new(format!("memory of the service with {}", thousands(count)), after as f64 / 1024.0, Unit::Mebibytes));
    }
    if let Some(spent) = spent {
        let of = |name: &str, seconds: f64| Figure::new(name, 1000.0 * seconds / sizes.rest.0.as_secs_f64(), Unit::MillisecondsPerSecond);
        figures.extend([of("CPU of the service, idle", spent.service), of("CPU of the database, idle", spent.database)]);
    }
    Ok(figures)
}

async fn connected(testbed: &Testbed, count: u32, progress: &Progress) -> anyhow::Result<ConnectedClients> {
    progress.begin("making users", 0);
    let users = users(&testbed.database, "idle", count).await?;
    ConnectedClients::connect(testbed, &users, progress).await
}

/// The whole rest, or a part of it.
async fn rest(Time(rest): Time, part: u32, progress: &Progress) {
    progress.begin("resting", u64::from(STEPS));
    for _ in 0..STEPS {
        tokio::time::sleep(rest / part / STEPS).await;
        progress.advance(1);
    }
}
