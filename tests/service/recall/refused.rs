//! Recalls that are refused, and the same answer behind each door.

use super::*;

/// The answer of each door to a recall of this message by this user: the code, or the time of the recall.
async fn doors(node: &Node, pool: &PgPool, user: &str, message: Uuid) -> [String; 3] {
    let mut socket = node.connect(user).await;
    let told = socket.ask("message:recall", json!({"messageId": message})).await["data"].clone();
    let over_socket = told["code"].as_str().or(told["recalledAt"].as_str()).unwrap_or_default().to_owned();
    let (_, told) = node.api(user).post(&format!("/v1/messages/{message}/recall"), json!({})).await;
    let over_http = told["error"]["code"].as_str().or(told["recalledAt"].as_str()).unwrap_or_default().to_owned();
    let asked =
        sqlx::query_scalar::<_, String>("select to_char(restante_recall($1, $2) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')");
    let in_sql = asked.bind(message).bind(user).fetch_one(pool).await;
    let in_sql = in_sql.unwrap_or_else(|error| error.into_database_error().unwrap().code().unwrap().into_owned());
    [over_socket, over_http, in_sql]
}

#[tokio::test]
async fn only_its_sender_recalls_a_message_and_others_learn_no_more_than_they_may_see() {
    let (_db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    let message = id_of(&alice.send("bob", "x").await);
    node.api("carol").get("/v1/chats").await;
    assert_eq!(doors(&node, &pool, "bob", message).await, ["forbidden", "forbidden", "42501"]);
    assert_eq!(doors(&node, &pool, "carol", message).await, ["not_found", "not_found", "P0002"]);
    assert_eq!(doors(&node, &pool, "alice", Uuid::now_v7()).await, ["not_found", "not_found", "P0002"]);
    // An event is not recalled, and nor is the notice of a recall.
    let event = node.publisher("alice").post("/v1/events", json!({"type": "t", "to": {"users": ["bob"]}})).await.1;
    assert_eq!(doors(&node, &pool, "alice", event["eventId"].as_str().unwrap().parse().unwrap()).await[0], "not_found");
    let times = doors(&node, &pool, "alice", message).await;
    assert!(times[0].ends_with('Z') && times[0] == times[1], "{times:?}");
    let notice: Uuid = sqlx::query_scalar("select id from messages where seq < 0").fetch_one(&pool).await.unwrap();
    assert_eq!(doors(&node, &pool, "alice", notice).await[0], "not_found");
    for bad in [json!({}), json!({"messageId": 7}), json!({"messageId": "x"})] {
        assert_eq!(alice.ask("message:recall", bad.clone()).await["data"]["code"], "invalid", "{bad}");
    }
    assert_eq!(node.api("alice").post("/v1/messages/x/recall", json!({})).await.0, 400);
    all_done(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn after_its_time_no_message_is_recalled_and_one_that_was_is_answered_as_before() {
    let (_db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    let (early, late) = (alice.send("bob", "early").await, alice.send("bob", "late").await);
    let done = recalled(&mut alice, &early).await;
    sqlx::query("update messages set created_at = created_at - interval '61 minutes'").execute(&pool).await.unwrap();
    assert_eq!(doors(&node, &pool, "alice", id_of(&late)).await, ["too_late", "too_late", "55000"]);
    assert_eq!(recalled(&mut alice, &early).await, done);
    assert_eq!(statuses(&pool, "bob").await, ["expired", "sent"]);
    let by_hand = sqlx::query("select restante_recall($1, 'alice', null)").bind(id_of(&late)).execute(&pool).await;
    assert!(by_hand.is_ok(), "an application may set a time of its own: {by_hand:?}");
    all_done(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn where_the_operator_has_turned_it_off_no_message_is_recalled() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.recall_window = std::time::Duration::ZERO).await;
    let pool = db.pool(1).await;
    let mut alice = node.connect("alice").await;
    let message = alice.send("bob", "x").await;
    let answer = alice.ask("message:recall", json!({"messageId": message["messageId"]})).await;
    assert_eq!(answer["data"]["code"], "turned_off");
    assert_eq!(node.api("bob").get("/v1/inbox").await.1["messages"][0]["content"], "x");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn nobody_sends_a_message_or_an_event_of_the_reserved_type() {
    let (_db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    let chat = direct(&pool, "alice", "bob").await;
    for reserved in ["restante:recalled", "restante:", "restante:x"] {
        let sent = alice.ask("message:send", json!({"to": "bob", "content": "x", "messageType": reserved})).await;
        assert_eq!(sent["data"]["code"], "invalid", "{sent}");
        let (status, _) = node.api("alice").post("/v1/messages", json!({"to": "bob", "content": "x", "messageType": reserved})).await;
        assert_eq!(status, 400);
        let (status, _) = node.publisher("alice").post("/v1/events", json!({"type": reserved, "to": {"everyone": true}})).await;
        assert_eq!(status, 400);
        for call in
            ["select restante_send($1, 'alice', 'x', $2)::text", "select restante_publish('alice', $2, '{}', p_event_id => $1)::text"]
        {
            let called = sqlx::query_scalar::<_, String>(call).bind(chat).bind(reserved).fetch_one(&pool).await;
            assert_eq!(called.unwrap_err().into_database_error().unwrap().code().as_deref(), Some("22023"), "{call}");
        }
    }
    assert_eq!(alice.ask("message:send", json!({"to": "bob", "content": "x", "messageType": "restante"})).await["event"], "message:sent");
    node.stop().await;
}
