//! Events that may not be published, or cannot be: the code, and that nothing was stored, half or whole.

use serde_json::{Value, json};

use super::*;

/// The publisher, the request, and the code with which it is refused.
async fn expect_refused(node: &Node, pool: &PgPool, tries: &[(&str, Value)], code: &str) {
    let mut socket = node.connect("anna").await;
    let before = stored(pool).await;
    for (why, event) in tries {
        let (_, told) = node.api("anna").post("/v1/events", event.clone()).await;
        assert_eq!(told["error"]["code"], code, "{why}, over HTTP: {told}");
        let (status, told) = node.api("anna").post("/v1/events", json!({"events": [event]})).await;
        assert_eq!((status, &told["results"][0]["error"]["code"]), (200, &json!(code)), "{why}, in a list: {told}");
        let told = socket.ask("event:publish", event.clone()).await;
        assert_eq!(told["data"]["code"], code, "{why}, over the socket: {told}");
    }
    assert_eq!(stored(pool).await, before);
}

#[tokio::test]
async fn without_the_scope_only_own_feeds_are_published_to_and_nobody_is_made() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    users(&pool, &["anna", "ben"]).await;
    let (own, other) = (feed(&node.api("anna")).await, feed(&node.api("ben")).await);
    let tries = [
        ("known users", json!({"type": "t", "to": {"users": ["ben"]}})),
        ("itself", json!({"type": "t", "to": {"users": ["anna"]}})),
        ("new users", json!({"type": "t", "to": {"users": ["new-1", "new-2"]}})),
        ("everyone", json!({"type": "t", "to": {"everyone": true}})),
        ("the feed of everyone", json!({"type": "t", "to": {"feed": "00000000-0000-0000-0000-000000000001"}})),
        ("another's feed", json!({"type": "t", "to": {"feed": other}, "except": ["new-3"]})),
    ];
    expect_refused(&node, &pool, &tries, "forbidden").await;
    let tries = [
        ("no feed", json!({"type": "t", "to": {"feed": new_id()}})),
        ("the feed of listed users", json!({"type": "t", "to": {"feed": "00000000-0000-0000-0000-000000000002"}})),
        ("a chat", json!({"type": "t", "to": {"feed": crate::support::direct(&pool, "anna", "ben").await}})),
    ];
    expect_refused(&node, &pool, &tries, "not_found").await;
    published(&node.api("anna"), json!({"type": "t", "to": {"feed": own}})).await;
    for scope in ["events:writes", "events", "admin", "EVENTS:WRITE", "events:write,admin"] {
        let told = Client::new()
            .post(format!("{}/v1/events", node.url()))
            .bearer_auth(scoped_token("anna", scope))
            .json(&json!({"type": "t", "to": {"everyone": true}}));
        assert_eq!(told.send().await.unwrap().status(), 403, "{scope}");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_event_is_invalid_at_every_door() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let everyone = json!({"everyone": true});
    let deep = (0..40).fold(json!(1), |inside, _| json!([inside]));
    let with = |name: &str, value: Value| {
        let mut event = json!({"type": "t", "to": everyone});
        event[name] = value;
        event
    };
    let merge = |rules: Value, data: Value| json!({"type": "t", "to": everyone, "collapseKey": "k", "merge": rules, "data": data});
    let names = |count: usize| (0..count).map(|n| format!("u{n}")).collect::<Vec<_>>();
    let tries = [
        ("no type", json!({"to": everyone})),
        ("an empty type", with("type", json!(""))),
        ("a long type", with("type", json!("t".repeat(65)))),
        ("a type with NUL", with("type", json!("t\u{0}"))),
        ("no target", json!({"type": "t"})),
        ("two targets", with("to", json!({"everyone": true, "users": ["ben"]}))),
        ("a target that is not known", with("to", json!({"group": "crew"}))),
        ("nobody", with("to", json!({"users": []}))),
        ("10,001 users", with("to", json!({"users": names(10_001)}))),
        ("a name with NUL", with("to", json!({"users": ["\u{0}"]}))),
        ("except of 10,000", with("except", json!(names(10_000)))),
        ("except of 501", with("except", json!(names(501)))),
        ("large data", with("data", json!("d".repeat(8_200)))),
        ("deep data", with("data", deep)),
        ("data with NUL", with("data", json!("\u{0}"))),
        ("no time", with("ttlMs", json!(0))),
        ("too short", with("ttlMs", json!(999))),
        ("too long", with("ttlMs", json!(2_592_000_001_i64))),
        ("a time below zero", with("ttlMs", json!(-5_000))),
        ("an empty key", with("collapseKey", json!(""))),
        ("a long key", with("collapseKey", json!("k".repeat(129)))),
        ("urgent as text", with("urgent", json!("yes"))),
        ("merge of text", merge(json!("text"), json!({}))),
        ("merge of a list", merge(json!(["n"]), json!({}))),
        ("merge of nothing", merge(json!({}), json!({}))),
        ("an unknown operation", merge(json!({"n": "max"}), json!({}))),
        ("an operation that is none", merge(json!({"n": {"sum": 1}}), json!({}))),
        (
            "merge of 21 members",
            merge((0..21).map(|n| (format!("m{n}"), json!("sum"))).collect::<serde_json::Map<_, _>>().into(), json!({})),
        ),
        ("merge without a key", with("merge", json!({"n": "count"}))),
        ("merge of no object", merge(json!({"n": "count"}), json!([1]))),
        ("merge without data", merge(json!({"n": "count"}), json!(null))),
        ("merge without room", merge(json!({"n": "count"}), json!({"d": "d".repeat(8_150)}))),
        ("an id that is none", with("eventId", json!("7"))),
    ];
    expect_refused(&node, &pool, &tries, "invalid").await;
    node.stop().await;
}

#[tokio::test]
async fn a_body_is_bounded_and_takes_ten_thousand_users_of_any_usual_length() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let shop = node.publisher("shop");
    let names: Vec<String> = (0..10_000).map(|_| new_id()).collect();
    published(&shop, json!({"type": "t", "to": {"users": names}})).await;
    assert_eq!(number(&pool, "select count(*) from users where came_at is null").await, 10_000);
    let before = stored(&pool).await[0];
    let large =
        json!({"events": (0..500).map(|_| json!({"type": "t", "data": "d".repeat(8_000), "to": {"everyone": true}})).collect::<Vec<_>>()});
    assert_eq!(shop.post("/v1/events", large).await.0, 413);
    let many = json!({"events": vec![json!({"type": "t", "to": {"everyone": true}}); 501]});
    assert_eq!(shop.post("/v1/events", many).await.1["error"]["code"], "invalid");
    assert_eq!(stored(&pool).await[0], before);
    node.stop().await;
}

#[tokio::test]
async fn an_id_of_somebody_else_is_a_conflict_and_of_a_message_too() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (shop, mall) = (node.publisher("shop"), node.publisher("mall"));
    users(&pool, &["ben"]).await;
    let event = json!({"eventId": new_id(), "type": "t", "to": {"everyone": true}});
    published(&shop, event.clone()).await;
    let before = stored(&pool).await;
    assert_eq!(mall.post("/v1/events", event.clone()).await.1["error"]["code"], "conflict");
    let (status, told) = mall.post("/v1/messages", json!({"messageId": event["eventId"], "to": "ben", "content": ""})).await;
    assert_eq!((status, &told["error"]["code"]), (409, &json!("conflict")));
    let other_target = json!({"eventId": event["eventId"], "type": "other", "to": {"users": ["ben"]}, "urgent": true});
    assert_eq!(published(&shop, other_target).await["duplicate"], true);
    assert_eq!(stored(&pool).await[..2], before[..2]);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn the_same_id_to_many_targets_at_once_is_stored_once() {
    let db = database().await;
    let (one, other, pool) = (Node::start(db.options()).await, Node::start(db.options()).await, db.pool(1).await);
    users(&pool, &["ben"]).await;
    for _ in 0..10 {
        let id = new_id();
        let mut events = Vec::new();
        for to in [json!({"everyone": true}), json!({"users": ["ben"]})] {
            for urgent in [false, true] {
                events.push(json!({"eventId": &id, "type": "t", "to": &to, "urgent": urgent}));
            }
        }
        let publishers = [one.publisher("shop"), other.publisher("shop")];
        let tries = publishers.iter().flat_map(|publisher| events.iter().map(move |event| published(publisher, event.clone())));
        let publishing: Vec<_> = tries.collect();
        let answers = futures_util::future::join_all(publishing).await;
        assert_eq!(answers.iter().filter(|answer| answer["duplicate"] == false).count(), 1, "{answers:?}");
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, 10);
    assert_consistent(&pool).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn events_have_a_rate_and_the_scope_lifts_it() {
    let db = database().await;
    let node = Node::with(db.options(), |config| (config.send_rate, config.event_rate) = (1_000, 1)).await;
    let anna = node.api("anna");
    let feed = feed(&anna).await;
    let event = json!({"type": "t", "to": {"feed": feed}});
    published(&anna, event.clone()).await;
    let (status, told) = anna.post("/v1/events", event.clone()).await;
    assert_eq!((status, &told["error"]["code"]), (429, &json!("rate_limited")), "making the feed counted too");
    assert!(told["error"]["retryAfterMs"].as_u64().unwrap() > 1_000);
    let told = node.connect("anna").await.ask("event:publish", event.clone()).await;
    assert_eq!(told["data"]["code"], "rate_limited");
    let results = anna.post("/v1/events", json!({"events": vec![event.clone(); 3]})).await.1["results"].clone();
    assert!(results.as_array().unwrap().iter().all(|result| result["error"]["code"] == "rate_limited"), "{results}");
    assert_eq!(anna.post(&format!("/v1/feeds/{feed}/follow"), json!({})).await.0, 429);
    for _ in 0..20 {
        published(&node.publisher("anna"), event.clone()).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn the_newest_token_of_a_connection_says_what_it_may_publish_to() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut anna = node.connect("anna").await;
    let event = json!({"type": "t", "to": {"everyone": true}});
    assert_eq!(anna.ask("event:publish", event.clone()).await["data"]["code"], "forbidden");
    for (scope, expected) in [("events:write", "event:published"), ("admin", "error"), ("admin events:write", "event:published")] {
        anna.ask("authenticate", json!({"token": scoped_token("anna", scope)})).await;
        assert_eq!(anna.ask("event:publish", event.clone()).await["event"], expected, "{scope}");
    }
    node.stop().await;
}
