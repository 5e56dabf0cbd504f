//! Scopes at every door: each way to act, with tokens of each scope.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{Node, Socket, database, scoped_token, told};

/// Returns whether the request is opened by the scope, whatever becomes of it then.
async fn is_open(node: &Node, scope: &str, method: Method, path: &str, body: &Value) -> bool {
    let request = Client::new().request(method, format!("{}{path}", node.url())).bearer_auth(scoped_token("anna", scope));
    told(request.json(body).send().await.unwrap()).await.1["error"]["code"] != "forbidden"
}

/// Broken by a handler with the extractor of another kind of act.
#[tokio::test]
async fn each_request_is_opened_by_the_scopes_of_its_kind_and_by_no_other() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let id = uuid::Uuid::now_v7();
    let send = json!({"to": "ben", "content": "hello"});
    let publish = json!({"type": "news", "data": {}, "to": {"everyone": true}});
    let items = json!({"items": []});
    let of_persons: [(Method, String, Value); 9] = [
        (Method::GET, "/v1/chats".to_owned(), json!({})),
        (Method::GET, "/v1/inbox".to_owned(), json!({})),
        (Method::POST, "/v1/inbox/ack".to_owned(), json!({"messageIds": [id]})),
        (Method::POST, "/v1/inbox/reject".to_owned(), json!({"messageId": id})),
        (Method::PATCH, "/api/messages/read".to_owned(), json!({"chatId": id})),
        (Method::GET, format!("/v1/chats/{id}/messages"), json!({})),
        (Method::POST, "/v1/chats".to_owned(), json!({"kind": "group", "members": ["ben"]})),
        (Method::GET, "/v1/preferences".to_owned(), json!({})),
        (Method::GET, "/v1/presence?userIds=ben".to_owned(), json!({})),
    ];
    let of_senders = [
        (Method::POST, "/v1/messages".to_owned(), send.clone()),
        (Method::POST, "/api/messages/send".to_owned(), send),
        (Method::GET, format!("/v1/messages/{id}/status"), json!({})),
        (Method::POST, format!("/v1/messages/{id}/recall"), json!({})),
    ];
    let of_readers = ["/v1/admin/dead-letters", "/v1/admin/statistics", &format!("/v1/admin/dead-letters/{id}")].map(str::to_owned);
    // person, publishes, watches, operates
    for (scope, opened) in [
        ("", [true, false, false, false]),
        ("openid profile", [true, false, false, false]),
        ("send", [false, false, false, false]),
        ("events:write", [true, true, false, false]),
        ("send events:write", [false, true, false, false]),
        ("admin:read", [true, false, true, false]),
        ("admin", [true, false, true, true]),
        ("send admin:read", [false, false, true, false]),
    ] {
        let [person, publishes, watches, operates] = opened;
        for (method, path, body) in &of_senders {
            assert!(is_open(&node, scope, method.clone(), path, body).await, "{scope:?} {path}");
        }
        for (method, path, body) in &of_persons {
            assert_eq!(is_open(&node, scope, method.clone(), path, body).await, person, "{scope:?} {path}");
        }
        assert_eq!(is_open(&node, scope, Method::POST, "/v1/events", &publish).await, publishes, "{scope:?}");
        for path in &of_readers {
            assert_eq!(is_open(&node, scope, Method::GET, path, &json!({})).await, watches, "{scope:?} {path}");
        }
        for path in ["/v1/admin/dead-letters/requeue", "/v1/admin/dead-letters/discard"] {
            assert_eq!(is_open(&node, scope, Method::POST, path, &items).await, operates, "{scope:?} {path}");
        }
    }
    node.stop().await;
}

fn socket_request(node: &Node, scope: &str, protocols: Option<&str>) -> tokio_tungstenite::tungstenite::handshake::client::Request {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    let mut request = format!("ws://{}/ws", node.addr()).into_client_request().unwrap();
    let token = scoped_token("anna", scope);
    match protocols {
        Some(protocol) => {
            request.headers_mut().insert("sec-websocket-protocol", format!("{protocol}, bearer.{token}").parse().unwrap());
        }
        None => _ = request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap()),
    }
    request
}

/// Broken by a door that takes any token that is valid: what waits would go to a program that was only to send.
#[tokio::test]
async fn no_door_opens_a_connection_for_a_token_that_may_only_send() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let refused = Socket::request(socket_request(&node, "send", None)).await.err().unwrap();
    let tokio_tungstenite::tungstenite::Error::Http(answer) = refused else { panic!("{refused}") };
    assert_eq!(answer.status().as_u16(), 403);
    let mut browser = Socket::request(socket_request(&node, "send", Some("restante.v1"))).await.unwrap();
    assert_eq!((browser.error().await, browser.closed().await), (json!("forbidden"), Some(4403)));
    let alone = Client::new().get(format!("{}/v1/stream?token={}", node.url(), scoped_token("anna", "send")));
    assert_eq!(told(alone.send().await.unwrap()).await.0, 403);
    assert_eq!(polled(&node, &scoped_token("anna", "send")).await, "forbidden");
    node.stop().await;
}

/// The code with which a client of Socket.IO that polls is refused with this token.
pub async fn polled(node: &Node, token: &str) -> String {
    let url = format!("{}/socket.io/?EIO=4&transport=polling", node.url());
    let opened = Client::new().get(&url).send().await.unwrap().text().await.unwrap();
    let sid = serde_json::from_str::<Value>(&opened[1..]).unwrap()["sid"].as_str().unwrap().to_owned();
    let url = format!("{url}&sid={sid}");
    Client::new().post(&url).body(format!("40{}", json!({"token": token}))).send().await.unwrap();
    let answer = Client::new().get(&url).send().await.unwrap().text().await.unwrap();
    let start = answer.find('{').unwrap_or_else(|| panic!("{answer}"));
    let told: Value = serde_json::Deserializer::from_str(&answer[start..]).into_iter().next().unwrap().unwrap();
    told["data"]["code"].as_str().or(told["code"].as_str()).unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Broken by a renewal that takes any token of the user.
#[tokio::test]
async fn a_renewal_with_a_token_that_may_only_send_is_refused_and_the_connection_lives_on() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut anna = node.connect("anna").await;
    let refused = anna.ask("authenticate", json!({"token": scoped_token("anna", "send")})).await;
    assert_eq!((&refused["event"], &refused["data"]["code"]), (&json!("error"), &json!("forbidden")));
    anna.send("ben", "still here").await;
    assert_eq!(anna.ask("authenticate", json!({"token": scoped_token("anna", "openid")})).await["event"], "authenticated");
    node.stop().await;
}
