//! Passwords: how they are kept, and what a change of one ends.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::{Login, OTHER, PASSWORD, asked, bad_credentials, ends, login_ended, on, refused, registered, two_nodes};
use crate::support::{Node, database, number, token};
use crate::tokens::answer;

/// Broken by a change that leaves other logins, or ends the one that asks.
#[tokio::test]
async fn a_change_of_the_password_ends_all_other_logins_on_every_node() {
    let (_db, one, other) = two_nodes().await;
    registered(&one, "anna").await;
    let (asks, ended) = (Login::begun(&one, "anna").await, Login::begun(&other, "anna").await);
    let (mut kept, mut closed) = (asks.connected(&other).await, ended.connected(&other).await);
    let change = json!({"password": PASSWORD, "newPassword": OTHER});
    assert_eq!(asked(&one, "/password", Some(&asks.access), change.clone()).await, (200, json!({"ended": 1})));
    ends(&mut closed).await;
    assert_eq!(refused(&other, "/refresh", None, ended.refresh_body()).await, login_ended());
    kept.send("ben", "still here").await;
    asks.renewed(&other).await;
    let login = |password: &'static str| refused(&other, "/login", None, json!({"userId": "anna", "password": password}));
    assert_eq!((login(PASSWORD).await, login(OTHER).await.0), (bad_credentials(), 200));
    assert_eq!(refused(&one, "/password", Some(&asks.access), change).await, bad_credentials(), "it is another one by now");
    one.stop().await;
    other.stop().await;
}

/// Broken by words of its own for a user without an account.
#[tokio::test]
async fn who_has_no_account_is_told_what_is_told_of_a_wrong_password() {
    let (_db, one, other) = two_nodes().await;
    registered(&one, "anna").await;
    let (anna, wrong) = (Login::begun(&one, "anna").await, json!({"password": OTHER, "newPassword": "yet another sentence"}));
    let of_account = asked(&one, "/password", Some(&anna.access), wrong.clone()).await;
    assert_eq!(asked(&one, "/password", Some(&token("ben")), wrong).await, of_account);
    assert_eq!(asked(&other, "/logout-everywhere", Some(&token("ben")), json!({})).await, (200, json!({"ended": 0})));
    one.stop().await;
    other.stop().await;
}

/// Broken by a login that begins whatever the hash of its account has become.
#[tokio::test]
async fn a_password_that_was_changed_while_it_was_verified_begins_no_login() {
    use restante::domain::ExternalId;
    use restante::store::{LoginTimes, NewLogin};

    let (db, one, other) = two_nodes().await;
    registered(&one, "anna").await;
    let (store, hour) = (one.app().store(), std::time::Duration::from_secs(3_600));
    let name = ExternalId::try_from("anna".to_owned()).unwrap();
    let times = LoginTimes { idle: hour, lifetime: hour, grace: std::time::Duration::ZERO, access: hour, logins_max: 5 };
    let verified = store.account_hash(&name).await.unwrap().unwrap();
    let (id, family, hash) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7(), [7; 32]);
    let new = || NewLogin { name: &name, verified: &verified, new_hash: None, id, family, secret_hash: &hash };
    let login = Login::begun(&other, "anna").await;
    assert_eq!(asked(&other, "/password", Some(&login.access), json!({"password": PASSWORD, "newPassword": OTHER})).await.0, 200);
    assert!(store.log_in(new(), times).await.unwrap().is_none());
    assert!(store.change_password(&name, &verified, "$argon2id$x", None, times).await.unwrap().is_none());
    assert_eq!(number(&db.pool(1).await, "select count(*) from account_logins").await, 1);
    one.stop().await;
    other.stop().await;
}

/// Broken by a hash that stays as it was.
#[tokio::test]
async fn a_hash_of_another_cost_is_made_anew_at_the_next_login_and_ends_none() {
    let db = database().await;
    let node = Node::with(db.options(), on).await;
    registered(&node, "anna").await;
    let login = Login::begun(&node, "anna").await;
    let dear = Node::with(db.options(), |config| {
        on(config);
        (config.password_memory_kib, config.password_passes) = (128, 2);
    });
    let dear = dear.await;
    let pool = db.pool(1).await;
    let logins = (0..3).map(|_| Login::begun(&dear, "anna"));
    futures_util::future::join_all(logins).await;
    assert_eq!(number(&pool, "select count(*) from accounts where password_hash like '$argon2id$v=19$m=128,t=2,p=1$%'").await, 1);
    assert_eq!(number(&pool, "select count(*) from accounts where password_changed_at = created_at").await, 1);
    login.renewed(&node).await;
    assert_eq!(answer(&node, &login.access).await.0, 200);
    node.stop().await;
    dear.stop().await;
}

/// Broken by a column that keeps what it was given.
#[tokio::test]
async fn neither_a_password_nor_a_refresh_token_stands_in_the_database_or_in_metrics() {
    let (db, one, other) = two_nodes().await;
    registered(&one, "anna").await;
    let login = Login::begun(&one, "anna").await;
    let renewed = login.renewed(&other).await;
    asked(&one, "/password", Some(&renewed.access), json!({"password": PASSWORD, "newPassword": OTHER})).await;
    let rows: Vec<String> = sqlx::query_scalar("select to_jsonb(a)::text from accounts a union all select to_jsonb(l)::text from account_logins l union all select to_jsonb(r)::text from revocations r")
        .fetch_all(&db.pool(1).await)
        .await
        .unwrap();
    assert!(rows.len() == 2 && rows[1].contains("secret_hash"), "an account and its login: {rows:?}");
    let metrics = reqwest::get(format!("{}/metrics", one.url())).await.unwrap().text().await.unwrap();
    // PostgreSQL shows bytes as digits.
    let shown = URL_SAFE_NO_PAD.decode(&renewed.refresh).unwrap()[16..].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let secrets = [PASSWORD, OTHER, &login.refresh, &renewed.refresh, &renewed.refresh[22..], &renewed.access, &shown];
    for place in rows.iter().chain([&metrics]) {
        assert!(!secrets.iter().any(|secret| place.contains(secret)), "{place}");
    }
    one.stop().await;
    other.stop().await;
}
