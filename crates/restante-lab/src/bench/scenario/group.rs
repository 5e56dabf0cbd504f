//! One message to very many recipients: the time to store a row for each of them, and the time until all of them have it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use uuid::Uuid;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{ConnectedClients, Incoming, Numbering, Progress, Socket, User, group_chat, users, waiting};
use crate::bench::numbers::{median, thousands};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::{Cost, Testbed, open_files};

/// The longest time until all members have a message.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures a group of each size with all members away, and then another one with all members connected.
pub async fn group(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for members in &sizes.members.0 {
        figures.extend(away(testbed, sizes, *members, progress).await?);
        figures.extend(there(testbed, sizes, *members, progress).await?);
    }
    Ok(figures)
}

/// A group with its sender.
struct Group {
    sender: Socket,
    recipients: Vec<User>,
    chat: Uuid,
    numbering: Numbering,
    content: String,
}

impl Group {
    async fn make(testbed: &Testbed, sizes: &Sizes, members: u32, progress: &Progress) -> anyhow::Result<Self> {
        progress.begin("making a group", 0);
        let sender = users(&testbed.database, "sender", 1).await?.remove(0);
        let recipients = users(&testbed.database, "member", members.saturating_sub(1)).await?;
        ensure!(!recipients.is_empty(), "a group in which nobody gets anything");
        let chat = group_chat(&testbed.database, &sender, &recipients).await?;
        let sender = Socket::connect(&testbed.options(&sender.name)?).await?;
        Ok(Self { sender, recipients, chat, numbering: Numbering::new(), content: sizes.content() })
    }

    /// The number of recipients of each message.
    fn rows(&self) -> u64 {
        self.recipients.len() as u64
    }

    /// The number of members with the sender, in words.
    fn members(&self) -> String {
        thousands(self.rows() + 1)
    }

    async fn send(&mut self, number: u64) -> anyhow::Result<Instant> {
        let sent = Instant::now();
        self.sender.send(self.numbering.id(number), self.chat, &self.content);
        self.sender.flush().await?;
        Ok(sent)
    }
}

/// Only the sender is connected. It sends the next message when the one before is confirmed.
async fn away(testbed: &Testbed, sizes: &Sizes, members: u32, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut group = Group::make(testbed, sizes, members, progress).await?;
    let messages = u64::from(sizes.group_messages);
    progress.begin("to a group that is away", messages);
    let (mut times, before) = (Vec::new(), testbed.meter.read());
    for number in 0..messages {
        let sent = group.send(number).await?;
        while !matches!(group.sender.next().await?, Incoming::Sent) {}
        times.push(sent.elapsed());
        progress.advance(1);
    }
    let (rows, spent) = (group.rows() * messages, testbed.meter.since(before));
    ensure!(waiting(&testbed.database, &group.recipients).await? == rows, "not every confirmed message waits for every member");
    let what = format!("{} members away", group.members());
    Ok(vec![milliseconds(format!("{what}: sent → stored"), &times), rate(format!("{what}: rows stored"), rows, &times, spent)])
}

/// All members are connected and ack. The sender sends the next message when it was told that all have the one before.
async fn there(testbed: &Testbed, sizes: &Sizes, members: u32, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    open_files::ensure_room(u64::from(members))?;
    let mut group = Group::make(testbed, sizes, members, progress).await?;
    let mut connected = ConnectedClients::connect(testbed, &group.recipients, progress).await?;
    let messages = u64::from(sizes.group_messages);
    progress.begin("to a group that is there", messages);
    let (mut arrived, mut told, before) = (Vec::new(), Vec::new(), testbed.meter.read());
    for number in 0..messages {
        let sent = group.send(number).await?;
        let everywhere = tokio::time::timeout(PATIENCE, everywhere(&mut group, &mut connected, number));
        let (last, all_told) = everywhere.await.context("some members never got a message, or their sender was never told")??;
        arrived.push(last - sent);
        told.push(all_told - sent);
        progress.advance(1);
    }
    let (deliveries, spent) = (group.rows() * messages, testbed.meter.since(before));
    ensure!(waiting(&testbed.database, &group.recipients).await? == 0, "a message still waits for a member who acked it");
    let what = format!("{} members there", group.members());
    Ok(vec![
        milliseconds(format!("{what}: sent → last member"), &arrived),
        milliseconds(format!("{what}: sent → sender told of all"), &told),
        rate(format!("{what}: deliveries"), deliveries, &arrived, spent),
    ])
}

/// The times at which the last member had this message, and at which the sender was told that all have it.
async fn everywhere(group: &mut Group, connected: &mut ConnectedClients, message: u64) -> anyhow::Result<(Instant, Instant)> {
    let (recipients, mut arrived, mut told) = (group.rows(), 0, 0);
    let (mut last, mut all_told) = (None, None);
    loop {
        if let (Some(last), Some(all_told)) = (last, all_told) {
            return Ok((last, all_told));
        }
        tokio::select! {
            arrival = connected.next() => {
                let arrival = arrival?;
                ensure!(arrival.number == message, "message {} came where {message} was due", arrival.number);
                arrived += 1;
                ensure!(arrived <= recipients, "somebody got message {message} twice");
                last = (arrived == recipients).then_some(arrival.at);
            }
            incoming = group.sender.next() => {
                told = match incoming? {
                    // A receipt has names in a small group, and a count in a large one.
                    Incoming::Delivered(numbers) => told + numbers.into_iter().filter(|number| *number == message).count() as u64,
                    Incoming::Counted { number, delivered } if number == message => delivered,
                    Incoming::Counted { .. } | Incoming::Ready | Incoming::Sent | Incoming::Received(_) | Incoming::Event(_) | Incoming::Drained | Incoming::Online(_) | Incoming::Other => told,
                };
                all_told = all_told.or_else(|| (told == recipients).then(Instant::now));
            }
        }
    }
}

fn milliseconds(name: String, times: &[Duration]) -> Figure {
    Figure::new(name, median(times.iter().map(|time| time.as_secs_f64() * 1000.0)), Unit::Milliseconds)
}

fn rate(name: String, rows: u64, times: &[Duration], spent: Option<Cost>) -> Figure {
    Figure::rate(name, rows, times.iter().sum::<Duration>().as_secs_f64(), spent)
}
