//! Pairs of a sender and its recipient who keep a node, or several, under load, and what must be true at the end of it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ledger::{assert_ledger, number, until};
use super::{Node, Socket};

/// What senders were told of their messages, and recipients were given.
#[derive(Default)]
pub struct Told {
    pub confirmed: BTreeSet<Uuid>,
    pub refused: BTreeSet<Uuid>,
    pub given: HashSet<Uuid>,
}

/// Pairs that send and ack, each message when the one before has its answer.
pub struct Load {
    stop: Arc<AtomicBool>,
    end: CancellationToken,
    senders: Vec<JoinHandle<Told>>,
    recipients: Vec<JoinHandle<HashSet<Uuid>>>,
}

impl Load {
    /// Four pairs: every other one sends at the first of these nodes and receives at the last, the others the other way.
    pub async fn between(nodes: &[&Node]) -> Self {
        let (stop, end) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let (mut senders, mut recipients) = (Vec::new(), Vec::new());
        for n in 0..4 {
            let mut ends = [nodes[0], nodes[nodes.len() - 1]];
            ends.rotate_left(n % 2);
            recipients.push(recipient(ends[1].connect(&format!("recipient-{n}")).await, &end));
            senders.push(sender(ends[0].connect(&format!("sender-{n}")).await, format!("recipient-{n}"), &stop));
        }
        Self { stop, end, senders, recipients }
    }

    /// Ends it when everything has its answer and is delivered. What was confirmed is stored, and nothing else is, of all that is
    /// there beside `others`; and what is stored was given to its recipient.
    pub async fn end(self, pool: &PgPool, others: &BTreeSet<Uuid>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for told in join_all(self.senders).await {
            let told = told.unwrap();
            assert!(!told.confirmed.is_empty());
            all.confirmed.extend(told.confirmed);
            all.refused.extend(told.refused);
        }
        until(pool, "all is delivered", "select not exists (select from message_status where status = 'sent')").await;
        self.end.cancel();
        for theirs in join_all(self.recipients).await {
            all.given.extend(theirs.unwrap());
        }
        let stored: Vec<Uuid> = sqlx::query_scalar("select id from messages").fetch_all(pool).await.unwrap();
        let mut stored: BTreeSet<Uuid> = stored.into_iter().collect();
        assert!(others.iter().all(|id| stored.remove(id)), "of the others one is lost");
        assert_eq!(all.confirmed.difference(&stored).count(), 0, "confirmed and lost");
        assert_eq!(stored.difference(&all.confirmed).count(), 0, "stored and never confirmed");
        assert_eq!(all.refused.intersection(&stored).count(), 0, "refused and stored");
        assert_eq!(stored.iter().filter(|id| !all.given.contains(id)).count(), 0, "stored and not given to its recipient");
        let rows = i64::try_from(stored.len() + others.len()).unwrap();
        assert_eq!(number(pool, "select count(*) from message_status where status = 'delivered'").await, rows);
        assert_ledger(pool).await;
    }
}

/// Sends one message after the other to its recipient until it is stopped, each with an id of its own.
fn sender(mut socket: Socket, to: String, stop: &Arc<AtomicBool>) -> JoinHandle<Told> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let mut told = Told::default();
        while !stop.load(Ordering::Relaxed) {
            let id = Uuid::now_v7();
            let answer = socket.ask("message:send", json!({"messageId": id, "to": to, "content": "under load"})).await;
            match answer["event"].as_str() {
                Some("message:sent") => {
                    assert_eq!(answer["data"]["duplicate"], false, "its first send: {answer}");
                    told.confirmed.insert(id);
                }
                _ => {
                    assert_eq!(answer["data"]["code"], "unavailable", "{answer}");
                    assert!(answer["data"]["retryAfterMs"].as_u64().unwrap() > 0);
                    told.refused.insert(id);
                    // A refused sender comes again later; here only so that it does not do nothing else.
                    tokio::task::yield_now().await;
                }
            }
        }
        told
    })
}

/// Takes what comes and acks it, each ack with an id, until it is told to end; then returns what it was given.
fn recipient(mut socket: Socket, end: &CancellationToken) -> JoinHandle<HashSet<Uuid>> {
    let end = end.clone();
    tokio::spawn(async move {
        let mut given = HashSet::new();
        let (mut asked, mut answered) = (0, 0);
        loop {
            let frame: Value = tokio::select! {
                frame = socket.next() => frame,
                () = end.cancelled(), if asked == answered => return given,
            };
            match frame["event"].as_str() {
                Some("message:receive") => {
                    given.insert(frame["data"]["messageId"].as_str().unwrap().parse().unwrap());
                    asked += 1;
                    let ack = json!({"event": "message:delivered", "id": "ack", "data": {"messageId": frame["data"]["messageId"]}});
                    socket.text(ack.to_string()).await;
                }
                Some("message:delivered:ok") => answered += 1,
                _ => assert_ne!(frame["id"], "ack", "{frame}"),
            }
        }
    })
}
