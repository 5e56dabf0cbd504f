//! Tokens that are worth nothing are counted by the address that they come from, through whichever door, and whyever they are.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{answer, until_answered};
use crate::support::issuer::{KeyAnswer, KeyServer, SigningKey};
use crate::support::{Database, Node, database};

/// With a rate of two in 10 s the fifth one uses the burst up.
const COUNTED: usize = 5;

async fn node_of(server: Option<&KeyServer>) -> (Database, Node) {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        config.failed_token_rate = 2;
        config.jwks_url = server.map(KeyServer::url);
        config.jwks_pause = Duration::from_secs(3_600);
    });
    (db, node.await)
}

/// Broken by a renewal that is verified beside the limit of its address.
#[tokio::test]
async fn bad_tokens_on_an_open_connection_are_counted_as_those_at_the_doors() {
    let (_db, node) = node_of(None).await;
    let mut anna = node.connect("anna").await;
    for _ in 0..COUNTED {
        let refused = anna.ask("authenticate", json!({"token": "no token"})).await;
        assert_eq!(refused["data"]["code"], "not_authenticated", "{refused}");
    }
    let refused = anna.ask("authenticate", json!({"token": crate::support::token("anna")})).await;
    assert_eq!(refused["data"]["code"], "rate_limited", "not even a good one is looked at: {refused}");
    assert!(refused["data"]["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0 && ms <= 5_000), "{refused}");
    assert_eq!(anna.ask("ping", json!({})).await["event"], "pong", "the connection lives on with the token before");
    assert_eq!(answer(&node, &crate::support::token("ben")).await, (429, "rate_limited".to_owned()));
    assert!(node.app().context().metrics.limited.of("failed_tokens").get() >= 2);
    node.stop().await;
}

/// Broken by a look at the device after the token was counted.
#[tokio::test]
async fn requests_of_a_revoked_device_are_counted() {
    let (_db, node) = node_of(None).await;
    let old = crate::support::token("anna");
    let (status, revoked) = node.admin().post("/v1/admin/revocations", json!({"userId": "anna", "deviceId": "phone"})).await;
    assert_eq!(status, 200, "{revoked}");
    let of_phone = async || {
        let request = reqwest::Client::new().get(format!("{}/v1/chats?device=phone", node.url())).bearer_auth(&old);
        crate::support::told(request.send().await.unwrap()).await.0
    };
    for _ in 0..COUNTED {
        assert_eq!(of_phone().await, 401);
    }
    assert_eq!(of_phone().await, 429);
    node.stop().await;
}

/// Broken by counting only what is certainly worth nothing: an address could have the keys sought for as many as it likes.
#[tokio::test]
async fn tokens_whose_key_nobody_knows_are_counted_while_the_server_of_keys_is_away() {
    let key = SigningKey::new(Algorithm::ES256, "one");
    let server = KeyServer::answering("127.0.0.1:0".parse().unwrap(), KeyAnswer::status(500)).await;
    let (_db, node) = node_of(Some(&server)).await;
    server.until_fetched(1).await;
    for n in 0..COUNTED {
        let forged = key.called(&format!("new {n}")).token("anna");
        assert_eq!(answer(&node, &forged).await, (503, "keys_unavailable".to_owned()), "{n}");
    }
    assert_eq!(answer(&node, &key.called("newer").token("anna")).await, (429, "rate_limited".to_owned()));
    node.stop().await;
}

/// Broken by a client that is told to keep a token whose key the server has just been asked for.
#[tokio::test]
async fn a_key_that_the_server_has_not_given_a_moment_ago_is_unknown_and_its_token_is_counted() {
    let key = SigningKey::new(Algorithm::ES256, "one");
    let server = KeyServer::of(&[&key]).await;
    let (_db, node) = node_of(Some(&server)).await;
    until_answered(&node, &key.token("anna"), 200).await;
    for n in 0..COUNTED {
        let forged = key.called(&format!("new {n}")).token("anna");
        assert_eq!(answer(&node, &forged).await, (401, "not_authenticated".to_owned()), "{n}");
    }
    assert_eq!(answer(&node, &key.token("anna")).await, (429, "rate_limited".to_owned()));
    assert_eq!(server.fetches(), 1, "no more often than the settings allow");
    node.stop().await;
}
