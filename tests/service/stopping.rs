//! A node stops as planned: who is told what and when, what is still served, and that nothing comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use restante::domain::MessageId;
use restante_client::{Client, Destination, Happening, NewMessage, Options};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite;

use super::entering::of_browser;
use crate::support::fixtures::{LockHolder, assert_consistent, until, until_so};
use crate::support::{Connect, Node, PATIENCE, SOMEBODY_WAITS, Socket, database, kill, secret, token};

/// A node that waits for long for the last acks of its clients.
async fn patient_node(options: PgConnectOptions) -> Node {
    Node::with(options, |config| config.shutdown_grace = Duration::from_secs(100)).await
}

/// Stops it beside the test.
fn stopping(node: Node) -> JoinHandle<()> {
    tokio::spawn(node.stop())
}

async fn stopped(stop: JoinHandle<()>) {
    tokio::time::timeout(PATIENCE, stop).await.expect("the node stops long before its grace is over").unwrap();
}

/// Bob, with a message that he has not acked: he holds the stop up until he does.
async fn with_something_in_flight(node: &Node) -> (Socket, serde_json::Value) {
    let (mut anna, mut bob) = (node.connect("anna").await, node.connect("bob").await);
    anna.send("bob", "hello").await;
    let message = bob.event("message:receive").await;
    anna.close().await;
    (bob, message)
}

#[tokio::test]
async fn a_node_that_stops_is_not_ready_at_once_and_lets_nobody_in_but_answers() {
    let db = database().await;
    let node = patient_node(db.options()).await;
    let (mut bob, message) = with_something_in_flight(&node).await;
    let (addr, api) = (node.addr(), node.api("cleo"));
    let stop = stopping(node);
    bob.event("server:draining").await;

    let ready = api.request(reqwest::Method::GET, "/readyz").send().await.unwrap();
    assert_eq!((ready.status().as_u16(), ready.headers()["connection"].to_str().unwrap()), (503, "close"));
    assert_eq!(api.get("/healthz").await.0, 200);
    // A request that a load balancer had sent here before it knew is served.
    let (status, _) = api.post("/v1/messages", json!({"to": "dora", "content": "still here"})).await;
    assert_eq!(status, 200);
    let Err(tungstenite::Error::Http(refused)) = Socket::raw(addr, Connect::user("cleo")).await else { panic!("it was let in") };
    let body: serde_json::Value = serde_json::from_slice(refused.body().as_deref().unwrap()).unwrap();
    assert_eq!((refused.status().as_u16(), &body["error"]["code"]), (503, &json!("restart")));
    assert!(body["error"]["retryAfterMs"].as_u64().unwrap() >= 250 && refused.headers().contains_key("retry-after"));
    let mut browser = Socket::request(of_browser(addr, "", &token("cleo"))).await.unwrap();
    let told = browser.event("error").await;
    assert_eq!((&told["code"], told["retryAfterMs"].as_u64().unwrap() >= 250), (&json!("restart"), true));
    assert_eq!(browser.closed().await, Some(1012));

    bob.ack(&message).await;
    assert_eq!((bob.error().await, bob.closed().await), (json!("restart"), Some(1012)));
    stopped(stop).await;
    assert!(TcpStream::connect(addr).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn what_arrives_before_a_connection_is_closed_is_served_and_nothing_new_is_emitted() {
    let db = database().await;
    let node = patient_node(db.options()).await;
    let (mut bob, message) = with_something_in_flight(&node).await;
    let (mut idle, metrics, dora) = (node.connect("idle").await, Arc::clone(&node.app().context().metrics), node.api("dora"));
    let stop = stopping(node);
    // The one that has nothing under way is closed at once, with its place in the row after Bob's or before it.
    assert_eq!(idle.closed().await, Some(1012));
    bob.event("server:draining").await;
    let sent = bob.send("cleo", "before I go").await;
    assert_eq!(sent["duplicate"], false);
    // His moment is at most 4 ms after the beginning: the first of these may still find him, the last cannot.
    let mut last = json!(null);
    for n in 0..20 {
        last = dora.post("/v1/messages", json!({"to": "bob", "content": n.to_string()})).await.1;
    }
    bob.ask("message:read", json!({"chatId": last["chatId"], "seq": last["seq"]})).await;
    let read = bob.ask("message:read", json!({"chatId": message["chatId"], "seq": message["seq"]})).await;
    assert_eq!(read["event"], "message:read:ok", "{read}");
    assert_eq!(bob.closed().await, Some(1012));
    assert!(bob.skipped().iter().all(|frame| frame["data"]["messageId"] != last["messageId"]), "{:?}", bob.skipped());
    stopped(stop).await;
    assert!(metrics.render().contains("\nrestante_draining 1\n"));
    assert_consistent(&db.pool(1).await).await;
}

#[tokio::test]
async fn a_message_whose_chat_is_looked_for_is_answered_before_its_connection_is_closed() {
    let db = database().await;
    let (node, pool) = (patient_node(db.options()).await, db.pool(1).await);
    let mut bob = node.connect("bob").await;
    let holder = LockHolder::holds(&db.options(), "lock table chats").await;
    let asked = bob.ask_later("message:send", json!({"to": "cleo", "content": "before I go"})).await;
    until(&pool, "its chat is looked for", SOMEBODY_WAITS).await;
    let stop = stopping(node);
    bob.event("server:draining").await;
    holder.commits().await;
    // Stored, or refused since the chat was held for too long.
    let answer = bob.answer(&asked).await;
    assert!(answer["event"] == "message:sent" || answer["data"]["code"] == "busy", "{answer}");
    assert_eq!(bob.closed().await, Some(1012));
    stopped(stop).await;
}

#[tokio::test]
async fn each_client_is_told_a_waiting_time_of_its_own() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut sockets = Vec::new();
    for user in 0..12 {
        sockets.push(node.connect(&format!("user-{user}")).await);
    }
    let stop = stopping(node);
    let mut waits = BTreeSet::new();
    for mut socket in sockets {
        waits.insert(socket.event("server:draining").await["reconnectAfterMs"].as_u64().unwrap());
        assert_eq!(socket.closed().await, Some(1012));
    }
    stopped(stop).await;
    assert!(waits.len() > 3 && waits.iter().all(|ms| *ms <= 100), "{waits:?}");
}

#[tokio::test]
async fn an_empty_node_stops_at_once_and_one_whose_client_never_acks_within_its_grace() {
    let db = database().await;
    stopped(stopping(patient_node(db.options()).await)).await;
    let node = Node::with(db.options(), |config| config.shutdown_grace = Duration::from_secs(2)).await;
    let (mut bob, message) = with_something_in_flight(&node).await;
    let stop = stopping(node);
    assert_eq!(bob.closed().await, Some(1012));
    stopped(stop).await;
    // Nothing was counted against it.
    let node = Node::start(db.options()).await;
    let again = node.connect("bob").await.event("message:receive").await;
    assert_eq!((&again["messageId"], &again["attempt"]), (&message["messageId"], &json!(1)));
    node.stop().await;
}

#[tokio::test]
async fn a_first_frame_that_is_waited_for_is_not_waited_for_any_more() {
    let db = database().await;
    let node = patient_node(db.options()).await;
    let url = format!("ws://{}/ws", node.addr());
    let request = tungstenite::client::IntoClientRequest::into_client_request(url.as_str()).unwrap();
    let mut stranger = Socket::request(request).await.unwrap();
    let stop = stopping(node);
    assert_eq!((stranger.error().await, stranger.closed().await), (json!("restart"), Some(1012)));
    stopped(stop).await;
}

#[tokio::test]
async fn a_service_that_is_terminated_sends_its_clients_away_and_exits_with_0() {
    let db = database().await;
    let mut service = Command::new(env!("CARGO_BIN_EXE_restante"))
        .arg("serve")
        .current_dir(std::env::temp_dir())
        .envs([("DATABASE_URL", db.url().as_str()), ("JWT_SECRET", secret()), ("LISTEN_ADDR", "127.0.0.1:0"), ("RUST_LOG", "warn")])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let addr: SocketAddr = line.strip_prefix("listening on http://").unwrap().parse().unwrap();
    let mut anna = Socket::open(addr, Connect::user("anna")).await;
    kill("-TERM", service.id().unwrap());
    anna.event("server:draining").await;
    assert_eq!(anna.closed().await, Some(1012));
    let exit = tokio::time::timeout(PATIENCE, service.wait()).await.unwrap().unwrap();
    assert_eq!(exit.code(), Some(0));
}

/// The observations of the clients of a rolling restart.
#[derive(Default)]
struct Seen {
    /// By message: to whom.
    stored: BTreeMap<MessageId, usize>,
    /// Per user.
    received: Vec<BTreeSet<MessageId>>,
    redelivered: usize,
    connects: usize,
}

const USERS: usize = 6;

/// Passes each connection on to the next node that takes it.
async fn balance(listener: TcpListener, nodes: [SocketAddr; 3]) {
    let next = AtomicUsize::new(0);
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let first = next.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            for place in first..first + nodes.len() {
                if let Ok(mut node) = TcpStream::connect(nodes[place % nodes.len()]).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
                    return;
                }
            }
        });
    }
}

/// One user: sends one message after the other to the next user, takes what comes, and tells how much has come by now.
async fn talk(user: usize, url: String, seen: Arc<std::sync::Mutex<Seen>>, received: watch::Sender<usize>, end: Arc<AtomicBool>) {
    let to = (user + 1) % USERS;
    let mut client = Client::new(Options::new(&url, token(&format!("user-{user}"))).unwrap());
    let text = || NewMessage::text(Destination::User(format!("user-{to}")), "under load");
    client.send(&text());
    loop {
        match client.next().await.unwrap() {
            Happening::Stored(sent) => {
                seen.lock().unwrap().stored.insert(sent.message_id, to);
                if !end.load(Ordering::Relaxed) {
                    client.send(&text());
                }
            }
            Happening::Message(envelope) => {
                assert!(seen.lock().unwrap().received[user].insert(envelope.message_id));
                received.send_modify(|count| *count += 1);
            }
            Happening::Again(_) => seen.lock().unwrap().redelivered += 1,
            Happening::Ready(_) => seen.lock().unwrap().connects += 1,
            Happening::Refused(_, error) => panic!("{error:?}"),
            Happening::FeedEvent(_)
            | Happening::FeedEventAgain(_)
            | Happening::Recalled(_)
            | Happening::RecalledAgain(_)
            | Happening::Postponed(..)
            | Happening::Event(_)
            | Happening::Frame(_)
            | Happening::Lost(..) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_three_nodes_under_load_loses_nothing_and_repeats_next_to_nothing() {
    let db = database().await;
    let start = async |addr: SocketAddr| {
        Node::with(db.options(), |config| (config.listen_addr, config.look_interval) = (addr, Duration::from_millis(200))).await
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let mut nodes = vec![start(any).await, start(any).await, start(any).await];
    let balancer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", balancer.local_addr().unwrap());
    let balancing = tokio::spawn(balance(balancer, [nodes[0].addr(), nodes[1].addr(), nodes[2].addr()]));
    let seen = Arc::new(std::sync::Mutex::new(Seen { received: vec![BTreeSet::new(); USERS], ..Seen::default() }));
    let ((received, mut progress), end) = (watch::channel(0), Arc::new(AtomicBool::new(false)));
    let users: Vec<_> =
        (0..USERS).map(|user| tokio::spawn(talk(user, url.clone(), Arc::clone(&seen), received.clone(), Arc::clone(&end)))).collect();

    for _ in 0..3 {
        let goal = *progress.borrow() + 30 * USERS;
        tokio::time::timeout(PATIENCE, progress.wait_for(|count| *count >= goal)).await.unwrap().unwrap();
        let node = nodes.remove(0);
        let addr = node.addr();
        stopped(stopping(node)).await;
        nodes.push(start(addr).await);
    }
    end.store(true, Ordering::Relaxed);
    let pool = db.pool(1).await;
    until(&pool, "everything is acked", "select not exists (select from message_status where status = 'sent')").await;
    // Acked means that the client has counted it: it acks when it is asked for the next thing.
    let all: i64 = sqlx::query_scalar("select count(*) from messages").fetch_one(&pool).await.unwrap();
    until_so("everything is counted", || seen.lock().unwrap().stored.len() >= usize::try_from(all).unwrap()).await;
    users.iter().for_each(JoinHandle::abort);
    balancing.abort();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let mut expected = vec![BTreeSet::new(); USERS];
    for (message, to) in &seen.stored {
        expected[*to].insert(*message);
    }
    assert_eq!(seen.received, expected);
    let (stored, redelivered, connects) = (seen.stored.len(), seen.redelivered, seen.connects);
    println!("{stored} stored, {redelivered} redelivered, {connects} connects");
    assert!(connects > USERS && redelivered * 100 <= stored, "{stored} stored, {redelivered} redelivered, {connects} connects");
    assert_consistent(&pool).await;
    futures_util::future::join_all(nodes.into_iter().map(Node::stop)).await;
}
