//! Pairs who are online: how soon a message is there and its sender told, at a fixed rate and at the highest.
//!
//! At the fixed rate every message has an instant at which it is due, and latency counts from there, also when the client
//! comes late: a service that stalls cannot hide it by keeping its clients from sending (coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::cli::bench::figure::{Figure, Unit};
use crate::cli::bench::load::{Heard, Numbering, Progress, Socket, direct_chats, users};
use crate::cli::bench::sizes::Sizes;
use crate::cli::bench::stand::Stand;

/// Time at the highest rate before it counts, and at most a quarter of the time that counts.
const WARM_UP: Duration = Duration::from_secs(2);
/// After the last message is due, so long for the rest to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sender and a recipient, connected, with their chat.
pub struct Pair {
    sender: Socket,
    recipient: Socket,
    chat: Uuid,
}

/// Both loops.
pub async fn live(stand: &Stand, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    progress.begin("making pairs", 0);
    let pairs = pairs(stand, sizes.pairs).await?;
    let (mut figures, pairs) = at_fixed_rate(stand, pairs, sizes, progress).await?;
    figures.push(at_highest_rate(stand, pairs, sizes, progress).await?);
    Ok(figures)
}

/// The second loop alone.
pub async fn highest_only(stand: &Stand, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    progress.begin("making pairs", 0);
    let pairs = pairs(stand, sizes.pairs).await?;
    Ok(vec![at_highest_rate(stand, pairs, sizes, progress).await?])
}

/// Connects so many pairs.
pub async fn pairs(stand: &Stand, count: u32) -> anyhow::Result<Vec<Pair>> {
    let senders = users(&stand.database, "sender", count).await?;
    let recipients = users(&stand.database, "recipient", count).await?;
    let both: Vec<_> = senders.iter().zip(&recipients).map(|(from, to)| (from.id, to.id)).collect();
    let chats = direct_chats(&stand.database, &both).await?;
    let mut pairs = Vec::new();
    for ((sender, recipient), chat) in senders.iter().zip(&recipients).zip(chats) {
        let sender = Socket::connect(&stand.options(&sender.name)?).await?;
        let recipient = Socket::connect(&stand.options(&recipient.name)?).await?;
        pairs.push(Pair { sender, recipient, chat });
    }
    Ok(pairs)
}

/// When each message of a run was due and acked, in nanoseconds since its begin.
struct Moments {
    began: Instant,
    acked: Vec<AtomicU64>,
    interval: Duration,
}

impl Moments {
    fn due(&self, number: u64) -> Instant {
        self.began + self.interval * u32::try_from(number).unwrap_or(u32::MAX)
    }

    fn ack(&self, number: u64) {
        let nanos = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.acked[number as usize].store(nanos, Ordering::Relaxed);
    }

    fn acked(&self, number: u64) -> Instant {
        self.began + Duration::from_nanos(self.acked[number as usize].load(Ordering::Relaxed))
    }
}

/// The latencies of a run, in microseconds.
struct Latencies {
    /// From due to the recipient.
    there: Histogram<u64>,
    /// From due to the sender's `message:status`.
    told: Histogram<u64>,
    /// From the recipient's ack to the sender's `message:status`.
    ack_told: Histogram<u64>,
}

impl Latencies {
    fn new() -> anyhow::Result<Self> {
        let empty = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { there: empty.clone(), told: empty.clone(), ack_told: empty })
    }

    fn figures(&self) -> Vec<Figure> {
        let of = |what: &str, latencies: &Histogram<u64>| {
            let ms = |micros: u64| micros as f64 / 1000.0;
            [("p50", latencies.value_at_quantile(0.5)), ("p99", latencies.value_at_quantile(0.99)), ("max", latencies.max())]
                .map(|(part, micros)| Figure::new(format!("{what}, {part}"), ms(micros), Unit::Milliseconds))
        };
        let mut figures = Vec::new();
        figures.extend(of("sent → recipient", &self.there));
        figures.extend(of("ack → sender told", &self.ack_told));
        figures.extend(of("sent → sender told", &self.told));
        figures
    }
}

fn record(latencies: &mut Histogram<u64>, since: Instant) {
    latencies.saturating_record(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
}

/// All pairs together send so many messages a second.
async fn at_fixed_rate(stand: &Stand, pairs: Vec<Pair>, sizes: &Sizes, progress: &Progress) -> anyhow::Result<(Vec<Figure>, Vec<Pair>)> {
    let total = (f64::from(sizes.rate) * sizes.time.as_secs_f64()) as u64;
    progress.begin("at a fixed rate", total);
    let began = Instant::now() + Duration::from_millis(100);
    let acked = (0..total).map(|_| AtomicU64::new(0)).collect();
    let moments = Arc::new(Moments { began, acked, interval: Duration::from_secs(1) / sizes.rate.max(1) });
    let (numbering, content): (_, Arc<str>) = (Numbering::new(), sizes.content().into());
    let spent = stand.meter.read();
    let (mut senders, mut recipients, mut queues) = (JoinSet::new(), JoinSet::new(), Vec::new());
    let count = pairs.len() as u64;
    for (place, pair) in pairs.into_iter().enumerate() {
        let mine = (total + count - 1 - place as u64) / count;
        let (queue, due) = mpsc::unbounded_channel();
        queues.push(queue);
        let letters = Letters { chat: pair.chat, numbering, content: Arc::clone(&content) };
        senders.spawn(send_when_due(place, pair.sender, letters, due, mine, Arc::clone(&moments)));
        recipients.spawn(receive(place, pair.recipient, mine, Arc::clone(&moments), progress.clone()));
    }
    let clock = metronome(Arc::clone(&moments), total, queues)?;
    let finished = tokio::time::timeout(sizes.time + PATIENCE, async { (senders.join_all().await, recipients.join_all().await) });
    let (senders, recipients) = finished.await.context("some messages never came")?;
    ensure!(clock.join().is_ok(), "the clock failed");
    let cost = stand.meter.since(spent).map(|spent| spent.per_1000(total));
    let mut all = Latencies::new()?;
    let (mut ends, mut others) = (Vec::new(), Vec::new());
    for sent in senders {
        let (place, sender, chat, told, ack_told) = sent?;
        all.told.add(told)?;
        all.ack_told.add(ack_told)?;
        ends.push((place, sender, chat));
    }
    for received in recipients {
        let (place, recipient, there) = received?;
        all.there.add(there)?;
        others.push((place, recipient));
    }
    ends.sort_by_key(|(place, ..)| *place);
    others.sort_by_key(|(place, _)| *place);
    let pairs = ends.into_iter().zip(others).map(|((_, sender, chat), (_, recipient))| Pair { sender, recipient, chat }).collect();
    let mut figures = vec![Figure { cost, ..Figure::new("fixed rate", f64::from(sizes.rate), Unit::PerSecond) }];
    figures.extend(all.figures());
    Ok((figures, pairs))
}

/// What a sender writes.
struct Letters {
    chat: Uuid,
    numbering: Numbering,
    content: Arc<str>,
}

type SenderEnd = (usize, Socket, Uuid, Histogram<u64>, Histogram<u64>);

/// Sends each message when the clock says so, and notes when it is told that it was delivered.
async fn send_when_due(
    place: usize,
    mut socket: Socket,
    letters: Letters,
    mut due: mpsc::UnboundedReceiver<u64>,
    total: u64,
    moments: Arc<Moments>,
) -> anyhow::Result<SenderEnd> {
    let Latencies { mut told, mut ack_told, .. } = Latencies::new()?;
    let mut finished = 0;
    while finished < total {
        tokio::select! {
            Some(number) = due.recv() => {
                socket.send(letters.numbering.id(number), letters.chat, &letters.content);
                socket.flush().await?;
            }
            heard = socket.next() => if let Heard::Delivered(numbers) = heard? {
                for number in numbers {
                    record(&mut told, moments.due(number));
                    record(&mut ack_told, moments.acked(number));
                    finished += 1;
                }
            }
        }
    }
    Ok((place, socket, letters.chat, told, ack_told))
}

/// Acks each message as it comes.
async fn receive(
    place: usize,
    mut socket: Socket,
    total: u64,
    moments: Arc<Moments>,
    progress: Progress,
) -> anyhow::Result<(usize, Socket, Histogram<u64>)> {
    let Latencies { mut there, .. } = Latencies::new()?;
    let mut received = 0;
    while received < total {
        if let Heard::Received(id) = socket.next().await? {
            let number = Numbering::number(id);
            record(&mut there, moments.due(number));
            moments.ack(number);
            socket.ack(id);
            received += 1;
            progress.advance(1);
        }
    }
    socket.flush().await?;
    Ok((place, socket, there))
}

/// A thread that says to each sender when a message is due: the runtime's timers are good to a millisecond only.
fn metronome(moments: Arc<Moments>, total: u64, queues: Vec<mpsc::UnboundedSender<u64>>) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let tick = move || {
        for number in 0..total {
            let wait = moments.due(number).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            // A sender that has failed is found out by whoever waits for it.
            let _ = queues[number as usize % queues.len()].send(number);
        }
    };
    Ok(std::thread::Builder::new().name("metronome".to_owned()).spawn(tick)?)
}

/// Every pair has so many messages under way, until its sender is told that they are delivered.
async fn at_highest_rate(stand: &Stand, pairs: Vec<Pair>, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Figure> {
    Ok(highest_rate(stand, pairs, sizes, progress).await?.0)
}

/// The same, and gives the pairs back.
pub async fn highest_rate(stand: &Stand, pairs: Vec<Pair>, sizes: &Sizes, progress: &Progress) -> anyhow::Result<(Figure, Vec<Pair>)> {
    progress.begin("at the highest rate", sizes.time.as_secs());
    let (finished, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (numbering, content): (_, Arc<str>) = (Numbering::new(), sizes.content().into());
    let mut tasks = JoinSet::new();
    for (place, pair) in pairs.into_iter().enumerate() {
        let letters = Letters { chat: pair.chat, numbering, content: Arc::clone(&content) };
        let first = (place as u64) << 24;
        tasks.spawn(keep_going(pair, letters, first, sizes.unfinished as usize, Arc::clone(&finished), Arc::clone(&stop)));
    }
    tokio::time::sleep(WARM_UP.min(sizes.time / 4)).await;
    let (began, before, spent) = (Instant::now(), finished.load(Ordering::Relaxed), stand.meter.read());
    for _ in 0..sizes.time.as_secs() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        progress.advance(1);
    }
    let (seconds, done) = (began.elapsed().as_secs_f64(), finished.load(Ordering::Relaxed) - before);
    let figure = Figure::rate("highest rate, told", done, seconds, stand.meter.since(spent));
    stop.store(true, Ordering::Relaxed);
    let mut pairs = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, tasks.join_all()).await.context("some messages never came")?;
    for pair in ended {
        pairs.push(pair?);
    }
    Ok((figure, pairs))
}

/// Both ends of a pair in one task: a message is sent for each that its sender is told of.
async fn keep_going(
    mut pair: Pair,
    letters: Letters,
    first: u64,
    unfinished_max: usize,
    finished: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Pair> {
    let (mut next, mut unfinished) = (first, 0);
    loop {
        while unfinished < unfinished_max && !stop.load(Ordering::Relaxed) {
            pair.sender.send(letters.numbering.id(next), letters.chat, &letters.content);
            (next, unfinished) = (next + 1, unfinished + 1);
        }
        if unfinished == 0 {
            return Ok(pair);
        }
        // Each end sends what it has queued when nothing has come for it: both are polled, and neither waits for the other.
        tokio::select! {
            heard = pair.sender.next() => if let Heard::Delivered(numbers) = heard? {
                unfinished -= numbers.len();
                finished.fetch_add(numbers.len() as u64, Ordering::Relaxed);
            },
            heard = pair.recipient.next() => if let Heard::Received(id) = heard? {
                pair.recipient.ack(id);
            },
        }
    }
}
