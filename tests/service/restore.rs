//! A database that was restored from a dump: the world goes back, numbers are given again, and nobody skips anything.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::support::{Connect, Node, PATIENCE, PrivateServer, Socket, blocking, fill, kill, rows, secret};

fn numbers(messages: &[Value]) -> Vec<i64> {
    messages.iter().map(|message| message["inboxSeq"].as_i64().unwrap()).collect()
}

fn contents(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
}

async fn pool(options: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(2).connect_with(options.clone()).await.unwrap()
}

/// The arguments with which a program of PostgreSQL connects.
fn place(options: &PgConnectOptions) -> [String; 6] {
    let socket = options.get_socket().unwrap().to_str().unwrap();
    let database = options.get_database().unwrap();
    ["--host", socket, "--username", options.get_username(), "--dbname", database].map(str::to_owned)
}

/// A dump by `pg_dump` of the server's own version.
async fn dump(pool: &PgPool, options: &PgConnectOptions) -> (PathBuf, Vec<u8>) {
    let programs: String = sqlx::query_scalar("select setting from pg_config where name = 'BINDIR'").fetch_one(pool).await.unwrap();
    let (programs, place) = (PathBuf::from(programs), place(options));
    blocking(move || {
        let dumped = Command::new(programs.join("pg_dump")).arg("--format=custom").args(place).output().unwrap();
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
        (programs, dumped.stdout)
    })
    .await
}

async fn restore(programs: PathBuf, dump: Vec<u8>, into: &PgConnectOptions) {
    let place = place(into);
    blocking(move || {
        let mut restoring =
            Command::new(programs.join("pg_restore")).arg("--exit-on-error").args(place).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut restoring.stdin.take().unwrap(), &dump).unwrap();
        assert!(restoring.wait().unwrap().success());
    })
    .await;
}

/// Broken by an epoch that is the same in every database: bob, who has seen 5, would skip what is 4 and 5 now.
#[tokio::test]
async fn after_a_restore_the_epoch_is_another_and_numbers_that_are_given_again_are_not_skipped() {
    let server = PrivateServer::start().await;
    let before = server.database("before").await;
    let (node, at_first) = (Node::start(before.clone()).await, pool(&before).await);
    let mut alice = node.connect("alice").await;
    for content in ["one", "two", "three"] {
        alice.send("bob", content).await;
    }
    let mut bob = node.open(Connect::user("bob").device("phone")).await;
    bob.receive(3).await;
    bob.ack_up_to(2).await;
    let (programs, dump) = dump(&at_first, &before).await;
    // After the backup: what is acked and what is sent now is lost with the database.
    for content in ["lost four", "lost five"] {
        alice.send("bob", content).await;
    }
    assert_eq!(contents(&bob.receive(2).await), ["lost four", "lost five"]);
    bob.ack_up_to(5).await;
    let epoch = bob.ready["epoch"].as_str().unwrap().to_owned();
    node.stop().await;

    let after = server.database_without_schema("after").await;
    restore(programs, dump, &after).await;
    let (node, restored) = (Node::start(after.clone()).await, pool(&after).await);
    let mut alice = node.connect("alice").await;
    for content in ["four", "five", "six"] {
        alice.send("bob", content).await;
    }
    // The phone resumes where it was, and is told that this is another world.
    let resume = Connect::user("bob").device("phone").with("epoch", &epoch).with("since", 5);
    let mut bob = node.open(resume).await;
    assert_ne!(bob.ready["epoch"], json!(epoch));
    assert_eq!((&bob.ready["resumed"], &bob.ready["lastSeq"], &bob.ready["pending"]), (&json!(false), &json!(6), &json!(4)));
    let messages = bob.receive(4).await;
    assert_eq!((numbers(&messages), contents(&messages)), (vec![3, 4, 5, 6], vec!["three", "four", "five", "six"]));
    bob.ack_up_to(6).await;
    let told = alice.wait("the receipt", |frame| frame["event"] == "message:status" && frame["data"]["seq"] == 6).await;
    assert_eq!(told["data"]["status"], "delivered");
    let statuses: Vec<_> = rows(&restored, "bob").await.into_iter().map(|row| (row.seq, row.status)).collect();
    assert_eq!(statuses, (1..=6).map(|seq| (seq, "delivered".to_owned())).collect::<Vec<_>>());
    node.stop().await;
}

/// The service in a process of its own, as whoever watches over processes runs it.
struct Service {
    process: Child,
    log: Lines<BufReader<ChildStderr>>,
    addr: SocketAddr,
}

impl Service {
    async fn start(database: &PgConnectOptions) -> Self {
        let url = database.to_url_lossy().to_string();
        let mut process = tokio::process::Command::new(env!("CARGO_BIN_EXE_restante"))
            .arg("serve")
            .current_dir(std::env::temp_dir())
            .envs([("DATABASE_URL", url.as_str()), ("JWT_SECRET", secret()), ("LISTEN_ADDR", "127.0.0.1:0")])
            .envs([("RUST_LOG", "restante=info"), ("LOG_FORMAT", "json")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut service = Self { process, log, addr: SocketAddr::from(([0, 0, 0, 0], 0)) };
        service.addr = service.listens().await;
        service
    }

    /// Waits until it says where it listens.
    async fn listens(&mut self) -> SocketAddr {
        self.says("listening").await["addr"].as_str().unwrap().parse().unwrap()
    }

    /// Waits until it says this.
    async fn says(&mut self, message: &str) -> Value {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.log.next_line()).await.expect("it says nothing more").unwrap();
            let line: Value = serde_json::from_str(&line.expect("it has ended")).unwrap();
            if line["message"] == message {
                return line;
            }
        }
    }
}

/// The one database takes the place of the other, whose connections all end.
async fn swap(server: &PrivateServer, old: &str, new: &str) {
    let postgres = pool(&server.database_without_schema("postgres").await).await;
    let statements = [
        format!("alter database {old} with allow_connections false"),
        format!("select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{old}'"),
        format!("alter database {old} rename to was_{old}"),
        format!("alter database {new} rename to {old}"),
    ];
    for statement in statements {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&postgres).await.unwrap();
    }
}

/// Broken by a lane that takes a connection without asking where it leads: bob's ack of a message that was lost with the old
/// database would settle the one that has its number in the new one, which he never saw.
#[tokio::test]
async fn a_node_does_nothing_in_a_database_that_took_the_place_of_its_own_and_starts_anew_for_it() {
    let server = PrivateServer::start().await;
    let before = server.database("restante").await;
    let (mut service, at_first) = (Service::start(&before).await, pool(&before).await);
    let mut alice = Socket::open(service.addr, Connect::user("alice")).await;
    let phone = Connect::user("bob").device("phone");
    let mut bob = Socket::open(service.addr, phone.clone()).await;
    let chat = alice.send("bob", "one").await["chatId"].as_str().unwrap().parse().unwrap();
    bob.receive(1).await;
    let (programs, dump) = dump(&at_first, &before).await;
    alice.send("bob", "lost").await;
    assert_eq!(contents(&bob.receive(1).await), ["lost"]);

    let after = server.database_without_schema("after").await;
    restore(programs, dump, &after).await;
    let restored = pool(&after).await;
    fill(&restored, chat, "alice", 1).await;
    restored.close().await;
    at_first.close().await;
    swap(&server, "restante", "after").await;
    // The first thing he acks: the lane makes its connection now.
    bob.tell("message:delivered", json!({"upTo": 2})).await;
    bob.event("server:draining").await;
    assert_eq!((bob.closed().await, alice.closed().await), (Some(1012), Some(1012)));

    assert_eq!(service.listens().await, service.addr);
    let statuses: Vec<_> = rows(&pool(&before).await, "bob").await.into_iter().map(|row| row.status).collect();
    assert_eq!(statuses, ["sent", "sent"]);
    let epoch = bob.ready["epoch"].as_str().unwrap();
    let mut bob = Socket::open(service.addr, phone.with("epoch", epoch).with("since", 2)).await;
    assert_eq!(bob.ready["resumed"], false);
    assert_eq!(contents(&bob.receive(2).await), ["one", "1"]);
    kill("-TERM", service.process.id().unwrap());
    assert_eq!(service.process.wait().await.unwrap().code(), Some(0));
}

/// Broken by a node that brings whatever it finds up to date: the tables that it makes are in the way of those of the dump.
#[tokio::test]
async fn a_node_that_starts_anew_leaves_a_database_alone_until_all_is_there_that_was_there_before() {
    let server = PrivateServer::start().await;
    let before = server.database("restante").await;
    let (mut service, at_first) = (Service::start(&before).await, pool(&before).await);
    Socket::open(service.addr, Connect::user("alice")).await.send("bob", "one").await;
    let (programs, dump) = dump(&at_first, &before).await;
    at_first.close().await;
    server.database_without_schema("nothing").await;
    swap(&server, "restante", "nothing").await;
    for _ in 0..2 {
        let line = service.says("the node could not be started anew; once more").await;
        assert!(line["cause"].as_str().unwrap().contains("is not whole"), "{line}");
    }
    // It would fail at the first table that is there.
    restore(programs, dump, &before).await;
    assert_eq!(service.listens().await, service.addr);
    let mut bob = Socket::open(service.addr, Connect::user("bob")).await;
    assert_eq!(contents(&bob.receive(1).await), ["one"]);
    kill("-TERM", service.process.id().unwrap());
    assert_eq!(service.process.wait().await.unwrap().code(), Some(0));
}
