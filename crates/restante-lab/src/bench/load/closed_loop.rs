//! Pairs that send as fast as their receipts come: each pair has a number of messages under way, and sends another one for each receipt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::task::JoinSet;

use super::{Incoming, Numbering, PATIENCE, Pair, Progress};
use crate::bench::figure::Figure;
use crate::bench::testbed::Testbed;

/// The steps of the progress bar.
const STEPS: u32 = 100;

/// The loop while it runs.
#[derive(Debug)]
pub struct ClosedLoop {
    tasks: JoinSet<anyhow::Result<Pair>>,
    finished: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// The options that all pairs share.
#[derive(Clone)]
struct PairOptions {
    numbering: Numbering,
    content: Arc<str>,
    unfinished_max: usize,
    finished: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl ClosedLoop {
    /// Starts all pairs. Each keeps `unfinished_max` messages under way.
    pub fn start(pairs: Vec<Pair>, unfinished_max: u32, content: &str) -> Self {
        let (finished, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let options = PairOptions {
            numbering: Numbering::new(),
            content: content.into(),
            unfinished_max: unfinished_max as usize,
            finished: Arc::clone(&finished),
            stop: Arc::clone(&stop),
        };
        let mut tasks = JoinSet::new();
        for (place, pair) in pairs.into_iter().enumerate() {
            tasks.spawn(keep_going(pair, (place as u64) << 24, options.clone()));
        }
        Self { tasks, finished, stop }
    }

    /// Lets the loop run for this time.
    pub async fn run(&mut self, time: Duration, progress: &Progress) -> anyhow::Result<()> {
        for _ in 0..STEPS {
            tokio::time::sleep(time / STEPS).await;
            progress.advance(1);
            if let Some(ended) = self.tasks.try_join_next() {
                let _: Pair = ended??;
                bail!("a pair stopped by itself");
            }
        }
        Ok(())
    }

    /// Lets the loop run for this time. The figure is the number of messages in a second whose sender was told.
    pub async fn measure(&mut self, name: String, time: Duration, testbed: &Testbed, progress: &Progress) -> anyhow::Result<Figure> {
        progress.begin("at the highest rate", u64::from(STEPS));
        let (began, before, spent) = (Instant::now(), self.finished.load(Ordering::Relaxed), testbed.meter.read());
        self.run(time, progress).await?;
        let (seconds, done) = (began.elapsed().as_secs_f64(), self.finished.load(Ordering::Relaxed) - before);
        Ok(Figure::rate(name, done, seconds, testbed.meter.since(spent)))
    }

    /// Stops sending, waits for the messages under way, and returns the pairs.
    pub async fn finish(mut self) -> anyhow::Result<Vec<Pair>> {
        self.stop.store(true, Ordering::Relaxed);
        let all = async {
            let mut pairs = Vec::new();
            while let Some(ended) = self.tasks.join_next().await {
                pairs.push(ended??);
            }
            Ok(pairs)
        };
        tokio::time::timeout(PATIENCE, all).await.context("some messages never came")?
    }
}

/// Runs both ends of a pair: it sends a message for each receipt.
async fn keep_going(mut pair: Pair, first: u64, options: PairOptions) -> anyhow::Result<Pair> {
    let (mut next, mut unfinished) = (first, 0);
    loop {
        while unfinished < options.unfinished_max && !options.stop.load(Ordering::Relaxed) {
            pair.sender.send(options.numbering.id(next), pair.chat, &options.content);
            (next, unfinished) = (next + 1, unfinished + 1);
        }
        if unfinished == 0 {
            return Ok(pair);
        }
        // Each end flushes its queue when no frame has come. Both are polled, so that neither waits for the other.
        tokio::select! {
            incoming = pair.sender.next() => if let Incoming::Delivered(numbers) = incoming? {
                unfinished -= numbers.len();
                options.finished.fetch_add(numbers.len() as u64, Ordering::Relaxed);
            },
            incoming = pair.recipient.next() => if let Incoming::Received(id) = incoming? {
                pair.recipient.ack(id);
            },
        }
    }
}
