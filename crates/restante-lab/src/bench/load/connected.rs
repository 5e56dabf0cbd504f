//! Connected clients that ack every message and every event.

use std::time::Instant;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Incoming, Numbering, Progress, Socket, User};
use crate::bench::testbed::Testbed;

/// The number of handshakes at once: the backlog of a listening socket has room for that many.
pub const CONNECTING_MAX: usize = 64;

/// Connects these users, some at a time, and returns their sockets in the same order. The caller has to read from them soon.
pub async fn connect_all(testbed: &Testbed, users: &[User], progress: &Progress) -> anyhow::Result<Vec<Socket>> {
    connect_all_to(testbed, 0, users, progress).await
}

/// The same at this node, counted from 0.
pub async fn connect_all_to(testbed: &Testbed, node: usize, users: &[User], progress: &Progress) -> anyhow::Result<Vec<Socket>> {
    progress.begin("connecting", users.len() as u64);
    let options: Vec<_> = users.iter().map(|user| testbed.options_at(node, &user.name)).collect::<Result<_, _>>()?;
    let connecting = stream::iter(options).map(|options| async move {
        let socket = Socket::connect(&options).await;
        progress.advance(1);
        socket
    });
    connecting.buffered(CONNECTING_MAX).try_collect().await
}

/// Connected clients, each read by a task of its own.
#[derive(Debug)]
pub struct ConnectedClients {
    /// The clients' tasks. A task ends only with an error.
    tasks: JoinSet<anyhow::Error>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
}

/// The arrival of a message or an event at a client.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Its number.
    pub number: u64,
    /// Its time.
    pub at: Instant,
}

impl ConnectedClients {
    /// Connects these users.
    pub async fn connect(testbed: &Testbed, users: &[User], progress: &Progress) -> anyhow::Result<Self> {
        let (tell, arrivals) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for socket in connect_all(testbed, users, progress).await? {
            tasks.spawn(attend(socket, tell.clone()));
        }
        Ok(Self { tasks, arrivals })
    }

    /// The next arrival at any of the clients.
    pub async fn next(&mut self) -> anyhow::Result<Arrival> {
        tokio::select! {
            Some(arrival) = self.arrivals.recv() => Ok(arrival),
            Some(ended) = self.tasks.join_next() => Err(ended?.context("a client lost its connection")),
            else => anyhow::bail!("nobody is there"),
        }
    }

    /// Fails when a client has lost its connection.
    pub fn ensure_complete(&mut self) -> anyhow::Result<()> {
        match self.tasks.try_join_next() {
            Some(ended) => Err(ended?).context("a client lost its connection"),
            None => Ok(()),
        }
    }
}

async fn attend(mut socket: Socket, tell: mpsc::UnboundedSender<Arrival>) -> anyhow::Error {
    socket.ack_events();
    loop {
        let id = match socket.next().await {
            Ok(Incoming::Received(id)) => {
                socket.ack(id);
                id
            }
            Ok(Incoming::Event(id)) => id,
            Ok(_) => continue,
            Err(error) => return error,
        };
        let _ = tell.send(Arrival { number: Numbering::number(id), at: Instant::now() });
    }
}
