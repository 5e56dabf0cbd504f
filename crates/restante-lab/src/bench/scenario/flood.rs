//! One user asks for everything that can be asked for, over 20 connections and as many HTTP callers, without waiting: how much later is a
//! message between two others there? Measured with the same pair before and meanwhile, so that the ratio says it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{Incoming, Numbering, Pair, Progress, Socket, User, connect_all, group_chat, pairs, quantiles, tidy, users};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::{Cost, Testbed};

/// Connections of the user that floods: as many as one may have. As many callers ask over HTTP.
const SOCKETS: usize = 20;
/// Its groups, with as many members each.
const GROUPS: u32 = 80;
const MEMBERS: u32 = 20;
/// Names in one question about presence: as many as may be.
const NAMES: usize = 500;
/// Questions that a connection has under way.
const PIPELINED: usize = 100;
/// The interval at which the node is asked whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(10);

/// Measures a pair alone, and beside the flood.
pub async fn flood(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let target = Target::make(testbed, progress).await?;
    let mut one = pairs(testbed, 1, progress).await?;
    ensure!(one.len() == 1, "a pair connects, and is not there");
    let mut pair = one.remove(0);
    let mut talk = Talk::new(sizes);
    // The first messages find nothing in memory, here and there.
    talk.measure(&mut pair, "warm up", progress).await?;
    let quiet = talk.measure(&mut pair, "quiet", progress).await?;
    let flood = Flood::start(testbed, target, progress).await?;
    let (asked_before, spent_before, began) = (flood.asked.load(Ordering::Relaxed), testbed.meter.read(), Instant::now());
    let flooded = talk.measure(&mut pair, "flooded", progress).await?;
    let seconds = began.elapsed().as_secs_f64();
    let asked = (flood.asked.load(Ordering::Relaxed) - asked_before) as f64 / seconds;
    let spent = testbed.meter.since(spent_before);
    let not_ready = flood.end().await?;

    let p99 = |latencies: &Histogram<u64>| latencies.value_at_quantile(0.99).max(1) as f64;
    let mut figures = Vec::from(quantiles("quiet: sent → recipient", &quiet));
    figures.extend(quantiles("flooded: sent → recipient", &flooded));
    figures.push(Figure::new("sent → recipient, p99: flooded / quiet", p99(&flooded) / p99(&quiet), Unit::Times));
    figures.push(Figure::new("flooded: questions answered in a second", asked, Unit::Count));
    figures.push(Figure::new("flooded: answers of /readyz that are not 200", not_ready as f64, Unit::Count));
    // The callers run on the same processors. A flood that is slow because it lacks one is no flood.
    if let Some(Cost { service, database, clients }) = spent {
        for (whose, cpu) in [("service", service), ("database", database), ("clients", clients)] {
            figures.push(Figure::new(format!("flooded: CPU of {whose}"), 1_000.0 * cpu / seconds, Unit::MillisecondsPerSecond));
        }
    }
    Ok(figures)
}

/// Messages between two, one after the other. A refused one ends the run: none may be.
struct Talk {
    numbering: Numbering,
    next: u64,
    count: u32,
    content: String,
}

impl Talk {
    fn new(sizes: &Sizes) -> Self {
        Self { numbering: Numbering::new(), next: 0, count: sizes.checks, content: sizes.content() }
    }

    async fn measure(&mut self, pair: &mut Pair, name: &str, progress: &Progress) -> anyhow::Result<Histogram<u64>> {
        progress.begin(name, u64::from(self.count));
        let mut latencies = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        for _ in 0..self.count {
            self.next += 1;
            let began = Instant::now();
            pair.sender.send(self.numbering.id(self.next), pair.chat, &self.content);
            tokio::try_join!(stored(&mut pair.sender), received(&mut pair.recipient, self.next))?;
            latencies.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
            progress.advance(1);
        }
        Ok(latencies)
    }
}

async fn stored(sender: &mut Socket) -> anyhow::Result<()> {
    while !matches!(sender.next().await?, Incoming::Sent) {}
    Ok(())
}

async fn received(recipient: &mut Socket, number: u64) -> anyhow::Result<()> {
    loop {
        if let Incoming::Received(id) = recipient.next().await? {
            recipient.ack(id);
            if Numbering::number(id) == number {
                return recipient.flush().await;
            }
        }
    }
}

/// The chats and names that are asked for.
struct Target {
    caller: User,
    chats: Vec<Uuid>,
    names: Vec<String>,
}

impl Target {
    async fn make(testbed: &Testbed, progress: &Progress) -> anyhow::Result<Self> {
        progress.begin("making groups", 0);
        let members = users(&testbed.database, "member", MEMBERS).await?;
        let caller = users(&testbed.database, "caller", 1).await?.remove(0);
        let mut chats = Vec::new();
        for _ in 0..GROUPS {
            chats.push(group_chat(&testbed.database, &caller, &members).await?);
        }
        tidy(&testbed.database).await?;
        // They share no chat with the caller, which takes longest to find out.
        let strangers = users(&testbed.database, "stranger", NAMES as u32).await?;
        let names = members.into_iter().chain(strangers).map(|user| user.name).take(NAMES).collect();
        Ok(Self { caller, chats, names })
    }

    /// The questions of every kind over a socket, in turn, and whether each is answered by a frame that the caller counts.
    fn frame(&self, n: usize) -> (&'static str, serde_json::Value, bool) {
        let chat = self.chats[n % self.chats.len()];
        match n % 4 {
            0 => ("presence:subscribe", json!({"userIds": self.names}), true),
            1 => ("typing", json!({"chatId": chat, "typing": true}), false),
            2 => ("message:read", json!({"chatId": chat, "seq": 1}), false),
            _ => ("presence:get", json!({"userIds": self.names}), true),
        }
    }

    /// The same over HTTP.
    fn path(&self, n: usize) -> String {
        let chat = self.chats[n % self.chats.len()];
        match n % 5 {
            0 => "/v1/chats?limit=100".to_owned(),
            1 => format!("/v1/chats/{chat}?limit=500"),
            2 => format!("/v1/chats/{chat}/messages?limit=200"),
            3 => "/v1/inbox?limit=500".to_owned(),
            _ => format!("/v1/presence?userIds={}", self.names.join(",")),
        }
    }
}

/// The callers at work.
struct Flood {
    callers: JoinSet<anyhow::Result<()>>,
    is_over: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    not_ready: Arc<AtomicU64>,
}

impl Flood {
    async fn start(testbed: &Testbed, target: Target, progress: &Progress) -> anyhow::Result<Self> {
        let same = vec![target.caller.clone(); SOCKETS];
        let sockets = connect_all(testbed, &same, progress).await?;
        let (is_over, asked, not_ready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (target, client, mut callers) = (Arc::new(target), reqwest::Client::new(), JoinSet::new());
        for socket in sockets {
            callers.spawn(ask_over_socket(socket, Arc::clone(&target), Arc::clone(&is_over), Arc::clone(&asked)));
        }
        for n in 0..SOCKETS {
            let requests: Vec<_> =
                (0..5).map(|kind| testbed.get(&client, &target.caller.name, &target.path(n + kind))).collect::<Result<_, _>>()?;
            callers.spawn(ask_over_http(requests, Arc::clone(&is_over), Arc::clone(&asked)));
        }
        let ready = testbed.get(&client, &target.caller.name, "/readyz")?;
        callers.spawn(ask_whether_ready(ready, Arc::clone(&is_over), Arc::clone(&not_ready)));
        // Every caller has asked: from now on it is a flood.
        while asked.load(Ordering::Relaxed) < 4 * SOCKETS as u64 {
            if let Some(ended) = callers.try_join_next() {
                ended??;
            }
            tokio::task::yield_now().await;
        }
        Ok(Self { callers, is_over, asked, not_ready })
    }

    /// Ends all callers. Returns how often the node was not ready.
    async fn end(mut self) -> anyhow::Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended??;
        }
        Ok(self.not_ready.load(Ordering::Relaxed))
    }
}

async fn ask_over_socket(mut socket: Socket, target: Arc<Target>, is_over: Arc<AtomicBool>, asked: Arc<AtomicU64>) -> anyhow::Result<()> {
    let (mut next, mut under_way) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        while under_way < PIPELINED {
            let (event, data, is_counted) = target.frame(next);
            socket.ask(event, &data);
            next += 1;
            under_way += usize::from(is_counted);
        }
        if socket.answered().await? {
            under_way -= 1;
            asked.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

async fn ask_over_http(requests: Vec<reqwest::RequestBuilder>, is_over: Arc<AtomicBool>, asked: Arc<AtomicU64>) -> anyhow::Result<()> {
    for request in requests.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let Some(request) = request.try_clone() else { break };
        // A machine that is too slow for the flood closes connections that are late. The flood goes on with others.
        let Ok(answer) = request.send().await else { continue };
        // `busy` and `rate_limited` are answers as good as any.
        ensure!(matches!(answer.status().as_u16(), 200 | 429 | 503), "a question was answered {}", answer.status());
        let _ = answer.bytes().await;
        asked.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn ask_whether_ready(request: reqwest::RequestBuilder, is_over: Arc<AtomicBool>, not_ready: Arc<AtomicU64>) -> anyhow::Result<()> {
    // As often as many load balancers together ask. Without a pause this alone would be a flood, and of nobody's.
    let mut pauses = tokio::time::interval(READY_INTERVAL);
    while !is_over.load(Ordering::Relaxed) {
        pauses.tick().await;
        let Some(request) = request.try_clone() else { break };
        if request.send().await?.status() != 200 {
            not_ready.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
