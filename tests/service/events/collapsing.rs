//! The newest event of a collapse key takes the place of those that wait, in the window of a connection too.

use super::*;

/// The publishing of events with these keys to bob, by the way of this name, each under the type of its turn and key.
async fn publish_keys(node: &Node, way: &str, to: &Value, turn: &str, keys: impl IntoIterator<Item = usize>) -> Vec<String> {
    let mut ids = Vec::new();
    for key in keys {
        let more = json!({"collapseKey": format!("key {key}"), "urgent": way == "alert"});
        ids.push(publish(node, to.clone(), &format!("{turn}{key}"), more).await.as_str().unwrap().to_owned());
    }
    ids
}

/// The types of the next events.
async fn next_types(socket: &mut Socket, count: usize) -> Vec<String> {
    let mut types = Vec::new();
    for _ in 0..count {
        types.push(socket.event("event:receive").await["type"].as_str().unwrap().to_owned());
    }
    types
}

/// The numbers of the next gaps, which must be of superseded rows.
async fn superseded(socket: &mut Socket, numbers: usize) -> Vec<i64> {
    let mut found = Vec::new();
    while found.len() < numbers {
        let gap = socket.event("queue:gap").await;
        assert_eq!(gap["reason"], "superseded", "{gap}");
        found.extend(gap["fromSeq"].as_i64().unwrap()..=gap["toSeq"].as_i64().unwrap());
    }
    found
}

fn types(turn: &str, keys: std::ops::RangeInclusive<usize>) -> Vec<String> {
    keys.map(|key| format!("{turn}{key}")).collect()
}

/// Broken by not telling sessions what a statement has superseded: nothing came before the next fallback poll.
#[tokio::test]
async fn five_that_are_superseded_in_a_window_of_five_free_it_at_once_and_the_next_five_come() {
    let (_db, node, pool) = start().await;
    let feed = feed(&node, &["bob"]).await;
    let ways = [("listed", json!({"users": ["bob"]})), ("feed", json!({"feed": feed})), ("alert", json!({"users": ["bob"]}))];
    for (way, to) in ways {
        let mut bob = node.open(Connect::user("bob").with("window", 5)).await;
        let first = publish_keys(&node, way, &to, "a", 1..=5).await;
        assert_eq!(next_types(&mut bob, 5).await, types("a", 1..=5), "{way}");
        publish_keys(&node, way, &to, "b", 1..=5).await;
        assert_eq!(superseded(&mut bob, 5).await.len(), 5, "{way}");
        assert_eq!(next_types(&mut bob, 5).await, types("b", 1..=5), "{way}");
        let told = node.publisher("shop").get(&format!("/v1/events/{}", first[0])).await.1;
        assert_eq!((&told["ended"], &told["written"]), (&json!({"superseded": 1}), &json!(1)), "{way}: {told}");
        let class = if way == "alert" { "alert" } else { "event" };
        let last = number(&pool, &format!("select max(last_seq) from inboxes where class = '{class}'")).await;
        bob.ask("message:delivered", json!({"upTo": last, "class": class})).await;
        bob.close().await;
    }
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'delivered'").await, 15);
    assert_consistent(&pool).await;
    node.stop().await;
}

/// Broken by taking what is new only where a page is read: the buffer was full, and the window of those that were over stayed so.
#[tokio::test]
async fn a_session_whose_buffer_is_full_is_freed_of_what_is_superseded_too() {
    let (_db, node, pool) = start().await;
    let feed = feed(&node, &["bob"]).await;
    for (way, to) in [("listed", json!({"users": ["bob"]})), ("feed", json!({"feed": feed}))] {
        publish_keys(&node, way, &to, "a", 1..=10).await;
        let mut bob = node.open(Connect::user("bob").with("window", 5)).await;
        assert_eq!(next_types(&mut bob, 5).await, types("a", 1..=5), "{way}");
        publish_keys(&node, way, &to, "b", 1..=5).await;
        assert_eq!(next_types(&mut bob, 5).await, types("a", 6..=10), "{way}");
        publish_keys(&node, way, &to, "c", 6..=10).await;
        assert_eq!(next_types(&mut bob, 5).await, types("b", 1..=5), "{way}");
        let last = number(&pool, "select max(last_seq) from inboxes where class = 'event'").await;
        node.api("bob").post("/v1/inbox/ack", json!({"upTo": last, "class": "event"})).await;
        bob.close().await;
    }
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'sent'").await, 0);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn what_another_device_has_acked_stays_and_so_do_other_keys_other_users_and_what_has_no_key() {
    let (_db, node, pool) = start().await;
    for device in ["phone", "laptop"] {
        node.open(Connect::user("bob").device(device)).await.close().await;
    }
    let to = json!({"users": ["bob", "cleo"]});
    let publish = async |event_type: &str, more: Value| publish(&node, to.clone(), event_type, more).await;
    publish("acked", json!({"collapseKey": "a"})).await;
    let mut phone = node.open(Connect::user("bob").device("phone")).await;
    phone.event("event:receive").await;
    phone.ask("message:delivered", json!({"upTo": 1, "class": "event"})).await;
    publish("other key", json!({"collapseKey": "A"})).await;
    publish("no key", json!({})).await;
    publish("alert", json!({"collapseKey": "a", "urgent": true})).await;
    // Of whatever publisher: those who may publish to listed users share their keys.
    let event = json!({"type": "newest", "to": {"users": ["bob", "cleo"]}, "collapseKey": "a"});
    assert_eq!(node.publisher("mall").post("/v1/events", event).await.0, 200);
    let mut laptop = node.open(Connect::user("bob").device("laptop")).await;
    let (alerts, events): (Vec<_>, Vec<_>) = next_types(&mut laptop, 5).await.into_iter().partition(|event_type| event_type == "alert");
    assert_eq!((alerts.len(), events), (1, ["acked", "other key", "no key", "newest"].map(str::to_owned).to_vec()));
    let inbox = node.api("cleo").get("/v1/inbox?class=event").await.1;
    let waits: Vec<_> = inbox["events"].as_array().unwrap().iter().map(|event| event["type"].clone()).collect();
    assert_eq!(waits, ["other key", "no key", "newest"]);
    assert_eq!(number(&pool, "select count(*) from message_status where ended = 'superseded'").await, 1);
    node.stop().await;
}

#[tokio::test]
async fn an_event_of_the_applications_transaction_frees_places_too() {
    let (_db, node, pool) = start().await;
    let mut bob = node.open(Connect::user("bob").with("window", 1)).await;
    for turn in 1..=3 {
        let publish = "select restante_publish('shop', 'tick', to_jsonb($1::int), '{bob}', p_collapse_key => 'key')";
        sqlx::query(publish).bind(turn).execute(&pool).await.unwrap();
        assert_eq!(bob.event("event:receive").await["data"], turn);
    }
    assert_eq!(superseded(&mut bob, 2).await, [1, 2]);
    node.stop().await;
}
