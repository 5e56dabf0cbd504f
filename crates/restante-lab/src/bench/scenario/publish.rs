//! Many publishers at once: each publishes one event after the other, to a feed that nobody connected follows, and then sends as many messages
//! in the same way. What is measured is the time until each is stored, so the two can be compared.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{Incoming, Numbering, Progress, Socket, connect_all, direct_chats, followed_feed, quantiles, tidy, users};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::Testbed;

/// The destination of what a publisher publishes or sends.
#[derive(Debug, Clone, Copy)]
enum Target {
    Feed(Uuid),
    Chat(Uuid),
}

/// Measures events, then messages.
pub async fn publish(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    progress.begin("making publishers", 0);
    let publishers = users(&testbed.database, "publisher", sizes.senders).await?;
    let recipients = users(&testbed.database, "recipient", sizes.senders).await?;
    let pairs: Vec<_> = publishers.iter().zip(&recipients).map(|(from, to)| (from.id, to.id)).collect();
    let chats = direct_chats(&testbed.database, &pairs).await?;
    let (feed, _) = followed_feed(&testbed.database, &publishers[0], 1, progress).await?;
    let all = "insert into feed_publishers (feed_id, user_id) select $1, unnest($2::bigint[]) on conflict do nothing";
    let ids: Vec<i64> = publishers.iter().map(|publisher| publisher.id).collect();
    sqlx::query(all).bind(feed).bind(&ids).execute(&testbed.database).await?;
    tidy(&testbed.database).await?;
    let sockets = connect_all(testbed, &publishers, progress).await?;
    let feeds = vec![Target::Feed(feed); sockets.len()];
    let (sockets, mut figures, event) = measure(testbed, sizes, sockets, feeds, "event", progress).await?;
    let chats = chats.into_iter().map(Target::Chat).collect();
    let (_sockets, of_messages, message) = measure(testbed, sizes, sockets, chats, "message", progress).await?;
    figures.extend(of_messages);
    let p50 = |latencies: &Histogram<u64>| latencies.value_at_quantile(0.5).max(1) as f64;
    figures.push(Figure::new("p50: event / message", p50(&event) / p50(&message), Unit::Times));
    Ok(figures)
}

/// Each socket publishes or sends one after the other to its target.
async fn measure(
    testbed: &Testbed,
    sizes: &Sizes,
    sockets: Vec<Socket>,
    targets: Vec<Target>,
    what: &str,
    progress: &Progress,
) -> anyhow::Result<(Vec<Socket>, Vec<Figure>, Histogram<u64>)> {
    let total = sockets.len() as u64 * u64::from(sizes.published);
    progress.begin(&format!("{what}s"), total);
    let (numbering, content) = (Numbering::new(), sizes.content());
    let (began, spent) = (Instant::now(), testbed.meter.read());
    let mut tasks = JoinSet::new();
    for (place, (socket, target)) in sockets.into_iter().zip(targets).enumerate() {
        let (first, count, content, progress) = ((place as u64) << 24, sizes.published, content.clone(), progress.clone());
        tasks.spawn(async move {
            let ids = (first..first + u64::from(count)).map(|number| numbering.id(number));
            let stored = one_by_one(socket, target, ids.collect(), &content, &progress).await?;
            anyhow::Ok((place, stored))
        });
    }
    let mut done: Vec<(usize, (Socket, Vec<Duration>))> = tasks.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;
    let rate = Figure::rate(format!("{what}s stored"), total, began.elapsed().as_secs_f64(), testbed.meter.since(spent));
    done.sort_by_key(|(place, _)| *place);
    let mut latencies = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    let mut sockets = Vec::with_capacity(done.len());
    for (_, (socket, times)) in done {
        sockets.push(socket);
        for time in times {
            latencies.saturating_record(u64::try_from(time.as_micros())?);
        }
    }
    let figures = std::iter::once(rate).chain(quantiles(&format!("{what} → stored"), &latencies)).collect();
    Ok((sockets, figures, latencies))
}

/// Returns the time until each was stored.
async fn one_by_one(
    mut socket: Socket,
    target: Target,
    ids: Vec<Uuid>,
    content: &str,
    progress: &Progress,
) -> anyhow::Result<(Socket, Vec<Duration>)> {
    let mut times = Vec::with_capacity(ids.len());
    for id in ids {
        let asked = Instant::now();
        match target {
            Target::Feed(feed) => {
                socket.ask("event:publish", &json!({"eventId": id, "type": "bench", "data": {"text": content}, "to": {"feed": feed}}));
            }
            Target::Chat(chat) => socket.send(id, chat, content),
        }
        socket.flush().await?;
        while !matches!(socket.next().await?, Incoming::Sent) {}
        times.push(asked.elapsed());
        progress.advance(1);
    }
    Ok((socket, times))
}
