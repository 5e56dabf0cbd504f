//! Ways in: tokens, wishes, and what a client is told first.

use std::net::SocketAddr;
use std::time::Duration;

use restante::config::Config;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{Connect, Node, Socket, database, direct, fill, token, token_for, wait_until};

/// A request for `/ws` as a browser makes it, with the token as a subprotocol.
pub fn of_browser(addr: SocketAddr, query: &str, token: &str) -> Request {
    request(addr, query, &[("sec-websocket-protocol", format!("restante.v1, bearer.{token}"))])
}

/// A request for `/ws`.
pub fn request(addr: SocketAddr, query: &str, headers: &[(&'static str, String)]) -> Request {
    let mut request = format!("ws://{addr}/ws{query}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// Signed by nobody: `{"alg":"none"}`.
fn unsigned(user: &str) -> String {
    let token = token(user);
    format!("eyJhbGciOiJub25lIn0.{}.", token.split('.').nth(1).unwrap())
}

fn forged(user: &str) -> String {
    let token = token(user);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}", signature.chars().rev().collect::<String>())
}

/// The HTTP status of an upgrade that is refused.
pub async fn refused(request: Request) -> u16 {
    match Socket::request(request).await {
        Err(Error::Http(answer)) => answer.status().as_u16(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test]
async fn a_token_is_taken_in_four_ways() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let addr = node.addr();
    let by_header = request(addr, "", &[("authorization", format!("Bearer {}", token("alice")))]);
    let by_protocol = request(addr, "", &[("sec-websocket-protocol", format!("restante.v1, bearer.{}", token("alice")))]);
    let by_query = request(addr, &format!("?token={}", token("alice")), &[]);
    for (request, subprotocol) in [(by_header, None), (by_protocol, Some("restante.v1")), (by_query, None)] {
        let mut socket = Socket::request(request).await.unwrap();
        assert_eq!(socket.subprotocol.as_deref(), subprotocol);
        assert_eq!(socket.next().await["data"]["userId"], "alice");
    }
    let mut socket = Socket::request(request(addr, "", &[])).await.unwrap();
    socket.text(json!({"event": "authenticate", "id": 7, "data": {"token": token("alice")}}).to_string()).await;
    let authenticated = socket.next().await;
    assert_eq!((&authenticated["event"], &authenticated["id"]), (&json!("authenticated"), &json!(7)));
    assert_eq!(authenticated["data"]["userId"], "alice");
    assert_eq!(socket.next().await["event"], "ready");
    node.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_authenticate_in_time_is_closed() {
    let db = database().await;
    let node = Node::with(db.options(), |config: &mut Config| config.auth_timeout = Duration::from_millis(100)).await;
    let mut socket = Socket::request(request(node.addr(), "", &[])).await.unwrap();
    assert_eq!(socket.closed().await, Some(4408));
    assert_eq!(socket.skipped()[0]["data"]["code"], "authentication_timeout");
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_valid_token_gets_no_connection() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let expired = token_for("alice", -time::Duration::MINUTE);
    let bad = [(forged("alice"), "not_authenticated"), (unsigned("alice"), "not_authenticated"), (expired, "token_expired")];
    for (bad, code) in bad {
        assert_eq!(refused(request(node.addr(), "", &[("authorization", format!("Bearer {bad}"))])).await, 401);
        assert_eq!(refused(request(node.addr(), &format!("?token={bad}"), &[])).await, 401);
        let mut socket = Socket::request(request(node.addr(), "", &[])).await.unwrap();
        let refused = socket.ask("authenticate", json!({"token": bad})).await;
        assert_eq!((&refused["event"], &refused["data"]["code"]), (&json!("error"), &json!(code)));
        assert_eq!(socket.closed().await, Some(4401));
    }
    node.stop().await;
}

/// Broken by 4401: a client that comes back with a new token would say the same again, and so for ever.
#[tokio::test]
async fn a_first_frame_that_is_no_authenticate_is_the_clients_fault_and_no_matter_of_its_token() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    // The one that asked is told so, by its own id.
    for (event, code) in [("ping", "bad_frame"), ("message:send", "invalid"), ("no such event", "bad_frame"), ("authenticate", "invalid")] {
        let mut socket = Socket::request(request(node.addr(), "", &[])).await.unwrap();
        assert_eq!(socket.ask(event, json!({})).await["data"]["code"], code, "{event}");
        assert_eq!(socket.closed().await, Some(4400), "{event}");
    }
    let texts = ["", "hello", "[]", "{}", r#"{"event":"ping","id":{}}"#, r#"{"event":"authenticate","data":{"token":7}}"#];
    for frame in texts.map(Message::text).into_iter().chain([Message::binary(vec![1, 2, 3])]) {
        let mut socket = Socket::request(request(node.addr(), "", &[])).await.unwrap();
        socket.frame(frame.clone()).await;
        assert_eq!(socket.closed().await, Some(4400), "{frame}");
    }
    let mut socket = Socket::request(request(node.addr(), "", &[])).await.unwrap();
    socket.frame(Message::text("x".repeat(256 * 1024 + 1))).await;
    assert_eq!(socket.closed().await, Some(4413));
    node.stop().await;
}

/// A browser shows its page nothing of an answer that is no upgrade.
#[tokio::test]
async fn a_client_that_offers_the_subprotocol_is_told_over_the_socket_why_it_is_refused() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let expired = token_for("alice", -time::Duration::MINUTE);
    let told = async |request: Request, code: &str, close: u16| {
        let what = format!("{:?}", request.uri());
        let mut socket = Socket::request(request).await.unwrap();
        assert_eq!(socket.subprotocol.as_deref(), Some("restante.v1"));
        let error = socket.next().await;
        assert_eq!((&error["event"], &error["data"]["code"], &error["id"]), (&json!("error"), &json!(code), &Value::Null), "{what}");
        assert!(!error["data"]["message"].as_str().unwrap().is_empty());
        assert_eq!(socket.closed().await, Some(close), "{what}");
    };
    for (bad, code) in [(forged("alice"), "not_authenticated"), (unsigned("alice"), "not_authenticated"), (expired, "token_expired")] {
        told(of_browser(node.addr(), "", &bad), code, 4401).await;
        let only = [("sec-websocket-protocol", "restante.v1".to_owned())];
        told(request(node.addr(), &format!("?token={bad}"), &only), code, 4401).await;
        let [offered] = only;
        told(request(node.addr(), "", &[offered, ("authorization", format!("Bearer {bad}"))]), code, 4401).await;
    }
    told(of_browser(node.addr(), "", &"x".repeat(17_000)), "not_authenticated", 4401).await;
    let long = format!("?device={}", "d".repeat(65));
    for wish in ["?window=0", "?window=many", "?window=1&window=2", "?batch=2", "?device=", "?since=7", "?epoch=e&since=-1", &long] {
        told(of_browser(node.addr(), wish, &token("alice")), "invalid", 4400).await;
    }
    let mut alice = Socket::request(of_browser(node.addr(), "?window=1", &token("alice"))).await.unwrap();
    assert_eq!(alice.next().await["event"], "ready");
    drop(alice);
    node.stop().await;
}

#[tokio::test]
async fn a_connection_ends_with_its_token_unless_another_of_the_same_user_comes() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let short = || request(node.addr(), &format!("?token={}", token_for("alice", time::Duration::seconds(3))), &[]);
    let (mut ends, mut renewed) = (Socket::request(short()).await.unwrap(), Socket::request(short()).await.unwrap());
    let other = renewed.ask("authenticate", json!({"token": token("bob")})).await;
    assert_eq!(other["data"]["code"], "other_user");
    let forged = renewed.ask("authenticate", json!({"token": forged("alice")})).await;
    assert_eq!(forged["data"]["code"], "not_authenticated");
    let answer = renewed.ask("authenticate", json!({"token": token("alice")})).await;
    assert_eq!((&answer["event"], &answer["data"]["userId"]), (&json!("authenticated"), &json!("alice")));

    assert_eq!(ends.error().await, "token_expired");
    assert_eq!(ends.closed().await, Some(4401));
    renewed.until_pong().await;
    node.stop().await;
}

#[tokio::test]
async fn ready_comes_first_and_says_where_the_client_stands() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 3).await;
    let mut raw = Socket::raw(node.addr(), Connect::user("bob").device("phone").with("window", 20)).await.unwrap();
    let ready = raw.next().await;
    assert_eq!((&ready["event"], &ready["id"]), (&json!("ready"), &Value::Null));
    let mut data = ready["data"].clone();
    for text in ["sessionId", "epoch", "marksCursor", "serverTime"] {
        let text = data.as_object_mut().unwrap().remove(text).unwrap();
        assert!(text.as_str().is_some_and(|text| !text.is_empty()));
    }
    let expected = json!({"userId": "bob", "deviceId": "phone", "window": 20, "pending": 3, "pendingMore": false, "lastSeq": 3,
        "settledSeq": 0, "alertLastSeq": 0, "alertSettledSeq": 0, "eventLastSeq": 0, "eventSettledSeq": 0,
        "ackedSeq": 0, "alertAckedSeq": 0, "eventAckedSeq": 0, "resumed": false});
    assert_eq!(data, expected);
    node.stop().await;
}

#[tokio::test]
async fn wishes_that_cannot_be_granted_are_refused_before_the_upgrade() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let long = format!("device={}", "d".repeat(65));
    let numbers = [
        "",
        "x",
        "-1",
        "%2B1",
        "1.5",
        "event:-1",
        "9223372036854775808",
        "1,2",
        "chat:1,1",
        "event:",
        "event:1,event:2",
        "post:1",
        "event:1,",
        "1:event",
    ];
    let numbers = numbers.map(|since| format!("epoch=e&since={since}"));
    let wishes = ["window=0", "window=501", "window=-1", "window=many", "batch=2", "device=", "since=7", "since=event:7", &long];
    for wish in wishes.into_iter().chain(numbers.iter().map(String::as_str)) {
        let request = request(node.addr(), &format!("?token={}&{wish}", token("bob")), &[]);
        assert_eq!(refused(request).await, 400, "{wish}");
    }
    for window in [1, 500] {
        assert_eq!(node.open(Connect::user("bob").with("window", window)).await.ready["window"], window);
    }
    node.stop().await;
}

#[tokio::test]
async fn one_session_more_than_allowed_is_refused() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(node.connect("bob").await);
    }
    let mut more = Socket::raw(node.addr(), Connect::user("bob")).await.unwrap();
    let error = more.next().await;
    assert_eq!(error["data"]["code"], "too_many_sessions");
    assert!(error["data"]["retryAfterMs"].as_u64().is_some());
    assert_eq!(more.closed().await, Some(4429));
    sockets.pop().unwrap().close().await;
    wait_until("a place is free", || node.app().context().hub.sessions() == 19).await;
    node.connect("bob").await;
    node.stop().await;
}
