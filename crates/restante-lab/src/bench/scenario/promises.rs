//! The times that users notice, under a little load: until a message arrives, until a backlog is drained, and until an online check is
//! answered.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;

use crate::bench::figure::Figure;
use crate::bench::load::{
    Crowd, OpenLoop, Progress, Schedule, Socket, User, accept_all, connect_all, direct_chats, drain, ensure_drained, pairs, quantiles,
    tidy, users,
};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::Testbed;

/// The messages that wait for each user who connects.
const WAITING: u32 = 50;
/// Longer than the whole scenario takes. The live traffic is stopped before.
const LIVE_MAX: Duration = Duration::from_secs(600);

/// Measures all three, the second before the third.
pub async fn promises(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let crowd = crowd(testbed, sizes, progress).await?;
    let mut check = PresenceCheck::connect(testbed, progress).await?;
    let pairs = pairs(testbed, sizes.pairs, progress).await?;
    let (began, content) = (Instant::now(), sizes.content());
    let mut live = OpenLoop::start(pairs, Schedule { rate: sizes.storm_rate, longest: LIVE_MAX }, &content, None)?;
    let drained = drained(testbed, &crowd, progress).await?;
    let checked = check.run(sizes.checks, progress).await?;
    tokio::time::sleep(sizes.time.saturating_sub(began.elapsed())).await;
    live.stop();
    let live = live.finish().await?;

    let mut figures = Vec::from(quantiles("live: sent → recipient", &live.latencies.there));
    figures.extend(quantiles(&format!("{WAITING} waiting: connect → drained"), &drained));
    figures.extend(quantiles("online check: asked → answered", &checked));
    Ok(figures)
}

/// Makes the users who will connect, and the messages that wait for them.
async fn crowd(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Crowd> {
    let total = u64::from(sizes.pairs) * u64::from(WAITING);
    progress.begin("filling", total);
    let crowd = Crowd::make(&testbed.database, sizes.senders, sizes.pairs).await?;
    accept_all(&testbed.database, (0..WAITING).flat_map(|_| crowd.letters()), &[sizes.content()], progress).await?;
    tidy(&testbed.database).await?;
    Ok(crowd)
}

/// The users connect one after the other and drain their inboxes, with an ack a message.
async fn drained(testbed: &Testbed, crowd: &Crowd, progress: &Progress) -> anyhow::Result<Histogram<u64>> {
    let total = crowd.recipients.len() as u64 * u64::from(WAITING);
    progress.begin("50 waiting", total);
    let (mut latencies, mut received) = (micros()?, 0);
    for user in &crowd.recipients {
        let (options, began) = (testbed.options(&user.name)?, Instant::now());
        let mut socket = Socket::connect(&options).await?;
        received += drain(&mut socket, progress).await?;
        record(&mut latencies, began);
    }
    ensure_drained(testbed, &crowd.recipients, received, total).await?;
    Ok(latencies)
}

/// A client that checks whether another user is online.
struct PresenceCheck {
    asker: Socket,
    other: User,
    /// The other user's connection.
    _there: Socket,
}

impl PresenceCheck {
    async fn connect(testbed: &Testbed, progress: &Progress) -> anyhow::Result<Self> {
        let both = users(&testbed.database, "asked", 2).await?;
        direct_chats(&testbed.database, &[(both[0].id, both[1].id)]).await?;
        let mut sockets = connect_all(testbed, &both, progress).await?.into_iter();
        let (Some(asker), Some(there)) = (sockets.next(), sockets.next()) else { anyhow::bail!("two connect, and not both are there") };
        Ok(Self { asker, other: both[1].clone(), _there: there })
    }

    /// Makes this many checks, each after the answer of the one before.
    async fn run(&mut self, times: u32, progress: &Progress) -> anyhow::Result<Histogram<u64>> {
        progress.begin("online checks", u64::from(times));
        let mut latencies = micros()?;
        for _ in 0..times {
            let began = Instant::now();
            ensure!(self.asker.is_online(&self.other.name).await?, "somebody who is connected is said to be away");
            record(&mut latencies, began);
            progress.advance(1);
        }
        Ok(latencies)
    }
}

fn micros() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000, 3)?)
}

fn record(latencies: &mut Histogram<u64>, since: Instant) {
    latencies.saturating_record(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
}
