//! HTTP by the book at the door: what asks for a WebSocket and what does not, the origins whose pages may come, clients that
//! close their half, bodies that are encoded. The requests are written byte by byte, since a client's library knows the book too.

use restante::config::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::entering::{refused, request};
use crate::support::{Node, PATIENCE, database, token, told};

/// A request for `/ws` with these lines beside those that every one has.
fn asking(lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("GET /ws HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{lines}\r\n", token("alice"))
}

/// The lines of RFC 6455 section 4.1.
const BY_THE_BOOK: [&str; 4] =
    ["connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="];

/// The same with one of them, or none, in the place of each that begins like this.
fn but(name: &str, lines: &[&str]) -> String {
    let others = BY_THE_BOOK.into_iter().filter(|line| !line.starts_with(&format!("{name}:")));
    asking(&others.chain(lines.iter().copied()).collect::<Vec<_>>())
}

/// The head of the answer.
async fn head(node: &Node, request: &str) -> String {
    let mut stream = TcpStream::connect(node.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn an_upgrade_is_asked_for_in_any_order_of_lines_and_words() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    for (name, lines) in [
        ("connection", &["connection: keep-alive", "connection: Upgrade"][..]),
        ("connection", &["connection: Upgrade", "connection: keep-alive"]),
        ("connection", &["connection: keep-alive, UPGRADE"]),
        ("connection", &["connection: ,keep-alive ,\tupgrade,"]),
        ("upgrade", &["upgrade: h2c", "upgrade: WebSocket"]),
        ("upgrade", &["upgrade: websocket, h2c"]),
        ("upgrade", &["upgrade: h2c,websocket"]),
    ] {
        let head = head(&node, &but(name, lines)).await;
        assert_eq!(status(&head), "101", "{lines:?}: {head}");
    }
    for (name, lines) in [
        ("connection", &[][..]),
        ("connection", &["connection: keep-alive"]),
        ("connection", &["connection: no-upgrade"]),
        ("upgrade", &[]),
        ("upgrade", &["upgrade: h2c"]),
        ("upgrade", &["upgrade: websockets"]),
        ("sec-websocket-key", &[]),
        ("sec-websocket-key", &["sec-websocket-key:"]),
        ("sec-websocket-key", &["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="]),
    ] {
        let head = head(&node, &but(name, lines)).await;
        assert_eq!(status(&head), "400", "{lines:?}: {head}");
    }
    let old = asking(&BY_THE_BOOK).replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(status(&head(&node, &old).await), "400");
    node.stop().await;
}

#[tokio::test]
async fn another_version_of_websocket_is_told_which_one_is_spoken() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    for lines in [
        &["sec-websocket-version: 8"][..],
        &["sec-websocket-version: 13, 8"],
        &[],
        &["sec-websocket-version: x"],
        &["sec-websocket-version: 8", "sec-websocket-version: 13"],
    ] {
        let head = head(&node, &but("sec-websocket-version", lines)).await;
        assert_eq!(status(&head), "426", "{lines:?}: {head}");
        assert!(head.contains("\r\nsec-websocket-version: 13\r\n") && head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    }
    node.stop().await;
}

/// A browser that gets no subprotocol of those that it offered ends the connection, and its page learns nothing.
#[tokio::test]
async fn subprotocols_without_ours_are_refused_with_what_to_offer() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let token = token("alice");
    for offered in [format!("bearer.{token}"), "chat".to_owned(), "Restante.v1".to_owned(), format!("bearer.{token}, restante.v2")] {
        let request = reqwest::Client::new().get(format!("{}/ws", node.url())).header("sec-websocket-protocol", &offered);
        let request =
            BY_THE_BOOK.iter().filter_map(|line| line.split_once(": ")).fold(request, |request, (name, value)| request.header(name, value));
        let (status, body) = told(request.send().await.unwrap()).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("invalid")), "{offered}: {body}");
        assert!(body["error"]["message"].as_str().unwrap().contains("`restante.v1`"), "{body}");
    }
    let in_two_lines = format!("sec-websocket-protocol: bearer.{token}");
    let head = head(&node, &asking(&[&BY_THE_BOOK[..], &[&in_two_lines, "sec-websocket-protocol: restante.v1"]].concat())).await;
    assert!(status(&head) == "101" && head.contains("\r\nsec-websocket-protocol: restante.v1\r\n"), "{head}");
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_closes_its_half_after_its_request_is_answered_and_what_it_sent_is_done() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let body = json!({"to": "ben", "content": "and not a word more"}).to_string();
    let request = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
        token("anna"),
        body.len()
    );
    for _ in 0..3 {
        let mut stream = TcpStream::connect(node.addr()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("the connection ends").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"messageId\""), "{answer}");
    }
    // Several in one go are answered one after the other.
    let mut stream = TcpStream::connect(node.addr()).await.unwrap();
    stream.write_all(request.repeat(3).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answers = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answers)).await.expect("the connection ends").unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{answers}");
    let (_, inbox) = node.api("ben").get("/v1/inbox").await;
    assert_eq!(inbox["messages"].as_array().unwrap().len(), 6);
    // One that breaks off in the middle has asked for nothing.
    let mut stream = TcpStream::connect(node.addr()).await.unwrap();
    stream.write_all(&request.as_bytes()[..request.len() - 3]).await.unwrap();
    stream.shutdown().await.unwrap();
    timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("the connection ends").unwrap();
    assert_eq!(node.api("ben").get("/v1/inbox").await.1["lastSeq"], 6);
    // One that asks for a WebSocket and says no more gets it, and its end.
    let mut stream = TcpStream::connect(node.addr()).await.unwrap();
    stream.write_all(asking(&BY_THE_BOOK).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    node.stop().await;
}

#[tokio::test]
async fn an_encoded_body_is_refused_by_its_coding_and_not_by_its_bytes() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let anna = node.api("anna");
    let body = json!({"to": "ben", "content": "x"}).to_string();
    for path in ["/v1/messages", "/v1/inbox/ack", "/v1/inbox/reject", "/v1/chats"] {
        for coding in ["gzip", "br", "identity, GZIP", "x"] {
            let request = anna.request(reqwest::Method::POST, path).header("content-encoding", coding).body(body.clone());
            let answer = request.send().await.unwrap();
            assert_eq!(answer.headers()["accept-encoding"], "identity");
            let (status, refused) = told(answer).await;
            assert_eq!((status, &refused["error"]["code"]), (415, &json!("unsupported_encoding")), "{path} {coding}");
        }
    }
    let allowed = anna.request(reqwest::Method::PUT, "/v1/chats").send().await.unwrap();
    assert_eq!(allowed.status(), 405);
    for method in ["GET", "POST"] {
        assert!(allowed.headers()["allow"].to_str().unwrap().contains(method), "{allowed:?}");
    }
    for plain in ["identity", "Identity", ""] {
        let request = anna.request(reqwest::Method::POST, "/v1/messages").header("content-encoding", plain).body(body.clone());
        assert_eq!(told(request.send().await.unwrap()).await.0, 200, "{plain}");
    }
    node.stop().await;
}

/// A preflight as a browser sends it.
async fn preflight(node: &Node, origin: &str) -> reqwest::Response {
    let request = reqwest::Client::new().request(reqwest::Method::OPTIONS, format!("{}/v1/messages", node.url()));
    let asked = "authorization,content-type,idempotency-key,traceparent,x-request-id";
    let request = request.header("origin", origin).header("access-control-request-method", "POST");
    request.header("access-control-request-headers", asked).send().await.unwrap()
}

/// The words of a header that is a list.
fn words(answer: &reqwest::Response, name: &str) -> Vec<String> {
    let lines = answer.headers().get_all(name).iter().flat_map(|line| line.to_str().unwrap().split(','));
    lines.map(|word| word.trim().to_ascii_lowercase()).collect()
}

/// Broken by `*`: the Fetch standard leaves `Authorization` out of it.
#[tokio::test]
async fn a_page_may_send_a_token_and_read_when_to_come_back() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let answer = preflight(&node, "https://anywhere.example").await;
    assert!(answer.status().is_success());
    assert_eq!(words(&answer, "access-control-allow-origin"), ["*"]);
    let allowed = words(&answer, "access-control-allow-headers");
    for name in ["authorization", "content-type", "idempotency-key", "x-request-id", "traceparent"] {
        assert!(allowed.contains(&name.to_owned()), "{name}: {allowed:?}");
    }
    // A refusal is for the page to read too.
    let request = reqwest::Client::new().get(format!("{}/v1/chats", node.url())).header("origin", "https://anywhere.example");
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), words(&answer, "access-control-allow-origin")), (401, vec!["*".to_owned()]));
    let exposed = words(&answer, "access-control-expose-headers");
    for name in ["retry-after", "x-request-id"] {
        assert!(exposed.contains(&name.to_owned()), "{name}: {exposed:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn pages_of_origins_that_are_not_listed_get_no_answer_and_no_socket() {
    let db = database().await;
    let listed = |config: &mut Config| config.allowed_origins = vec!["https://chat.example".to_owned(), "http://localhost:3000".to_owned()];
    let node = Node::with(db.options(), listed).await;
    let open = async |origin: Option<&str>, subprotocol: Option<&str>| {
        let origin = origin.map(|origin| format!("origin: {origin}"));
        let subprotocol = subprotocol.map(|offered| format!("sec-websocket-protocol: {offered}"));
        let lines = BY_THE_BOOK.into_iter().chain(origin.as_deref()).chain(subprotocol.as_deref());
        status(&head(&node, &asking(&lines.collect::<Vec<_>>())).await).to_owned()
    };
    for origin in ["https://chat.example", "http://localhost:3000"] {
        let answer = preflight(&node, origin).await;
        assert_eq!(words(&answer, "access-control-allow-origin"), [origin]);
        assert!(words(&answer, "vary").contains(&"origin".to_owned()));
        assert_eq!(open(Some(origin), None).await, "101");
    }
    for origin in ["https://other.example", "http://chat.example", "https://chat.example.evil", "null"] {
        let answer = preflight(&node, origin).await;
        assert_eq!(words(&answer, "access-control-allow-origin"), Vec::<String>::new(), "{origin}");
        assert_eq!(open(Some(origin), None).await, "403", "{origin}");
        assert_eq!(open(Some(origin), Some("restante.v1")).await, "403", "{origin}");
    }
    assert_eq!(open(None, None).await, "101", "a program comes from no page");
    node.stop().await;
}

#[tokio::test]
async fn ids_are_taken_in_any_case_and_told_in_small_letters() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let id = "0192f0c0-7d4e-7cc3-98c4-dc0c0c07398f";
    let capitals = id.to_ascii_uppercase();
    let (_, sent) = anna.post("/v1/messages", json!({"to": "ben", "content": "x", "messageId": capitals})).await;
    assert_eq!((&sent["messageId"], &sent["duplicate"]), (&json!(id), &json!(false)));
    let (_, again) = anna.post("/v1/messages", json!({"to": "ben", "content": "x", "messageId": id})).await;
    assert_eq!((&again["messageId"], &again["duplicate"]), (&json!(id), &json!(true)), "it is the same id");
    let chat = sent["chatId"].as_str().unwrap();
    let (_, found) = anna.get(&format!("/v1/messages/{capitals}/status")).await;
    assert_eq!(found["messageId"], id);
    let (_, shown) = ben.get(&format!("/v1/chats/{}", chat.to_ascii_uppercase())).await;
    assert_eq!(shown["chatId"], chat);
    let mut socket = node.connect("ben").await;
    assert_eq!(socket.event("message:receive").await["messageId"], id);
    let read = socket.ask("message:read", json!({"chatId": chat.to_ascii_uppercase(), "messageId": capitals})).await;
    assert_eq!(read["data"], json!({"chatId": chat, "seq": 1}));
    let rejected = socket.ask("message:reject", json!({"messageId": capitals})).await;
    assert_eq!(rejected["data"]["messageId"], id);
    assert_eq!(ben.post("/v1/inbox/ack", json!({"messageIds": [capitals]})).await, (200, json!({})));
    node.stop().await;
}

#[tokio::test]
async fn a_number_below_zero_is_refused_wherever_a_query_has_one() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let anna = node.api("anna");
    let (_, chat) = anna.post("/v1/chats", json!({"kind": "group"})).await;
    let history = format!("/v1/chats/{}/messages", chat["chatId"].as_str().unwrap());
    for (path, name) in [
        ("/v1/inbox", "after"),
        ("/v1/inbox", "limit"),
        (&history, "after"),
        (&history, "before"),
        (&history, "limit"),
        ("/v1/chats", "after"),
    ] {
        for number in ["-1", "-9223372036854775808", "9223372036854775808", "%2B1", "1.5", "", "x"] {
            let (status, body) = anna.get(&format!("{path}?{name}={number}")).await;
            assert_eq!((status, body["error"]["code"].as_str()), (400, Some("invalid")), "{path} {name}={number}");
        }
    }
    let socket = request(node.addr(), "?window=%2B1", &[("authorization", format!("Bearer {}", token("anna")))]);
    assert_eq!(refused(socket).await, 400);
    assert_eq!(anna.get("/v1/inbox?after=9223372036854775807").await.0, 200);
    assert_eq!(anna.get(&format!("{history}?after=0")).await.0, 200);
    assert_eq!(anna.get(&format!("{history}?before=9223372036854775807")).await.0, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_user_whose_name_has_a_comma_can_be_asked_for() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, _here) = (node.api("anna"), node.connect("a,b").await);
    for user in ["a,b", "a"] {
        assert_eq!(anna.post("/v1/chats", json!({"kind": "direct", "members": [user]})).await.0, 201);
    }
    let seen = async |query: &str| {
        let (_, seen) = anna.get(&format!("/v1/presence?{query}")).await;
        let seen = seen["users"].as_array().unwrap().iter().map(|user| (user["userId"].clone(), user["online"].clone()));
        seen.collect::<Vec<(Value, Value)>>()
    };
    assert_eq!(seen("userIds=a%2Cb").await, [(json!("a,b"), json!(true))]);
    assert_eq!(seen("userIds=a%2Cb&userIds=a").await, [(json!("a,b"), json!(true)), (json!("a"), json!(false))]);
    assert_eq!(seen("userIds=a,b").await, [(json!("a"), json!(false)), (json!("b"), json!(false))]);
    node.stop().await;
}

#[tokio::test]
async fn an_answer_to_a_wrong_method_names_those_that_there_are() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let anna = node.api("anna");
    for (method, path, allowed) in [
        (reqwest::Method::PUT, "/v1/chats", "GET,HEAD,POST"),
        (reqwest::Method::POST, "/ws", "GET,HEAD"),
        (reqwest::Method::DELETE, "/socket.io/?EIO=4&transport=polling", "GET, POST"),
        (reqwest::Method::PATCH, "/socket.io?EIO=4&transport=polling", "GET, POST"),
        (reqwest::Method::HEAD, "/v1/stream", "GET"),
        (reqwest::Method::POST, "/v1/stream", "GET,HEAD"),
    ] {
        let answer = anna.request(method.clone(), path).send().await.unwrap();
        let header = answer.headers().get("allow").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((answer.status().as_u16(), header.as_deref()), (405, Some(allowed)), "{method} {path}");
    }
    node.stop().await;
}
