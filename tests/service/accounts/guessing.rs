//! Guessing: neither text nor time tells who has an account, and whoever guesses is slowed down, by account and by address.

use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};

use super::{OTHER, PASSWORD, asked, bad_credentials, on, refused, registered};
use crate::limits::heard;
use crate::nodes::know_one_another;
use crate::support::{Node, database, told, wait_until};

fn login(name: &str, password: &str) -> Value {
    json!({"userId": name, "password": password})
}

/// The same request through proxies: this is what they say of where it came from.
async fn from(node: &Node, path: &str, forwarded: &str, body: Value) -> (u16, Value) {
    let request = Client::new().post(format!("{}/v1/accounts{path}", node.url())).header("x-forwarded-for", forwarded);
    told(request.json(&body).send().await.unwrap()).await
}

/// Broken by an answer to a name that nobody has before anything was hashed, by one without the pause before refusals, and by words of its own.
#[tokio::test]
async fn a_login_of_a_name_that_nobody_has_costs_a_hash_and_is_refused_in_the_words_and_not_before_the_time_of_a_wrong_password() {
    let db = database().await;
    let node = Node::with(db.options(), on).await;
    registered(&node, "anna").await;
    let computed = || node.app().context().metrics.password_hashes.get();
    assert_eq!(computed(), 1, "that of the registration");
    let mut answers = Vec::new();
    for name in ["anna", "nobody"] {
        let (begun, before) = (Instant::now(), computed());
        answers.push(asked(&node, "/login", None, login(name, OTHER)).await);
        assert!(begun.elapsed() >= Duration::from_millis(500), "{name}: refused after {:?}", begun.elapsed());
        assert_eq!(computed() - before, 1, "hashes for {name}");
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].1["error"]["code"], "bad_credentials");
    node.stop().await;
}

/// Broken by counting those guesses only whose account exists, and by counting right ones.
#[tokio::test]
async fn wrong_passwords_are_counted_for_an_account_and_an_address_whether_it_exists_or_not() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        on(config);
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
    });
    let node = node.await;
    registered(&node, "anna").await;
    for _ in 0..15 {
        assert_eq!(from(&node, "/login", "203.0.113.1", login("anna", PASSWORD)).await.0, 200, "a right one is not counted");
    }
    for name in ["anna", "nobody"] {
        let guesses = (0..10).map(|_| from(&node, "/login", "203.0.113.1", login(name, OTHER)));
        for (status, answer) in futures_util::future::join_all(guesses).await {
            assert_eq!((status, &answer["error"]["code"]), (401, &json!("bad_credentials")));
        }
        let (status, answer) = from(&node, "/login", "1.1.1.1, 203.0.113.1, 10.0.0.7", login(name, PASSWORD)).await;
        assert_eq!((status, &answer["error"]["code"]), (429, &json!("rate_limited")), "{name}");
        let wait = answer["error"]["retryAfterMs"].as_u64().unwrap();
        assert!((1..=60_000).contains(&wait), "{answer}");
    }
    assert_eq!(from(&node, "/login", "203.0.113.1, 198.51.100.1", login("anna", PASSWORD)).await.0, 200, "from another address");
    node.stop().await;
}

/// Broken by a header that counts whoever sends it.
#[tokio::test]
async fn an_address_has_a_rate_and_cannot_be_chosen_without_a_trusted_proxy() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        on(config);
        (config.account_requests_per_minute, config.registrations_per_hour) = (3, 1);
    });
    let node = node.await;
    assert_eq!(from(&node, "", "203.0.113.7", login("anna", PASSWORD)).await.0, 201);
    let (status, answer) = from(&node, "", "203.0.113.8", login("ben", PASSWORD)).await;
    assert_eq!((status, &answer["error"]["code"]), (429, &json!("rate_limited")));
    let wait = answer["error"]["retryAfterMs"].as_u64().unwrap();
    assert!((3_000_000..=3_600_000).contains(&wait), "{answer}");
    assert_eq!(from(&node, "/login", "203.0.113.9", login("anna", PASSWORD)).await.0, 200);
    let (status, answer) = from(&node, "/login", "203.0.113.10", login("anna", PASSWORD)).await;
    assert_eq!((status, &answer["error"]["code"]), (429, &json!("rate_limited")));
    assert!((1..=20_000).contains(&answer["error"]["retryAfterMs"].as_u64().unwrap()), "{answer}");
    node.stop().await;
}

/// Broken by a change of the password that counts no guesses: who has found a telephone would try there.
#[tokio::test]
async fn guesses_at_a_change_of_the_password_count_too() {
    let db = database().await;
    let node = Node::with(db.options(), on).await;
    registered(&node, "anna").await;
    let anna = super::Login::begun(&node, "anna").await;
    let wrong = json!({"password": OTHER, "newPassword": "yet another sentence"});
    for _ in 0..10 {
        assert_eq!(refused(&node, "/password", Some(&anna.access), wrong.clone()).await, bad_credentials());
    }
    assert_eq!(refused(&node, "/password", Some(&anna.access), wrong).await, (429, "rate_limited".to_owned()));
    node.stop().await;
}

/// Broken by limits that each node counts for itself.
#[tokio::test]
async fn registrations_and_guesses_at_one_node_count_at_the_other() {
    let db = database().await;
    let few = |config: &mut restante::config::Config| {
        on(config);
        config.registrations_per_hour = 1;
    };
    let (one, two) = (Node::with(db.options(), few).await, Node::with(db.options(), few).await);
    know_one_another(&[&one, &two]).await;
    registered(&one, "anna").await;
    wait_until("the other has heard of the registration", || heard(&two) > 0).await;
    let limited = (429, "rate_limited".to_owned());
    assert_eq!(refused(&two, "", None, login("ben", PASSWORD)).await, limited);

    let (before, here) = (heard(&two), std::net::IpAddr::from([127, 0, 0, 1]).into());
    let anna = restante::domain::ExternalId::try_from("anna".to_owned()).unwrap();
    assert!((0..10).all(|_| one.app().delivery().limits().check_guess(&anna, here).is_ok()));
    wait_until("the other has heard of the guesses", || heard(&two) > before).await;
    assert_eq!(refused(&two, "/login", None, login("anna", PASSWORD)).await, limited);
    assert_eq!(refused(&two, "/login", None, login("cleo", PASSWORD)).await, bad_credentials(), "of another account it is the first");
    one.stop().await;
    two.stop().await;
}
