//! Users who connect and drain their inboxes, with an ack a message.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connected::CONNECTING_MAX;
use super::{Incoming, Progress, Socket, User};
use crate::bench::testbed::{Cost, Testbed};
use restante_client::Options;

/// Acks every message until the service says that the queue is drained. Returns the number of messages.
pub async fn drain(socket: &mut Socket, progress: &Progress) -> anyhow::Result<u64> {
    let mut received = 0;
    loop {
        match socket.next().await? {
            Incoming::Received(id) => {
                socket.ack(id);
                received += 1;
                progress.advance(1);
            }
            Incoming::Drained => return Ok(received),
            Incoming::Event(_)
            | Incoming::Ready
            | Incoming::Sent
            | Incoming::Delivered(_)
            | Incoming::Counted { .. }
            | Incoming::Online(_)
            | Incoming::Other => {}
        }
    }
}

/// The cost of draining many users.
#[derive(Debug)]
pub struct Drained {
    /// Seconds from the first connection until the last client was told that its queue is drained.
    pub seconds: f64,
    /// CPU seconds meanwhile.
    pub spent: Option<Cost>,
}

/// Connects these users at once and drains each of them. `total` messages have to come.
pub async fn drain_all(testbed: &Testbed, users: &[User], window: u16, total: u64, progress: &Progress) -> anyhow::Result<Drained> {
    progress.begin("drain", total);
    let (began, before) = (Instant::now(), testbed.meter.read());
    let connecting = Arc::new(Semaphore::new(CONNECTING_MAX));
    let mut tasks = JoinSet::new();
    for user in users {
        let options = Options { window: Some(window), ..testbed.options(&user.name)? };
        let (connecting, progress) = (Arc::clone(&connecting), progress.clone());
        tasks.spawn(async move {
            let turn = connecting.acquire_owned().await?;
            let mut socket = Socket::connect(&options).await?;
            drop(turn);
            let received = drain(&mut socket, &progress).await?;
            anyhow::Ok((socket, received))
        });
    }
    // A client that is done stays until all are, because disconnecting is no part of draining.
    let (mut sockets, mut received) = (Vec::new(), 0);
    while let Some(drained) = tasks.join_next().await {
        let (socket, count) = drained??;
        sockets.push(socket);
        received += count;
    }
    let drained = Drained { seconds: began.elapsed().as_secs_f64(), spent: testbed.meter.since(before) };
    ensure_drained(testbed, users, received, total).await?;
    Ok(drained)
}

/// Fails when a message came twice, or still waits.
pub async fn ensure_drained(testbed: &Testbed, users: &[User], received: u64, total: u64) -> anyhow::Result<()> {
    ensure!(received == total, "{received} messages came where {total} waited");
    let left = waiting(&testbed.database, users).await?;
    ensure!(left == 0, "{left} messages still wait after every client was told that its queue is drained");
    Ok(())
}

/// The number of these users' rows that wait.
pub async fn waiting(database: &PgPool, users: &[User]) -> anyhow::Result<u64> {
    let ids: Vec<i64> = users.iter().map(|user| user.id).collect();
    let count = "select count(*) from message_status where user_id = any ($1) and status = 'sent'";
    let count: i64 = sqlx::query_scalar(count).bind(&ids).fetch_one(database).await?;
    Ok(count.try_into()?)
}
