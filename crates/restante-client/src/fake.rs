//! A service that says what a test tells it to: one listener, a [`Seat`] for each connection. Tests only.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};
use uuid::Uuid;

/// The longest wait of a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Fake {
    listener: TcpListener,
    pub url: String,
}

pub struct Seat {
    socket: WebSocketStream<TcpStream>,
    pub query: String,
    pub bearer: String,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    pub async fn accept(&self) -> Seat {
        let stream = self.stream().await;
        let (mut query, mut bearer) = (String::new(), String::new());
        let socket = accept_hdr_async(stream, |request: &Request, response: Response| {
            query = request.uri().query().unwrap_or_default().to_owned();
            bearer = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
            Ok(response)
        })
        .await
        .unwrap();
        Seat { socket, query, bearer }
    }

    async fn stream(&self) -> TcpStream {
        timeout(PATIENCE, self.listener.accept()).await.expect("the client comes").unwrap().0
    }

    /// Accepts and says `ready`.
    pub async fn seat(&self) -> Seat {
        let mut seat = self.accept().await;
        seat.ready(0, 0).await;
        seat
    }

    pub async fn refuse(&self, status: u16, body: &str) {
        let mut stream = self.stream().await;
        let mut request = [0; 2048];
        let _ = stream.read(&mut request).await.unwrap();
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

impl Seat {
    pub async fn heard(&mut self) -> String {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return text.to_string(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    pub async fn heard_json(&mut self) -> Value {
        serde_json::from_str(&self.heard().await).unwrap()
    }

    pub async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub async fn event(&mut self, event: &str, id: Option<&str>, data: Value) {
        self.say(&json!({"event": event, "id": id, "data": data}).to_string()).await;
    }

    pub async fn ready(&mut self, pending: u64, settled: i64) {
        let data = json!({"userId": "bob", "sessionId": Uuid::now_v7(), "window": 50, "pending": pending, "pendingMore": false,
            "lastSeq": 100, "settledSeq": settled, "epoch": "e1", "resumed": false, "marksCursor": "e1:5", "serverTime": "2026-01-01T00:00:00Z"});
        self.event("ready", None, data).await;
    }

    pub async fn envelope(&mut self, message: Uuid, number: i64, attempt: u16) {
        let data = json!({"messageId": message, "chatId": Uuid::nil(), "seq": number, "class": "chat", "inboxSeq": number, "senderId": "alice",
            "content": "hi", "messageType": "text", "metadata": null, "createdAt": "2026-01-01T00:00:00Z", "attempt": attempt,
            "sender": {"name": null, "profilePicture": null}});
        self.event("message:receive", None, data).await;
    }

    /// Answers a `message:send` that was heard.
    pub async fn confirm(&mut self, heard: &Value, seq: i64) {
        let data = json!({"messageId": heard["data"]["messageId"], "chatId": Uuid::nil(), "seq": seq,
            "createdAt": "2026-01-01T00:00:00Z", "duplicate": false});
        self.event("message:sent", heard["id"].as_str(), data).await;
    }

    pub async fn close(mut self, code: u16, reason: &str) {
        self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}
