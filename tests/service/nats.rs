//! The bus over NATS: what `nodes` looks at with NOTIFY, with a server of its own. Without the program `nats-server`
//! there is nothing to look at, and the tests say so.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use restante::config::Config;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::nodes::{know_one_another, never};
use crate::support::{Database, Node, blocking, database, direct, wait_until};

/// A server that ends with this handle.
struct NatsServer {
    server: Child,
    folder: TempDir,
    port: u16,
}

impl NatsServer {
    /// On any free port. None: the program is not there.
    async fn start() -> Option<Self> {
        let server = Self::on(-1).await;
        if server.is_none() {
            println!("skipped: nats-server is not installed (Debian: apt-get install nats-server)");
        }
        server
    }

    async fn on(port: i32) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "--ports_file_dir"]).arg(folder.path());
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let file = folder.path().join(format!("nats-server_{}.ports", server.id()));
        let port = blocking(move || port_in(&file)).await;
        Some(Self { server, folder, port })
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn end(mut self) -> i32 {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        assert!(self.folder.path().exists());
        i32::from(self.port)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Waits for the file in which the server says where it listens.
fn port_in(file: &Path) -> u16 {
    let begun = Instant::now();
    loop {
        let said = std::fs::read_to_string(file).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if let Some(port) = said.and_then(|said| said["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()) {
            return port;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "nats-server did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A proxy before the server: from a stall on, connections that there are stay open and carry nothing; later ones work.
struct Cable {
    stalls: watch::Sender<u32>,
    port: u16,
}

impl Cable {
    async fn to(server: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), server.port);
        let (stalls, mut stalled) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                stalled.mark_unchanged();
                let mut stalled = stalled.clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        // Both streams stay open.
                        Ok(()) = stalled.changed() => std::future::pending::<()>().await,
                    }
                });
            }
        });
        Self { stalls, port }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn stall(&self) {
        self.stalls.send_modify(|stalls| *stalls += 1);
    }
}

async fn two_nodes(server: &NatsServer) -> (Database, Node, Node) {
    two_nodes_at([server.url(), server.url()]).await
}

async fn two_nodes_at(urls: [String; 2]) -> (Database, Node, Node) {
    let db = database().await;
    let with_nats = |url: String| {
        |config: &mut Config| {
            never(config);
            config.nats_url = Some(url.into());
        }
    };
    let [here, there] = urls.map(with_nats);
    let (one, other) = (Node::with(db.options(), here).await, Node::with(db.options(), there).await);
    know_one_another(&[&one, &other]).await;
    // Each has heard itself over NATS: that is a look, besides the one at its LISTEN.
    for node in [&one, &other] {
        wait_until("the node hears itself", || node.app().context().metrics.wakes.of("check").get() >= 2).await;
    }
    (db, one, other)
}

#[tokio::test]
async fn messages_receipts_and_typing_go_from_node_to_node_over_nats() {
    let Some(server) = NatsServer::start().await else { return };
    let (db, one, other) = two_nodes(&server).await;
    let chat = direct(&db.pool(1).await, "alice", "bob").await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    for round in 1..=3 {
        alice.send("bob", "over NATS").await;
        let message = bob.event("message:receive").await;
        assert_eq!((&message["content"], &message["inboxSeq"]), (&json!("over NATS"), &json!(round)));
        bob.ack(&message).await;
        alice.wait("delivered", |frame| frame["event"] == "message:status" && frame["data"]["seq"] == round).await;
    }
    alice.tell("typing", json!({"chatId": chat, "typing": true})).await;
    assert_eq!(bob.event("typing").await["userId"], "alice");
    assert!(other.app().context().metrics.bus_received.of("offer").get() >= 1, "offers come along");
    one.stop().await;
    other.stop().await;
}

/// As with NOTIFY: another client of the server reads nothing, and is believed in nothing.
#[tokio::test]
async fn a_stranger_at_the_nats_server_reads_nothing_and_is_believed_in_nothing() {
    let Some(server) = NatsServer::start().await else { return };
    let (db, one, other) = two_nodes(&server).await;
    let pool = db.pool(1).await;
    let chat = direct(&pool, "alice", "bob").await;
    let stranger = async_nats::connect(server.url()).await.unwrap();
    let mut heard = stranger.subscribe("restante.>").await.unwrap();
    stranger.flush().await.unwrap();
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    alice.send("bob", "the secret word").await;
    bob.event("message:receive").await;
    alice.tell("typing", json!({"chatId": chat, "typing": true})).await;
    bob.event("typing").await;
    let mut letters = Vec::new();
    // Each node also tells itself something every second.
    while letters.len() < 8 {
        letters.push(heard.next().await.unwrap());
    }
    let looks = [&one, &other].map(|node| node.app().context().metrics.wakes.of("check").get());
    for letter in &letters {
        let text = String::from_utf8(letter.payload.to_vec()).unwrap();
        assert!(!text.contains("secret") && !text.contains("typing") && !text.contains("changes"), "{text}");
        let forged = ["changes 77", "\"l\"", "\"b\"", "{\"w\":[\"chat\",[1]]}"].map(str::to_owned);
        for payload in forged.into_iter().chain([text]) {
            stranger.publish(letter.subject.clone(), payload.into()).await.unwrap();
        }
    }
    stranger.flush().await.unwrap();
    let rejected =
        |reason: &'static str| [&one, &other].iter().map(|node| node.app().context().metrics.bus_rejected.of(reason).get()).sum::<u64>();
    wait_until("all of it has come", || rejected("forged") >= 32 && rejected("replayed") >= 8).await;
    alice.send("bob", "after it").await;
    assert_eq!(bob.event("message:receive").await["content"], "after it");
    assert!(bob.skipped().iter().all(|frame| frame["event"] != "typing"), "{:?}", bob.skipped());
    assert_eq!([&one, &other].map(|node| node.app().context().metrics.wakes.of("check").get()), looks);
    assert!(!one.app().context().notifier.is_alone() && !other.app().context().notifier.is_alone());
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_was_told_while_nats_was_away_is_found_when_it_is_back() {
    let Some(server) = NatsServer::start().await else { return };
    let (_db, one, other) = two_nodes(&server).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let port = server.end();
    alice.send("bob", "while it is away").await;
    assert!(bob.until_pong().await.iter().all(|frame| frame["event"] != "message:receive"), "it came some other way");
    let _server = NatsServer::on(port).await.unwrap();
    assert_eq!(bob.event("message:receive").await["content"], "while it is away");
    one.stop().await;
    other.stop().await;
}

/// A node that lost its connection knows of it, and looks; no other does.
#[tokio::test]
async fn what_a_node_did_not_hear_over_a_half_open_connection_it_looks_for_itself() {
    let Some(server) = NatsServer::start().await else { return };
    let cable = Cable::to(&server).await;
    let (_db, one, other) = two_nodes_at([server.url(), cable.url()]).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    cable.stall();
    alice.send("bob", "into the void").await;
    assert_eq!(bob.event("message:receive").await["content"], "into the void");
    one.stop().await;
    other.stop().await;
}

/// The other has lost nothing that it knows of: it must be told to look.
#[tokio::test]
async fn what_a_node_told_over_a_half_open_connection_the_others_are_told_to_look_for() {
    let Some(server) = NatsServer::start().await else { return };
    let cable = Cable::to(&server).await;
    let (_db, one, other) = two_nodes_at([cable.url(), server.url()]).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    cable.stall();
    alice.send("bob", "into the void").await;
    assert_eq!(bob.event("message:receive").await["content"], "into the void");
    one.stop().await;
    other.stop().await;
}
