//! Servers of keys: rotation, servers that are away or mean harm, and how often one is asked.

use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use reqwest::Client;
use serde_json::{Value, json};

use super::{answer, until_answered};
use crate::support::issuer::{KeyAnswer, KeyServer, SigningKey, set_of};
use crate::support::{Node, database, told};

/// Between two fetches, where a test is not about it: shorter than any request.
const PAUSE: Duration = Duration::from_millis(1);

async fn node_of(server: &KeyServer) -> (crate::support::Database, Node) {
    let db = database().await;
    let node = Node::with(db.options(), |config| (config.jwks_url, config.jwks_pause) = (Some(server.url()), PAUSE)).await;
    (db, node)
}

async fn readiness(node: &Node) -> (u16, Value) {
    told(Client::new().get(format!("{}/readyz", node.url())).send().await.unwrap()).await
}

#[tokio::test]
async fn tokens_of_every_algorithm_that_a_public_key_has_are_taken() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let keys = [ES256, ES384, EdDSA, RS256, RS384, RS512, PS256, PS384, PS512].map(|kind| SigningKey::new(kind, &format!("{kind:?}")));
    let server = KeyServer::of(&keys.iter().collect::<Vec<_>>()).await;
    let (_db, node) = node_of(&server).await;
    for key in &keys {
        until_answered(&node, &key.token("anna"), 200).await;
    }
    // Each key knows its own algorithms only.
    let stranger = SigningKey::new(Algorithm::ES256, "ES384");
    assert_eq!(answer(&node, &stranger.token("anna")).await, (401, "not_authenticated".to_owned()));
    node.stop().await;
}

/// Broken by refusing a token whose key is not known at once.
#[tokio::test]
async fn a_new_key_is_fetched_while_its_first_token_waits() {
    let (old, new) = (SigningKey::new(Algorithm::ES256, "old"), SigningKey::new(Algorithm::ES256, "new"));
    let server = KeyServer::of(&[&old]).await;
    let (_db, node) = node_of(&server).await;
    until_answered(&node, &old.token("anna"), 200).await;
    server.give(&[&old, &new]);
    assert_eq!(answer(&node, &new.token("anna")).await.0, 200, "the token has waited for its key");
    assert_eq!(server.fetches(), 2);
    server.give(&[&new]);
    // A key that nobody knows has the set fetched again, and the old one is no more in it.
    assert_eq!(answer(&node, &old.called("third").token("anna")).await, (401, "not_authenticated".to_owned()));
    assert_eq!(answer(&node, &old.token("anna")).await, (401, "not_authenticated".to_owned()));
    node.stop().await;
}

/// Broken by a socket whose renewal is refused where a new token at a door would wait.
#[tokio::test]
async fn a_renewal_with_a_new_key_waits_for_the_key() {
    let (old, new) = (SigningKey::new(Algorithm::ES256, "old"), SigningKey::new(Algorithm::EdDSA, "new"));
    let server = KeyServer::of(&[&old]).await;
    let (_db, node) = node_of(&server).await;
    let mut anna = node.connect("anna").await;
    server.give(&[&old, &new]);
    let renewed = anna.ask("authenticate", json!({"token": new.token("anna")})).await;
    assert_eq!((&renewed["event"], &renewed["data"]["userId"]), (&json!("authenticated"), &json!("anna")), "{renewed}");
    let other = anna.ask("authenticate", json!({"token": new.token("ben")})).await;
    assert_eq!(other["data"]["code"], "other_user");
    node.stop().await;
}

/// Broken by taking `last_failed` for a set without the key: a client would throw its session away.
#[tokio::test]
async fn a_node_starts_without_its_key_server_says_so_and_lets_clients_keep_their_tokens() {
    let key = SigningKey::new(Algorithm::ES256, "one");
    let server = KeyServer::answering("127.0.0.1:0".parse().unwrap(), KeyAnswer::status(500)).await;
    let (_db, node) = node_of(&server).await;
    server.until_fetched(1).await;
    assert_eq!(readiness(&node).await, (200, json!({"status": "ready", "tokenKeys": "missing"})));
    let request = Client::new().get(format!("{}/v1/chats", node.url())).bearer_auth(key.token("anna"));
    let refused = request.send().await.unwrap();
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let (status, body) = told(refused).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("keys_unavailable")), "{body}");
    assert_eq!(answer(&node, &crate::support::token("ben")).await.0, 200, "a secret needs no server");
    server.give(&[&key]);
    until_answered(&node, &key.token("anna"), 200).await;
    assert_eq!(readiness(&node).await.1["tokenKeys"], "fresh");
    node.stop().await;
}

/// Broken by keeping the keys for ever, and by dropping them with the first failure.
#[tokio::test]
async fn keys_count_on_while_the_server_is_away_and_are_gone_after_their_time() {
    let key = SigningKey::new(Algorithm::ES256, "one");
    let (server, db) = (KeyServer::of(&[&key]).await, database().await);
    let node = Node::with(db.options(), |config| {
        (config.jwks_url, config.jwks_pause, config.jwks_keep) = (Some(server.url()), PAUSE, Duration::from_secs(4));
    });
    let node = node.await;
    until_answered(&node, &key.token("anna"), 200).await;
    let fetched = Instant::now();
    server.answer(KeyAnswer::status(503));
    let unknown = answer(&node, &key.called("two").token("anna")).await;
    assert_eq!(unknown, (503, "keys_unavailable".to_owned()), "nobody can say if the key is new");
    let kept = answer(&node, &key.token("anna")).await;
    assert!(kept.0 == 200 || fetched.elapsed() >= Duration::from_secs(4), "{kept:?}");
    until_answered(&node, &key.token("anna"), 503).await;
    assert!(fetched.elapsed() >= Duration::from_secs(3), "they were to be kept for 4 s");
    assert_eq!(readiness(&node).await.1["tokenKeys"], "missing");
    server.give(&[&key]);
    until_answered(&node, &key.token("anna"), 200).await;
    node.stop().await;
}

/// Broken by a fetch for each token.
#[tokio::test]
async fn many_tokens_with_unknown_keys_cause_one_fetch_in_ten_seconds() {
    let key = SigningKey::new(Algorithm::EdDSA, "one");
    let (server, db) = (KeyServer::of(&[&key]).await, database().await);
    let node = Node::with(db.options(), |config| config.jwks_url = Some(server.url())).await;
    until_answered(&node, &key.token("anna"), 200).await;
    let begun = Instant::now();
    let tokens: Vec<String> = (0..200).map(|n| key.called(&format!("unknown-{n}")).token("anna")).collect();
    let answers = futures_util::future::join_all(tokens.iter().map(|token| answer(&node, token))).await;
    assert!(answers.iter().all(|(_, code)| code == "not_authenticated"), "the server has answered a moment ago: {answers:?}");
    let windows = begun.elapsed().as_secs() / 10 + 1;
    assert!(server.fetches() as u64 <= 1 + windows, "{} fetches in {:?}", server.fetches(), begun.elapsed());
    node.stop().await;
}

/// Broken by refusing the whole set for one key of it, and by taking secrets from a server.
#[tokio::test]
async fn a_key_that_cannot_be_used_costs_that_key_only_and_secrets_of_a_server_are_refused() {
    let (good, private) = (SigningKey::new(Algorithm::ES256, "good"), SigningKey::new(Algorithm::ES256, "private"));
    let mut of_private = private.public.clone();
    of_private["d"] = json!("AAAA");
    let secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCE";
    let set = json!({"keys": [
        5, {}, {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "off the curve"}, of_private,
        {"kty": "oct", "k": secret, "kid": "secret", "alg": "HS256"}, {"kty": "XYZ"}, good.public,
    ]});
    let server = KeyServer::answering("127.0.0.1:0".parse().unwrap(), KeyAnswer::set(set.to_string())).await;
    let (_db, node) = node_of(&server).await;
    until_answered(&node, &good.token("anna"), 200).await;
    assert_eq!(answer(&node, &private.token("anna")).await.0, 401);
    let key = jsonwebtoken::EncodingKey::from_secret(b"secret secret secret secret secret!");
    let header = jsonwebtoken::Header { kid: Some("secret".to_owned()), ..jsonwebtoken::Header::new(Algorithm::HS256) };
    let forged = jsonwebtoken::encode(&header, &super::claims("anna"), &key).unwrap();
    assert_eq!(answer(&node, &forged).await, (401, "not_authenticated".to_owned()));
    node.stop().await;
}

/// Broken by a client that follows redirects, or reads a body to its end.
#[tokio::test]
async fn redirects_are_not_followed_and_an_answer_beyond_a_bound_is_no_set() {
    let key = SigningKey::new(Algorithm::ES256, "one");
    let elsewhere = KeyServer::of(&[&key]).await;
    let server = KeyServer::answering("127.0.0.1:0".parse().unwrap(), KeyAnswer::status(302)).await;
    let moved = KeyAnswer { headers: vec![("location", elsewhere.url().to_string())], ..KeyAnswer::status(302) };
    server.answer(moved);
    let (_db, node) = node_of(&server).await;
    server.until_fetched(1).await;
    let large = format!("{}{}", set_of(&[&key]), " ".repeat(256 * 1_024));
    let many = json!({"keys": vec![&key.public; 101]}).to_string();
    for (n, body) in [large, many, "[]".to_owned(), json!({"keys": []}).to_string()].into_iter().enumerate() {
        assert_eq!(answer(&node, &key.token("anna")).await, (503, "keys_unavailable".to_owned()), "{n}");
        let fetches = server.fetches();
        server.answer(KeyAnswer::set(body));
        assert_eq!(answer(&node, &key.token("anna")).await, (503, "keys_unavailable".to_owned()), "{n}");
        server.until_fetched(fetches + 1).await;
    }
    assert_eq!(elsewhere.fetches(), 0);
    let metrics = Client::new().get(format!("{}/metrics", node.url())).send().await.unwrap().text().await.unwrap();
    for outcome in ["status", "too_large", "malformed"] {
        assert!(metrics.contains(&format!("restante_token_key_fetches_total{{outcome=\"{outcome}\"}}")), "{outcome}\n{metrics}");
    }
    node.stop().await;
}

/// Broken by a wait without a bound.
#[tokio::test]
async fn a_server_that_does_not_answer_holds_no_token_for_long() {
    let key = SigningKey::new(Algorithm::ES256, "one");
    let hangs = KeyAnswer { delay: Duration::from_secs(3_600), ..KeyAnswer::set(set_of(&[&key])) };
    let server = KeyServer::answering("127.0.0.1:0".parse().unwrap(), hangs).await;
    let (_db, node) = node_of(&server).await;
    server.until_fetched(1).await;
    assert_eq!(answer(&node, &key.token("anna")).await, (503, "keys_unavailable".to_owned()));
    node.stop().await;
}
