//! Taking in messages for users who are away, and then giving them all of it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::cli::bench::figure::{Figure, Unit};
use crate::cli::bench::load::{Cast, Heard, Numbering, Progress, Socket, direct_chats, users};
use crate::cli::bench::sizes::Sizes;
use crate::cli::bench::stand::{Stand, Subject};

/// The rate of taking in.
pub const STORED: &str = "stored and confirmed";
/// The rate of giving out.
pub const DRAINED: &str = "drained";

/// Clients that are in their handshake at once: as many as a machine's backlog of connections bears easily.
const CONNECTING_MAX: usize = 64;

/// Every sender writes to its recipients in turn, `message:sent` comes for every message, nobody else is online. Also
/// returns those who were written to.
pub async fn ingest(stand: &Stand, sizes: &Sizes, progress: &Progress) -> anyhow::Result<(Figure, Vec<Cast>)> {
    progress.begin("making users and chats", 0);
    let senders = users(&stand.database, "sender", sizes.senders).await?;
    let recipients = users(&stand.database, "recipient", sizes.users).await?;
    let pairs: Vec<_> = recipients.iter().zip(senders.iter().cycle()).map(|(to, from)| (from.id, to.id)).collect();
    let chats = direct_chats(&stand.database, &pairs).await?;
    let mut sockets = Vec::new();
    for sender in &senders {
        sockets.push(Socket::connect(&stand.options(&sender.name)?).await?);
    }
    progress.begin("ingest", sizes.total());
    let (numbering, content): (_, Arc<str>) = (Numbering::new(), sizes.content().into());
    let (began, spent) = (Instant::now(), stand.meter.read());
    let mut tasks = JoinSet::new();
    for (place, socket) in sockets.into_iter().enumerate() {
        let mine: Vec<Uuid> = chats.iter().skip(place).step_by(senders.len()).copied().collect();
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
    let figure = Figure::rate(STORED, stored, seconds, stand.meter.since(spent));
    ensure!(stored == sizes.total(), "{stored} of {} messages were confirmed", sizes.total());
    ensure!(waiting(stand, &recipients).await? == stored, "not every confirmed message waits");
    Ok((figure, recipients))
}

/// Sends with a bounded number unconfirmed; returns how many were confirmed.
async fn send_all(
    mut socket: Socket,
    mut letters: impl Iterator<Item = (Uuid, Uuid)> + Send,
    content: Arc<str>,
    unconfirmed_max: usize,
    progress: Progress,
) -> anyhow::Result<u64> {
    let (mut confirmed, mut unconfirmed) = (0, 0);
    loop {
        while unconfirmed < unconfirmed_max
            && let Some((id, chat)) = letters.next()
        {
            socket.send(id, chat, &content);
            unconfirmed += 1;
        }
        if unconfirmed == 0 {
            return Ok(confirmed);
        }
        if let Heard::Sent = socket.next().await? {
            (confirmed, unconfirmed) = (confirmed + 1, unconfirmed - 1);
            progress.advance(1);
        }
    }
}

/// Ingest, and then all recipients connect at once and ack every message.
pub async fn ingest_and_drain(stand: &Stand, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let (ingest, recipients) = ingest(stand, sizes, progress).await?;
    progress.begin("drain", sizes.total());
    let (began, spent) = (Instant::now(), stand.meter.read());
    let sockets = drain(stand, &recipients, sizes, progress).await?;
    let left = waiting(stand, &recipients).await?;
    ensure!(left == 0, "{left} messages still wait after every client was told that its queue is drained");
    let seconds = began.elapsed().as_secs_f64();
    let drained = Figure::rate(DRAINED, sizes.total(), seconds, stand.meter.since(spent));
    drop(sockets);
    Ok(match stand.subject {
        Subject::Service => vec![ingest, drained, Figure::new("time to drain all", seconds, Unit::Seconds)],
        // It has fewer users: a time that looks like the other one and is of something else.
        Subject::Naive => vec![ingest, drained],
    })
}

/// Connects these users and acks all they get, until each was told that its queue is drained.
pub async fn drain(stand: &Stand, users: &[Cast], sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Socket>> {
    let connecting = Arc::new(Semaphore::new(CONNECTING_MAX));
    let mut tasks = JoinSet::new();
    for user in users {
        let mut options = stand.options(&user.name)?;
        options.window = Some(sizes.window);
        let (connecting, progress) = (Arc::clone(&connecting), progress.clone());
        tasks.spawn(async move {
            let turn = connecting.acquire_owned().await?;
            let mut socket = Socket::connect(&options).await?;
            drop(turn);
            loop {
                match socket.next().await? {
                    Heard::Received(id) => {
                        socket.ack(id);
                        progress.advance(1);
                    }
                    Heard::Drained => return anyhow::Ok(socket),
                    Heard::Ready | Heard::Sent | Heard::Delivered(_) | Heard::Other => {}
                }
            }
        });
    }
    let mut sockets = Vec::new();
    while let Some(socket) = tasks.join_next().await {
        sockets.push(socket??);
    }
    Ok(sockets)
}

/// Rows of these users that are not delivered.
pub async fn waiting(stand: &Stand, users: &[Cast]) -> anyhow::Result<u64> {
    let ids: Vec<i64> = users.iter().map(|user| user.id).collect();
    let count = "select count(*) from message_status where user_id = any ($1) and status = 'sent'";
    let count: i64 = sqlx::query_scalar(count).bind(&ids).fetch_one(&stand.database).await?;
    Ok(count.try_into()?)
}
