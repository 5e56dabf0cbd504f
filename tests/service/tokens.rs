//! Tokens: the keys that they are verified with, from secrets, a file and a server, while those change or are away.

mod by_command;
mod claims;
mod counted;
mod revocations;
mod scopes;
mod servers;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use reqwest::Client;
use serde_json::{Value, json};

use crate::support::issuer::{KeyServer, SigningKey, claims, set_of};
use crate::support::{Node, database, told};

/// The status and the code with which a node answers this token.
pub async fn answer(node: &Node, token: &str) -> (u16, String) {
    let (status, body) = told(Client::new().get(format!("{}/v1/chats", node.url())).bearer_auth(token).send().await.unwrap()).await;
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// Waits until this token is answered so.
pub async fn until_answered(node: &Node, token: &str, expected: u16) {
    let wait = async { while answer(node, token).await.0 != expected {} };
    tokio::time::timeout(crate::support::PATIENCE, wait).await.expect("the token is never answered so");
}

/// A time in an answer.
pub fn instant(answer: &Value, name: &str) -> time::OffsetDateTime {
    time::OffsetDateTime::parse(answer[name].as_str().unwrap(), &time::format_description::well_known::Rfc3339).unwrap()
}

fn signed_by(secret: &str, claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::HS256), claims, &key).unwrap()
}

/// Broken by a verifier that takes the first of its secrets only.
#[tokio::test]
async fn the_secret_before_counts_while_it_is_replaced() {
    let (db, old) = (database().await, "the secret that was used before, 32 bytes");
    let node = Node::with(db.options(), |config| config.jwt_secret_previous = Some(old.into())).await;
    for secret in [crate::support::SECRET, old] {
        assert_eq!(answer(&node, &signed_by(secret, &claims("anna"))).await.0, 200, "{secret}");
    }
    let other = signed_by("a secret of somebody else, of 32 bytes", &claims("anna"));
    assert_eq!(answer(&node, &other).await, (401, "not_authenticated".to_owned()));
    node.stop().await;
}

/// Broken by the leeway of a node without the setting.
#[tokio::test]
async fn the_clock_of_an_issuer_may_be_ahead_by_the_time_of_the_settings_and_no_more() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.jwt_leeway = std::time::Duration::from_secs(300)).await;
    let begins_in = |seconds: i64| {
        let mut claims = claims("anna");
        claims["nbf"] = json!(claims["iat"].as_i64().unwrap() + seconds);
        signed_by(crate::support::SECRET, &claims)
    };
    assert_eq!(answer(&node, &begins_in(290)).await.0, 200);
    assert_eq!(answer(&node, &begins_in(3_000)).await, (401, "not_authenticated".to_owned()));
    node.stop().await;
}

/// Broken by reading the file at the start only.
#[tokio::test]
async fn keys_of_a_file_count_as_long_as_they_are_in_it() {
    let (db, file) = (database().await, tempfile::NamedTempFile::new().unwrap());
    let keys =
        [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256].map(|kind| SigningKey::new(kind, &format!("{kind:?}")));
    let all: Vec<&SigningKey> = keys.iter().collect();
    std::fs::write(file.path(), set_of(&all)).unwrap();
    let node = Node::with(db.options(), |config| config.jwt_keys_file = Some(file.path().to_owned())).await;
    for key in &keys {
        assert_eq!(answer(&node, &key.token("anna")).await.0, 200, "{:?}", key.id);
    }
    std::fs::write(file.path(), set_of(&all[1..])).unwrap();
    until_answered(&node, &keys[0].token("anna"), 401).await;
    assert_eq!(answer(&node, &keys[1].token("anna")).await.0, 200);
    // A text that is no set leaves the keys as they are, and one that is counts again.
    std::fs::write(file.path(), "{").unwrap();
    std::fs::write(file.path(), set_of(&all)).unwrap();
    until_answered(&node, &keys[0].token("anna"), 200).await;
    node.stop().await;
}

/// A token of a secret, with this algorithm and with the id of a key or none.
fn signed_with(algorithm: Algorithm, id: Option<&str>, secret: &[u8]) -> String {
    let header = jsonwebtoken::Header { kid: id.map(str::to_owned), ..jsonwebtoken::Header::new(algorithm) };
    jsonwebtoken::encode(&header, &claims("anna"), &jsonwebtoken::EncodingKey::from_secret(secret)).unwrap()
}

/// Broken by a file without its symmetric keys, by one of them that knows more than its `alg` says, or more than its length allows, and by a secret of
/// the settings that knows more than HS256.
#[tokio::test]
async fn a_secret_of_a_file_opens_with_its_own_algorithms_and_that_of_the_settings_with_hs256() {
    let (db, file) = (database().await, tempfile::NamedTempFile::new().unwrap());
    let of_settings = crate::support::SECRET.as_bytes();
    let [long, longer, unnamed] = [[7; 64].as_slice(), &[8; 64], &[9; 48]];
    let key = |id: &str, secret: &[u8]| json!({"kty": "oct", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret)});
    let mut keys = [key("384", long), key("512", longer), key("unnamed", unnamed)];
    (keys[0]["alg"], keys[1]["alg"]) = (json!("HS384"), json!("HS512"));
    std::fs::write(file.path(), json!({"keys": keys}).to_string()).unwrap();
    let node = Node::with(db.options(), |config| config.jwt_keys_file = Some(file.path().to_owned())).await;
    let all = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    for (id, secret, opens) in [
        (Some("384"), long, [false, true, false]),
        (Some("512"), longer, [false, false, true]),
        (Some("unnamed"), unnamed, [true, true, false]),
        (None, of_settings, [true, false, false]),
    ] {
        for (algorithm, opens) in all.into_iter().zip(opens) {
            let expected = if opens { (200, String::new()) } else { (401, "not_authenticated".to_owned()) };
            for named in [id, None] {
                assert_eq!(answer(&node, &signed_with(algorithm, named, secret)).await, expected, "{id:?} {algorithm:?}, named {named:?}");
            }
        }
    }
    node.stop().await;
}

/// Broken by trying a token that names no key with keys that have no id only.
#[tokio::test]
async fn a_token_that_names_no_key_is_tried_with_those_that_know_its_algorithm() {
    let (db, key) = (database().await, SigningKey::new(Algorithm::ES256, "named"));
    let server = KeyServer::of(&[&key]).await;
    let node = Node::with(db.options(), |config| config.jwks_url = Some(server.url())).await;
    until_answered(&node, &key.token("anna"), 200).await;
    assert_eq!(answer(&node, &key.clone().without_id().token("anna")).await.0, 200);
    node.stop().await;
}

/// A key that somebody may know is no secret, whatever the token says of its algorithm.
#[tokio::test]
async fn nobody_signs_with_a_public_key_as_if_it_were_a_secret() {
    let (db, key) = (database().await, SigningKey::new(Algorithm::RS256, "rsa"));
    let server = KeyServer::of(&[&key]).await;
    let node = Node::with(db.options(), |config| config.jwks_url = Some(server.url())).await;
    until_answered(&node, &key.token("anna"), 200).await;
    let public = [key.public.to_string(), key.public["n"].as_str().unwrap().to_owned()];
    for secret in &public {
        for id in [None, key.id.clone()] {
            let header = jsonwebtoken::Header { kid: id, ..jsonwebtoken::Header::new(Algorithm::HS256) };
            let forged =
                jsonwebtoken::encode(&header, &claims("anna"), &jsonwebtoken::EncodingKey::from_secret(secret.as_bytes())).unwrap();
            assert_eq!(answer(&node, &forged).await, (401, "not_authenticated".to_owned()));
        }
    }
    node.stop().await;
}

/// Broken by judging `iss` and `aud` only where a token has them.
#[tokio::test]
async fn issuer_and_audience_are_those_of_the_settings() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        config.jwt_issuer = vec!["https://one.example".to_owned(), "https://two.example".to_owned()];
        config.jwt_audience = vec!["chat".to_owned()];
    });
    let node = node.await;
    let with = |more: Value| {
        let mut claims = claims("anna");
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        signed_by(crate::support::SECRET, &claims)
    };
    for good in [json!({"iss": "https://two.example", "aud": "chat"}), json!({"iss": "https://one.example", "aud": ["shop", "chat"]})] {
        assert_eq!(answer(&node, &with(good.clone())).await.0, 200, "{good}");
    }
    for bad in [
        json!({}),
        json!({"iss": "https://one.example"}),
        json!({"aud": "chat"}),
        json!({"iss": "https://three.example", "aud": "chat"}),
        json!({"iss": "https://one.example", "aud": "shop"}),
        json!({"iss": "https://one.example", "aud": []}),
        json!({"iss": ["https://one.example/"], "aud": "chat"}),
        json!({"iss": 5, "aud": {"chat": "chat"}}),
    ] {
        assert_eq!(answer(&node, &with(bad.clone())).await, (401, "not_authenticated".to_owned()), "{bad}");
    }
    node.stop().await;
}
