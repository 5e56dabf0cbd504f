//! Requests that no client from npm makes: they are refused, and harm nobody.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Node, PATIENCE, database, token, wait_until};

/// A session of polling without a library.
struct Polling {
    http: Client,
    url: String,
}

impl Polling {
    /// Opens a session of Engine.IO.
    async fn open(node: &Node) -> Self {
        let http = Client::new();
        let url = format!("{}/socket.io/?EIO=4&transport=polling", node.url());
        let open = http.get(&url).send().await.unwrap().text().await.unwrap();
        let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        assert_eq!((&open["maxPayload"], &open["upgrades"]), (&json!(262_144), &json!(["websocket"])));
        Self { url: format!("{url}&sid={}", open["sid"].as_str().unwrap()), http }
    }

    /// One that is past `ready`.
    async fn enter(node: &Node, user: &str) -> Self {
        let polling = Self::open(node).await;
        assert_eq!(polling.post(format!("40{}", json!({"token": token(user)}))).await, (StatusCode::OK, "ok".to_owned()));
        let mut heard = String::new();
        while !heard.contains("\"ready\"") {
            heard.push_str(&polling.poll().await.1);
        }
        assert!(heard.starts_with("40{\"sid\":"), "{heard}");
        polling
    }

    async fn post(&self, body: impl Into<reqwest::Body>) -> (StatusCode, String) {
        let answer = self.http.post(&self.url).body(body).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn poll(&self) -> (StatusCode, String) {
        let answer = self.http.get(&self.url).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// Polls once, as a session that lives answers.
    async fn polled(&self) -> String {
        let (status, body) = self.poll().await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// Polls until this word comes.
    async fn hears(&self, word: &str) -> String {
        loop {
            let body = self.polled().await;
            if body.contains(word) {
                return body;
            }
        }
    }
}

#[tokio::test]
async fn requests_that_are_not_of_the_protocol_are_refused_with_a_code() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let http = Client::new();
    for (query, words) in [
        ("", "EIO"),
        ("EIO=3&transport=polling", "EIO"),
        ("EIO=4", "transport"),
        ("EIO=4&transport=carrier-pigeon", "transport"),
        ("EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", "no such session"),
        ("EIO=4&transport=polling&sid=%00", "no such session"),
        ("EIO=4&transport=websocket", "upgrade"),
    ] {
        let answer = http.get(format!("{}/socket.io/?{query}", node.url())).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
        let body: Value = answer.json().await.unwrap();
        assert!(body["error"]["code"] == "invalid" && body["error"]["message"].as_str().unwrap().contains(words), "{query}: {body}");
    }
    let opening = format!("{}/socket.io/?EIO=4&transport=polling", node.url());
    assert_eq!(http.post(&opening).body("40").send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(http.put(&opening).send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    node.stop().await;
}

#[tokio::test]
async fn pages_of_origins_that_are_not_listed_may_not_poll() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.allowed_origins = vec!["https://chat.example".to_owned()]).await;
    let url = format!("{}/socket.io/?EIO=4&transport=polling", node.url());
    for (origin, status) in [("https://chat.example", StatusCode::OK), ("https://evil.example", StatusCode::FORBIDDEN)] {
        let answer = Client::new().get(&url).header("origin", origin).send().await.unwrap();
        assert_eq!(answer.status(), status);
        let told = answer.headers().get("access-control-allow-origin").map(|allowed| allowed.to_str().unwrap().to_owned());
        assert_eq!(told.as_deref(), (status == StatusCode::OK).then_some("https://chat.example"));
    }
    node.stop().await;
}

#[tokio::test]
async fn packets_that_cannot_be_read_are_errors_and_the_session_goes_on() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let polling = Polling::enter(&node, "anna").await;
    for packet in
        ["", "4", "42", "42x", "42[]", "42[1]", "451-[\"a\",{\"_placeholder\":true,\"num\":0}]", "bAAAA", "7", "4299999999999999999999[]"]
    {
        assert_eq!(polling.post(packet).await.0, StatusCode::OK, "{packet}");
        assert!(polling.hears("42[\"error\",").await.contains("bad_frame"), "{packet}");
    }
    let deep = format!("420[\"ping\",{}{}]", "[".repeat(5_000), "]".repeat(5_000));
    polling.post(deep).await;
    assert!(polling.hears("430[{\"error\":").await.contains("invalid"));
    // Callbacks that were never asked for, another namespace, a second CONNECT: nothing happens.
    polling.post("43999[]\x1e42/x,[\"ping\"]\x1e40{}\x1e427[\"ping\"]").await;
    assert_eq!(polling.hears("437[").await, "437[{}]");
    node.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_or_no_text_is_refused() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let polling = Polling::enter(&node, "anna").await;
    assert_eq!(polling.post(vec![b'4'; 300 * 1024]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(polling.post(vec![0xff, 0xfe]).await.0, StatusCode::BAD_REQUEST);
    polling.post("421[\"ping\"]").await;
    assert_eq!(polling.hears("431[").await, "431[{}]");
    node.stop().await;
}

#[tokio::test]
async fn a_second_request_that_polls_ends_the_session_and_the_user_goes() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let polling = Polling::enter(&node, "anna").await;
    let (one, other) = tokio::join!(polling.poll(), async {
        // Both wait for something to come; which of them is first does not matter.
        polling.poll().await
    });
    assert!([one.0, other.0].contains(&StatusCode::BAD_REQUEST));
    wait_until("the session is gone", || node.app().context().hub.sessions() == 0).await;
    node.stop().await;
}

#[tokio::test]
async fn a_flood_of_packets_waits_for_its_turn_and_is_bounded() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.request_rate = 200).await;
    let polling = Polling::enter(&node, "anna").await;
    let flood = "42[\"ping\"]\x1e".repeat(250);
    let begun = std::time::Instant::now();
    let posts = async {
        assert_eq!(polling.post(flood + "429[\"ping\"]").await.0, StatusCode::OK);
        // 251 packets at 200 points in 10 s, with a burst of 100 more: the request waits until all but 32 are read.
        assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    };
    let both = async { tokio::join!(posts, polling.hears("439[")) };
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_websocket_that_probes_and_goes_leaves_the_session_polling() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let polling = Polling::enter(&node, "anna").await;
    let url = polling.url.replace("http://", "ws://").replace("transport=polling", "transport=websocket");
    for first in ["2probe", "5", "42[\"ping\"]"] {
        let (mut socket, _) = connect_async(&url).await.unwrap();
        socket.send(Message::text(first)).await.unwrap();
        if first == "2probe" {
            assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), "3probe");
            assert_eq!(polling.poll().await.1, "6");
        }
        drop(socket);
    }
    // Twice: a session that is given up also tells what waited, and then is there no more.
    for n in 5..=6 {
        assert_eq!(polling.post(format!("42{n}[\"ping\"]")).await.0, StatusCode::OK);
        polling.hears(&format!("43{n}[")).await;
    }
    node.stop().await;
}

/// Broken by reading the WebSocket before what had come with requests, and by forgetting what waited for the next request.
#[tokio::test]
async fn a_websocket_that_takes_over_comes_after_all_that_was_under_way_in_both_directions() {
    const PINGS: u32 = 140;
    let db = database().await;
    // Twenty a second beyond a hundred: the last ones are not read yet when the request that brought them is answered.
    let node = Node::with(db.options(), |config| config.request_rate = 200).await;
    let polling = Polling::enter(&node, "anna").await;
    let pings: Vec<String> = (0..PINGS).map(|n| format!("42{n}[\"ping\"]")).collect();
    assert_eq!(polling.post(pings.join("\x1e")).await.0, StatusCode::OK);
    let url = polling.url.replace("http://", "ws://").replace("transport=polling", "transport=websocket");
    let (mut socket, _) = connect_async(&url).await.unwrap();
    socket.send(Message::text("2probe")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), "3probe");
    for packet in ["5", "42999[\"ping\"]"] {
        socket.send(Message::text(packet)).await.unwrap();
    }
    let mut answers = Vec::new();
    while answers.last().is_none_or(|last| last != "43999[{}]") {
        let packet = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap().into_text().unwrap();
        if packet.starts_with("43") {
            answers.push(packet.as_str().to_owned());
        }
    }
    let expected: Vec<String> = (0..PINGS).chain([999]).map(|n| format!("43{n}[{{}}]")).collect();
    assert_eq!(answers, expected);
    node.stop().await;
}

/// Broken by the ping of WebSocket: the client's library waits for the packet of Engine.IO.
#[tokio::test]
async fn a_client_is_pinged_by_packets_and_stays_as_long_as_it_answers() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.heartbeat = Duration::from_millis(500)).await;
    let polling = Polling::enter(&node, "anna").await;
    for _ in 0..6 {
        while !polling.polled().await.split('\x1e').any(|packet| packet == "2") {}
        assert_eq!(polling.post("3").await.0, StatusCode::OK);
    }
    assert_eq!(node.app().context().hub.sessions(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_polls_no_more_is_given_up() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.heartbeat = Duration::from_millis(200)).await;
    let polling = Polling::enter(&node, "anna").await;
    wait_until("the session is gone", || node.app().context().hub.sessions() == 0).await;
    drop(polling);
    node.stop().await;
}
