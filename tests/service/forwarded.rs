//! The address of a client behind proxies, at each door: what `X-Forwarded-For` says counts where TRUSTED_PROXIES names the proxy, and nowhere else.

use futures_util::{SinkExt, StreamExt};
use reqwest::{Client, RequestBuilder};
use restante::config::Config;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{Database, Node, PATIENCE, Socket, database, token, told};

const BAD: &str = "no token";
/// A client of Socket.IO is told no code where it may come back.
const CUT_OFF: &str = "cut off";
/// With a rate of one in 10 s the third one uses the burst up.
const COUNTED: usize = 3;

/// A way in.
#[derive(Debug, Clone, Copy)]
enum Door {
    Request,
    WebSocket,
    Stream,
    SocketIo,
    Polling,
}

impl Door {
    /// Those that open a connection.
    const OF_CONNECTIONS: [Self; 4] = [Self::WebSocket, Self::Stream, Self::SocketIo, Self::Polling];
    const ALL: [Self; 5] = [Self::Request, Self::WebSocket, Self::Stream, Self::SocketIo, Self::Polling];

    /// The refusal of a client from whose address no token is looked at now.
    fn refusal_of_tokens(self) -> &'static str {
        match self {
            Self::Request => "rate_limited",
            Self::WebSocket | Self::Stream => "busy",
            Self::SocketIo | Self::Polling => CUT_OFF,
        }
    }

    /// A client with this token, of whom a proxy says that it is at this address. Returns the code with which it is refused, or
    /// [`CUT_OFF`]; empty: it is let in.
    async fn tried(self, node: &Node, from: &str, token: &str) -> String {
        let get = |path: &str| Client::new().get(format!("{}{path}", node.url())).header("x-forwarded-for", from);
        match self {
            Self::Request => code_of(get("/v1/chats").bearer_auth(token)).await,
            Self::Stream => code_of(get("/v1/stream").bearer_auth(token)).await,
            Self::WebSocket => {
                let asks = get("/ws").header("connection", "upgrade").header("upgrade", "websocket");
                let asks = asks.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
                code_of(asks.bearer_auth(token)).await
            }
            Self::SocketIo => over_websocket(node, from, token).await,
            Self::Polling => polled(node, from, token).await,
        }
    }
}

/// The code of the refusal of a request; empty: it is not refused. The body of an answer that does not end is not read.
async fn code_of(request: RequestBuilder) -> String {
    let response = request.send().await.unwrap();
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return String::new();
    }
    code_in(&told(response).await.1["error"])
}

fn code_in(refusal: &Value) -> String {
    refusal["code"].as_str().unwrap_or_else(|| panic!("{refusal}")).to_owned()
}

/// The code of the first packet of Socket.IO among these that lets a client in, or does not.
fn code_of_packet(text: &str) -> Option<String> {
    let mut packets = text.split('\u{1e}');
    packets.find_map(|packet| match packet.get(..2)? {
        "40" => Some(String::new()),
        "44" => Some(code_in(&serde_json::from_str::<Value>(&packet[2..]).unwrap()["data"])),
        _ => None,
    })
}

async fn over_websocket(node: &Node, from: &str, token: &str) -> String {
    let mut request = format!("ws://{}/socket.io/?EIO=4&transport=websocket", node.addr()).into_client_request().unwrap();
    request.headers_mut().insert("x-forwarded-for", from.parse().unwrap());
    let mut socket = match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => socket,
        Err(Error::Http(answer)) => {
            return code_in(&serde_json::from_slice::<Value>(answer.body().as_ref().unwrap()).unwrap()["error"]);
        }
        Err(other) => panic!("{other}"),
    };
    socket.send(Message::text(format!("40{}", json!({"token": token})))).await.unwrap();
    let answer = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    if let Some(code) = code_of_packet(&text) {
                        return code;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return CUT_OFF.to_owned(),
                Some(Ok(_)) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.unwrap()
}

async fn polled(node: &Node, from: &str, token: &str) -> String {
    let url = format!("{}/socket.io/?EIO=4&transport=polling", node.url());
    let asks = |request: RequestBuilder| request.header("x-forwarded-for", from).send();
    let opened = asks(Client::new().get(&url)).await.unwrap();
    if !opened.status().is_success() {
        return code_in(&told(opened).await.1["error"]);
    }
    let opened: Value = serde_json::from_str(&opened.text().await.unwrap()[1..]).unwrap();
    let url = format!("{url}&sid={}", opened["sid"].as_str().unwrap());
    asks(Client::new().post(&url).body(format!("40{}", json!({"token": token})))).await.unwrap();
    let answer = async {
        loop {
            let answer = asks(Client::new().get(&url)).await.unwrap();
            if !answer.status().is_success() {
                return CUT_OFF.to_owned();
            }
            if let Some(code) = code_of_packet(&answer.text().await.unwrap()) {
                return code;
            }
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, answer).await.unwrap();
    // It leaves, and takes what is left: a node that stops would wait for it.
    asks(Client::new().post(&url).body("1")).await.unwrap();
    asks(Client::new().get(&url)).await.unwrap();
    outcome
}

async fn node(change: impl FnOnce(&mut Config)) -> (Database, Node) {
    let db = database().await;
    let node = Node::with(db.options(), change).await;
    (db, node)
}

fn behind_proxies(config: &mut Config) {
    config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
}

/// Broken by a door that counts a bad token for the proxy, and by one that believes what the client has written itself.
#[tokio::test]
async fn bad_tokens_of_a_client_behind_a_proxy_use_up_the_rate_of_its_own_address_at_every_door() {
    let (_db, node) = node(|config| {
        behind_proxies(config);
        config.failed_token_rate = 1;
    })
    .await;
    let good = token("anna");
    for (n, door) in Door::ALL.into_iter().enumerate() {
        let (address, other) = (format!("203.0.113.{n}"), format!("198.51.100.{n}"));
        for forged in 0..COUNTED {
            let from = format!("192.0.2.{forged}, {address}, 10.0.0.7");
            assert_eq!(door.tried(&node, &from, BAD).await, "not_authenticated", "{door:?}");
        }
        assert_eq!(Door::Request.tried(&node, &address, &good).await, "rate_limited", "{door:?} counts for the address");
        assert_eq!(door.tried(&node, &address, &good).await, door.refusal_of_tokens(), "{door:?} looks at no token of the address");
        assert_eq!(door.tried(&node, &other, &good).await, "", "{door:?} serves another address");
    }
    node.stop().await;
}

/// Broken by a renewal that is counted for the address of the proxy.
#[tokio::test]
async fn bad_tokens_on_an_open_connection_use_up_the_rate_of_the_address_that_the_proxy_has_named() {
    let (_db, node) = node(|config| {
        behind_proxies(config);
        config.failed_token_rate = 1;
    })
    .await;
    let mut request = format!("ws://{}/ws", node.addr()).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", token("anna")).parse().unwrap());
    request.headers_mut().insert("x-forwarded-for", "203.0.113.1".parse().unwrap());
    let mut anna = Socket::request(request).await.unwrap();
    for _ in 0..COUNTED {
        assert_eq!(anna.ask("authenticate", json!({"token": BAD})).await["data"]["code"], "not_authenticated");
    }
    assert_eq!(anna.ask("authenticate", json!({"token": token("anna")})).await["data"]["code"], "rate_limited");
    assert_eq!(Door::Request.tried(&node, "203.0.113.1", &token("ben")).await, "rate_limited");
    assert_eq!(Door::Request.tried(&node, "203.0.113.2", &token("ben")).await, "");
    anna.close().await;
    node.stop().await;
}

/// Broken by a door that counts a connection for the proxy.
#[tokio::test]
async fn connections_of_a_client_behind_a_proxy_use_up_the_rate_of_its_own_address_at_every_door() {
    let (_db, node) = node(|config| {
        behind_proxies(config);
        config.handshake_rate = 1;
    })
    .await;
    let good = token("anna");
    for (n, door) in Door::OF_CONNECTIONS.into_iter().enumerate() {
        let (address, other) = (format!("203.0.113.{n}"), format!("198.51.100.{n}"));
        for _ in 1..COUNTED {
            assert_eq!(door.tried(&node, &address, &good).await, "", "{door:?}");
        }
        assert_eq!(door.tried(&node, &address, &good).await, "busy", "{door:?}");
        assert_eq!(door.tried(&node, &other, &good).await, "", "{door:?} serves another address");
    }
    node.stop().await;
}

/// Broken by a header that counts, whoever sends it: an address could then be chosen for each request.
#[tokio::test]
async fn without_a_trusted_proxy_nobody_chooses_the_address_that_it_is_counted_for_at_any_door() {
    let (good, chosen) = (token("anna"), |n: usize| format!("203.0.113.{n}"));
    for door in Door::ALL {
        let (_db, node) = node(|config| config.failed_token_rate = 1).await;
        for n in 0..COUNTED {
            assert_eq!(door.tried(&node, &chosen(n), BAD).await, "not_authenticated", "{door:?}");
        }
        assert_eq!(door.tried(&node, &chosen(COUNTED), &good).await, door.refusal_of_tokens(), "{door:?}");
        node.stop().await;
    }
    for door in Door::OF_CONNECTIONS {
        let (_db, node) = node(|config| config.handshake_rate = 1).await;
        for n in 1..COUNTED {
            assert_eq!(door.tried(&node, &chosen(n), &good).await, "", "{door:?}");
        }
        assert_eq!(door.tried(&node, &chosen(COUNTED), &good).await, "busy", "{door:?}");
        node.stop().await;
    }
}
