//! A connection of the naive service: one task handles its frames one after the other, and one writes.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tracing::warn;
use uuid::Uuid;

use super::frames::{Envelope, Letter, Request, Sender, Sent, Told, frame};
use super::{ServiceState, statements};
use restante_session::domain::ExternalId;

/// A user's connection.
struct Connection {
    shared: Arc<ServiceState>,
    external: ExternalId,
    user: i64,
    frames: mpsc::UnboundedSender<Utf8Bytes>,
    backlog: Backlog,
}

/// The messages that waited at connect. A page is emitted, and the next one when all of it is acked.
struct Backlog {
    page_rows: i64,
    after: i64,
    unacked: HashSet<Uuid>,
    state: State,
}

enum State {
    /// The last page was full: there may be another one.
    More,
    /// The last page was short.
    LastPage,
    /// `queue:drained` was sent.
    Drained,
}

/// Serves a client until it leaves.
pub async fn run(shared: Arc<ServiceState>, socket: WebSocket, external: ExternalId, page_rows: i64) {
    let (sink, mut incoming) = socket.split();
    let user = match statements::sign_in(&shared.pool, external.as_str()).await {
        Ok(user) => user,
        Err(error) => return warn!(%error, "a user could not be signed in"),
    };
    let (frames, outgoing) = mpsc::unbounded_channel();
    tokio::spawn(write(sink, outgoing));
    let ready = json!({"userId": external.as_str(), "window": page_rows, "serverTime": OffsetDateTime::now_utc().unix_timestamp()});
    let _ = frames.send(frame("ready", None, ready));
    // Before the first page is read: what commits later is told.
    let number = shared.register(user, frames.clone());
    let backlog = Backlog { page_rows, after: 0, unacked: HashSet::new(), state: State::More };
    let mut connection = Connection { shared, external, user, frames, backlog };
    let mut done = connection.drain().await;
    while let Ok(()) = done
        && let Some(Ok(message)) = incoming.next().await
    {
        if let Message::Text(text) = message {
            done = connection.take(&text).await;
        }
    }
    if let Err(error) = done {
        warn!(%error, "a connection ends");
    }
    connection.shared.unregister(user, number);
}

/// Writes each frame by itself.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut frames: mpsc::UnboundedReceiver<Utf8Bytes>) {
    while let Some(frame) = frames.recv().await {
        if sink.send(Message::Text(frame)).await.is_err() {
            return;
        }
    }
}

impl Connection {
    async fn take(&mut self, text: &str) -> anyhow::Result<()> {
        match Request::read(text)? {
            Request::Send(letter, id) => self.send(letter, id.as_deref()).await,
            Request::Delivered(ack) => self.deliver(ack.message_id).await,
        }
    }

    async fn send(&self, letter: Letter, id: Option<&str>) -> anyhow::Result<()> {
        let Some(stored) = statements::store(&self.shared.pool, self.user, &letter).await? else {
            let _ = self.frames.send(frame("error", id, json!({"code": "not_a_member", "message": "not a member of this chat"})));
            return Ok(());
        };
        let Letter { message_id, chat_id, content } = letter;
        let sent = Sent { message_id, chat_id, seq: stored.seq, created_at: stored.created_at, duplicate: false };
        let _ = self.frames.send(frame("message:sent", id, sent));
        let mut envelope = Envelope {
            class: "chat".to_owned(),
            inbox_seq: 0,
            attempt: 1,
            message_id,
            chat_id,
            seq: stored.seq,
            sender_id: self.external.as_str().to_owned(),
            content,
            message_type: "text".to_owned(),
            metadata: None,
            created_at: stored.created_at,
            sender: Sender::default(),
        };
        for (user, inbox_seq) in stored.recipients {
            envelope.inbox_seq = inbox_seq;
            self.shared.tell(user, &frame("message:receive", None, &envelope));
        }
        Ok(())
    }

    async fn deliver(&mut self, message: Uuid) -> anyhow::Result<()> {
        if let Some(acked) = statements::deliver(&self.shared.pool, self.user, message).await? {
            let told = Told {
                chat_id: acked.chat_id,
                message_ids: [message],
                seq: acked.seq,
                status: "delivered",
                user_id: self.external.as_str(),
                timestamp: acked.delivered_at,
            };
            self.shared.tell(acked.sender_id, &frame("message:status", None, told));
        }
        self.backlog.unacked.remove(&message);
        self.drain().await
    }

    /// Emits the next page of the backlog, if everything that was emitted of it is acked.
    async fn drain(&mut self) -> anyhow::Result<()> {
        while self.backlog.unacked.is_empty() {
            match self.backlog.state {
                State::More => {}
                State::LastPage => {
                    self.backlog.state = State::Drained;
                    let _ = self.frames.send(frame("queue:drained", None, json!({"class": "chat", "inboxSeq": self.backlog.after})));
                    return Ok(());
                }
                State::Drained => return Ok(()),
            }
            let page = statements::page(&self.shared.pool, self.user, self.backlog.after, self.backlog.page_rows).await?;
            if (page.len() as i64) < self.backlog.page_rows {
                self.backlog.state = State::LastPage;
            }
            for envelope in page {
                self.backlog.after = envelope.inbox_seq;
                self.backlog.unacked.insert(envelope.message_id);
                let _ = self.frames.send(frame("message:receive", None, &envelope));
            }
        }
        Ok(())
    }
}
