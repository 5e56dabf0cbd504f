//! A client made line by line from the loop in `docs/protocol.md`, and from nothing else. Each line of the loop stands here behind
//! `//|`, above what it became, and `tests/documents.rs` holds these lines against the document.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::node::token;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// An entry of the outbox: a send or a read, with its data.
#[derive(Debug, Clone)]
pub struct Entry {
    event: &'static str,
    data: Value,
    /// The answer carries it.
    frame_id: String,
    is_on_its_way: bool,
    refusals: u32,
    is_refused: bool,
}

impl Entry {
    /// The chat or user of a send; the chat of a read, which waits for itself.
    fn place(&self) -> String {
        format!("{} {} {}", self.event, self.data["chatId"], self.data["to"])
    }
}

/// An event as the loop takes it; its effect is its data.
fn as_message(event: &Value) -> Value {
    json!({"messageId": event["eventId"], "class": event["class"], "inboxSeq": event["inboxSeq"], "content": event["data"].to_string()})
}

/// The notice of a recall as the loop takes it.
fn notice_as_message(notice: &Value) -> Value {
    json!({"messageId": notice["recallId"], "class": notice["class"], "inboxSeq": notice["inboxSeq"], "content": taken_away(notice)})
}

/// The effect of a recall.
fn taken_away(recalled: &Value) -> String {
    format!("takes away {}", recalled["messageId"].as_str().unwrap())
}

/// The end of a connection.
enum End {
    Closed(Option<u16>),
    /// The test has seen what it waited for.
    Enough,
}

/// The client: what is durable, and what lives as long as one connection.
pub struct LoopClient {
    addrs: Vec<SocketAddr>,
    user: String,
    //| durable, absent at first:
    //|     stored: ids of messages whose effect is done, with class, inboxSeq and epoch
    /// The ids, with class, number and epoch.
    pub stored: HashMap<String, (String, i64, String)>,
    //|     outbox: sends and reads without an answer, in the order in which they were made
    /// The entries that have no answer.
    pub outbox: Vec<Entry>,
    //|     epoch; contiguous: a number for each class; marks
    epoch: Option<String>,
    /// Per class, everything up to here is stored.
    pub contiguous: Option<HashMap<String, i64>>,
    marks: Option<String>,

    /// The effects, in order: the contents.
    pub effects: Vec<String>,
    /// The words to the user: errors of the outbox, and why it has stopped.
    pub said: Vec<String>,
    /// The greatest status of each message or mark.
    pub statuses: HashMap<String, String>,
    /// `message:send` frames that left.
    pub sends: usize,
    /// The data of each `ready`.
    pub readies: Vec<Value>,
    /// Envelopes that cannot be processed: their contents.
    pub unreadable: HashSet<String>,
    last_frame: u64,
    waits: HashMap<String, Instant>,
    pause: Option<Instant>,
    /// When it last looked for what may go.
    looked_at: Instant,
    is_careful: bool,
    reconnect_after: Option<Duration>,
    retry_after: Option<Duration>,
    growing: Duration,
    attempts: usize,
}

impl LoopClient {
    /// A client of this user with the device `D`, which takes these nodes in turn.
    pub fn new(user: &str, addrs: Vec<SocketAddr>) -> Self {
        Self {
            addrs,
            user: user.to_owned(),
            stored: HashMap::new(),
            outbox: Vec::new(),
            epoch: None,
            contiguous: None,
            marks: None,
            effects: Vec::new(),
            said: Vec::new(),
            statuses: HashMap::new(),
            sends: 0,
            readies: Vec::new(),
            unreadable: HashSet::new(),
            last_frame: 0,
            waits: HashMap::new(),
            pause: None,
            looked_at: Instant::now(),
            is_careful: false,
            reconnect_after: None,
            retry_after: None,
            growing: Duration::from_millis(100),
            attempts: 0,
        }
    }

    /// Puts a send or a read into the outbox.
    pub fn put(&mut self, event: &'static str, data: Value) {
        self.last_frame += 1;
        let frame_id = format!("out-{}", self.last_frame);
        self.outbox.push(Entry { event, data, frame_id, is_on_its_way: false, refusals: 0, is_refused: false });
    }

    /// Runs until the test has seen enough, or the client has stopped.
    pub async fn run(&mut self, mut is_enough: impl FnMut(&Self) -> bool) {
        //|
        //| loop:
        loop {
            //|     socket = connect("/ws?device=D" + ("&epoch=E&since=N,alert:N,event:N" if contiguous is there) + ("&marks=M" if marks are there))
            let mut url = format!("ws://{}/ws?device=D", self.addrs[self.attempts % self.addrs.len()]);
            self.attempts += 1;
            if let (Some(epoch), Some(at)) = (&self.epoch, &self.contiguous) {
                url += &format!("&epoch={epoch}&since={},alert:{},event:{}", at["chat"], at["alert"], at["event"]);
            }
            url += &self.marks.as_ref().map(|marks| format!("&marks={marks}")).unwrap_or_default();
            let mut request = url.as_str().into_client_request().unwrap();
            request.headers_mut().insert("authorization", format!("Bearer {}", token(&self.user)).parse().unwrap());
            let mut socket = match connect_async(request).await {
                Ok((socket, _)) => socket,
                //|     if it could not be made:
                Err(error) => {
                    let (status, body) = match error {
                        tungstenite::Error::Http(answer) => (answer.status().as_u16(), answer.into_body().unwrap_or_default()),
                        _ => (0, Vec::new()),
                    };
                    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                    match status {
                        //|         401: get a new token, come back after a pause that grows
                        401 => tokio::time::sleep(self.grow()).await,
                        //|         408, 429, 5xx, no answer: come back after retryAfterMs, without one after a pause that grows
                        0 | 408 | 429 | 500..=599 => {
                            let told = body["error"]["retryAfterMs"].as_u64().map(Duration::from_millis);
                            tokio::time::sleep(told.unwrap_or_else(|| self.grow())).await;
                        }
                        //|         else: stop and say so
                        _ => return self.said.push(format!("stopped: HTTP {status}")),
                    }
                    continue;
                }
            };
            //|     nothing is on its way, no chat waits, nothing is paused, careful = no
            self.outbox.iter_mut().for_each(|entry| entry.is_on_its_way = false);
            self.waits.clear();
            (self.pause, self.is_careful, self.reconnect_after, self.retry_after) = (None, false, None, None);
            let Some(pause) = self.live(&mut socket, &mut is_enough).await else { return };
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection. Returns after which time to come back; none: not at all.
    async fn live(&mut self, socket: &mut Stream, is_enough: &mut impl FnMut(&Self) -> bool) -> Option<Duration> {
        let mut is_ready = false;
        //|     on each frame:
        let end = loop {
            if is_enough(self) {
                break End::Enough;
            }
            // A time that was over at the last look waits for an answer. One that has passed since then is still to be looked at.
            let times = self.waits.values().chain(&self.pause).filter(|at| **at > self.looked_at).min().copied();
            let frame = tokio::select! {
                frame = socket.next() => frame,
                () = tokio::time::sleep_until(times.unwrap_or_else(Instant::now)), if times.is_some() => {
                    self.send_what_may_go(socket).await;
                    continue;
                }
            };
            match frame {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    is_ready |= frame["event"] == "ready";
                    self.hear(socket, &frame).await;
                    //|         send what may go
                    if is_ready {
                        self.send_what_may_go(socket).await;
                    }
                }
                Some(Ok(Message::Close(close))) => break End::Closed(close.map(|close| close.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break End::Closed(None),
            }
        };
        self.ended(socket, end).await
    }

    async fn ended(&mut self, socket: &mut Stream, end: End) -> Option<Duration> {
        let code = match end {
            End::Closed(code) => code,
            End::Enough => {
                let _ = socket.close(None).await;
                while let Some(Ok(_)) = socket.next().await {}
                return None;
            }
        };
        //|     when it ends:
        match code {
            //|         4401: get a new token, come back after a pause that grows
            Some(4401) => Some(self.grow()),
            //|         4400, 4403, 4413, 4509: stop and say so
            Some(code @ (4400 | 4403 | 4413 | 4509)) => {
                self.said.push(format!("stopped: {code}"));
                None
            }
            //|         1012: come back after reconnectAfterMs, without one after retryAfterMs of the error before it, without both at once
            Some(1012) => Some(self.reconnect_after.or(self.retry_after).unwrap_or_default()),
            //|         else: come back after retryAfterMs of the error before it, without one after a pause that grows
            _ => Some(self.retry_after.unwrap_or_else(|| self.grow())),
        }
    }

    async fn hear(&mut self, socket: &mut Stream, frame: &Value) {
        let (event, data) = (frame["event"].as_str().unwrap(), &frame["data"]);
        let own = self.outbox.iter().position(|entry| frame["id"] == entry.frame_id.as_str());
        match (event, own) {
            //|         ready:
            ("ready", _) => self.ready(data),
            //|         event:receive (and each of event:batch): the same as for a message m, with its eventId as m.messageId
            ("event:receive", _) => self.receive(socket, &as_message(data)).await,
            ("event:batch", _) => {
                for event in data["events"].as_array().unwrap() {
                    self.receive(socket, &as_message(event)).await;
                }
            }
            //|         message:recalled with a recallId: the same as for a message m, with its recallId as m.messageId; its effect takes away what messageId said
            ("message:recalled", _) if !data["recallId"].is_null() => self.receive(socket, &notice_as_message(data)).await,
            //|         message:recalled without one: take away what messageId said
            ("message:recalled", _) => self.effects.push(taken_away(data)),
            //|         message:receive (and each of message:batch), message m:
            ("message:receive", _) => self.receive(socket, data).await,
            ("message:batch", _) => {
                for message in data["messages"].as_array().unwrap() {
                    self.receive(socket, message).await;
                }
            }
            ("queue:gap", _) => self.gap(socket, data).await,
            //|         message:sent, message:read:ok with the id of something in outbox: take it from outbox; careful = no
            ("message:sent" | "message:read:ok", Some(own)) => {
                self.outbox.remove(own);
                self.is_careful = false;
            }
            //|         chat:read: the chat is read up to readSeq; then marks = data.marksCursor
            ("chat:read", _) => self.marks = data["marksCursor"].as_str().map(str::to_owned).or(self.marks.take()),
            //|         message:status:
            ("message:status", _) => self.status(data),
            ("error", Some(own)) => self.refused(own, data),
            ("error", None) => self.retry_after = data["retryAfterMs"].as_u64().map(Duration::from_millis),
            //|         server:draining: keep reconnectAfterMs
            ("server:draining", _) => self.reconnect_after = data["reconnectAfterMs"].as_u64().map(Duration::from_millis),
            //|         anything else: ignore
            _ => {}
        }
    }

    fn ready(&mut self, data: &Value) {
        self.readies.push(data.clone());
        let epoch = data["epoch"].as_str().unwrap();
        //|             if data.epoch is not epoch: epoch = data.epoch; contiguous = absent
        if self.epoch.as_deref() != Some(epoch) {
            (self.epoch, self.contiguous) = (Some(epoch.to_owned()), None);
        } else {
            //|             else: forget ids that "Once in effect" allows to forget
            let settled = |class: &str| match class {
                "alert" => &data["alertSettledSeq"],
                "event" => &data["eventSettledSeq"],
                _ => &data["settledSeq"],
            };
            let acked = |class: &str| match class {
                "alert" => &data["alertAckedSeq"],
                "event" => &data["eventAckedSeq"],
                _ => &data["ackedSeq"],
            };
            self.stored.retain(|_, (class, number, of)| {
                of != epoch || *number > settled(class).as_i64().unwrap().min(acked(class).as_i64().unwrap())
            });
        }
        //|             if contiguous is absent, or not data.resumed: contiguous = data.ackedSeq, data.alertAckedSeq, data.eventAckedSeq
        if self.contiguous.is_none() || data["resumed"] == false {
            let starts = [("chat", "ackedSeq"), ("alert", "alertAckedSeq"), ("event", "eventAckedSeq")];
            self.contiguous = Some(starts.into_iter().map(|(class, field)| (class.to_owned(), data[field].as_i64().unwrap())).collect());
        }
        //|             marks = data.marksCursor; the pause between connections begins anew
        self.marks = data["marksCursor"].as_str().map(str::to_owned);
        self.growing = Duration::from_millis(100);
    }

    async fn receive(&mut self, socket: &mut Stream, m: &Value) {
        let (id, class, number) = (m["messageId"].as_str().unwrap(), m["class"].as_str().unwrap(), m["inboxSeq"].as_i64().unwrap());
        let content = m["content"].as_str().unwrap();
        //|             if it cannot be processed: message:reject {messageId}, next frame
        if self.unreadable.contains(content) {
            return self.tell(socket, "message:reject", json!({"messageId": id})).await;
        }
        //|             in one transaction, unless m.messageId is in stored: do the effect, put m.messageId into stored
        if !self.stored.contains_key(id) {
            self.effects.push(content.to_owned());
            self.stored.insert(id.to_owned(), (class.to_owned(), number, self.epoch.clone().unwrap()));
        }
        //|             if m.inboxSeq is contiguous of m.class + 1: contiguous of m.class = m.inboxSeq
        let contiguous = self.contiguous.as_mut().unwrap().get_mut(class).unwrap();
        if number == *contiguous + 1 {
            *contiguous = number;
        }
        //|             ack {messageIds: [m.messageId]} (soon: several may share it)
        self.tell(socket, "message:delivered", json!({"messageIds": [id]})).await;
    }

    async fn gap(&mut self, socket: &mut Stream, data: &Value) {
        //|         queue:gap:
        let class = data["class"].as_str().unwrap();
        let (from, to) = (data["fromSeq"].as_i64().unwrap(), data["toSeq"].as_i64().unwrap());
        //|             if fromSeq is at most contiguous of its class + 1: contiguous = toSeq if that is greater; ack {upTo: toSeq, class}
        let contiguous = self.contiguous.as_mut().unwrap().get_mut(class).unwrap();
        if from <= *contiguous + 1 {
            *contiguous = to.max(*contiguous);
            self.tell(socket, "message:delivered", json!({"upTo": to, "class": class})).await;
        }
    }

    fn status(&mut self, data: &Value) {
        //|             do what its kind says, and keep the greater status; then marks = data.marksCursor
        let greater = |statuses: &mut HashMap<String, String>, what: String, status: &Value| {
            let rank = |status: &str| ["sent", "delivered", "read", "expired", "failed"].iter().position(|one| *one == status);
            let known = statuses.entry(what).or_default();
            let status = status.as_str().unwrap();
            if rank(status) > rank(known) {
                status.clone_into(known);
            }
        };
        let user = data["userId"].as_str().unwrap_or_default();
        match data["kind"].as_str().unwrap() {
            "messages" => {
                for id in data["messageIds"].as_array().unwrap() {
                    greater(&mut self.statuses, format!("{} {user}", id.as_str().unwrap()), &data["status"]);
                }
            }
            "mark" => {
                let mark = format!("{} {} {user}", data["chatId"].as_str().unwrap(), data["seq"]);
                greater(&mut self.statuses, mark, &data["status"]);
                for except in data["except"].as_array().unwrap() {
                    let what = format!("{} {user}", except["messageId"].as_str().unwrap());
                    // A message that was put back has a new status in place of its end.
                    if except["reason"] == "requeued" {
                        self.statuses.remove(&what);
                    }
                    greater(&mut self.statuses, what, &except["status"]);
                }
            }
            _ => {}
        }
        self.marks = data["marksCursor"].as_str().map(str::to_owned).or(self.marks.take());
    }

    fn refused(&mut self, own: usize, data: &Value) {
        let now = Instant::now();
        //|         error with the id of something in outbox: it is on its way no more
        let entry = &mut self.outbox[own];
        entry.is_on_its_way = false;
        match data["code"].as_str().unwrap() {
            //|             busy, unavailable, rate_limited, too_many_chats, policy_unavailable:
            code @ ("busy" | "unavailable" | "rate_limited" | "too_many_chats" | "policy_unavailable") => {
                //|                 t = retryAfterMs; without behind, twice as long for each such refusal of it before, but not for that above 30 s
                let told = Duration::from_millis(data["retryAfterMs"].as_u64().unwrap());
                let is_first = data["behind"].is_null();
                let grown = (told * 2_u32.pow(entry.refusals.min(10))).min(Duration::from_secs(30));
                let t = if is_first { told.max(grown) } else { told };
                entry.refusals += u32::from(is_first);
                entry.is_refused = true;
                //|                 its chat waits for t
                let until = self.waits.entry(entry.place()).or_insert(now);
                *until = (now + t).max(*until);
                //|                 unavailable or rate_limited without behind: everything pauses for t; careful = yes
                if is_first && matches!(code, "unavailable" | "rate_limited") {
                    self.pause = Some(now + t);
                    self.is_careful = true;
                }
            }
            //|             else: take it from outbox and say so
            code => {
                self.said.push(format!("{}: {code}", entry.data["content"].as_str().unwrap_or_default()));
                self.outbox.remove(own);
            }
        }
    }

    async fn send_what_may_go(&mut self, socket: &mut Stream) {
        let now = Instant::now();
        self.looked_at = now;
        //|
        //| send what may go (also when something is put into outbox, and when a time is over):
        //|     each chat that waits: if its time is over and nothing to it is on its way, it waits no more
        let busy: HashSet<String> = self.outbox.iter().filter(|entry| entry.is_on_its_way).map(Entry::place).collect();
        self.waits.retain(|place, until| *until > now || busy.contains(place));
        //|     each of outbox that is not on its way, in order:
        let mut n = 0;
        while n < self.outbox.len() {
            n += 1;
            if self.outbox[n - 1].is_on_its_way {
                continue;
            }
            //|         if everything pauses, or 32 (if careful: 1) are on their way: no more for now
            let on_their_way = self.outbox.iter().filter(|entry| entry.is_on_its_way).count();
            if self.pause.is_some_and(|until| until > now) || on_their_way >= if self.is_careful { 1 } else { 32 } {
                return;
            }
            //|         if its expiresAt has passed: take it from outbox and say so; if it was refused: message:skip {messageId}; next
            let entry = &self.outbox[n - 1];
            if entry.data["expiresAt"].as_str().is_some_and(has_passed) {
                self.said.push(format!("{}: expired", entry.data["content"].as_str().unwrap()));
                n -= 1;
                let entry = self.outbox.remove(n);
                if entry.is_refused {
                    self.tell(socket, "message:skip", json!({"messageId": entry.data["messageId"]})).await;
                }
                continue;
            }
            //|         if its chat (or `to`; for a read: the read of its chat) waits: next
            if self.waits.contains_key(&entry.place()) {
                continue;
            }
            //|         send it, with an id of the frame by which its answer is known; it is on its way
            let frame = json!({"event": entry.event, "id": entry.frame_id, "data": entry.data});
            self.sends += usize::from(entry.event == "message:send");
            self.outbox[n - 1].is_on_its_way = true;
            let _ = socket.send(Message::text(frame.to_string())).await;
        }
    }

    /// The next read sees that the connection has ended.
    async fn tell(&self, socket: &mut Stream, event: &str, data: Value) {
        let _ = socket.send(Message::text(json!({"event": event, "data": data}).to_string())).await;
    }

    /// A pause that grows.
    fn grow(&mut self) -> Duration {
        let pause = self.growing;
        self.growing = (pause * 2).min(Duration::from_secs(2));
        pause
    }
}

fn has_passed(time: &str) -> bool {
    let at = time::OffsetDateTime::parse(time, &time::format_description::well_known::Rfc3339).unwrap();
    at <= time::OffsetDateTime::now_utc()
}
