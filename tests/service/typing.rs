//! `typing`: the last state wins, and what a client does not end the service ends.

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::nodes::two_nodes;
use crate::support::{Connect, Database, Node, Socket, group};

/// Two nodes and a group of alice, who is at the one, and bob, who is at the other.
async fn start() -> (Database, [Node; 2], PgPool, Uuid, [Socket; 2]) {
    let (db, one, other, pool) = two_nodes().await;
    let chat = group(&pool, &["alice", "bob"]).await;
    let sockets = [one.connect("alice").await, other.connect("bob").await];
    (db, [one, other], pool, chat, sockets)
}

async fn stop(nodes: [Node; 2]) {
    for node in nodes {
        node.stop().await;
    }
}

async fn types(socket: &mut Socket, chat: Uuid, typing: bool) {
    socket.tell("typing", json!({"chatId": chat, "typing": typing})).await;
}

fn told(chat: Uuid, typing: bool) -> Value {
    json!({"chatId": chat, "userId": "alice", "typing": typing})
}

/// Broken by keeping the first state that waits: the last one was never told.
#[tokio::test]
async fn what_is_said_right_after_one_another_ends_with_the_last_state() {
    let (_db, nodes, _pool, chat, [mut alice, mut bob]) = start().await;
    types(&mut alice, chat, true).await;
    assert_eq!(bob.event("typing").await, told(chat, true));
    // The last state is never the first one that waits.
    for last in [true, false] {
        for typing in [!last, last, !last, last] {
            types(&mut alice, chat, typing).await;
        }
        let mut states = Vec::new();
        while states.last() != Some(&told(chat, last)) {
            states.push(bob.event("typing").await);
        }
        assert!(states.len() <= 3, "{states:?}");
    }
    types(&mut alice, chat, true).await;
    assert_eq!(bob.event("typing").await, told(chat, true), "the false before it was the end");
    stop(nodes).await;
}

#[tokio::test]
async fn what_is_not_repeated_is_over_after_six_seconds() {
    let (_db, nodes, _pool, chat, [mut alice, mut bob]) = start().await;
    let begun = std::time::Instant::now();
    types(&mut alice, chat, true).await;
    assert_eq!(bob.event("typing").await, told(chat, true));
    assert_eq!(bob.event("typing").await, told(chat, false));
    assert!(begun.elapsed() >= std::time::Duration::from_secs(6));
    stop(nodes).await;
}

#[tokio::test]
async fn a_connection_that_ends_in_whatever_way_types_no_more() {
    let (_db, nodes, pool, chat, [mut alice, mut bob]) = start().await;
    let crew = group(&pool, &["alice", "bob"]).await;
    for way in ["cut", "closed", "displaced"] {
        let mut typist = nodes[0].open(Connect::user("alice").device("phone")).await;
        types(&mut typist, chat, true).await;
        assert_eq!(bob.event("typing").await, told(chat, true), "{way}");
        types(&mut typist, crew, true).await;
        assert_eq!(bob.event("typing").await, told(crew, true), "{way}");
        match way {
            "cut" => typist.cut(),
            "closed" => typist.close().await,
            "displaced" => drop(nodes[1].open(Connect::user("alice").device("phone")).await),
            _ => unreachable!(),
        }
        let mut ended = [bob.event("typing").await, bob.event("typing").await];
        ended.sort_by_key(|end| end["chatId"] != json!(chat));
        assert_eq!(ended, [told(chat, false), told(crew, false)], "{way}");
    }
    // Somebody who types nothing ends nothing.
    alice.until_pong().await;
    alice.cut();
    assert!(bob.until_pong().await.iter().all(|frame| frame["event"] != "typing"));
    stop(nodes).await;
}
