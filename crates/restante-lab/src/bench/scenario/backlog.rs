//! One user with a large backlog: neither the rate nor the service's memory may depend on its size.

use std::time::Instant;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{Crowd, Progress, Socket, accept_all, direct_chats, drain, ensure_drained, tidy, users};
use crate::bench::numbers::thousands;
use crate::bench::sizes::Sizes;
use crate::bench::testbed::Testbed;
use restante_client::Options;

/// The largest window that a client may ask for.
const WINDOW_MAX: u16 = 500;
/// Drained before the measurement, because the first drain of a service prepares statements and takes memory that it keeps.
const WARM_UP: u32 = 1_000;

/// Measures each backlog with the usual window and with the largest one.
pub async fn backlog(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    drained(testbed, sizes, WARM_UP, sizes.window, progress).await?;
    let mut figures = Vec::new();
    for window in [sizes.window, WINDOW_MAX] {
        let mut rates = Vec::new();
        for waiting in &sizes.backlog.0 {
            let of_this = drained(testbed, sizes, *waiting, window, progress).await?;
            rates.extend(of_this.first().map(|rate| (*waiting, rate.value)));
            figures.extend(of_this);
        }
        figures.extend(ratio(&rates, window));
    }
    Ok(figures)
}

/// The rate with the last backlog by that with the first one.
fn ratio(rates: &[(u32, f64)], window: u16) -> Option<Figure> {
    let ((few, before), (many, after)) = (rates.first()?, rates.last()?);
    let name = format!("window {window}: rate with {} / with {}", thousands(u64::from(*many)), thousands(u64::from(*few)));
    Some(Figure::new(name, after / before, Unit::Times))
}

/// Drains one user's backlog, from the first frame of the handshake to `queue:drained`. The first figure is the rate.
async fn drained(testbed: &Testbed, sizes: &Sizes, waiting: u32, window: u16, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let total = u64::from(waiting);
    progress.begin("filling", total);
    let senders = users(&testbed.database, "sender", sizes.senders).await?;
    let recipient = users(&testbed.database, "recipient", 1).await?;
    let pairs: Vec<_> = senders.iter().flat_map(|from| recipient.iter().map(|to| (from.id, to.id))).collect();
    let chats = direct_chats(&testbed.database, &pairs).await?;
    let crowd = Crowd { senders, recipients: recipient, chats };
    accept_all(&testbed.database, crowd.letters().cycle().take(waiting as usize), &[sizes.content()], progress).await?;
    tidy(&testbed.database).await?;

    progress.begin("drain", total);
    let options = Options { window: Some(window), ..testbed.options(&crowd.recipients[0].name)? };
    let (began, spent, before) = (Instant::now(), testbed.meter.read(), testbed.meter.service_kib());
    let work = async {
        let mut socket = Socket::connect(&options).await?;
        drain(&mut socket, progress).await
    };
    let (received, highest) = testbed.meter.highest_kib_while(work).await;
    let (received, seconds, spent) = (received?, began.elapsed().as_secs_f64(), testbed.meter.since(spent));
    ensure_drained(testbed, &crowd.recipients, received, total).await?;
    let what = format!("window {window}, {} waiting", thousands(total));
    let mut figures = vec![Figure::rate(format!("{what}: drained"), total, seconds, spent)];
    if window != sizes.window {
        return Ok(figures);
    }
    let memory = [("before", before), ("highest", highest), ("after", testbed.meter.service_kib())];
    figures.extend(
        memory
            .into_iter()
            .filter_map(|(when, kib)| Some(Figure::new(format!("{what}: memory {when}"), kib? as f64 / 1024.0, Unit::Mebibytes))),
    );
    Ok(figures)
}
