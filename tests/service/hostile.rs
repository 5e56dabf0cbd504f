//! Clients that mean harm: what they get, and that nobody else notices. While each of them is at work two others send and
//! ack, and in the end the node holds nothing of it any more.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use restante::config::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use uuid::Uuid;

use crate::support::{Connect, Node, PATIENCE, Socket, database, token, wait_until};

/// Two who do no harm.
struct Bystanders {
    anna: Socket,
    ben: Socket,
}

impl Bystanders {
    async fn of(node: &Node) -> Self {
        Self { anna: node.connect("anna").await, ben: node.connect("ben").await }
    }

    /// A message from one to the other, its ack, and the receipt of that. Both read on while they wait for one another: who
    /// does not answers no ping, and on a busy machine with a short heartbeat would be taken for gone.
    async fn exchange(&mut self) {
        let Self { anna, ben } = self;
        let sends = async {
            let sent = anna.send("ben", "still here?").await;
            anna.event("message:status").await;
            sent
        };
        let receives = async {
            let received = ben.receive(1).await.remove(0);
            ben.ack(&received).await;
            received
        };
        let (sent, received) = tokio::join!(sends, receives);
        assert_eq!(received["messageId"], sent["messageId"]);
    }

    /// They are all that is left, whatever came and went.
    async fn are_alone_on(mut self, node: Node) {
        self.exchange().await;
        let shared = node.app().context();
        wait_until("only two connections are left", || shared.hub.sessions() == 2 && shared.tasks.len() == 2).await;
        node.stop().await;
    }
}

/// Everything until the other side closes.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection is ended");
    bytes
}

fn upgrade_head(token: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n\r\n"
    )
}

/// A WebSocket on which any bytes can be sent.
async fn upgraded(addr: SocketAddr, user: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(upgrade_head(&token(user)).as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A frame as RFC 6455 section 5.2 has it, masked with zeros: `first` holds FIN, the reserved bits and the opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ ..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            bytes.push(0x80 | 127);
            bytes.extend(u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// The code of the close frame that a server ends with.
async fn close_code(stream: &mut TcpStream) -> Option<u16> {
    code_in(&rest(stream).await)
}

/// The code of the close frame among a server's frames, which are not masked.
fn code_in(mut frames: &[u8]) -> Option<u16> {
    while let [first, length, rest @ ..] = frames {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)), &rest[2..]),
            length => (usize::from(*length), rest),
        };
        if *first == 0x88 {
            return Some(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?));
        }
        frames = rest.get(length..)?;
    }
    None
}

#[tokio::test]
async fn who_says_nothing_or_a_byte_at_a_time_is_disconnected() {
    let db = database().await;
    let node = Node::with(db.options(), |config: &mut Config| config.head_timeout = Duration::from_millis(500)).await;
    let mut bystanders = Bystanders::of(&node).await;
    for beginning in ["", "GET /healthz HTTP/1.1\r\nhost: x\r\nx-", &upgrade_head(&token("mallory"))[..60]] {
        let mut stream = TcpStream::connect(node.addr()).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&rest(&mut stream).await), "", "{beginning:?}");
    }
    // A byte for each message that others exchange: never idle, and never done.
    let mut stream = TcpStream::connect(node.addr()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nx-slow: ").await.unwrap();
    let drips = async {
        while stream.write_all(b"z").await.is_ok() {
            bystanders.exchange().await
        }
    };
    timeout(PATIENCE, drips).await.expect("a head that never ends is not read for ever");
    bystanders.are_alone_on(node).await;
}

#[tokio::test]
async fn one_connection_more_than_the_node_may_have_is_refused_until_another_ends() {
    let db = database().await;
    let node = Node::with(db.options(), |config: &mut Config| config.connections_max = 3).await;
    let bystanders = Bystanders::of(&node).await;
    let silent = TcpStream::connect(node.addr()).await.unwrap();
    // Places are given in the order of connecting, so this one is too many.
    let mut refused = TcpStream::connect(node.addr()).await.unwrap();
    let answer = String::from_utf8(rest(&mut refused).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 5\r\n"), "{answer}");
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["retryAfterMs"]), (&json!("unavailable"), &json!(5000)));
    assert_eq!(node.app().context().metrics.connections_refused.get(), 1);

    drop(silent);
    let mut last = loop {
        // Refused for as long as the node has not seen the other go.
        if let Ok(socket) = Socket::raw(node.addr(), Connect::user("cleo")).await {
            break socket;
        }
    };
    last.event("ready").await;
    last.close().await;
    bystanders.are_alone_on(node).await;
}

#[tokio::test]
async fn frames_that_break_the_rules_end_their_connection_only() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut bystanders = Bystanders::of(&node).await;
    let too_large = u64::try_from(256 * 1024 + 1).unwrap().to_be_bytes();
    let illegal: [(&str, Vec<u8>, u16); 15] = [
        ("not masked", b"\x81\x02{}".to_vec(), 4400),
        ("a reserved bit", frame(0xc1, b"{}"), 4400),
        ("a data opcode that is none", frame(0x83, b"{}"), 4400),
        ("a control opcode that is none", frame(0x8b, b""), 4400),
        ("text that is not UTF-8", frame(0x81, b"\"\xff\""), 4400),
        ("half a character", frame(0x81, "\"ü".as_bytes().split_last().unwrap().1), 4400),
        ("a ping of 126 bytes", frame(0x89, &[b'x'; 126]), 4400),
        ("a ping in pieces", frame(0x09, b"x"), 4400),
        ("a continuation of nothing", frame(0x80, b"{}"), 4400),
        ("a text inside a text", [frame(0x01, b"{"), frame(0x81, b"}")].concat(), 4400),
        ("larger than it may be, and only said so", [&[0x81, 0xff], too_large.as_slice(), &[0; 4]].concat(), 4413),
        ("as large as can be said", [[0x81, 0xff].as_slice(), &[0xff; 8], &[0; 4]].concat(), 4413),
        ("pieces that are too large together", [frame(0x01, &[b'x'; 200_000]), frame(0x80, &[b'x'; 100_000])].concat(), 4413),
        ("a close of one byte", frame(0x88, b"x"), 4400),
        ("a close whose reason is not UTF-8", frame(0x88, b"\x03\xe8\xff"), 4400),
    ];
    for (what, bytes, code) in illegal {
        let mut stream = upgraded(node.addr(), "mallory").await;
        // It may end while it is being sent.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        assert_eq!(close_code(&mut stream).await, Some(code), "{what}");
        bystanders.exchange().await;
    }
    // Codes that nobody may send are answered as a broken rule, others with themselves (RFC 6455 section 7.4).
    for (sent, answered) in [(999, 1002), (1005, 1002), (1006, 1002), (1015, 1002), (1000, 1000), (4999, 4999)] {
        let mut stream = upgraded(node.addr(), "mallory").await;
        stream.write_all(&frame(0x88, &u16::to_be_bytes(sent))).await.unwrap();
        assert_eq!(close_code(&mut stream).await, Some(answered), "{sent}");
    }
    bystanders.are_alone_on(node).await;
}

#[tokio::test]
async fn a_binary_frame_is_an_error_and_the_connection_goes_on() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut mallory = node.connect("mallory").await;
    for _ in 0..3 {
        mallory.frame(Message::binary(vec![0; 1_000])).await;
        assert_eq!(mallory.error().await, "bad_frame");
    }
    mallory.until_pong().await;
    node.stop().await;
}

#[tokio::test]
async fn a_message_in_pieces_without_an_end_is_ended() {
    let db = database().await;
    let node = Node::with(db.options(), |config: &mut Config| config.heartbeat = Duration::from_millis(500)).await;
    let mut bystanders = Bystanders::of(&node).await;
    // Pieces of a byte: too large in the end. Pieces of nothing: never too large, and no sign of life either.
    for (piece, code) in [(b"x".as_slice(), 4413), (b"", 4503)] {
        let stream = upgraded(node.addr(), "mallory").await;
        let is_over = AtomicBool::new(false);
        let attack = async {
            let told = timeout(PATIENCE, pieces_until_closed(stream, piece)).await.expect("it is ended");
            is_over.store(true, Ordering::Relaxed);
            told
        };
        let others = async {
            while !is_over.load(Ordering::Relaxed) {
                bystanders.exchange().await
            }
        };
        let (told, ()) = tokio::join!(attack, others);
        assert_eq!(told, Some(code), "{piece:?}");
    }
    bystanders.are_alone_on(node).await;
}

/// Begins a text and goes on with this piece as fast as it is taken. Returns the code it is closed with.
async fn pieces_until_closed(stream: TcpStream, piece: &[u8]) -> Option<u16> {
    let (mut reading, mut writing) = stream.into_split();
    let pieces = frame(0x00, piece).repeat(1_024);
    let feeding = async {
        let _ = writing.write_all(&frame(0x01, b"{")).await;
        while writing.write_all(&pieces).await.is_ok() {}
        // The frames that the service sent before are still to be read, so this must not end first.
        std::future::pending::<()>().await;
    };
    let reading = async {
        let mut told = Vec::new();
        let mut is_closed = false;
        while !is_closed && reading.read_buf(&mut told).await.is_ok_and(|bytes| bytes > 0) {
            is_closed = code_in(&told).is_some();
        }
        code_in(&told)
    };
    tokio::select! { told = reading => told, () = feeding => None }
}

#[tokio::test]
async fn a_storm_of_acks_harms_nobody_else_and_leaves_nothing_behind() {
    const FRAMES: usize = 200;
    let db = database().await;
    // All of them are to reach the lanes: the budget of their user would hold most of them off.
    let node = Node::with(db.options(), |config| config.request_rate = 0).await;
    let mut bystanders = Bystanders::of(&node).await;
    let mut mallory = node.connect("mallory").await;
    bystanders.anna.send("mallory", "an ack of this is wanted once").await;
    let received = mallory.receive(1).await.remove(0);
    let mut last = String::new();
    for n in 0..FRAMES {
        // Acks of ids that were never sent, of messages that are acked already, and of all numbers.
        let ids: Vec<Uuid> = (0..500).map(|_| Uuid::now_v7()).collect();
        mallory.tell("message:delivered", json!({"messageIds": ids})).await;
        mallory.tell("message:delivered", json!({"messageId": received["messageId"]})).await;
        last = mallory.ask_later("message:delivered", json!({"upTo": received["inboxSeq"]})).await;
        if n % 20 == 0 {
            bystanders.exchange().await;
        }
    }
    assert_eq!(mallory.answer(&last).await["event"], "message:delivered:ok");
    let shared = node.app().context();
    wait_until("no lane holds anything", || shared.metrics.lane_queue_items.of("settle").get() == 0).await;
    mallory.close().await;
    bystanders.are_alone_on(node).await;
}

#[tokio::test]
async fn ten_thousand_bad_tokens_let_nobody_in_and_harm_nobody() {
    const TOKENS: usize = 10_000;
    const AT_ONCE: usize = 32;
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut bystanders = Bystanders::of(&node).await;
    let good = token("mallory");
    let bad = |n: usize| match n % 4 {
        0 => format!("{}{n}", &good[..good.len() - 8]),
        1 => "x".repeat(n % 9_000),
        2 => format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap()),
        _ => format!("{good}.{n}"),
    };
    let client = reqwest::Client::new();
    let (url, upgrade) = (node.url(), upgrade_head("").replace("\r\nauthorization: Bearer ", ""));
    let ask = |n: usize| {
        let mut request = client.get(format!("{url}/ws"));
        for (name, value) in upgrade.lines().skip(2).filter_map(|line| line.split_once(": ")) {
            request = request.header(name, value);
        }
        let request = request.bearer_auth(bad(n));
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let mut answers = stream::iter((0..TOKENS).map(ask)).buffer_unordered(AT_ONCE);
    let mut answered = 0;
    while let Some(status) = answers.next().await {
        answered += 1;
        assert_eq!(status, 401);
        if answered % 1_000 == 0 {
            bystanders.exchange().await;
        }
    }
    assert_eq!(answered, TOKENS);
    // The same as first frames.
    for n in 0..40 {
        let request = format!("ws://{}/ws", node.addr());
        let mut socket = Socket::request(request.into_client_request().unwrap()).await.unwrap();
        socket.tell("authenticate", json!({"token": bad(n)})).await;
        assert_eq!(socket.closed().await, Some(4401));
    }
    bystanders.are_alone_on(node).await;
}
