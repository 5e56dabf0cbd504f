//! Pairs that send at a fixed rate, however slowly the service answers.
//!
//! Every message has an instant at which it is due. The latency counts from that instant, also when the client sends late. So a service
//! that stalls cannot hide it by stopping its clients (coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use hdrhistogram::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Incoming, Numbering, PATIENCE, Pair, Progress, Socket};
use crate::bench::figure::{Figure, Unit};

/// The loop while it runs.
#[derive(Debug)]
pub struct OpenLoop {
    pairs: JoinSet<anyhow::Result<(usize, Pair, Latencies)>>,
    clock: JoinHandle<u64>,
    stop: Arc<AtomicBool>,
    ends: Instant,
}

/// The rate, and the longest time.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Messages a second of all pairs together.
    pub rate: u32,
    /// The time after which the loop ends by itself.
    pub longest: Duration,
}

/// The result of an open loop.
#[derive(Debug)]
pub struct OpenLoopResult {
    /// The pairs, in the order in which they were given.
    pub pairs: Vec<Pair>,
    /// The latencies of all messages.
    pub latencies: Latencies,
    /// The number of messages that were sent. All of them arrived, and their senders were told.
    pub messages: u64,
}

/// Latencies in microseconds.
#[derive(Debug)]
pub struct Latencies {
    /// From due until the recipient has it.
    pub there: Histogram<u64>,
    /// From due until the sender's `message:status`.
    pub told: Histogram<u64>,
    /// From the recipient's ack until the sender's `message:status`.
    pub ack_told: Histogram<u64>,
}

impl Latencies {
    fn new() -> anyhow::Result<Self> {
        let empty = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        Ok(Self { there: empty.clone(), told: empty.clone(), ack_told: empty })
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.there.add(&other.there)?;
        self.told.add(&other.told)?;
        Ok(self.ack_told.add(&other.ack_told)?)
    }
}

/// The median, the 99th percentile and the maximum, in milliseconds.
pub fn quantiles(what: &str, micros: &Histogram<u64>) -> [Figure; 3] {
    [("p50", micros.value_at_quantile(0.5)), ("p99", micros.value_at_quantile(0.99)), ("max", micros.max())]
        .map(|(part, micros)| Figure::new(format!("{what}, {part}"), micros as f64 / 1000.0, Unit::Milliseconds))
}

/// Adds the time since an instant.
fn record(latencies: &mut Histogram<u64>, since: Instant) {
    latencies.saturating_record(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
}

/// The times at which the messages of a run are due, and at which they were acked.
struct Moments {
    began: Instant,
    interval: Duration,
    acked: Vec<AtomicU64>,
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

impl OpenLoop {
    /// Starts all pairs. They send in turn.
    pub fn start(pairs: Vec<Pair>, schedule: Schedule, content: &str, progress: Option<&Progress>) -> anyhow::Result<Self> {
        ensure!(!pairs.is_empty() && schedule.rate > 0, "without pairs and a rate there is nothing to measure");
        let began = Instant::now() + Duration::from_millis(100);
        let total = (f64::from(schedule.rate) * schedule.longest.as_secs_f64()) as u64;
        let acked = (0..total).map(|_| AtomicU64::new(0)).collect();
        let moments = Arc::new(Moments { began, acked, interval: Duration::from_secs(1) / schedule.rate });
        let (numbering, content): (_, Arc<str>) = (Numbering::new(), content.into());
        let (mut tasks, mut queues) = (JoinSet::new(), Vec::new());
        for (place, Pair { sender, recipient, chat }) in pairs.into_iter().enumerate() {
            let (queue, due) = mpsc::unbounded_channel();
            queues.push(queue);
            let letters = Letters { chat, numbering, content: Arc::clone(&content), due };
            tasks.spawn(both_ends(place, sender, recipient, letters, Arc::clone(&moments), progress.cloned()));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let clock = metronome(moments, queues, Arc::clone(&stop))?;
        Ok(Self { pairs: tasks, clock, stop, ends: began + schedule.longest })
    }

    /// Stops sending.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ends = Instant::now();
    }

    /// Waits until it ends, and until the last message has arrived and its sender was told.
    pub async fn finish(mut self) -> anyhow::Result<OpenLoopResult> {
        let all = async {
            let (mut latencies, mut pairs) = (Latencies::new()?, Vec::new());
            while let Some(ended) = self.pairs.join_next().await {
                let (place, pair, of_pair) = ended??;
                latencies.add(&of_pair)?;
                pairs.push((place, pair));
            }
            anyhow::Ok((latencies, pairs))
        };
        let deadline = tokio::time::Instant::from_std(self.ends + PATIENCE);
        let (latencies, mut pairs) = tokio::time::timeout_at(deadline, all).await.context("some messages never came")??;
        let messages = self.clock.join().map_err(|_| anyhow!("the clock failed"))?;
        ensure!(latencies.there.len() == messages && latencies.told.len() == messages, "not every message was seen once at both ends");
        pairs.sort_by_key(|(place, _)| *place);
        Ok(OpenLoopResult { pairs: pairs.into_iter().map(|(_, pair)| pair).collect(), latencies, messages })
    }
}

/// The messages of a sender, and the times at which they are due.
struct Letters {
    chat: Uuid,
    numbering: Numbering,
    content: Arc<str>,
    /// The clock sends each number when it is due, and closes the channel at the end.
    due: mpsc::UnboundedReceiver<u64>,
}

async fn both_ends(
    place: usize,
    mut sender: Socket,
    mut recipient: Socket,
    mut letters: Letters,
    moments: Arc<Moments>,
    progress: Option<Progress>,
) -> anyhow::Result<(usize, Pair, Latencies)> {
    let Latencies { mut there, mut told, mut ack_told } = Latencies::new()?;
    let (say_end, end) = oneshot::channel();
    tokio::try_join!(
        send_when_due(&mut sender, &mut letters, &moments, (&mut told, &mut ack_told), say_end),
        receive(&mut recipient, &moments, &mut there, progress, end),
    )?;
    Ok((place, Pair { sender, recipient, chat: letters.chat }, Latencies { there, told, ack_told }))
}

/// Sends each message when the clock says so, and notes when it is told that it was delivered.
async fn send_when_due(
    socket: &mut Socket,
    letters: &mut Letters,
    moments: &Moments,
    (told, ack_told): (&mut Histogram<u64>, &mut Histogram<u64>),
    say_end: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let (mut unfinished, mut more) = (0, true);
    while more || unfinished > 0 {
        tokio::select! {
            due = letters.due.recv(), if more => match due {
                Some(number) => {
                    unfinished += 1;
                    socket.send(letters.numbering.id(number), letters.chat, &letters.content);
                    socket.flush().await?;
                }
                None => more = false,
            },
            incoming = socket.next() => if let Incoming::Delivered(numbers) = incoming? {
                for number in numbers {
                    record(told, moments.due(number));
                    record(ack_told, moments.acked(number));
                    unfinished -= 1;
                }
            }
        }
    }
    let _ = say_end.send(());
    Ok(())
}

/// Acks each message as it comes, until the sender has been told of all.
async fn receive(
    socket: &mut Socket,
    moments: &Moments,
    there: &mut Histogram<u64>,
    progress: Option<Progress>,
    mut end: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            _ = &mut end => return Ok(()),
            incoming = socket.next() => if let Incoming::Received(id) = incoming? {
                let number = Numbering::number(id);
                record(there, moments.due(number));
                moments.ack(number);
                socket.ack(id);
                progress.iter().for_each(|progress| progress.advance(1));
            }
        }
    }
}

/// A thread that tells each sender when a message is due, because the runtime's timers are exact to a millisecond only. It returns the
/// number of messages.
fn metronome(moments: Arc<Moments>, queues: Vec<mpsc::UnboundedSender<u64>>, stop: Arc<AtomicBool>) -> anyhow::Result<JoinHandle<u64>> {
    let tick = move || {
        let total = moments.acked.len() as u64;
        for number in 0..total {
            let wait = moments.due(number).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            if stop.load(Ordering::Relaxed) {
                return number;
            }
            // The task that waits for the sender finds out that it has failed.
            let _ = queues[number as usize % queues.len()].send(number);
        }
        total
    };
    Ok(std::thread::Builder::new().name("metronome".to_owned()).spawn(tick)?)
}
