//! Connections by the scope of a token: each way to open one, and to carry one on.

use reqwest::Client;
use serde_json::json;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;

use super::{DONE, Engine, ROLES, word};
use crate::support::{Node, Socket, database, scoped_token, told};

/// A request for a WebSocket at this query, without a token.
fn socket_request(node: &Node, query: &str) -> Request {
    format!("ws://{}/ws?{query}", node.addr()).into_client_request().unwrap()
}

/// A request for a WebSocket with a token in the header.
pub fn with_header(node: &Node, token: &str) -> Request {
    let mut request = socket_request(node, "");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A request for a WebSocket with a token among the subprotocols.
fn with_protocol(node: &Node, token: &str) -> Request {
    let mut request = socket_request(node, "");
    request.headers_mut().insert("sec-websocket-protocol", format!("restante.v1, bearer.{token}").parse().unwrap());
    request
}

/// The word with which a request for a WebSocket is answered: over HTTP, or by the first event.
async fn opened(request: Request) -> String {
    match Socket::request(request).await {
        Ok(mut socket) => {
            let first = socket.next().await;
            if first["event"] == "ready" { DONE.to_owned() } else { word(&first) }
        }
        // Over HTTP it is known by its status: the library may have read a part of the body.
        Err(tungstenite::Error::Http(answer)) => match answer.status().as_u16() {
            400 => "invalid".to_owned(),
            403 => "forbidden".to_owned(),
            status => panic!("{status}"),
        },
        Err(error) => panic!("{error}"),
    }
}

/// The word for an event stream that is asked for with this token, in the header or in the query.
async fn streamed(node: &Node, header: Option<&str>, query: &str) -> String {
    let request = Client::new().get(format!("{}/v1/stream?{query}", node.url()));
    let answer = header.into_iter().fold(request, |request, token| request.bearer_auth(token)).send().await.unwrap();
    if answer.status() == 200 { DONE.to_owned() } else { word(&told(answer).await.1) }
}

/// The word for a first frame that brings this token.
async fn authenticated(node: &Node, token: &str) -> String {
    let mut socket = Socket::request(socket_request(node, "")).await.unwrap();
    word(&socket.ask("authenticate", json!({"token": token})).await)
}

/// The word with which a client of Socket.IO is let in that brings its token inside.
async fn authenticated_inside(node: &Node, token: &str) -> String {
    let mut engine = Engine::enter_with(node, "", &json!({})).await;
    engine.until(&["40{"]).await;
    let answer = engine.ask("authenticate", json!({"token": token})).await;
    word(&answer)
}

/// The words of every way to open a connection with this token.
async fn ways(node: &Node, token: &str) -> Vec<(&'static str, String)> {
    let entered = |entered: Result<Engine, String>| entered.err().unwrap_or_else(|| DONE.to_owned());
    vec![
        ("header", opened(with_header(node, token)).await),
        ("subprotocol", opened(with_protocol(node, token)).await),
        ("query", opened(socket_request(node, &format!("token={token}"))).await),
        ("first frame", authenticated(node, token).await),
        ("header of a stream", streamed(node, Some(token), "").await),
        ("query of a stream", streamed(node, None, &format!("token={token}")).await),
        ("auth of Socket.IO", entered(Engine::enter(node, token).await)),
        ("event of Socket.IO", authenticated_inside(node, token).await),
    ]
}

/// Broken by `Act::Connect` among the acts that every token opens.
#[tokio::test]
async fn each_way_to_connect_is_open_to_whole_persons_only_and_so_is_a_renewal() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    for (n, (scope, opens)) in ROLES.into_iter().enumerate() {
        let (user, expected) = (format!("user {n}"), if opens.contains('U') { DONE } else { "forbidden" });
        let token = scoped_token(&user, scope);
        for (way, outcome) in ways(&node, &token).await {
            assert_eq!(outcome, expected, "{way} with the scope {scope:?}");
        }
        let mut socket = node.connect(&user).await;
        assert_eq!(word(&socket.ask("authenticate", json!({"token": token})).await), expected, "renewal with {scope:?}");
        let mut engine = Engine::enter(&node, &scoped_token(&user, "")).await.unwrap();
        assert_eq!(word(&engine.ask("authenticate", json!({"token": token})).await), expected, "renewal over Socket.IO with {scope:?}");
    }
    node.stop().await;
}

/// Broken by looking at the first of them alone: a token that nobody may use would go in beside a good one.
#[tokio::test]
async fn a_connection_that_brings_two_tokens_that_differ_is_refused_and_one_that_brings_the_same_twice_is_not() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let [good, other] = ["anna", "ben"].map(|user| scoped_token(user, ""));
    for bad in ["nonsense", &other] {
        let mut headers = with_header(&node, &good);
        *headers.uri_mut() = format!("ws://{}/ws?token={bad}", node.addr()).parse().unwrap();
        assert_eq!(opened(headers.clone()).await, "invalid", "header and query");
        headers.headers_mut().insert("sec-websocket-protocol", format!("restante.v1, bearer.{good}").parse().unwrap());
        assert_eq!(opened(headers).await, "invalid", "a browser is told over its socket");
        let mut protocols = with_header(&node, &good);
        protocols.headers_mut().insert("sec-websocket-protocol", format!("restante.v1, bearer.{bad}").parse().unwrap());
        assert_eq!(opened(protocols).await, "invalid", "header and subprotocol");
        assert_eq!(streamed(&node, Some(&good), &format!("token={bad}")).await, "invalid");
        let mut engine = Engine::enter_with(&node, &format!("&token={bad}"), &json!({"token": good})).await;
        assert!(engine.until(&["42[\"ready\"", "44"]).await.contains("\"invalid\""));
        let twice =
            Client::new().get(format!("{}/v1/chats", node.url())).bearer_auth(&good).header("authorization", format!("Bearer {bad}"));
        let (status, answer) = told(twice.send().await.unwrap()).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid")), "{answer}");
    }
    let mut same = with_protocol(&node, &good);
    *same.uri_mut() = format!("ws://{}/ws?token={good}", node.addr()).parse().unwrap();
    assert_eq!(opened(same).await, DONE);
    assert_eq!(streamed(&node, Some(&good), &format!("token={good}")).await, DONE);
    let mut engine = Engine::enter_with(&node, &format!("&token={good}"), &json!({"token": good})).await;
    engine.until(&["42[\"ready\""]).await;
    node.stop().await;
}
