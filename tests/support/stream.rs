//! A raw client of `GET /v1/stream`: it reads server-sent events as the HTML standard says, and hides nothing. Acks are requests of its own.

use std::collections::VecDeque;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::http::told;
use super::node::{Node, token};
use super::socket::PATIENCE;

/// One event, as a browser dispatches it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Its name.
    pub event: String,
    /// The id that the client would send back then.
    pub id: String,
    /// Its data.
    pub data: Value,
}

/// One open stream.
pub struct Stream {
    response: Response,
    /// The part of a line that has come.
    line: Vec<u8>,
    /// Bytes that came and were not looked at.
    bytes: VecDeque<u8>,
    event: String,
    data: String,
    /// Events that came while the test waited for another.
    skipped: VecDeque<Sent>,
    api: super::Api,
    device: Option<String>,
    /// The id that a browser would send when it comes back.
    pub last_id: String,
    /// The pause that the service has asked for before that.
    pub retry_ms: Option<u64>,
    /// Comments that came.
    pub comments: usize,
}

impl Node {
    /// The request for a stream of this user, with more in its query.
    pub fn stream_request(&self, user: &str, query: &str) -> RequestBuilder {
        Client::new().get(format!("{}/v1/stream?{query}", self.url())).bearer_auth(token(user))
    }

    /// A stream of this user, past `ready`. `query` is more of the query.
    pub async fn stream(&self, user: &str, query: &str) -> Stream {
        self.stream_again(user, query, "").await
    }

    /// The same for a client that has got the event with this id.
    pub async fn stream_again(&self, user: &str, query: &str, last_id: &str) -> Stream {
        let request = self.stream_request(user, query).header("last-event-id", last_id);
        let device = query.split('&').find_map(|pair| pair.strip_prefix("device=")).map(str::to_owned);
        let mut stream = Stream::of(request.send().await.unwrap(), self.api(user), device);
        assert_eq!(stream.response.status(), 200);
        stream.event("ready").await;
        stream
    }
}

impl Stream {
    /// The stream of this answer.
    pub fn of(response: Response, api: super::Api, device: Option<String>) -> Self {
        Self {
            response,
            line: Vec::new(),
            bytes: VecDeque::new(),
            event: String::new(),
            data: String::new(),
            skipped: VecDeque::new(),
            api,
            device,
            last_id: String::new(),
            retry_ms: None,
            comments: 0,
        }
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    /// The data of the next event of this name; others are kept for later.
    pub async fn event(&mut self, name: &str) -> Value {
        self.wait(name, |sent| sent.event == name).await.data
    }

    /// The next event that fits; others are kept for later.
    pub async fn wait(&mut self, what: &str, fits: impl Fn(&Sent) -> bool) -> Sent {
        if let Some(place) = self.skipped.iter().position(&fits) {
            return self.skipped.remove(place).unwrap();
        }
        loop {
            match self.incoming().await {
                Some(sent) if fits(&sent) => return sent,
                Some(sent) => self.skipped.push_back(sent),
                None => panic!("waited for {what}, but the stream has ended; came instead: {:?}", self.skipped),
            }
        }
    }

    /// The next `count` messages, in the order of their arrival.
    pub async fn receive(&mut self, count: usize) -> Vec<Value> {
        let mut messages = Vec::with_capacity(count);
        for _ in 0..count {
            messages.push(self.event("message:receive").await);
        }
        messages
    }

    /// Waits until the id that a browser would send back is another one than this.
    pub async fn moved_from(&mut self, id: &str) {
        while self.last_id == id {
            if let Some(sent) = timeout(PATIENCE, self.step()).await.expect("the id does not move").expect("the stream has ended") {
                self.skipped.push_back(sent);
            }
        }
    }

    /// Waits for the end of the stream and returns what came before it.
    pub async fn ended(&mut self) -> Vec<Sent> {
        while let Some(sent) = self.incoming().await {
            self.skipped.push_back(sent);
        }
        self.skipped.drain(..).collect()
    }

    /// Events that came and were not asked for.
    pub fn skipped(&self) -> &VecDeque<Sent> {
        &self.skipped
    }

    /// Acks these messages over HTTP, as the client of this stream.
    pub async fn ack(&self, messages: &[Value]) {
        let ids: Vec<&Value> = messages.iter().map(|message| &message["messageId"]).collect();
        self.acks(json!({"messageIds": ids})).await;
    }

    /// Acks with this body.
    pub async fn acks(&self, body: Value) {
        let device = self.device.as_ref().map(|device| format!("?device={device}")).unwrap_or_default();
        let (status, answer) = self.api.post(&format!("/v1/inbox/ack{device}"), body).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn incoming(&mut self) -> Option<Sent> {
        let next = async {
            loop {
                if let Some(sent) = self.step().await? {
                    return Some(sent);
                }
            }
        };
        timeout(PATIENCE, next).await.expect("nothing comes, and the stream does not end")
    }

    /// Takes one line. Outer none: the stream has ended. Inner none: no event came of it.
    async fn step(&mut self) -> Option<Option<Sent>> {
        loop {
            match self.bytes.pop_front() {
                Some(b'\n' | b'\r') => break,
                Some(byte) => self.line.push(byte),
                // One that is broken off is an end as well.
                None => self.bytes.extend(self.response.chunk().await.ok().flatten()?),
            }
        }
        let line = String::from_utf8(std::mem::take(&mut self.line)).unwrap();
        Some(self.field(&line))
    }

    fn field(&mut self, line: &str) -> Option<Sent> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event),
            "data" => self.data.push_str(value),
            "id" => value.clone_into(&mut self.last_id),
            "retry" => self.retry_ms = Some(value.parse().unwrap()),
            "" if !line.is_empty() => self.comments += 1,
            "" => return self.dispatch(),
            other => panic!("a field that there is not: {other:?}"),
        }
        None
    }

    fn dispatch(&mut self) -> Option<Sent> {
        let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        (!data.is_empty()).then(|| Sent { event, id: self.last_id.clone(), data: serde_json::from_str(&data).unwrap() })
    }
}

/// Status and code of a refusal.
pub async fn refused(request: RequestBuilder) -> (u16, String) {
    let (status, body) = told(request.send().await.unwrap()).await;
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}
