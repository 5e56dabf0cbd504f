//! permessage-deflate (RFC 7692) on `/ws`: what is agreed on, what is compressed and what is not, and what a client can do with it that means
//! harm.

#[path = "compression/deflating_client.rs"]
mod deflating_client;

use std::sync::Arc;

use restante::domain::limits;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Connect, Node, Socket, database};
use deflating_client::{BINARY, CLOSE, CONTINUATION, DeflatingClient, FIN, PING, PONG, RSV1, TEXT, deflated, deflated_in_one_context};

const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// The offer of browsers.
const OFFER: &[&str] = &["permessage-deflate; client_max_window_bits"];

/// The bytes of frames that the node has compressed: as they were, and as they went out.
fn counted(node: &Node) -> (u64, u64) {
    let bytes = |form| node.app().context().metrics.compressed_frame.of(form).get();
    (bytes("plain"), bytes("deflated"))
}

/// A frame that sends a message.
fn sending(to: &str, content: &str) -> Vec<u8> {
    json!({"event": "message:send", "id": "1", "data": {"to": to, "content": content}}).to_string().into_bytes()
}

/// Prose, a line a message: the project's own.
fn prose() -> impl Iterator<Item = &'static str> + Clone {
    include_str!("../../docs/protocol.md").lines().filter(|line| line.len() > 20 && line.len() < 400)
}

#[tokio::test]
async fn long_frames_are_compressed_and_short_ones_are_not() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut ben = DeflatingClient::connect(&node, "ben", "", OFFER).await;
    assert_eq!(ben.agreed.as_deref(), Some(AGREED));
    assert!(!ben.event("ready").await.is_compressed);
    let mut anna = node.connect("anna").await;
    // About the length of what is around the content.
    anna.send("ben", "").await;
    let around = ben.event("message:receive").await.bytes;
    let (mut plain, mut on_the_wire, mut short) = (0, 0, 0);
    let lengths = (1_010 - around..1_030 - around).chain([10_000, 0]);
    for content in lengths.map(|length| "a".repeat(length)) {
        let sent = anna.send("ben", &content).await;
        let received = ben.event("message:receive").await;
        assert_eq!(received.json["data"]["messageId"], sent["messageId"]);
        assert_eq!(received.json["data"]["content"], content);
        assert_eq!(received.is_compressed, received.bytes >= 1_024, "{}", received.bytes);
        if received.is_compressed {
            (plain, on_the_wire) = (plain + received.bytes as u64, on_the_wire + received.wire as u64);
            assert!(received.wire < 600, "{}", received.wire);
        } else {
            short += 1;
        }
    }
    assert!((2..20).contains(&short), "both kinds came: {short}");
    assert_eq!(counted(&node), (plain, on_the_wire));
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_offers_nothing_gets_no_compressed_frame() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut anna = node.connect("anna").await;
    for _ in 0..20 {
        anna.send("ben", &"a".repeat(1_000)).await;
    }
    for extensions in [&[][..], &["x-webkit-deflate-frame"]] {
        let mut ben = DeflatingClient::connect(&node, "ben", "?batch=1", extensions).await;
        assert_eq!(ben.agreed, None);
        let page = ben.event("message:batch").await;
        assert_eq!((page.is_compressed, page.bytes > 20_000), (false, true));
    }
    assert_eq!(counted(&node), (0, 0));
    node.stop().await;
}

#[tokio::test]
async fn offers_are_answered_by_the_rfc() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let window_of_9 = format!("{AGREED}; server_max_window_bits=9");
    for (extensions, agreed) in [
        (&["permessage-deflate"][..], Some(AGREED)),
        (&["permessage-deflate; client_max_window_bits=10; server_no_context_takeover"], Some(AGREED)),
        (&["permessage-deflate; server_max_window_bits=9"], Some(window_of_9.as_str())),
        (&["permessage-deflate; server_max_window_bits=8"], None),
        (&["permessage-deflate; frobnicate"], None),
        (&["permessage-deflate; frobnicate, permessage-deflate"], Some(AGREED)),
        (
            &["permessage-deflate; server_max_window_bits=8", "x-other, permessage-deflate; server_max_window_bits=\"9\""],
            Some(&window_of_9),
        ),
        (&["permessage-deflate, permessage-deflate; server_max_window_bits=9"], Some(AGREED)),
        (&["permessage-deflate; client_no_context_takeover; client_no_context_takeover"], None),
    ] {
        let mut client = DeflatingClient::connect(&node, "ben", "", extensions).await;
        assert_eq!(client.agreed.as_deref(), agreed, "{extensions:?}");
        assert_eq!(client.event("ready").await.json["data"]["userId"], "ben");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_window_that_the_client_asks_for_is_kept() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut random = fastrand::Rng::with_seed(3);
    let content: String = std::iter::repeat_with(|| random.alphanumeric()).take(5_000).collect::<String>().repeat(4);
    node.connect("anna").await.send("ben", &content).await;
    // The text repeats itself after 5,000 bytes: a smaller window finds no repetition.
    for (window_bits, shrinks) in [(9, false), (12, false), (13, true), (15, true)] {
        let offer = format!("permessage-deflate; server_max_window_bits={window_bits}");
        let mut ben = DeflatingClient::connect(&node, "ben", "", &[&offer]).await;
        let received = ben.event("message:receive").await;
        assert!(received.is_compressed && received.json["data"]["content"] == content);
        assert_eq!(received.wire < 6_000, shrinks, "{window_bits}: {}", received.wire);
    }
    node.stop().await;
}

#[tokio::test]
async fn the_setting_turns_compression_off() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.websocket_compression = false).await;
    let mut ben = DeflatingClient::connect(&node, "ben", "", OFFER).await;
    assert_eq!(ben.agreed, None);
    ben.say(FIN | RSV1 | TEXT, &deflated(&sending("anna", "hello"))).await;
    assert_eq!(ben.closed().await, 4400);
    node.stop().await;
}

#[tokio::test]
async fn frames_that_clients_compress_are_read_in_whatever_pieces_they_come() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut ben = DeflatingClient::connect(&node, "ben", "", OFFER).await;
    let mut anna = node.connect("anna").await;
    let content = prose().take(200).collect::<Vec<_>>().join("\n");
    let content = &content[..content.floor_char_boundary(30_000)];
    let payload = deflated(&sending("anna", content));
    assert!(payload.len() < content.len() / 2);
    for pieces in [1, 2, 7, 200] {
        let length = payload.len().div_ceil(pieces);
        let count = payload.chunks(length).count();
        for (n, piece) in payload.chunks(length).enumerate() {
            let first = if n == 0 { RSV1 | TEXT } else { CONTINUATION } | if n + 1 == count { FIN } else { 0 };
            ben.say(first, piece).await;
            if n + 1 < count {
                ben.say(FIN | PING, b"between").await;
            }
        }
        assert_eq!(ben.event("message:sent").await.json["id"], "1");
        assert_eq!(anna.receive(1).await[0]["content"], content, "{pieces}");
    }
    // One that is not compressed may stand beside.
    ben.say(FIN | TEXT, &sending("anna", "plain")).await;
    assert_eq!(anna.receive(1).await[0]["content"], "plain");
    node.stop().await;
}

/// First bytes of frames with their payloads.
type Frames = Vec<(u8, Vec<u8>)>;

#[tokio::test]
async fn what_breaks_the_rules_of_compression_ends_the_connection_and_no_other() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut anna = node.connect("anna").await;
    let hello = deflated(&sending("anna", "hello"));
    let twice = deflated_in_one_context(&sending("anna", "as it was said before"));
    let cases: [(&str, &[&str], Frames); 8] = [
        ("compressed without an agreement", &[], vec![(FIN | RSV1 | TEXT, hello.clone())]),
        ("a ping that is compressed", OFFER, vec![(FIN | RSV1 | PING, b"ping".to_vec())]),
        ("a compressed continuation", OFFER, vec![(RSV1 | TEXT, hello[..9].to_vec()), (FIN | RSV1, hello[9..].to_vec())]),
        ("a message in the middle of another", OFFER, vec![(RSV1 | TEXT, hello[..9].to_vec()), (FIN | TEXT, b"{}".to_vec())]),
        ("no deflate", OFFER, vec![(FIN | RSV1 | TEXT, vec![0xff; 40])]),
        ("no UTF-8", OFFER, vec![(FIN | RSV1 | TEXT, deflated(&[0xc3, 0x28]))]),
        ("a close frame that is compressed", OFFER, vec![(FIN | RSV1 | CLOSE, deflated(&1000_u16.to_be_bytes()))]),
        ("a message that looks back at another", OFFER, twice.map(|payload| (FIN | RSV1 | TEXT, payload)).to_vec()),
    ];
    for (what, extensions, frames) in cases {
        let mut ben = DeflatingClient::connect(&node, "ben", "", extensions).await;
        ben.event("ready").await;
        for (first, payload) in frames {
            ben.say(first, &payload).await;
        }
        assert_eq!(ben.closed().await, 4400, "{what}");
    }
    assert_eq!(anna.ask("ping", json!({})).await["event"], "pong");
    node.stop().await;
}

#[tokio::test]
async fn a_compressed_message_that_is_empty_or_binary_is_answered_as_it_is_without_compression() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut ben = DeflatingClient::connect(&node, "ben", "", OFFER).await;
    for (opcode, plain) in [(TEXT, &b""[..]), (BINARY, b""), (BINARY, b"{}")] {
        ben.say(FIN | opcode, plain).await;
        let answer = ben.event("error").await.json;
        ben.say(FIN | RSV1 | opcode, &deflated(plain)).await;
        assert_eq!(ben.event("error").await.json, answer);
        // RFC 7692 lets a message begin, and end, with a fragment without a byte.
        ben.say(RSV1 | opcode, b"").await;
        ben.say(CONTINUATION, &deflated(plain)).await;
        ben.say(FIN | CONTINUATION, b"").await;
        assert_eq!(ben.event("error").await.json, answer);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_bomb_is_refused_as_the_long_frame_that_it_is() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut anna = node.connect("anna").await;
    let bomb = deflated(&vec![b' '; 8 << 20]);
    let empty_blocks = [0, 0, 0, 0xff, 0xff].repeat(60_000);
    let just_too_long = deflated(&vec![b' '; limits::FRAME_BYTES_MAX + 1]);
    for (what, payload) in [("a bomb", bomb), ("much that is nothing", empty_blocks), ("a byte too many", just_too_long)] {
        let mut ben = DeflatingClient::connect(&node, "ben", "", OFFER).await;
        ben.event("ready").await;
        for (n, piece) in payload.chunks(50_000).enumerate() {
            ben.say(if n == 0 { RSV1 | TEXT } else { CONTINUATION }, piece).await;
        }
        ben.say(FIN, &[]).await;
        assert_eq!(ben.closed().await, 4413, "{what}");
        assert_eq!(anna.ask("ping", json!({})).await["event"], "pong");
    }
    // As long as a frame may be, and no command: it is refused, and the connection goes on.
    let mut ben = DeflatingClient::connect(&node, "ben", "", OFFER).await;
    ben.say(FIN | RSV1 | TEXT, &deflated(&vec![b' '; limits::FRAME_BYTES_MAX])).await;
    ben.say(FIN | PING, b"still here").await;
    while ben.frame().await.expect("the connection goes on").first & 0x0f != PONG {}
    node.stop().await;
}

/// Fills the inbox of a user with prose.
async fn fill(anna: &mut Socket, to: &str, messages: usize) {
    for content in prose().cycle().take(messages) {
        anna.send(to, content).await;
    }
}

#[tokio::test]
async fn pages_in_one_frame_shrink_four_times_and_messages_alone_do_not() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    fill(&mut node.connect("anna").await, "ben", 300).await;
    let mut alone = DeflatingClient::connect(&node, "ben", "", OFFER).await;
    for _ in 0..50 {
        alone.event("message:receive").await;
    }
    assert_eq!(counted(&node), (0, 0), "an envelope alone is too short");
    let (mut received, mut bytes, mut wire) = (0, 0, 0);
    let mut ben = DeflatingClient::connect(&node, "ben", "?batch=1", OFFER).await;
    while received < 300 {
        let page = ben.event("message:batch").await;
        let messages = page.json["data"]["messages"].as_array().unwrap();
        (received, bytes, wire) = (received + messages.len(), bytes + page.bytes, wire + page.wire);
        ben.ack_up_to(&messages.last().unwrap()["inboxSeq"]).await;
    }
    assert!(wire * 4 < bytes, "{bytes} bytes went out as {wire}");
    node.stop().await;
}

/// Frames of 256 KiB are compressed in several parts, and others have their turn between them.
#[tokio::test]
async fn the_longest_frames_come_whole_and_in_order() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut anna = node.connect("anna").await;
    let text = prose().collect::<Vec<_>>().join(" ");
    let content = |n: usize| format!("{n} {}", &text[text.floor_char_boundary(n * 700)..text.floor_char_boundary(n * 700 + 30_000)]);
    for n in 0..24 {
        anna.send("ben", &content(n)).await;
    }
    let mut ben = DeflatingClient::connect(&node, "ben", "?batch=1", OFFER).await;
    let (mut received, mut longest) = (0, 0);
    while received < 24 {
        let page = ben.event("message:batch").await;
        longest = longest.max(page.bytes);
        for message in page.json["data"]["messages"].as_array().unwrap() {
            assert!(message["content"] == content(received), "{received}");
            received += 1;
        }
    }
    assert!(longest > 200_000, "{longest}");
    node.stop().await;
}

#[tokio::test]
async fn many_clients_that_compress_get_everything_once_and_in_order() {
    const CLIENTS: usize = 40;
    const MESSAGES: usize = 120;
    let db = database().await;
    let node = Arc::new(Node::start(db.options()).await);
    let mut filling = JoinSet::new();
    for n in 0..CLIENTS {
        let node = Arc::clone(&node);
        filling.spawn(async move { fill(&mut node.connect(&format!("sender-{n}")).await, &format!("user-{n}"), MESSAGES).await });
    }
    filling.join_all().await;
    let mut draining = JoinSet::new();
    for n in 0..CLIENTS {
        let node = Arc::clone(&node);
        draining.spawn(async move { drains(&node, n).await });
    }
    let expected: Vec<&str> = prose().cycle().take(MESSAGES).collect();
    for contents in draining.join_all().await {
        assert!(contents == expected);
    }
    let Ok(node) = Arc::try_unwrap(node) else { panic!("all tasks have ended") };
    let (plain, on_the_wire) = counted(&node);
    assert!(plain > on_the_wire * 3, "{plain} {on_the_wire}");
    node.stop().await;
}

/// Drains the inbox of a user over a connection whose frames come and go compressed. Returns the contents in the order of their arrival.
async fn drains(node: &Node, n: usize) -> Vec<String> {
    let (batch, messages) = (if n.is_multiple_of(2) { "?batch=1" } else { "" }, 120);
    let mut client = DeflatingClient::connect(node, &format!("user-{n}"), batch, OFFER).await;
    let mut contents = Vec::new();
    while contents.len() < messages {
        let text = client.text().await;
        let envelopes: Vec<Value> = match text.json["event"].as_str() {
            Some("message:batch") => text.json["data"]["messages"].as_array().unwrap().clone(),
            Some("message:receive") => vec![text.json["data"].clone()],
            _ => continue,
        };
        let acks: Vec<&Value> = envelopes.iter().map(|envelope| &envelope["messageId"]).collect();
        let ack = json!({"event": "message:delivered", "data": {"messageIds": acks}}).to_string();
        client.say(FIN | RSV1 | TEXT, &deflated(ack.as_bytes())).await;
        contents.extend(envelopes.iter().map(|envelope| envelope["content"].as_str().unwrap().to_owned()));
    }
    client.event("queue:drained").await;
    contents
}

#[tokio::test]
async fn a_refused_client_is_told_over_a_socket_with_compression_too() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    // The socket is there before the token is looked at, since the client speaks the subprotocol.
    let query = "?window=0";
    let extensions = ["permessage-deflate\r\nsec-websocket-protocol: restante.v1"];
    let mut client = DeflatingClient::connect(&node, "ben", query, &extensions).await;
    assert_eq!(client.agreed.as_deref(), Some(AGREED));
    assert_eq!(client.event("error").await.json["data"]["code"], "invalid");
    client.closed().await;
    let anna = node.open(Connect::user("anna")).await;
    anna.close().await;
    node.stop().await;
}
