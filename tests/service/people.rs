//! Policy between people: who may write to whom, bring whom into a group, and learn what of whom. Two nodes, and no session looks for itself.

mod blocks;
mod contacts;
mod function;
mod invitations;
mod quiet;
mod reopened;
mod table;

use restante::domain::DirectMessages;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::nodes::{know_one_another, never};
use crate::support::fixtures::assert_consistent;
use crate::support::{Database, Node, Socket, database, until_true};

/// Two nodes that know of one another, under a rule for direct messages.
async fn two_nodes_under(rule: DirectMessages) -> (Database, Node, Node, PgPool) {
    let db = database().await;
    let start = async || {
        let with_rule = |config: &mut restante::config::Config| {
            never(config);
            config.direct_messages = rule;
        };
        Node::with(db.options(), with_rule).await
    };
    let (one, other) = (start().await, start().await);
    know_one_another(&[&one, &other]).await;
    let pool = db.pool(2).await;
    (db, one, other, pool)
}

/// Makes them contacts over HTTP.
async fn befriend(node: &Node, user: &str, other: &str) {
    for (from, to, state) in [(user, other, "requested"), (other, user, "contact")] {
        let (status, answer) = node.api(from).post("/v1/contacts", json!({"userId": to})).await;
        assert_eq!((status, &answer), (200, &json!({"userId": to, "state": state})));
    }
}

/// Blocks over HTTP.
async fn block(node: &Node, user: &str, other: &str) {
    let (status, answer) = node.api(user).post("/v1/blocks", json!({"userId": other})).await;
    assert_eq!((status, &answer), (200, &json!({"userId": other, "isBlocked": true})));
}

/// Unblocks over HTTP.
async fn unblock(node: &Node, user: &str, other: &str) {
    let (status, answer) = node.api(user).delete("/v1/blocks", json!({"userId": other})).await;
    assert_eq!((status, &answer), (200, &json!({"userId": other, "isBlocked": false})));
}

/// The frames of these events that have come, up to the answer of a ping.
async fn of(socket: &mut Socket, events: &[&str]) -> Vec<Value> {
    let frames = socket.until_pong().await;
    frames.into_iter().filter(|frame| events.iter().any(|event| frame["event"] == *event)).collect()
}

/// Waits until no end is left to be written, holds the tables against one another, and stops the nodes.
async fn stop((_db, one, other, pool): (Database, Node, Node, PgPool)) {
    until_true(&pool, "select not exists (select from departures)").await;
    assert_consistent(&pool).await;
    one.stop().await;
    other.stop().await;
}
