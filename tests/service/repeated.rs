//! Requests that are repeated find what the first of them made, before anything is done for the names in them: nobody becomes known by a
//! request that makes nothing.

use reqwest::Method;
use restante::domain::{ChatId, UserId};
use restante::store::{Error, Grouping, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::fixtures::number;
use crate::support::{Api, Node, database, told, users};

/// Makes a chat with this key.
async fn keyed(user: &Api, key: &str, body: &Value) -> (u16, Value) {
    told(user.request(Method::POST, "/v1/chats").header("Idempotency-Key", key).json(body).send().await.unwrap()).await
}

/// Broken by looking the names up first: strangers became known for a group that was there, or that the caller had left.
#[tokio::test]
async fn a_repeated_request_for_a_group_makes_nobody_known_and_charges_nobody() {
    let db = database().await;
    let (node, pool) = (Node::with(db.options(), |config| config.send_rate = 50).await, db.pool(1).await);
    let anna = node.api("anna");
    let group = |members: Vec<String>| json!({"kind": "group", "title": "crew", "members": members});
    let strangers = |of: &str| (0..500).map(|n| format!("stranger {of} {n}")).collect::<Vec<_>>();
    let (status, made) = keyed(&anna, "k", &group(vec!["ben".to_owned()])).await;
    assert_eq!(status, 201, "{made}");
    let (known, named) = (number(&pool, "select count(*) from users").await, node.app().context().metrics.users_named.get());
    // Three times more than may be named in an hour.
    for n in 0..6 {
        let (status, same) = keyed(&anna, "k", &group(strangers(&n.to_string()))).await;
        assert_eq!((status, &same["chatId"]), (200, &made["chatId"]), "{same}");
    }
    anna.post(&format!("/v1/chats/{}/leave", made["chatId"].as_str().unwrap()), json!({})).await;
    let (status, left) = keyed(&anna, "k", &group(strangers("late"))).await;
    assert_eq!((status, &left["error"]["code"]), (403, &json!("not_a_member")));
    assert_eq!(number(&pool, "select count(*) from users").await, known);
    assert_eq!(node.app().context().metrics.users_named.get(), named);
    let (status, other) = keyed(&anna, "another", &group(strangers("new"))).await;
    assert_eq!(status, 201, "she may still name as many as ever: {other}");
    node.stop().await;
}

#[tokio::test]
async fn a_repeated_request_for_a_feed_makes_nobody_known_whoever_made_the_feed() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (shop, other) = (node.publisher("shop"), node.publisher("other"));
    let feed = |publisher: &str| json!({"feedId": "01a20b1e-5d2c-7000-8000-000000000007", "title": "news", "publishers": [publisher]});
    assert_eq!(shop.post("/v1/feeds", feed("ben")).await.0, 201);
    other.get("/v1/chats").await;
    let known = number(&pool, "select count(*) from users").await;
    assert_eq!(shop.post("/v1/feeds", feed("stranger")).await.0, 201);
    let (status, refused) = other.post("/v1/feeds", feed("stranger")).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("conflict")));
    assert_eq!(number(&pool, "select count(*) from users").await, known);
    assert_eq!(number(&pool, "select count(*) from feed_publishers where feed_id = '01a20b1e-5d2c-7000-8000-000000000007'").await, 2);
    node.stop().await;
}

/// Broken by taking any unique value that was there for the id of the chat: a group was said to be there that was not.
#[tokio::test]
async fn a_group_is_there_only_where_a_chat_has_its_id() {
    let db = database().await;
    let pool = db.pool(1).await;
    let (store, anna, id) = (Store::new(pool.clone()), UserId(users(&pool, &["anna"]).await[0]), Uuid::now_v7());
    sqlx::query("insert into chat_heads (chat_id) values ($1)").bind(id).execute(&pool).await.unwrap();
    let made = store.create_group(ChatId(id), anna, None, &[]).await;
    assert!(matches!(made, Err(Error::Taken(_))), "{made:?}");
    assert!(!store.chat_is_there(ChatId(id)).await.unwrap());
    sqlx::query("delete from chat_heads where chat_id = $1").bind(id).execute(&pool).await.unwrap();
    assert_eq!(store.create_group(ChatId(id), anna, None, &[]).await.unwrap(), Grouping::Made(Vec::new()));
    assert!(store.chat_is_there(ChatId(id)).await.unwrap());
    assert_eq!(store.create_group(ChatId(id), anna, None, &[]).await.unwrap(), Grouping::IsThere);
}
