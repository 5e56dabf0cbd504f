//! One user asks for everything that can be asked for, all at once: others send and are told as if nobody did, and the node stays
//! ready. Nothing here measures a time; `restante-lab bench flood` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use reqwest::Method;
use restante::delivery::ReadUpTo;
use restante::domain::{ChatId, ChatSeq, Profile};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::fixtures::{assert_consistent, delivery, group, store, user};
use crate::support::{Connect, Database, Node, Socket, database, fill, wait_until};

/// The callers of one user: connections, and as many of HTTP.
const SOCKETS: usize = 12;
/// Frames that a connection asks in one go, without waiting for an answer.
const PIPELINED: usize = 30;
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
        let names: Vec<String> = (0..500).map(|n| format!("name-{n}")).collect();
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
    let node = Node::start(db.options()).await;
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
    let line = metrics.lines().find_map(|line| line.strip_prefix("restante_turns_waiting{purpose=\"request\"} "));
    line.and_then(|count| count.parse().ok()).unwrap_or_default()
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
