//! The refusals of a stream, and its ends: by its client, its token, another connection of its device, a stop of the node, or because
//! its client takes nothing or acks nothing.

use std::time::Duration;

use reqwest::Client;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::fixtures::until_so;
use crate::support::{Node, Sent, Stream, database, direct, fill, refused, statuses, token, token_for};

/// The last event and its code.
fn last_error(events: &[Sent]) -> &str {
    let last = events.last().unwrap();
    assert_eq!(last.event, "error", "{events:?}");
    last.data["code"].as_str().unwrap()
}

fn streams(node: &Node) -> i64 {
    node.app().context().metrics.event_streams.get()
}

#[tokio::test]
async fn a_stream_is_refused_with_a_status_and_a_code_before_it_begins() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        config.sessions_per_user_max = 1;
        config.allowed_origins = vec!["https://app.example".to_owned()];
    })
    .await;
    let url = format!("{}/v1/stream", node.url());
    let told = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused(Client::new().get(&url)).await, told(401, "not_authenticated"));
    assert_eq!(refused(Client::new().get(&url).bearer_auth("no.token.atall")).await, told(401, "not_authenticated"));
    let device = node.api("ben").post("/v1/inbox/ack?device=", json!({"upTo": 0})).await;
    assert_eq!((device.0, &device.1["error"]["code"]), (400, &json!("invalid")));
    let over = token_for("ben", time::Duration::seconds(-1));
    assert_eq!(refused(Client::new().get(format!("{url}?token={over}"))).await, told(401, "token_expired"));
    for query in ["window=0", "device=", "since=4", "epoch=e&since=x"] {
        assert_eq!(refused(node.stream_request("ben", query)).await, told(400, "invalid"), "{query}");
    }
    for id in ["7", "epoch;x", "epoch;1,2", "epoch;99999999999999999999"] {
        assert_eq!(refused(node.stream_request("ben", "").header("last-event-id", id)).await, told(400, "invalid"), "{id}");
    }
    let elsewhere = node.stream_request("ben", "").header("origin", "https://elsewhere.example");
    assert_eq!(refused(elsewhere).await, told(403, "forbidden"));
    assert_eq!(refused(Client::new().post(&url).bearer_auth(token("ben"))).await, told(405, "method_not_allowed"));
    assert_eq!(Client::new().head(&url).bearer_auth(token("ben")).send().await.unwrap().status(), 405);
    assert_eq!(streams(&node), 0);
    let by_query = Client::new().get(format!("{url}?token={}", token("ben")));
    let mut ben = Stream::of(by_query.send().await.unwrap(), node.api("ben"), None);
    assert_eq!(ben.event("ready").await["userId"], "ben");
    let answer = node.stream_request("ben", "").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "5"));
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_at_once_and_is_offline() {
    let db = database().await;
    // Nothing is written meanwhile that would find it gone.
    let node = Node::with(db.options(), |config| config.heartbeat = Duration::from_secs(3_600)).await;
    let ben = node.stream("ben", "").await;
    assert_eq!((streams(&node), node.app().context().metrics.sessions.get()), (1, 1));
    drop(ben);
    until_so("the stream has ended", || streams(&node) == 0 && node.app().context().metrics.sessions.get() == 0).await;
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_its_session_is_open_leaves_nothing_behind() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.heartbeat = Duration::from_secs(3_600)).await;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(node.addr()).await.unwrap();
        let request = format!("GET /v1/stream?token={} HTTP/1.1\r\nhost: x\r\n\r\n", token("ben"));
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    let metrics = &node.app().context().metrics;
    until_so("all have been there", || metrics.connections_closed.of("client").get() >= 20).await;
    until_so("all have gone", || streams(&node) == 0 && metrics.sessions.get() == 0).await;
    node.stop().await;
}

#[tokio::test]
async fn a_newer_connection_of_the_device_ends_the_stream_for_good() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut old = node.stream("ben", "device=phone").await;
    let mut new = node.stream("ben", "device=phone").await;
    let events = old.ended().await;
    assert_eq!((last_error(&events), old.last_id.as_str()), ("displaced", "ended"));
    assert_ne!(events.last().unwrap().id, "ended", "a client that keeps ids keeps a place");
    // A browser comes back all the same.
    let answer = node.stream_request("ben", "device=phone").header("last-event-id", &old.last_id).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    let mut anna = node.connect("anna").await;
    anna.send("ben", "to the newer one").await;
    new.receive(1).await;
    // A socket is such a connection too.
    node.open(crate::support::Connect::user("ben").device("phone")).await;
    assert_eq!(last_error(&new.ended().await), "displaced");
    node.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let request = |token: &str| Client::new().get(format!("{}/v1/stream?token={token}", node.url()));
    // On a machine that is busy a token may be over before it has been looked at.
    let mut ttl = time::Duration::seconds(1);
    let (token, answer) = loop {
        let token = token_for("ben", ttl);
        let answer = request(&token).send().await.unwrap();
        if answer.status() == 200 {
            break (token, answer);
        }
        ttl *= 2;
    };
    let mut ben = Stream::of(answer, node.api("ben"), None);
    assert_eq!(last_error(&ben.ended().await), "token_expired");
    assert_eq!(refused(request(&token)).await, (401, "token_expired".to_owned()));
    // With another one it goes on where it was.
    node.stream_again("ben", "", &ben.last_id).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_says_when_to_come_back_takes_the_last_acks_and_ends_the_stream() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::with(db.options(), |config| config.shutdown_grace = Duration::from_secs(100)).await;
    fill(&pool, direct(&pool, "anna", "ben").await, "anna", 1).await;
    let (mut ben, api) = (node.stream("ben", "device=phone").await, node.api("ben"));
    let messages = ben.receive(1).await;
    let request = node.stream_request("cleo", "");
    let stop = tokio::spawn(node.stop());
    let told = ben.event("server:draining").await;
    assert_eq!(ben.retry_ms, told["reconnectAfterMs"].as_u64());
    let (status, code) = refused(request).await;
    assert_eq!((status, code.as_str()), (503, "restart"));
    let acked = api.post("/v1/inbox/ack?device=phone", json!({"messageIds": [messages[0]["messageId"]]})).await;
    assert_eq!(acked.0, 200);
    assert_eq!(last_error(&ben.ended().await), "restart");
    tokio::time::timeout(crate::support::PATIENCE, stop).await.expect("it waits for nothing more").unwrap();
    assert_eq!(statuses(&pool, "ben").await, ["delivered"]);
    let cursor = "select acked_seq from device_cursors where class = 'chat' order by step desc limit 1";
    assert_eq!(sqlx::query_scalar::<_, i64>(cursor).fetch_one(&pool).await.unwrap(), 1, "its device need not get it again");
}

#[tokio::test]
async fn a_client_that_acks_nothing_gets_its_window_once_and_is_told_to_come_back_later() {
    let db = database().await;
    let pool = db.pool(1).await;
    fill(&pool, direct(&pool, "anna", "ben").await, "anna", 9).await;
    let node = Node::with(db.options(), |config| config.ack_timeout = Duration::from_secs(1)).await;
    let mut ben = node.stream("ben", "window=3").await;
    let events = ben.ended().await;
    assert_eq!(last_error(&events), "no_acks");
    assert_eq!(events.iter().filter(|sent| sent.event == "message:receive").count(), 3);
    assert_eq!(ben.retry_ms, Some(5_000));
    assert_eq!(statuses(&pool, "ben").await, ["sent"; 9]);
    assert_eq!(crate::support::number(&pool, "select count(*) from message_status where attempts > 0").await, 0);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_acks_over_http_is_there_and_what_it_skips_is_redelivered() {
    let db = database().await;
    let pool = db.pool(1).await;
    fill(&pool, direct(&pool, "anna", "ben").await, "anna", 2).await;
    let node = Node::with(db.options(), |config| config.ack_timeout = Duration::from_secs(1)).await;
    let mut ben = node.stream("ben", "device=phone").await;
    let messages = ben.receive(2).await;
    ben.ack(&messages[1..]).await;
    let again = ben.receive(1).await;
    assert_eq!((&again[0]["messageId"], &again[0]["attempt"]), (&messages[0]["messageId"], &json!(2)));
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off_and_costs_nobody_else() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    let mut anna = node.connect("anna").await;
    let content = "x".repeat(32 * 1024);
    for _ in 0..300 {
        anna.send("slow", &content).await;
    }
    let mut slow = TcpStream::connect(node.addr()).await.unwrap();
    let request = format!("GET /v1/stream?window=500&token={} HTTP/1.1\r\nhost: x\r\n\r\n", token("slow"));
    slow.write_all(request.as_bytes()).await.unwrap();
    let metrics = &node.app().context().metrics;
    until_so("the stream is there", || streams(&node) == 1).await;
    let mut ben = node.stream("ben", "").await;
    while streams(&node) == 2 {
        let sent = anna.send("ben", "meanwhile").await;
        let got = ben.receive(1).await;
        assert_eq!(got[0]["messageId"], sent["messageId"]);
        ben.ack(&got).await;
    }
    until_so("it is counted", || metrics.connections_closed.of("too_slow").get() == 1).await;
    // The connection is cut: not everything comes that its window would hold.
    let mut taken = Vec::new();
    let _ = slow.read_to_end(&mut taken).await;
    assert!(taken.len() < 300 * content.len(), "{}", taken.len());
    assert!(!taken.ends_with(b"\r\n0\r\n\r\n"), "an answer that ends as it should would be whole to its client");
    assert_eq!(crate::support::number(&pool, "select count(*) from message_status where status = 'sent'").await, 300);
    node.stop().await;
}
