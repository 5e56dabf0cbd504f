//! Pairs of a sender and its recipient that keep one or more nodes under load. At the end the judge decides over the whole run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use restante_judge::snapshot::{self, Snapshot};
use restante_judge::{Event, Evidence, History, Recorder, Rule, judge};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fixtures::until;
use super::recording::Recording;
use super::{Node, Socket};

/// The default of `ATTEMPTS_MAX`, and that of `ACK_TIMEOUT_MS`.
const ATTEMPTS_MAX: u16 = 5;
const ACK_TIMEOUT_MS: u64 = 30_000;

/// Nobody reads, and a sender whose message is refused sends another one. A sender ends before its last receipts come.
const EXEMPT: [Rule; 3] = [Rule::Unread, Rule::Refused, Rule::Untold];

/// Pairs that send and ack. Each sends its next message when the one before has its answer.
pub struct Load {
    stop: Arc<AtomicBool>,
    end: CancellationToken,
    began: Instant,
    senders: Vec<JoinHandle<Sender>>,
    recipients: Vec<JoinHandle<Recording>>,
}

/// A sender, with the outcomes of its sends.
struct Sender {
    recording: Recording,
    confirmed: BTreeSet<Uuid>,
    refused: BTreeSet<Uuid>,
}

impl Load {
    /// Four pairs. Every other pair sends at the first of these nodes and receives at the last, the others the other way.
    pub async fn between(nodes: &[&Node]) -> Self {
        let (stop, end, began) = (Arc::new(AtomicBool::new(false)), CancellationToken::new(), Instant::now());
        let (mut senders, mut recipients) = (Vec::new(), Vec::new());
        for n in 0..4 {
            let mut ends = [nodes[0], nodes[nodes.len() - 1]];
            ends.rotate_left(n % 2);
            let [from, to] = [format!("sender-{n}"), format!("recipient-{n}")];
            let (sender, recipient) = (ends[0].connect(&from).await, ends[1].connect(&to).await);
            let [of_sender, of_recipient] =
                [(&from, &sender), (&to, &recipient)].map(|(user, socket)| Recording::new(user, began, &socket.ready));
            recipients.push(receives(recipient, of_recipient, &end));
            senders.push(sends(sender, of_sender, to, &stop));
        }
        Self { stop, end, began, senders, recipients }
    }

    /// Ends it when every send has its answer and everything is delivered, and lets the judge decide. `others` are messages beside
    /// the load, which the test has seen confirmed, received and acked. No other message may be stored.
    pub async fn end(self, pool: &PgPool, others: &BTreeSet<Uuid>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut histories, mut confirmed, mut refused) = (Vec::new(), others.clone(), BTreeSet::new());
        for sender in join_all(self.senders).await {
            let sender = sender.unwrap();
            assert!(!sender.confirmed.is_empty());
            confirmed.extend(sender.confirmed);
            refused.extend(sender.refused);
            histories.push(sender.recording.finish());
        }
        until(pool, "all is delivered", "select not exists (select from message_status where status = 'sent')").await;
        self.end.cancel();
        histories.extend(join_all(self.recipients).await.into_iter().map(|recording| recording.unwrap().finish()));
        let snapshot = snapshot::read(&mut pool.acquire().await.unwrap()).await.unwrap();
        let stored: BTreeSet<Uuid> = snapshot.messages.keys().copied().collect();
        assert_eq!(stored.difference(&confirmed).count(), 0, "stored and never confirmed");
        assert_eq!(refused.intersection(&stored).count(), 0, "refused and stored");
        assert!(others.is_subset(&stored), "of the others one is lost");
        histories.extend(histories_of(others, &snapshot, self.began));
        let exempt = BTreeSet::from(EXEMPT);
        let evidence =
            Evidence { histories, snapshot, attempts_max: ATTEMPTS_MAX, ack_timeout_ms: ACK_TIMEOUT_MS, exempt, ..Evidence::default() };
        let findings = judge(&evidence);
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

/// The histories of messages that the test itself has seen confirmed, received and acked.
fn histories_of(others: &BTreeSet<Uuid>, snapshot: &Snapshot, began: Instant) -> Vec<History> {
    let mut histories = Vec::new();
    for row in snapshot.rows.iter().filter(|row| others.contains(&row.message)) {
        let (message, stored) = (row.message, &snapshot.messages[&row.message]);
        let content: Arc<str> = stored.content.as_str().into();
        let mut sender = Recorder::in_memory(&stored.sender, &stored.sender, began);
        sender.note(1, Event::SendAttempted { message, chat: Some(stored.chat), to: None, content: Arc::clone(&content) });
        let mut recipient = Recorder::in_memory(&row.user, &row.user, began);
        let (chat, seq, inbox_seq, sender_id) = (stored.chat, stored.seq, row.seq.unwrap(), stored.sender.as_str().into());
        recipient.note(1, Event::Received { message, chat, seq, class: row.class, inbox_seq, sender: sender_id, content, attempt: 1 });
        recipient.note(1, Event::AckedIds { messages: vec![message], ask: None });
        histories.extend([sender.finish(), recipient.finish()]);
    }
    histories
}

/// Sends one message after the other to its recipient until it is stopped, each with an id of its own.
fn sends(mut socket: Socket, mut recording: Recording, to: String, stop: &Arc<AtomicBool>) -> JoinHandle<Sender> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let (mut confirmed, mut refused) = (BTreeSet::new(), BTreeSet::new());
        while !stop.load(Ordering::Relaxed) {
            let id = Uuid::now_v7();
            recording.sends(id, &to, "under load");
            let answer = socket.ask("message:send", json!({"messageId": id, "to": to, "content": "under load"})).await;
            recording.answered(id, &answer);
            if answer["event"] == "message:sent" {
                assert_eq!(answer["data"]["duplicate"], false, "its first send: {answer}");
                confirmed.insert(id);
            } else {
                assert_eq!(answer["data"]["code"], "unavailable", "{answer}");
                assert!(answer["data"]["retryAfterMs"].as_u64().unwrap() > 0);
                refused.insert(id);
                let skipped = socket.ask("message:skip", json!({"messageId": id})).await;
                assert_eq!(skipped["event"], "message:skip:ok", "{skipped}");
                // A client would wait before it sends again. The test only lets other tasks run.
                tokio::task::yield_now().await;
            }
        }
        // Receipts are judged by the time at which they are written down: later than they came, never earlier.
        socket.until_pong().await.iter().for_each(|frame| recording.frame(frame));
        Sender { recording, confirmed, refused }
    })
}

/// Takes every envelope and acks it with a frame that wants an answer, until it is told to end and every ack has its answer.
fn receives(mut socket: Socket, mut recording: Recording, end: &CancellationToken) -> JoinHandle<Recording> {
    let end = end.clone();
    tokio::spawn(async move {
        let (mut asked, mut answered) = (0_u64, 0_u64);
        loop {
            let frame: Value = tokio::select! {
                frame = socket.next() => frame,
                () = end.cancelled(), if asked == answered => return recording,
            };
            recording.frame(&frame);
            match frame["event"].as_str() {
                Some("message:receive") => {
                    asked += 1;
                    recording.acks(frame["data"]["messageId"].as_str().unwrap().parse().unwrap(), asked);
                    let ack =
                        json!({"event": "message:delivered", "id": asked.to_string(), "data": {"messageId": frame["data"]["messageId"]}});
                    socket.text(ack.to_string()).await;
                }
                Some("message:delivered:ok") => {
                    answered += 1;
                    recording.confirmed(frame["id"].as_str().unwrap().parse().unwrap());
                }
                _ => assert!(frame["id"].is_null(), "{frame}"),
            }
        }
    })
}
