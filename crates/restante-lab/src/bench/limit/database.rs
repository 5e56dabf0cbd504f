//! A database without a service, with users and direct chats as in the scenarios, and with connections that write.

use std::time::Instant;

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::work::{Batch, Letter, Work};
use crate::bench::load::{direct_chats, users};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::{DATABASE, Meter, pool};
use restante::app::{self, Database};
use restante_postgres::{ServerOptions, Throwaway};

/// A statement's plan is kept from its sixth call on.
const WARM_UP_BATCHES: usize = 6;
const WARM_UP_BATCH: usize = 10;

/// Settings of the planner, so that the plain statements find each row by its key, also with plans that were made while the tables were
/// empty. The service's own functions set some of them for themselves.
const PLANNER: [(&str, &str); 7] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
    ("enable_memoize", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// A database server and the connections that write to it.
pub struct BareDatabase {
    server: Throwaway,
    meter: Meter,
    content: String,
    /// The side of the plain statements, whose numbers are made up here.
    plain: Side,
    /// The side of the service's own statements, which give numbers themselves.
    own: Side,
}

/// Chats, and connections to write to them.
struct Side {
    chats: Vec<Chat>,
    connections: Vec<PgConnection>,
    /// The messages that were stored last and are not acked, for each connection.
    stored: Vec<Vec<Letter>>,
}

struct Chat {
    id: Uuid,
    sender: i64,
    recipient: i64,
    last_seq: i64,
}

impl BareDatabase {
    /// Starts a server like that of the other scenarios, makes users and chats, and warms the connections up.
    pub async fn start(sizes: &Sizes, connections: usize) -> anyhow::Result<Self> {
        let server = tokio::task::spawn_blocking(|| Throwaway::start(&ServerOptions::default())).await??;
        server.server().ensure_database(DATABASE).await?;
        let options = server.server().options(DATABASE);
        app::migrate(&Database::new(options.clone())).await?;
        let plain = Side::new(&options, options.clone().options(PLANNER), sizes, connections).await?;
        let own = Side::new(&options, options.clone(), sizes, connections).await?;
        let meter = Meter::new(Vec::new(), server.server().pid());
        let mut database = Self { server, meter, content: sizes.content(), plain, own };
        for work in Work::ALL {
            database.measure(work, WARM_UP_BATCH, connections, WARM_UP_BATCH * WARM_UP_BATCHES * connections).await?;
        }
        Ok(database)
    }

    /// Stores this many messages, or acks those that were stored last. Returns messages a second, and the database's CPU seconds for 1,000
    /// of them.
    pub async fn measure(&mut self, work: Work, batch: usize, connections: usize, messages: usize) -> anyhow::Result<(f64, Option<f64>)> {
        let side = if work.is_own() { &mut self.own } else { &mut self.plain };
        let letters = if work.is_store() { side.write(connections, messages) } else { side.take_stored() };
        let batches = letters.iter().map(|letters| letters.chunks(batch).map(|part| work.batch(part, &self.content)).collect()).collect();
        let (began, spent) = (Instant::now(), self.meter.database());
        side.run(batches).await.with_context(|| format!("{}, {batch} in a batch on {connections} connections", work.name()))?;
        let seconds = began.elapsed().as_secs_f64();
        let spent = self.meter.database().zip(spent).map(|(now, before)| now - before);
        if work.is_store() {
            side.stored = letters;
        }
        Ok((messages as f64 / seconds, spent.map(|spent| spent * 1000.0 / messages as f64)))
    }

    /// Stops the server and removes its data.
    pub async fn remove(self) {
        for connection in self.plain.connections.into_iter().chain(self.own.connections) {
            let _ = connection.close().await;
        }
        // Dropping it stops the server, which blocks.
        let _ = tokio::task::spawn_blocking(move || drop(self.server)).await;
    }
}

impl Side {
    async fn new(options: &PgConnectOptions, write: PgConnectOptions, sizes: &Sizes, connections: usize) -> anyhow::Result<Self> {
        let pool = pool(options.clone()).await?;
        let senders = users(&pool, "sender", sizes.senders).await?;
        let recipients = users(&pool, "recipient", sizes.users).await?;
        let pairs: Vec<_> = recipients.iter().zip(senders.iter().cycle()).map(|(to, from)| (from.id, to.id)).collect();
        let ids = direct_chats(&pool, &pairs).await?;
        pool.close().await;
        let chats = ids.into_iter().zip(pairs).map(|(id, (sender, recipient))| Chat { id, sender, recipient, last_seq: 0 }).collect();
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(write.connect().await?);
        }
        Ok(Self { chats, connections: open, stored: Vec::new() })
    }

    /// Makes new messages for each connection, to all chats in turn. Each chat is on one connection, as in the service's lanes.
    fn write(&mut self, connections: usize, messages: usize) -> Vec<Vec<Letter>> {
        let mut letters = vec![Vec::with_capacity(messages / connections); connections];
        let chats = self.chats.len() / connections;
        for number in 0..messages / connections * connections {
            let (lane, turn) = (number % connections, number / connections);
            let chat = &mut self.chats[lane + turn % chats * connections];
            chat.last_seq += 1;
            letters[lane].push(Letter {
                id: Uuid::now_v7(),
                chat: chat.id,
                sender: chat.sender,
                recipient: chat.recipient,
                seq: chat.last_seq,
            });
        }
        letters
    }

    /// Takes the messages that were stored last, in the order in which they are acked: all of one user, then those of the next.
    fn take_stored(&mut self) -> Vec<Vec<Letter>> {
        let mut letters = std::mem::take(&mut self.stored);
        for lane in &mut letters {
            lane.sort_unstable_by_key(|letter| (letter.recipient, letter.seq));
        }
        letters
    }

    /// Each connection writes its batches one after the other.
    async fn run(&mut self, batches: Vec<Vec<Batch>>) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for batches in batches {
            let mut connection = self.connections.pop().context("there are more lanes than connections")?;
            tasks.spawn(async move {
                for batch in &batches {
                    batch.write(&mut connection).await?;
                }
                anyhow::Ok(connection)
            });
        }
        while let Some(connection) = tasks.join_next().await {
            self.connections.push(connection??);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn each_chat_is_written_on_one_connection_in_order() {
        let chat = |recipient| Chat { id: Uuid::new_v4(), sender: 1, recipient, last_seq: 7 };
        let mut side = Side { chats: (0..20).map(chat).collect(), connections: Vec::new(), stored: Vec::new() };
        let letters = side.write(4, 200);
        let mut lanes: BTreeMap<Uuid, BTreeSet<usize>> = BTreeMap::new();
        let mut last: BTreeMap<Uuid, i64> = BTreeMap::new();
        for (lane, letters) in letters.iter().enumerate() {
            assert_eq!(letters.len(), 50);
            for letter in letters {
                lanes.entry(letter.chat).or_default().insert(lane);
                let last = last.entry(letter.chat).or_insert(7);
                assert_eq!(letter.seq, *last + 1);
                *last = letter.seq;
            }
        }
        assert_eq!(lanes.len(), 20);
        assert!(lanes.values().all(|lanes| lanes.len() == 1));
    }
}
