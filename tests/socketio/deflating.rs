//! Compression with clients from npm: the package `ws` on `/ws`, with each offer that it can make, and the unchanged client of Socket.IO, which
//! offers it by itself.

use serde_json::{Value, json};

use crate::everyday::enter;
use crate::stock::{run_script, stock};
use crate::support::{Node, database, token};

const MESSAGES: usize = 100;

/// The report of a client of `/ws` with this offer.
async fn run(node: &Node, offer: &Value, say: &str) -> Option<Value> {
    let url = format!("ws://{}/ws?batch=1&token={}", node.addr(), token("ben"));
    run_script("websocket.mjs", &json!({"url": url, "offer": offer, "messages": MESSAGES, "say": {"to": "anna", "content": say}})).await
}

#[tokio::test]
async fn the_package_ws_reads_and_writes_compressed_frames_with_each_of_its_offers() {
    if stock().await.is_none() {
        return;
    }
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut anna = node.connect("anna").await;
    let mut contents: Vec<String> =
        (1..MESSAGES).map(|n| format!("{n}: as often as you like, grüß dich ({})", "so ".repeat(n % 7))).collect();
    // zlib itself refuses what looks back further than a window of 512 bytes, where that was agreed on.
    let mut random = fastrand::Rng::with_seed(3);
    let unlike: String = std::iter::repeat_with(|| random.alphanumeric()).take(10_000).collect();
    contents.push(unlike.repeat(3));
    let say = "a long message of the client's own, ".repeat(200);
    let mut plain_bytes = None;
    for (offer, agreed) in [
        (json!(false), None),
        (json!(true), Some("")),
        (json!({"serverMaxWindowBits": 9}), Some("9")),
        (json!({"serverNoContextTakeover": true, "clientNoContextTakeover": true}), Some("")),
        (json!({"clientMaxWindowBits": 10, "threshold": 0}), Some("")),
    ] {
        for content in &contents {
            anna.send("ben", content).await;
        }
        let told = run(&node, &offer, &say).await.unwrap();
        assert_eq!((&told["code"], &told["error"]), (&json!(1000), &Value::Null), "{offer}: {told}");
        assert_eq!(told["received"], json!(contents), "{offer}");
        assert_eq!(anna.receive(1).await[0]["content"], say.as_str(), "{offer}");
        let bytes = told["bytes"].as_u64().unwrap();
        match agreed {
            None => {
                assert_eq!(told["extensions"], "");
                plain_bytes = Some(bytes);
            }
            Some(window) => {
                let extensions = told["extensions"].as_str().unwrap();
                assert!(extensions.contains("permessage-deflate") && extensions.contains("server_no_context_takeover"), "{extensions}");
                assert!(window.is_empty() || extensions.contains("server_max_window_bits=9"), "{extensions}");
                // A repetition after many bytes is not found where the window is small.
                let least = if window.is_empty() { 2.5 } else { 1.4 };
                assert!(bytes as f64 * least < plain_bytes.unwrap() as f64, "{offer}: {bytes} of {plain_bytes:?}");
            }
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn an_unchanged_client_of_socketio_gets_long_messages_compressed() {
    let (Some(mut anna), Some(mut ben)) = (stock().await, stock().await) else { return };
    let db = database().await;
    let node = Node::start(db.options()).await;
    let compressed = || node.app().context().metrics.compressed_frame.of("deflated").get();
    // One WebSocket from the beginning, and one that takes over from polling.
    enter(&node, &mut ben, "ben", &["websocket"]).await;
    enter(&node, &mut anna, "anna", &["polling", "websocket"]).await;
    assert_eq!(anna.life("upgrade").await["transport"], "websocket");
    let long = "grüß dich, und noch einmal: ".repeat(500);
    for content in ["short", &long] {
        let before = compressed();
        anna.ask("message:send", json!([{"to": "ben", "content": content}])).await;
        assert_eq!(ben.event("message:receive").await["content"], content);
        ben.ask("message:send", json!([{"to": "anna", "content": content}])).await;
        assert_eq!(anna.event("message:receive").await["content"], content);
        assert_eq!(compressed() > before, content.len() > 1_024);
    }
    node.stop().await;
}
