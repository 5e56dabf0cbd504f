//! Taking in messages for users who are away, and then giving them all of it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use tokio::task::JoinSet;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{Address, Crowd, Drained, Numbering, Progress, connect_all, drain_all, send_all, waiting};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::{Subject, Testbed};

/// The rate of taking in.
pub const STORED: &str = "stored and confirmed";
/// The rate of giving out.
pub const DRAINED: &str = "drained";

/// Every sender writes to its recipients in turn, `message:sent` comes for every message, nobody else is online.
pub async fn ingest(testbed: &Testbed, crowd: &Crowd, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Figure> {
    let sockets = connect_all(testbed, &crowd.senders, progress).await?;
    progress.begin("ingest", sizes.total());
    let (numbering, content): (_, Arc<str>) = (Numbering::new(), sizes.content().into());
    let (began, spent) = (Instant::now(), testbed.meter.read());
    let mut tasks = JoinSet::new();
    for (place, socket) in sockets.into_iter().enumerate() {
        let mine: Vec<_> = crowd.chats.iter().skip(place).step_by(crowd.senders.len()).copied().map(Address::Chat).collect();
        let total = mine.len() as u64 * u64::from(sizes.messages);
        let first = (place as u64) << 24;
        let letters = (first..first + total).zip(mine.into_iter().cycle()).map(move |(number, chat)| (numbering.id(number), chat));
        tasks.spawn(send_all(socket, letters, Arc::clone(&content), sizes.unconfirmed as usize, progress.clone()));
    }
    let mut stored = 0;
    while let Some(sent) = tasks.join_next().await {
        stored += sent??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let figure = Figure::rate(STORED, stored, seconds, testbed.meter.since(spent));
    ensure!(stored == sizes.total(), "{stored} of {} messages were confirmed", sizes.total());
    ensure!(waiting(&testbed.database, &crowd.recipients).await? == stored, "not every confirmed message waits");
    Ok(figure)
}

/// Ingest, and then all recipients connect at once and ack every message.
pub async fn ingest_and_drain(testbed: &Testbed, crowd: &Crowd, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let ingest = ingest(testbed, crowd, sizes, progress).await?;
    let Drained { seconds, spent } = drain_all(testbed, &crowd.recipients, sizes.window, sizes.total(), progress).await?;
    let drained = Figure::rate(DRAINED, sizes.total(), seconds, spent);
    Ok(match testbed.subject {
        Subject::Service => vec![ingest, drained, Figure::new("time to drain all", seconds, Unit::Seconds)],
        // It has fewer users: a time that looks like the other one and is of something else.
        Subject::Naive => vec![ingest, drained],
    })
}
