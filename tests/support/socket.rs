//! A raw client: frames as JSON, nothing hidden, no reconnect. Waits for what a test names and fails loudly when it
//! does not come.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::described;
use super::node::{scoped_token, token};

/// The time that a test waits for a frame that must come. It is no measure of how long something takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Wishes for a connection.
#[derive(Debug, Clone)]
pub struct Connect {
    user: String,
    scope: Option<&'static str>,
    query: Vec<(&'static str, String)>,
}

impl Connect {
    /// A connection of this user, without wishes.
    pub fn user(user: &str) -> Self {
        Self { user: user.to_owned(), scope: None, query: Vec::new() }
    }

    /// A connection of this user, who may publish to everything.
    pub fn publisher(user: &str) -> Self {
        Self { scope: Some("events:write"), ..Self::user(user) }
    }

    /// One more parameter of the query.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// With a device.
    pub fn device(self, device: &str) -> Self {
        self.with("device", device)
    }
}

/// One open connection.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Frames that came while the test waited for another.
    skipped: VecDeque<Value>,
    next_id: u64,
    /// The data of its `ready`.
    pub ready: Value,
    /// The subprotocol that the service chose.
    pub subprotocol: Option<String>,
}

impl Socket {
    /// Connects and takes `ready`.
    pub async fn open(addr: SocketAddr, connect: Connect) -> Self {
        let mut socket = Self::raw(addr, connect).await.unwrap();
        socket.ready = socket.event("ready").await;
        socket
    }

    /// Connects and takes nothing.
    pub async fn raw(addr: SocketAddr, connect: Connect) -> Result<Self, tungstenite::Error> {
        let mut url = reqwest::Url::parse(&format!("ws://{addr}/ws")).unwrap();
        url.query_pairs_mut().extend_pairs(connect.query.iter().map(|(name, value)| (*name, value.as_str())));
        let mut request = url.as_str().into_client_request()?;
        let token = connect.scope.map_or_else(|| token(&connect.user), |scope| scoped_token(&connect.user, scope));
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Self::request(request).await
    }

    /// Connects with this request.
    pub async fn request(request: tungstenite::handshake::client::Request) -> Result<Self, tungstenite::Error> {
        let (stream, answer) = connect_async_with_config(request, None, true).await?;
        let subprotocol = answer.headers().get("sec-websocket-protocol").map(|chosen| chosen.to_str().unwrap().to_owned());
        Ok(Self { stream, skipped: VecDeque::new(), next_id: 0, ready: Value::Null, subprotocol })
    }

    /// Sends any text.
    pub async fn text(&mut self, text: impl Into<String>) {
        self.stream.send(Message::text(text.into())).await.unwrap();
    }

    /// Sends a text again and again as fast as it is taken; false when the connection has ended, or takes nothing for 10 s.
    pub async fn feed(&mut self, text: &str) -> bool {
        let fed = async {
            for _ in 0..100 {
                self.stream.feed(Message::text(text)).await?;
            }
            self.stream.flush().await
        };
        matches!(tokio::time::timeout(Duration::from_secs(10), fed).await, Ok(Ok(())))
    }

    /// Sends any frame.
    pub async fn frame(&mut self, frame: Message) {
        self.stream.send(frame).await.unwrap();
    }

    /// Sends an event without an id.
    pub async fn tell(&mut self, event: &str, data: Value) {
        self.text(json!({"event": event, "data": data}).to_string()).await;
    }

    /// Sends an event and returns the whole frame that answers it, result or error.
    pub async fn ask(&mut self, event: &str, data: Value) -> Value {
        self.next_id += 1;
        let id = format!("ask-{}", self.next_id);
        self.text(json!({"event": event, "id": id, "data": data}).to_string()).await;
        self.wait(&format!("the answer to {event}"), |frame| frame["id"] == id.as_str()).await
    }

    /// Sends a message and returns the data of its `message:sent`.
    pub async fn send(&mut self, to: &str, content: &str) -> Value {
        let answer = self.ask("message:send", json!({"to": to, "content": content})).await;
        assert_eq!(answer["event"], "message:sent", "{answer}");
        answer["data"].clone()
    }

    /// Sends an event that wants an answer, and does not wait for it. Returns the id that the answer will have.
    pub async fn ask_later(&mut self, event: &str, data: Value) -> String {
        self.next_id += 1;
        let id = format!("later-{}", self.next_id);
        self.text(json!({"event": event, "id": id, "data": data}).to_string()).await;
        id
    }

    /// The answer to what was asked before.
    pub async fn answer(&mut self, id: &str) -> Value {
        self.wait(&format!("the answer to {id}"), |frame| frame["id"] == id).await
    }

    /// The next `count` messages, in the order of their arrival.
    pub async fn receive(&mut self, count: usize) -> Vec<Value> {
        let mut messages = Vec::with_capacity(count);
        for _ in 0..count {
            messages.push(self.event("message:receive").await);
        }
        messages
    }

    /// The data of the next message, alert or event. The frame must be that of its class.
    pub async fn envelope(&mut self) -> Value {
        let is_envelope = |frame: &Value| frame["event"] == "message:receive" || frame["event"] == "event:receive";
        let mut frame = self.wait("a message or an event", is_envelope).await;
        assert_eq!(frame["event"] == "message:receive", frame["data"]["class"] == "chat", "{frame}");
        frame["data"].take()
    }

    /// The code of the next error that answers no frame.
    pub async fn error(&mut self) -> Value {
        self.wait("error", |frame| frame["event"] == "error" && frame["id"].is_null()).await["data"]["code"].take()
    }

    /// The data of the next event of this name; others are kept for later.
    pub async fn event(&mut self, event: &str) -> Value {
        self.wait(event, |frame| frame["event"] == event).await["data"].take()
    }

    /// The next frame that fits; others are kept for later.
    pub async fn wait(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(place) = self.skipped.iter().position(&fits) {
            return self.skipped.remove(place).unwrap();
        }
        loop {
            let frame = match self.incoming().await {
                Ok(frame) => frame,
                Err(end) => panic!("waited for {what}, but {end:?}; came instead: {:?}", self.skipped),
            };
            if fits(&frame) {
                return frame;
            }
            self.skipped.push_back(frame);
        }
    }

    /// The next frame in the order of arrival, those kept first.
    pub async fn next(&mut self) -> Value {
        match self.skipped.pop_front() {
            Some(frame) => frame,
            None => self.incoming().await.unwrap(),
        }
    }

    /// The frames that have arrived by now. It does not wait for more.
    pub async fn frames_that_have_come(&mut self) -> Vec<Value> {
        while let Some(Ok(frame)) = self.next_frame().now_or_never() {
            self.skipped.push_back(frame);
        }
        self.skipped.drain(..).collect()
    }

    /// Everything that has arrived before the answer to a `ping`: what has not come by then was not sent before it.
    pub async fn until_pong(&mut self) -> Vec<Value> {
        let pong = self.ask("ping", json!({})).await;
        assert_eq!(pong["event"], "pong");
        self.skipped.drain(..).collect()
    }

    /// Acks one message and waits for the commit.
    pub async fn ack(&mut self, message: &Value) {
        let answer = self.ask("message:delivered", json!({"messageId": message["messageId"]})).await;
        assert_eq!(answer["event"], "message:delivered:ok", "{answer}");
    }

    /// Acks everything that was emitted up to this inbox number and waits for the commit.
    pub async fn ack_up_to(&mut self, seq: impl Into<Value>) {
        let answer = self.ask("message:delivered", json!({"upTo": seq.into()})).await;
        assert_eq!(answer["event"], "message:delivered:ok", "{answer}");
    }

    /// Waits for the close frame and returns its code; what comes before it is kept. `None`: the stream just ended.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.incoming().await {
                Ok(frame) => self.skipped.push_back(frame),
                Err(End::Closed(code)) => return code,
                Err(End::Nothing) => panic!("waited for the close, came: {:?}", self.skipped),
            }
        }
    }

    /// Frames that came and were not asked for.
    pub fn skipped(&self) -> &VecDeque<Value> {
        &self.skipped
    }

    /// Cuts the connection without a word.
    pub fn cut(self) {
        drop(self);
    }

    /// Closes the connection and waits until the service has seen it.
    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
        while let Some(Ok(_)) = self.stream.next().await {}
    }

    async fn incoming(&mut self) -> Result<Value, End> {
        // The service's pings are no reason to wait longer.
        tokio::time::timeout(PATIENCE, self.next_frame()).await.unwrap_or(Err(End::Nothing))
    }

    async fn next_frame(&mut self) -> Result<Value, End> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text).unwrap();
                    described::frame(&frame);
                    return Ok(frame);
                }
                Some(Ok(Message::Close(close))) => return Err(End::Closed(close.map(|close| close.code.into()))),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(End::Closed(None)),
            }
        }
    }
}

/// The reason for which no frame came.
#[derive(Debug)]
enum End {
    Closed(Option<u16>),
    Nothing,
}
