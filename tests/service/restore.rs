//! A database that was restored from a dump: the world goes back, numbers are given again, and nobody skips anything.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use crate::support::{Connect, Node, PrivateServer, blocking, rows};

fn numbers(messages: &[Value]) -> Vec<i64> {
    messages.iter().map(|message| message["inboxSeq"].as_i64().unwrap()).collect()
}

fn contents(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
}

async fn pool(options: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(2).connect_with(options.clone()).await.unwrap()
}

/// How a program of PostgreSQL connects to it.
fn place(options: &PgConnectOptions) -> [String; 6] {
    let socket = options.get_socket().unwrap().to_str().unwrap();
    let database = options.get_database().unwrap();
    ["--host", socket, "--username", options.get_username(), "--dbname", database].map(str::to_owned)
}

/// What `pg_dump` of the server's own version writes.
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
    alice.send("bob", "four").await;
    // The phone resumes where it was, and is told that this is another world.
    let resume = Connect::user("bob").device("phone").with("epoch", &epoch).with("since", 5);
    let mut bob = node.open(resume).await;
    assert_ne!(bob.ready["epoch"], json!(epoch));
    assert_eq!((&bob.ready["resumed"], &bob.ready["lastSeq"]), (&json!(false), &json!(4)));
    let messages = bob.receive(2).await;
    assert_eq!((numbers(&messages), contents(&messages)), (vec![3, 4], vec!["three", "four"]));
    bob.ack_up_to(4).await;
    let told = alice.wait("the receipt", |frame| frame["event"] == "message:status" && frame["data"]["seq"] == 4).await;
    assert_eq!(told["data"]["status"], "delivered");
    let statuses: Vec<_> = rows(&restored, "bob").await.into_iter().map(|row| (row.seq, row.status)).collect();
    assert_eq!(statuses, (1..=4).map(|seq| (seq, "delivered".to_owned())).collect::<Vec<_>>());
    node.stop().await;
}
