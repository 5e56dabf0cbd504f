//! One user asks for everything that can be asked for, all at once: others send and are told as if nobody did, and the node stays
//! ready. Such a user is read no faster than its budget allows. Nothing here measures a time; `restante-lab bench flood` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use restante::delivery::ReadUpTo;
use restante::domain::{ChatId, ChatSeq, ExternalId, Profile};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::support::fixtures::{assert_consistent, delivery, group, store, user};
use crate::support::{Connect, Database, Node, Socket, database, fill, token, wait_until};

/// The callers of one user: connections, and as many of HTTP.
const SOCKETS: usize = 12;
/// Frames that a connection asks in one go, without reading an answer meanwhile. They fit into the buffers of a socket, so that a client
/// of a busy machine is not taken for one that reads nothing.
const PIPELINED: usize = 8;
/// Messages that others send meanwhile.
const SENDS: usize = 25;
/// The groups of the user that floods.
const GROUPS: usize = 30;

/// The user that floods, its groups, and the names that it asks for.
struct Flood {
    chats: Vec<ChatId>,
    message: Uuid,
    names: Vec<String>,
}

impl Flood {
    async fn prepare(db: &Database, node: &Node) -> Self {
        let pool = db.pool(1).await;
        let mallory = user(store(node), "mallory").await;
        let names: Vec<String> = (0..200).map(|n| format!("name-{n}")).collect();
        let mut others: Vec<Arc<Profile>> = Vec::new();
        for name in &names[..20] {
            others.push(user(store(node), name).await);
        }
        let members: Vec<_> = others.iter().map(|other| other.user).chain([mallory.user]).collect();
        let mut chats = Vec::new();
        for _ in 0..GROUPS {
            chats.push(group(&pool, &members).await);
        }
        fill(&pool, chats[0].0, "name-0", 500).await;
        // They are read, so that nothing waits for an ack of the connections that ask.
        delivery(node).read(mallory, chats[0], ReadUpTo::Seq(ChatSeq(500))).await.unwrap();
        let message = sqlx::query_scalar("select id from messages limit 1").fetch_one(&pool).await.unwrap();
        Self { chats, message, names }
    }

    /// The frames of every kind that read, one after the other.
    fn frame(&self, n: usize) -> (&'static str, Value) {
        match n % 5 {
            0 | 1 => ("presence:get", json!({"userIds": self.names})),
            2 => ("presence:subscribe", json!({"userIds": self.names})),
            3 => ("typing", json!({"chatId": self.chats[n % GROUPS], "typing": true})),
            _ => ("message:read", json!({"chatId": self.chats[n % GROUPS], "seq": n})),
        }
    }

    /// The requests of every kind that read.
    fn path(&self, n: usize) -> String {
        let chat = self.chats[n % GROUPS];
        match n % 7 {
            0 => "/v1/chats?limit=100".to_owned(),
            1 => format!("/v1/chats/{}?limit=500", self.chats[0]),
            2 => format!("/v1/chats/{}/messages?limit=200", self.chats[0]),
            3 => "/v1/inbox?limit=500".to_owned(),
            4 => format!("/v1/messages/{}/status", self.message),
            5 => format!("/v1/presence?userIds={}", self.names.join(",")),
            _ => format!("/v1/chats/{chat}"),
        }
    }

    /// A connection that asks in bursts until it is over. Each answer is the result or `busy`, and nothing else.
    async fn over_a_socket(&self, node: &Node, is_over: &AtomicBool) -> usize {
        let mut socket = Socket::raw(node.addr(), Connect::user("mallory")).await.unwrap();
        let mut asked = 0;
        while !is_over.load(Ordering::Relaxed) {
            let mut ids = Vec::new();
            for n in 0..PIPELINED {
                let (event, data) = self.frame(asked + n);
                let id = socket.ask_later(event, data).await;
                // Nothing answers `typing`.
                if event != "typing" {
                    ids.push(id);
                }
            }
            for id in ids {
                let answer = socket.answer(&id).await;
                assert!(answer["event"] != "error" || answer["data"]["code"] == "busy", "{answer}");
            }
            asked += PIPELINED;
        }
        asked
    }

    /// The same over HTTP.
    async fn over_http(&self, node: &Node, is_over: &AtomicBool) -> usize {
        let (api, mut asked) = (node.api("mallory"), 0);
        while !is_over.load(Ordering::Relaxed) {
            let (status, answer) = api.get(&self.path(asked)).await;
            assert!(status == 200 || answer["error"]["code"] == "busy", "{status} {answer}");
            asked += 1;
        }
        asked
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_reads_of_one_user_refuses_no_send_of_others_and_the_node_stays_ready() {
    let db = database().await;
    // Budgets would end the flood at the doors.
    let node = Node::with(db.options(), |config| config.request_rate = 0).await;
    let flood = Flood::prepare(&db, &node).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    let (is_over, anybody) = (AtomicBool::new(false), node.api("anybody"));
    let callers = async {
        let sockets = join_all((0..SOCKETS).map(|_| flood.over_a_socket(&node, &is_over)));
        let (sockets, http) = tokio::join!(sockets, join_all((0..SOCKETS).map(|_| flood.over_http(&node, &is_over))));
        assert!(sockets.iter().chain(&http).all(|asked| *asked > 0));
    };
    let others = async {
        let requests = &node.app().context().metrics;
        wait_until("requests wait for their turn", || waiting(&requests.render()) > 0).await;
        for n in 0..SENDS {
            let sent = anna.send("ben", &format!("beside the flood {n}")).await;
            let received = ben.event("message:receive").await;
            assert_eq!(received["messageId"], sent["messageId"]);
            ben.ack(&received).await;
            let ready = anybody.request(Method::GET, "/readyz").send().await.unwrap();
            assert_eq!(ready.status().as_u16(), 200);
        }
        assert_eq!(anybody.get("/v1/chats").await.0, 200, "somebody else's request has its turn");
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(callers, others);
    let health = delivery(&node).health();
    assert_eq!((health.is_away(), health.outages()), (false, 0), "a busy pool is no database that is away");
    assert_consistent(&db.pool(1).await).await;
    node.stop().await;
}

/// The requests that wait to be admitted, as the metrics say.
fn waiting(metrics: &str) -> u64 {
    number("restante_turns_waiting{purpose=\"request\"} ", metrics)
}

/// The number behind these words in the metrics; 0 where they are missing.
fn number(words: &str, metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(words));
    line.and_then(|count| count.parse().ok()).unwrap_or_default()
}

/// Times that somebody had to wait at this door.
fn pauses(node: &Node, door: &str) -> u64 {
    number(&format!("restante_request_pauses_total{{door=\"{door}\"}} "), &node.app().context().metrics.render())
}

/// Requests that were admitted to the database.
fn admitted(node: &Node) -> u64 {
    number("restante_turn_wait_seconds_count{purpose=\"request\"} ", &node.app().context().metrics.render())
}

/// 10 points in a second, 50 at once. A question for [`names`] costs 27.
const FEW_POINTS: u32 = 100;

fn names() -> Value {
    json!({"userIds": (0..500).map(|n| format!("name-{n}")).collect::<Vec<_>>()})
}

/// A frame of each kind, cheap or dear, read or not understood.
fn one_of_each_kind(n: usize) -> String {
    let id = Uuid::new_v4();
    match n % 9 {
        0 => json!({"event": "presence:get", "id": n, "data": {"userIds": ["ben"]}}).to_string(),
        1 => json!({"event": "presence:subscribe", "id": n, "data": {"userIds": ["ben"]}}).to_string(),
        2 => json!({"event": "message:read", "id": n, "data": {"chatId": id, "seq": 1}}).to_string(),
        3 => json!({"event": "message:delivered", "id": n, "data": {"messageIds": [id]}}).to_string(),
        4 => json!({"event": "message:reject", "id": n, "data": {"messageId": id, "reason": "no"}}).to_string(),
        5 => json!({"event": "typing", "data": {"chatId": id, "typing": true}}).to_string(),
        6 => json!({"event": "no such event", "id": n}).to_string(),
        7 => json!({"event": "authenticate", "id": n, "data": {"token": "none"}}).to_string(),
        _ => json!({"event": "ping", "id": n}).to_string(),
    }
}

/// Frames of one kind that cost as much as can be, and then of every kind. None is refused and no connection is closed: the rest is
/// not read.
#[tokio::test]
async fn a_user_who_asks_too_much_is_not_read_on_and_others_send_as_before() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.request_rate = FEW_POINTS).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    let mut mallory = node.connect("mallory").await;
    for _ in 0..60 {
        mallory.ask_later("presence:get", names()).await;
    }
    wait_until("the connection is not read", || pauses(&node, "socket") > 0).await;
    let before = admitted(&node);
    for n in 0..SENDS {
        let sent = anna.send("ben", &format!("beside the flood {n}")).await;
        let received = ben.event("message:receive").await;
        assert_eq!(received["messageId"], sent["messageId"]);
        ben.ack(&received).await;
    }
    // All of them would take more than two minutes.
    assert!(before < 10 && admitted(&node) < 40, "{before}, {}", admitted(&node));
    // A message of the user itself waits behind its frames, and what others send to it does not.
    let sent = anna.send("mallory", "you are told").await;
    assert_eq!(mallory.event("message:receive").await["messageId"], sent["messageId"]);
    node.stop().await;
}

#[tokio::test]
async fn frames_of_every_kind_are_counted() {
    let db = database().await;
    for kind in 0..9 {
        let node = Node::with(db.options(), |config| config.request_rate = FEW_POINTS).await;
        let mut mallory = node.connect("mallory").await;
        for _ in 0..90 {
            mallory.text(one_of_each_kind(kind)).await;
        }
        wait_until("the connection is not read", || pauses(&node, "socket") > 0).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn the_connections_of_a_user_are_counted_together_and_those_of_others_are_not() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.request_rate = FEW_POINTS).await;
    // Each frame costs nearly all that may be spent at once.
    let large = json!({"event": "no such event", "data": "x".repeat(43 * 1_024)}).to_string();
    for user in ["mallory", "anna", "ben"] {
        let mut connection = node.connect(user).await;
        connection.text(large.as_str()).await;
        assert_eq!(connection.error().await, "unknown_event");
        assert_eq!(pauses(&node, "socket"), 0, "{user}");
    }
    let mut second = node.connect("mallory").await;
    second.text(large.as_str()).await;
    wait_until("the second connection is not read", || pauses(&node, "socket") > 0).await;
    node.stop().await;
}

/// Acks of what was emitted cost nothing, and messages are counted by their own rate.
#[tokio::test]
async fn whoever_only_talks_is_never_slowed() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.request_rate = FEW_POINTS).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    for n in 0..150 {
        anna.send("ben", &format!("number {n}")).await;
        let received = ben.event("message:receive").await;
        ben.ack(&received).await;
    }
    assert_eq!(pauses(&node, "socket"), 0);
    node.stop().await;
}

/// The ack and the answers to pings lie behind frames that are not read yet, for longer than a client has for them.
#[tokio::test]
async fn a_client_is_not_closed_for_acks_and_pongs_that_nobody_has_read() {
    let db = database().await;
    let change = |config: &mut restante::config::Config| {
        config.request_rate = 10 * FEW_POINTS;
        config.ack_timeout = std::time::Duration::from_millis(500);
        config.heartbeat = std::time::Duration::from_millis(300);
    };
    let node = Node::with(db.options(), change).await;
    let mut ben = node.connect("ben").await;
    for _ in 0..40 {
        ben.ask_later("presence:get", names()).await;
    }
    // It reads meanwhile: a client that does not answers no pings.
    tokio::select! {
        () = wait_until("the connection is not read", || pauses(&node, "socket") > 0) => {}
        () = async { loop { ben.next().await; } } => {}
    }
    let mut anna = node.connect("anna").await;
    anna.send("ben", "hello").await;
    let received = ben.event("message:receive").await;
    let acked = ben.ask("message:delivered", json!({"messageIds": [received["messageId"]]})).await;
    assert_eq!(acked["event"], "message:delivered:ok", "{acked}");
    assert!(ben.frames_that_have_come().await.iter().all(|frame| frame["event"] != "message:receive"), "no attempt was counted");
    node.stop().await;
}

#[tokio::test]
async fn over_http_a_user_who_asks_too_much_waits_and_is_then_refused_and_opens_no_connection() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.request_rate = FEW_POINTS).await;
    let (mallory, anna) = (node.api("mallory"), node.api("anna"));
    let list = names()["userIds"].as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    let path = format!("/v1/presence?userIds={list}");
    let answers = join_all((0..20).map(|_| mallory.get(&path))).await;
    let refused: Vec<_> = answers.iter().filter(|(status, _)| *status != 200).collect();
    assert!(!refused.is_empty() && refused.len() < answers.len(), "{}", refused.len());
    for (status, answer) in refused {
        assert_eq!((*status, &answer["error"]["code"]), (429, &json!("rate_limited")), "{answer}");
        assert!(answer["error"]["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0 && ms <= 10_000), "{answer}");
    }
    assert!(pauses(&node, "http") > 0);
    let mut late = Socket::raw(node.addr(), Connect::user("mallory")).await.unwrap();
    assert_eq!(late.error().await, "busy");
    assert_eq!(late.closed().await, Some(4503));
    assert_eq!(anna.get(&path).await.0, 200);
    node.stop().await;
}

/// Broken by a body that is paid for by what its headers say of its length.
#[tokio::test]
async fn a_body_that_does_not_say_its_length_is_paid_for_once_it_has_come() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.request_rate = FEW_POINTS).await;
    let chunked = async |user: &str, bytes: usize| {
        let body = format!("{{\"messageIds\": [\"{}\"]{}}}", Uuid::now_v7(), " ".repeat(bytes));
        let head = format!(
            "POST /v1/inbox/ack?device=phone HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n",
            token(user),
            body.len()
        );
        let mut stream = TcpStream::connect(node.addr()).await.unwrap();
        stream.write_all(format!("{head}{body}\r\n0\r\n\r\n").as_bytes()).await.unwrap();
        stream
    };
    let mut answer = [0; 12];
    chunked("anna", 100).await.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut anna = Socket::raw(node.addr(), Connect::user("anna")).await.unwrap();
    anna.event("ready").await;
    // It owes seconds from then on: it waits for its answer, and opens nothing.
    let _stream = chunked("mallory", 200 * 1_024).await;
    let owes = node.app().context().service.limits().budget(&ExternalId::try_from("mallory".to_owned()).unwrap());
    wait_until("the body is paid for", || owes.debt() > Duration::from_secs(5)).await;
    let mut mallory = Socket::raw(node.addr(), Connect::user("mallory")).await.unwrap();
    assert_eq!(mallory.error().await, "busy");
    node.stop().await;
}

/// The lanes have connections of their own, and so has the question whether the database is there.
#[tokio::test]
async fn with_every_connection_of_the_pool_in_use_messages_come_and_go_and_the_node_is_ready() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    // The chat is known from now on, and so are the lanes' connections made.
    anna.send("ben", "before").await;
    let received = ben.event("message:receive").await;
    ben.ack(&received).await;
    let all = join_all((0..16).map(|_| store(&node).lend())).await;
    assert!(all.iter().all(Result::is_ok));
    let api = node.api("anybody");
    for n in 0..10 {
        anna.send("ben", &format!("meanwhile {n}")).await;
        let received = ben.event("message:receive").await;
        ben.ack(&received).await;
        assert_eq!(api.get("/readyz").await.0, 200);
    }
    // A read that finds no connection in time is told so, and nobody takes it for more.
    let refused = anna.ask("presence:get", json!({"userIds": ["ben"]})).await;
    assert_eq!(refused["data"]["code"], "busy", "{refused}");
    assert_eq!((delivery(&node).health().is_away(), delivery(&node).health().outages()), (false, 0));
    drop(all);
    node.stop().await;
}

#[tokio::test]
async fn asking_a_thousand_times_whether_a_node_is_ready_asks_the_database_nothing() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let all = join_all((0..16).map(|_| store(&node).lend())).await;
    let api = node.api("anybody");
    for _ in 0..1_000 {
        assert_eq!(api.get("/readyz").await.0, 200);
    }
    assert!(all.iter().all(Result::is_ok), "no connection was left to ask over");
    drop(all);
    node.stop().await;
}
