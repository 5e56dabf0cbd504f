//! One user's backlog as it goes over the wire: envelopes alone and in batch frames, without compression and with it. Each is drained from a
//! fresh inbox by the same kind of client.

use std::time::Instant;

use anyhow::Context;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{Crowd, Progress, Socket, accept_all, direct_chats, drain, ensure_drained, tidy, users};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::Testbed;
use restante_client::Options;

/// Drained before the measurement, because the first drain of a service prepares statements.
const WARM_UP: u32 = 1_000;

/// The way in which a client asks for its backlog.
#[derive(Debug, Clone, Copy)]
struct Asked {
    batch: bool,
    compression: bool,
}

impl Asked {
    fn words(self) -> String {
        let frames = if self.batch { "batch frames" } else { "envelopes alone" };
        if self.compression { format!("{frames}, compressed") } else { frames.to_owned() }
    }
}

/// Measures the four ways.
pub async fn compression(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    drained(testbed, sizes, WARM_UP.min(sizes.compressed), Asked { batch: true, compression: true }, progress).await?;
    let mut figures = Vec::new();
    for batch in [false, true] {
        let mut bytes = [0; 2];
        for compression in [false, true] {
            let asked = Asked { batch, compression };
            let (rate, of_this) = drained(testbed, sizes, sizes.compressed, asked, progress).await?;
            bytes[usize::from(compression)] = of_this;
            figures.push(rate);
            figures.push(Figure::new(format!("{}: to the client", asked.words()), of_this as f64 / 1024.0, Unit::Kibibytes));
        }
        let words = Asked { batch, compression: false }.words();
        figures.push(Figure::new(format!("{words}: bytes without compression / with it"), bytes[0] as f64 / bytes[1] as f64, Unit::Times));
    }
    Ok(figures)
}

/// Drains one user's backlog. Returns the rate, and the bytes that came: without compression those of the texts alone.
async fn drained(testbed: &Testbed, sizes: &Sizes, waiting: u32, asked: Asked, progress: &Progress) -> anyhow::Result<(Figure, u64)> {
    let total = u64::from(waiting);
    let crowd = filled(testbed, sizes, waiting, progress).await?;
    progress.begin("drain", total);
    let options = testbed.options(&crowd.recipients[0].name)?;
    let options = Options { window: Some(sizes.window), batch: asked.batch, compression: asked.compression, ..options };
    let (began, spent) = (Instant::now(), testbed.meter.read());
    let mut socket = Socket::connect(&options).await?;
    let received = drain(&mut socket, progress).await?;
    let (seconds, spent) = (began.elapsed().as_secs_f64(), testbed.meter.since(spent));
    ensure_drained(testbed, &crowd.recipients, received, total).await?;
    let (texts, on_the_wire) = socket.bytes();
    let bytes = if asked.compression { on_the_wire.context("the client counts its bytes")? } else { texts };
    Ok((Figure::rate(format!("{}: drained", asked.words()), total, seconds, spent), bytes))
}

/// A user for whom messages wait, of many senders in turn.
async fn filled(testbed: &Testbed, sizes: &Sizes, waiting: u32, progress: &Progress) -> anyhow::Result<Crowd> {
    progress.begin("filling", u64::from(waiting));
    let senders = users(&testbed.database, "sender", sizes.senders).await?;
    let recipients = users(&testbed.database, "recipient", 1).await?;
    let pairs: Vec<_> = senders.iter().flat_map(|from| recipients.iter().map(|to| (from.id, to.id))).collect();
    let chats = direct_chats(&testbed.database, &pairs).await?;
    let crowd = Crowd { senders, recipients, chats };
    let contents = if sizes.text.0.is_empty() { vec![sizes.content()] } else { sizes.text.0.clone() };
    accept_all(&testbed.database, crowd.letters().cycle().take(waiting as usize), &contents, progress).await?;
    tidy(&testbed.database).await?;
    Ok(crowd)
}
