//! Encryption at rest by itself: the content of messages is sealed and opened again on one thread, without service and database. What that takes
//! is set against the CPU time that a message costs in the other scenarios: there it is less than what two runs differ by.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use restante::domain::MessageId;
use restante::encryption::DataKey;
use uuid::Uuid;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::Progress;
use crate::bench::sizes::Sizes;

const ROUND: u64 = 10_000;
const ROUNDS: u64 = 100;

/// Seals and opens a million messages. The fastest rounds count: on a machine with other work the thread waits in the others.
pub fn seal(sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    progress.begin("seal and open", ROUND * ROUNDS);
    let (id, secret) = DataKey::generate();
    let (key, text) = (DataKey::new(id, &secret), sizes.content());
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..ROUND {
            let message = MessageId(Uuid::now_v7());
            let sealed = key.seal(message, Some(black_box(&text)), None);
            let opened = key.open(message, black_box(&sealed)).context("a value that was just sealed could not be opened")?;
            anyhow::ensure!(opened.content.as_deref() == Some(text.as_str()), "a value was opened as another one");
        }
        rounds.push(began.elapsed());
        progress.advance(ROUND);
    }
    rounds.sort_unstable();
    let seconds = rounds.get(rounds.len() / 10).copied().unwrap_or(Duration::MAX).as_secs_f64();
    let per_1000 = seconds / (ROUND as f64 / 1_000.0);
    let name = |what: &str| format!("{what}, messages of {} bytes", text.len());
    Ok(vec![
        Figure::rate(name("sealed and opened"), ROUND, seconds, None),
        Figure::new(name("CPU of 1,000"), per_1000 * 1_000.0, Unit::Milliseconds),
    ])
}
