//! The database's clock was set back, or a row says so: what lies in the future is not believed, and told to nobody.

use serde_json::json;
use sqlx::PgPool;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{Node, Socket, database, direct, until_true, users};

const DEAD: &str = "00000000-0000-0000-0000-0000000000de";

/// A node that wrote an hour ahead and is no more, and what it says of bob; carol was seen in an hour.
async fn write_ahead(pool: &PgPool) {
    let people = users(pool, &["bob", "carol"]).await;
    let node = "insert into nodes (node_id, seen_at, gone_at, lives) values ($1::uuid, now() + interval '1 hour', now() + interval '1 hour 8 s', interval '8 s')";
    sqlx::query(node).bind(DEAD).execute(pool).await.unwrap();
    sqlx::query("insert into presence_leases (user_id, node_id) values ($1, $2::uuid)")
        .bind(people[0])
        .bind(DEAD)
        .execute(pool)
        .await
        .unwrap();
    sqlx::query("insert into last_seen (user_id, seen_at) values ($1, now() + interval '1 hour')")
        .bind(people[1])
        .execute(pool)
        .await
        .unwrap();
}

async fn assert_not_ahead(pool: &PgPool, told: &serde_json::Value) {
    let now: OffsetDateTime = sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await.unwrap();
    let told = OffsetDateTime::parse(told.as_str().unwrap(), &Rfc3339).unwrap();
    assert!(told <= now, "last seen at {told}, and it is {now}");
}

async fn presence(alice: &mut Socket, user: &str) -> serde_json::Value {
    let answer = alice.ask("presence:get", json!({"userIds": [user]})).await;
    answer["data"]["users"][0].clone()
}

#[tokio::test]
async fn who_is_online_by_a_node_that_wrote_ahead_of_the_clock_is_offline_and_was_not_seen_in_the_future() {
    let db = database().await;
    let pool = db.pool(1).await;
    for other in ["bob", "carol"] {
        direct(&pool, "alice", other).await;
    }
    write_ahead(&pool).await;
    let node = Node::start(db.options()).await;
    let mut alice = node.connect("alice").await;
    until_true(&pool, "select not exists (select from presence_leases where node_id = '00000000-0000-0000-0000-0000000000de')").await;
    until_true(&pool, "select not exists (select from nodes where node_id = '00000000-0000-0000-0000-0000000000de')").await;
    for user in ["bob", "carol"] {
        let presence = presence(&mut alice, user).await;
        assert_eq!(presence["online"], false, "{presence}");
        assert_not_ahead(&pool, &presence["lastSeen"]).await;
    }
    direct(&pool, "alice", "dora").await;
    assert_eq!(presence(&mut alice, "dora").await, json!({"userId": "dora", "online": false, "lastSeen": null}), "who never was there");
    // Carol comes and goes: what was written ahead does not hide it.
    let carol = node.connect("carol").await;
    alice.wait("carol", |frame| frame["event"] == "user:online" && frame["data"]["userId"] == "carol").await;
    carol.close().await;
    let gone = alice.wait("carol", |frame| frame["event"] == "user:offline" && frame["data"]["userId"] == "carol").await;
    assert_not_ahead(&pool, &gone["data"]["lastSeen"]).await;
    assert_not_ahead(&pool, &presence(&mut alice, "carol").await["lastSeen"]).await;
    node.stop().await;
}
